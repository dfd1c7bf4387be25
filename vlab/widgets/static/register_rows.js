// Rows of a table of registers: name, value, its bits by name, and on demand what each bit means.
import { node, based } from "./common.js";

// A field's content: its declared name, or the number.
function registerField(value, [name, low, high, meaning, names]) {
  const content = Number(BigInt.asUintN(high - low + 1, BigInt(value) >> BigInt(low)));
  const bits = low === high ? `bit ${low}` : `bits ${high} to ${low}`;
  const label = names[content] ?? "";
  const text = label || (content < 10 ? String(content) : based(content));
  return { name, bits, meaning, content, label, text };
}

// One register's row, and the row below it that tells of every bit.
export function registerRow([name, kindName], kinds) {
  const kind = kinds[kindName];
  const value = node("td", { class: "code" });
  const bits = node("td", { class: "vlab-bits" });
  const news = node("td", { class: "vlab-news small" });
  const told = node("td", { colspan: 4 });
  const more = node("tr", { class: "vlab-more", hidden: true }, told);
  const label = name.replaceAll("_", " ");
  const button = kind ? node("button", {
    class: "vlab-name", "aria-expanded": "false", title: "every bit, with its meaning",
    onclick: () => {
      more.hidden = !more.hidden;
      button.setAttribute("aria-expanded", String(!more.hidden));
    },
  }, label) : label;
  const row = node("tr", {}, node("th", { scope: "row" }, button), value, bits, news);
  let shown = null;
  const show = (text, changed) => {
    news.textContent = changed ? "changed" : "";
    row.classList.toggle("changed", changed);
    if (text === shown) return;
    shown = text;
    value.textContent = text ?? "";
    value.classList.toggle("long", (text ?? "").length > 24);
    if (!kind || text === undefined) return;
    const fields = kind.fields.map((field) => registerField(text, field));
    bits.replaceChildren(...fields.map((field) => node("span", {
      class: field.content ? "vlab-bit" : "vlab-bit faint", title: `${field.bits}: ${field.meaning}`,
    }, `${field.name} `, node("b", {}, field.text))));
    const source = node("div", { class: "faint small" }, `${kindName}, ${kind.reference}`);
    told.replaceChildren(source, node("table", {},
      ...fields.map((field) => node("tr", {}, node("td", { class: "faint" }, field.bits),
        node("td", {}, field.name), node("td", { class: "code" }, based(field.content)),
        node("td", {}, field.label ? `${field.meaning}: ${field.label}` : field.meaning)))));
  };
  return { rows: [row, more], show };
}
