// Decodes the two numbers of an exit by the tables of vlab/widgets/qualification.py.
import { hex } from "./common.js";

const WHOLE = 63;

function partText(part, value) {
  const text = part.as === "hex" ? hex(value) : value.toString();
  const name = part.names?.[value.toString()];
  if (name === undefined) return text;
  return part.as === "name" ? name : `${name} (${text})`;
}

// The values of a qualification: [{ name, bits, text, meaning, flag }]. info1, info2: BigInt.
export function decodeQualification(tables, reason, info1, info2) {
  const table = tables?.[reason];
  if (!table) {
    return [info1, info2].map((value, place) => (
      { name: `info${place + 1}`, bits: "", text: hex(value), meaning: "raw", flag: false }));
  }
  const fits = (part) => !part.only || part.only.some((number) => BigInt(number) === info1);
  return table.parts.filter(fits).map((part) => {
    const { lo, hi } = part;
    const number = part.info === 1 ? info1 : info2;
    const value = (number >> BigInt(lo)) & ((1n << BigInt(hi - lo + 1)) - 1n);
    const place = lo === 0 && hi === WHOLE ? "" : hi > lo ? ` ${hi}:${lo}` : ` ${lo}`;
    return {
      name: part.name, bits: `info${part.info}${place}`, text: partText(part, value), meaning: part.meaning,
      flag: part.as === "flag",
    };
  });
}

// The same in one line: values by name, and those flags that are set.
export function tellQualification(tables, reason, info1, info2) {
  const parts = decodeQualification(tables, reason, info1, info2);
  const words = parts.filter((part) => !part.flag).map((part) => `${part.name} ${part.text}`);
  const flags = parts.filter((part) => part.flag && part.text === "1").map((part) => part.name);
  if (flags.length) words.push(`bits ${flags.join(" ")}`);
  return words.join(", ");
}
