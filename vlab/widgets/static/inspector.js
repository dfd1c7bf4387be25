// The inspector: a strip over all exits, the exit at its cursor decoded, and the guest where it was taken.
import { node, view, follow, framed, hex, count, milliseconds } from "./common.js";
import { fetchButton, followTrace } from "./traced.js";
import { decodeQualification, tellQualification } from "./qualification.js";
import { makeStrip } from "./scrubber.js";

function rowsOf(pairs) {
  return pairs.filter(([, words]) => words).map(([name, words]) => (
    node("tr", {}, node("th", { scope: "row" }, name), node("td", { "data-fact": name }, words))));
}

// The exit at the cursor, in two tables.
function showExit(tables, model, exit, number, total) {
  const { reason } = exit;
  const settings = model.get("tables");
  const modes = model.get("modes");
  tables.facts.replaceChildren(...rowsOf([
    ["exit", `${count(number)} of ${count(total)}`],
    ["reason", `${reason}: ${settings[reason]?.meaning ?? "not known to this vlab"}`],
    ["time", milliseconds(exit.time)],
    ["RIP", hex(exit.rip)],
    ["ring", `${exit.ring}`],
    ["mode", modes[exit.mode] ?? "?"],
    ["handler", exit.handler],
    ["took", exit.duration ? `${count(exit.duration)} ns of wall time in the handler` : ""],
    ["manual", model.get("sections")?.[reason] ?? ""],
  ]));
  const parts = decodeQualification(settings, reason, exit.info1, exit.info2);
  tables.parts.replaceChildren(...parts.map((part) => (
    node("tr", { class: part.flag && part.text === "0" ? "faint" : "" },
      node("th", { scope: "row" }, part.name), node("td", { class: "code" }, part.text),
      node("td", { class: "faint small" }, part.bits), node("td", {}, part.meaning)))));
  tables.none.hidden = parts.length > 0;
}

function showRegisters(place) {
  const rows = place.registers.map(([name, value, before, bits]) => (
    node("tr", { class: before ? "changed" : "" },
      node("th", { scope: "row" }, name), node("td", { class: "code" }, value),
      node("td", { class: "small" }, before ? node("span", { class: "code" }, `≠ was ${before}`) : ""),
      node("td", { class: "faint small" }, bits))));
  const alone = place.before === null || place.before === undefined;
  const compared = alone ? "Registers" : `Registers; ≠ marks changes since exit ${count(place.before)}`;
  const table = node("table", { class: "inspector-registers" }, ...rows);
  return node("section", {}, node("h4", {}, compared), table);
}

function showCode(place) {
  const rows = place.code.map(([address, text, mark]) => (
    node("tr", { class: mark ? "marked" : "" }, node("td", { class: "small" }, mark ? `${mark} ▸` : ""),
      node("td", { class: "code faint" }, address), node("td", { class: "code" }, text))));
  return node("section", {}, node("h4", {}, "Code"), node("table", {}, ...rows));
}

function showHandler(place) {
  if (!place.handler) return "";
  const { name, file, source } = place.handler;
  const text = source ? node("pre", { class: "code", tabindex: 0, "aria-label": name }, source) : "";
  return node("section", { class: "inspector-handler" }, node("h4", {}, `Served by ${name}`),
    node("p", { class: "faint small" }, file), text);
}

function showPlace(element, place) {
  if (!place?.registers) {
    element.replaceChildren();
    return;
  }
  const where = place.number ? `after exit ${count(place.number)}` : "at the start";
  element.replaceChildren(
    node("h3", {}, `The guest, ${where}: ${place.mode}`),
    node("p", { class: "inspector-stop", hidden: !place.stop }, place.stop),
    node("div", { class: "inspector-columns" },
      node("div", {}, showRegisters(place)), node("div", {}, showCode(place), showHandler(place))));
}

// Where the cursor is, and what moves it.
class Cursor {
  constructor(model, strip, tables, controls, root) {
    Object.assign(this, { model, strip, tables, controls, root, trace: null, n: 0, base: 0, wanted: 0 });
    this.paint = framed(() => this.show());
  }

  load(trace) {
    const number = this.trace ? this.base + this.n : Infinity;
    this.trace = trace;
    this.base = trace.header.counts.reduce((sum, many) => sum + many, 0) - trace.length;
    this.strip.load(trace);
    this.n = Math.max(0, Math.min(trace.length - 1, number - this.base));
    this.controls.number.min = this.base + 1;
    this.controls.number.max = this.base + trace.length;
    this.root.dataset.exits = trace.length;
    this.guest(this.model.get("here"));
    if (trace.length) this.show();
    this.seek(this.wanted);
  }

  // To the exit with a number, as soon as the trace has it.
  seek(number) {
    const n = number - this.base - 1;
    const known = this.trace && n >= 0 && n < this.trace.length;
    this.wanted = known ? 0 : number;
    if (known) this.to(n);
  }

  // The number of the exit at the cursor among all there were, from 1.
  get number() {
    return this.base + this.n + 1;
  }

  to(n) {
    if (!this.trace?.length) return;
    this.n = Math.max(0, Math.min(this.trace.length - 1, n));
    this.paint();
  }

  // To the next exit, or the one before, with the same reason.
  same(by) {
    if (!this.trace?.length) return;
    const codes = this.trace.columns.reason;
    const { exits } = this.trace;
    const wanted = codes[exits[this.n]];
    for (let n = this.n + by; n >= 0 && n < exits.length; n += by) {
      if (codes[exits[n]] === wanted) { this.to(n); return; }
    }
    this.root.say("there is no other one that way");
  }

  show() {
    const exit = this.trace.exit(this.n);
    const told = tellQualification(this.model.get("tables"), exit.reason, exit.info1, exit.info2);
    const words = `exit ${this.number}: ${exit.reason}${told ? `, ${told}` : ""}, RIP ${hex(exit.rip)}`;
    this.strip.at(this.n, this.number, words);
    showExit(this.tables, this.model, exit, this.number, this.base + this.trace.length);
    if (document.activeElement !== this.controls.number) this.controls.number.value = this.number;
    this.root.dataset.exit = this.number;
  }

  guest(here) {
    this.strip.guestAt(here - this.base - 1);
  }
}

function makeControls(act) {
  const button = (name, label, title) => node("button", { onclick: () => act(name), title }, label);
  const controls = {
    number: node("input", { type: "number", "aria-label": "exit number", class: "inspector-number",
      oninput: () => act("number"), onblur: () => act("number") }),
    before: button("before", "◂ same reason", "the exit before with this reason"),
    after: button("after", "same reason ▸", "the next exit with this reason"),
    go: button("go", "Go there", "take the guest to the state after this exit"),
    back: button("back", "Step back", "take the guest to the end of the exit before"),
    step: button("step", "Step", "take the guest to the end of its next exit"),
    fetch: fetchButton(act),
    why: node("span", { class: "faint" }),
  };
  controls.bar = node("div", { class: "bar" }, node("label", {}, "Exit ", controls.number),
    controls.before, controls.after, controls.fetch);
  controls.travel = node("div", { class: "bar", hidden: true, role: "group", "aria-label": "take the guest" },
    node("span", {}, "The guest:"), controls.go, controls.back, controls.step, controls.why);
  return controls;
}

function makeTables() {
  const tables = {
    facts: node("table", { class: "inspector-facts" }),
    parts: node("table", { class: "inspector-parts" }),
    none: node("p", { class: "faint", hidden: true }, "This reason has no qualification."),
  };
  tables.element = node("div", { class: "inspector-columns" }, node("div", {}, tables.facts),
    node("section", {}, node("h4", {}, "Qualification"), tables.parts, tables.none));
  return tables;
}

function render({ model, el }) {
  const controls = makeControls((name) => ({
    number: () => { if (controls.number.value) cursor.to(Number(controls.number.value) - cursor.base - 1); },
    before: () => cursor.same(-1), after: () => cursor.same(1),
    go: () => ask({ do: "go", number: cursor.number }), back: () => ask({ do: "back" }),
    step: () => ask({ do: "step" }), fetch: () => model.send?.({ do: "fetch" }),
  })[name]());
  const strip = makeStrip((n) => cursor.to(n));
  const tables = makeTables();
  const place = node("div", { class: "inspector-place" });
  const note = node("p", { class: "problem", role: "alert" });
  const root = view(el, "Exit inspector",
    controls.bar, strip.element, tables.element, controls.travel, note, place);
  const cursor = new Cursor(model, strip, tables, controls, root);
  let asked = false;
  const ask = (wish) => {
    asked = true;
    root.setAttribute("aria-busy", "true");
    model.send?.(wish);
  };
  const answered = () => { asked = false; root.removeAttribute("aria-busy"); };
  const ends = [
    ...followTrace(model, controls.fetch, note, (trace) => cursor.load(trace), answered),
    follow(model, ["place"], (found) => {
      showPlace(place, found);
      if (!found?.registers) return;
      const here = found.number - cursor.base - 1;
      if (asked && cursor.trace && here >= 0) cursor.to(here);
      if (asked) root.say(`The guest is at the state after exit ${found.number}. ${found.stop}`);
      answered();
    }),
    follow(model, ["at"], (number) => { if (number) cursor.seek(number); }),
    follow(model, ["here"], (here) => { if (here >= 0) cursor.guest(here); }),
    follow(model, ["live", "stuck", "running", "alive"], (live, stuck, running, alive) => {
      controls.travel.hidden = !live;
      const stays = Boolean(stuck || running || !alive);
      for (const name of ["go", "back", "step"]) controls[name].disabled = stays;
      controls.why.textContent = stuck ?? "";
    }),
  ];
  return () => {
    for (const end of ends) end();
    strip.close();
  };
}

export default { render };
