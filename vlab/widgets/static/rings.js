// Rings and modes: Python's drawing, in which the recorded exits are played. Each exit is four stages: the
// guest runs, the hardware takes it out, the monitor serves it, the hardware takes it back.
import { node, view, picture, follow, hex, count, milliseconds, calm } from "./common.js";
import { fetchButton, followTrace } from "./traced.js";
import { tellQualification } from "./qualification.js";
import { walkPlaces } from "./places.js";

const EXIT_KIND = 0;
const INTERRUPT_KIND = 1;
const RATES = [0.25, 1, 3, 10, 100, 1000];
const FLASHES = 3; // a second, at most: what flickers faster can hurt
const NAMES = { guest: "the guest runs", out: "it leaves", back: "it goes back" };

// Which rows of the trace are played: exits, and interrupts that the guest took.
function playedRows(trace) {
  const rows = new Uint32Array(trace.kind.length);
  let used = 0;
  for (let row = 0; row < rows.length; row++) {
    if (trace.kind[row] === EXIT_KIND || trace.kind[row] === INTERRUPT_KIND) rows[used++] = row;
  }
  return rows.subarray(0, used);
}

// What is to be told of a row, whatever its stage is.
function readRow(trace, row, { technique, tables, modes }) {
  const { columns } = trace;
  const mode = modes[columns.mode[row]] ?? "?";
  const recorded = columns.ring[row];
  const ring = technique.name === "paravirtual" && recorded === 1 ? 0 : recorded;
  const real = mode === "real" ? technique.real_mode : technique.rings[ring];
  const info1 = trace.wide("info1", row);
  const info2 = trace.wide("info2", row);
  const taken = trace.kind[row] === INTERRUPT_KIND;
  const reason = taken ? "interrupt" : trace.reasons[columns.reason[row]];
  return {
    taken, reason, ring, recorded, mode,
    place: `${technique.plane}-${real}`,
    kernel: `${technique.plane}-${technique.rings[0]}`,
    time: trace.time[row],
    rip: hex(trace.wide("rip", row)),
    what: taken ? `vector ${hex(info1)}` : tellQualification(tables, reason, info1, info2),
    meaning: taken ? "the guest takes an interrupt" : tables[reason]?.meaning ?? "",
    section: taken ? "APM2 8.7.3, 15.20" : technique.sections[reason] ?? "",
    handler: taken ? "the guest's own kernel" : trace.handlers[columns.handler[row]] ?? "",
  };
}

// The stages of a row: what it is called, and the part of the drawing.
function stagesOf(found, technique) {
  if (found.taken) {
    const way = technique.monitor ? "back" : "out";
    return [["guest", found.place], [way, way], ["guest", found.kernel]];
  }
  return [["guest", found.place], ["out", "out"], ["monitor", "host-0"], ["back", "back"]];
}

function makeControls(act) {
  const button = (name, label, title) => node("button", { onclick: () => act(name), title }, label);
  const speed = node("select", { "aria-label": "speed in exits a second", onchange: () => act("speed") },
    ...RATES.map((rate) => node("option", { value: rate, selected: rate === 1 },
      rate < 1 ? `1 exit in ${1 / rate} s` : `${count(rate)} exit${rate > 1 ? "s" : ""} a second`)));
  const position = node("input", {
    type: "range", class: "rings-position", min: 0, max: 0, value: 0, step: 1, "aria-label": "exit",
    oninput: () => act("position"),
  });
  const controls = {
    play: button("play", "Play", "Space"), back: button("stepBack", "Step back", "Left arrow"),
    step: button("step", "Step", "Right arrow"), speed, position,
    fetch: fetchButton(act),
  };
  controls.bar = node("div", { class: "bar" }, controls.play, controls.back, controls.step, speed,
    position, controls.fetch);
  return controls;
}

function makeFacts() {
  const rows = { exit: "event", guest: "guest", out: "reason", monitor: "handler", section: "manual" };
  const facts = {};
  const list = node("dl", { class: "rings-facts" });
  for (const [key, label] of Object.entries(rows)) {
    facts[key] = node("dd", { "data-fact": key });
    list.append(node("dt", {}, label), facts[key]);
  }
  return { list, facts };
}

// Shows one stage of one row, in the drawing and in words.
class Stage {
  constructor(model, places, facts, root) {
    Object.assign(this, { model, places, facts, root });
  }

  show(trace, rows, item, stage, { glide, aloud }) {
    const settings = { technique: this.model.get("technique"), tables: this.model.get("tables"),
      modes: this.model.get("modes") };
    const found = readRow(trace, rows[item], settings);
    const [name, place] = stagesOf(found, settings.technique)[stage];
    this.places.mark(place, glide);
    const { facts } = this;
    const gone = trace.header.dropped;
    facts.exit.textContent = `${count(item + 1)} of ${count(rows.length)}, ${milliseconds(found.time)}`
      + (gone ? ` (${count(gone)} older ones are no longer in the trace)` : "");
    facts.guest.textContent = `${found.ring === 3 ? "program" : "kernel"} at RIP ${found.rip}, its ring `
      + `${found.recorded}, ${found.mode} mode`;
    facts.out.textContent = `${found.reason}${found.what ? `: ${found.what}` : ""}. ${found.meaning}`;
    facts.monitor.textContent = found.handler;
    facts.section.textContent = found.section;
    const here = { guest: "guest", out: "out", monitor: "monitor", back: "section" }[name];
    for (const key of Object.keys(facts)) facts[key].classList.toggle("here", key === here);
    const now = name === "monitor" ? `${found.handler} serves it` : NAMES[name];
    this.places.tell({ guest: `RIP ${found.rip}`, out: `${found.reason}: ${found.what}`,
      back: found.reason, monitor: `handler: ${found.handler}`, section: found.section });
    this.root.dataset.stage = name;
    if (!aloud) return;
    this.root.say(`Event ${item + 1}, ${found.reason} at RIP ${found.rip}: ${now}. ${found.section}`);
  }
}

// Moves along the rows, by hand and by the clock.
class Player {
  constructor(stage, controls) {
    Object.assign(this, { stage, controls, trace: null, rows: [], item: 0, at: 0, playing: false, frame: 0 });
  }

  load(trace) {
    const first = this.trace === null;
    this.trace = trace;
    this.rows = playedRows(trace);
    this.item = first ? 0 : Math.min(this.item, Math.max(0, this.rows.length - 1));
    this.at = 0;
    this.controls.position.max = Math.max(0, this.rows.length - 1);
    for (const name of ["play", "back", "step", "position"]) {
      this.controls[name].disabled = !this.rows.length;
    }
    if (!this.rows.length) this.stage.facts.exit.textContent = "no exit and no interrupt is recorded";
  }

  get rate() {
    return Number(this.controls.speed.value);
  }

  stages(item) {
    if (this.trace.kind[this.rows[item]] === INTERRUPT_KIND) return 3;
    return 4;
  }

  show(aloud, glide = true) {
    if (!this.rows.length) return;
    this.controls.position.value = this.item;
    this.controls.position.setAttribute("aria-valuetext", `event ${this.item + 1} of ${this.rows.length}`);
    this.stage.show(this.trace, this.rows, this.item, this.at, { glide: glide && !calm(), aloud });
  }

  step(by) {
    this.at += by;
    if (this.at >= this.stages(this.item)) {
      if (this.item + 1 < this.rows.length) { this.item++; this.at = 0; } else this.at--;
    } else if (this.at < 0) {
      if (this.item > 0) { this.item--; this.at = this.stages(this.item) - 1; } else this.at = 0;
    }
    this.show(!this.playing);
  }

  to(item) {
    this.item = Math.max(0, Math.min(this.rows.length - 1, item));
    this.at = 0;
    this.show(!this.playing);
  }

  play(on) {
    this.playing = on && this.rows.length > 0;
    this.controls.play.textContent = this.playing ? "Pause" : "Play";
    clearTimeout(this.frame);
    if (!this.playing) return;
    if (this.item === this.rows.length - 1) { this.item = 0; this.at = 0; }
    this.next();
  }

  // One stage after another; when exits are faster than eyes, some of them, at the stage that tells most.
  next() {
    const fast = this.rate > FLASHES;
    const wait = fast ? 1000 / FLASHES : 1000 / (this.rate * 4);
    this.frame = setTimeout(() => {
      if (fast) {
        this.item = Math.min(this.rows.length - 1, this.item + Math.max(1, Math.round(this.rate / FLASHES)));
        this.at = 0;
        this.show(false, false);
      } else this.step(1);
      const over = this.item === this.rows.length - 1 && (fast || this.at === this.stages(this.item) - 1);
      if (over) this.play(false);
      else this.next();
    }, wait);
  }
}

function onKey(player, event) {
  if (event.altKey || event.ctrlKey || event.metaKey) return;
  const inControl = event.target.matches("select, input");
  const acts = {
    " ": () => player.play(!player.playing),
    ArrowRight: () => player.step(1), ArrowLeft: () => player.step(-1),
    PageDown: () => player.to(player.item + 100), PageUp: () => player.to(player.item - 100),
    Home: () => player.to(0), End: () => player.to(player.rows.length - 1),
  };
  if (!(event.key in acts) || inControl || (event.key === " " && event.target.matches("button"))) return;
  event.preventDefault();
  acts[event.key]();
}

function render({ model, el }) {
  const about = node("p", { class: "rings-about", "aria-live": "off" });
  const now = node("p", { class: "rings-now" });
  const note = node("p", { class: "problem", role: "alert" });
  const { list, facts } = makeFacts();
  const controls = makeControls((name) => ({
    play: () => player.play(!player.playing), step: () => player.step(1), stepBack: () => player.step(-1),
    speed: () => {}, position: () => player.to(Number(controls.position.value)),
    fetch: () => model.send?.({ do: "fetch" }),
  })[name]());
  const frame = node("div", { class: "rings-picture" });
  const root = view(el, "Rings and modes", controls.bar, now, frame, about, list, note);
  root.tabIndex = 0;
  root.addEventListener("keydown", (event) => onKey(player, event));
  const places = walkPlaces(frame, about);
  const player = new Player(new Stage(model, places, facts, root), controls);
  const ends = [
    follow(model, ["drawing"], (drawing) => {
      if (!drawing) return;
      frame.replaceChildren(picture(drawing));
      places.begin();
    }),
    follow(model, ["place", "now", "running"], (place, words, running) => {
      now.textContent = words ?? "";
      if (running && player.playing) player.play(false);
      if (place && (running || !player.rows.length)) places.mark(place, false);
    }),
    ...followTrace(model, controls.fetch, note, (trace) => {
      player.load(trace);
      root.dataset.events = player.rows.length;
      const place = model.get("place");
      if (place) places.mark(place, false);
    }),
  ];
  player.controls.play.disabled = player.controls.step.disabled = player.controls.back.disabled = true;
  return () => {
    player.play(false);
    for (const end of ends) end();
  };
}

export default { render };
