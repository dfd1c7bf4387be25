// A page walk: the drawing comes from Python; here it is brought to life. Arrow keys move from reference to
// reference in the order in which the hardware makes them, up and down between the walks of the grid.
import { node, view, picture, follow } from "./common.js";

const PAGE_WALK_PACE = 600; // ms a reference while the walk is played

// The bits of an entry as a row of buttons, one Tab stop, arrows inside.
function entryBits(fields) {
  const hint = "Point at a field for its meaning.";
  const meaning = node("p", { class: "vlab-walk-meaning", role: "status" }, hint);
  const tell = (field) => {
    const where = field.bits ? ` (${field.bits.includes(":") ? "bits" : "bit"} ${field.bits})` : "";
    meaning.textContent = `${field.name}${where} = ${field.value}: ${field.meaning}`;
  };
  const buttons = fields.map((field, place) => node("button", {
    class: `vlab-walk-bit${field.value === "0" ? "" : " set"}`, type: "button", tabindex: place ? "-1" : "0",
    "aria-label": `${field.name}, bits ${field.bits}, ${field.value}: ${field.meaning}`,
    onmouseenter: () => tell(field), onfocus: () => tell(field), onclick: () => tell(field),
  },
  node("span", { class: "faint small" }, field.bits),
  node("span", {}, field.name),
  node("span", { class: "code" }, field.value)));
  const strip = node("div", {
    class: "vlab-walk-bits", role: "toolbar", "aria-label": "Bits of the entry",
  }, buttons);
  strip.addEventListener("keydown", (event) => {
    const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    const place = buttons.indexOf(event.target);
    if (!step || place < 0) return;
    event.preventDefault();
    event.stopPropagation();
    const next = buttons[(place + step + buttons.length) % buttons.length];
    for (const button of buttons) button.tabIndex = button === next ? 0 : -1;
    next.focus();
  });
  return [strip, meaning];
}

// All about one reference.
function referenceDetail(detail) {
  const source = detail.reference ? ` (${detail.reference})` : "";
  return [
    node("h4", {}, detail.title),
    node("p", {}, `${detail.meaning}${source}`),
    node("p", { class: "code small" }, detail.where),
    node("p", { class: "code" }, detail.entry),
    ...entryBits(detail.fields),
  ];
}

// Where an arrow key leads from a reference: along the walk, or to its neighbour in the walk beside it. The
// walks of a grid are rows; elsewhere they are ladders, side by side.
function pageWalkNeighbour(references, current, key, ladders) {
  const step = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: 1, ArrowUp: -1 }[key];
  if (key === "Home") return references[0];
  if (key === "End") return references[references.length - 1];
  const numbers = new Set(references.map((each) => each.dataset.row));
  const along = (ladders ? ["ArrowDown", "ArrowUp"] : ["ArrowRight", "ArrowLeft"]).includes(key);
  if (along || numbers.size < 2) return references[references.indexOf(current) + step] ?? current;
  const wanted = ladders ? step < 0 ? 1 : 0 : Number(current.dataset.row) + step; // the shadow stands right
  const row = references.filter((each) => Number(each.dataset.row) === wanted);
  const column = Number(current.dataset.column);
  return row.findLast((each) => Number(each.dataset.column) <= column) ?? row[0] ?? current;
}

// The bar on top: what is typed, and addresses to click at.
function walkBar(model, play) {
  const input = node("input", {
    type: "text", "aria-label": "Linear address to walk", spellcheck: "false", autocomplete: "off",
    placeholder: "0xc0100000",
  });
  const ask = (text) => { model.set("wanted", text); model.save_changes(); };
  input.addEventListener("keydown", (event) => { if (event.key === "Enter") ask(input.value); });
  const form = node("span", { class: "bar" }, node("label", {}, "Linear address ", input),
    node("button", { type: "button", onclick: () => ask(input.value) }, "Walk"));
  const places = node("span", { class: "bar", role: "group", "aria-label": "Addresses in registers" });
  return { ask, asking: form, input, places, element: node("div", { class: "bar" }, form, places, play) };
}

function render({ model, el }) {
  let references = [], label = "", timer = null;
  const drawing = node("div", { class: "vlab-walk-drawing" });
  const detail = node("div", { class: "vlab-walk-detail", "aria-label": "The reference that was chosen" });
  const inner = node("div", { class: "vlab-walk-inner vlab-walk-drawing" });
  const problem = node("p", { class: "problem", role: "alert", hidden: true });
  const gone = node("p", { class: "problem", hidden: true },
    "This VM is gone; what you see is its last walk.");
  const play = node("button", { type: "button", onclick: () => (timer ? halt() : begin()) }, "Play");
  const bar = walkBar(model, play);
  const root = view(el, "Page walk", bar.element, problem, gone,
    node("div", { class: "vlab-walk-scroll" }, drawing), detail, inner);
  root.classList.add("vlab-walk");

  const find = (wanted) => references.find((each) => each.dataset.label === wanted);

  function showInner(facts) {
    const text = facts?.kind === "nested" ? model.get("inner")?.[facts.row] : null;
    inner.replaceChildren(...(text ? [picture(text)] : []));
    for (const each of inner.querySelectorAll(".vlab-reference")) {
      each.classList.toggle("chosen", each.dataset.label === label);
      each.addEventListener("click", () => choose(each.dataset.label, true));
    }
    for (const part of root.querySelectorAll(".vlab-part")) {
      const mine = inner.contains(part) === (facts?.kind === "nested");
      part.classList.toggle("chosen", mine && part.dataset.level === String(facts?.level));
    }
  }

  function choose(wanted, focus) {
    const chosen = find(wanted) ?? references[0];
    label = chosen?.dataset.label ?? "";
    for (const each of references) {
      const on = each === chosen;
      each.classList.toggle("chosen", on);
      each.setAttribute("tabindex", on ? "0" : "-1");
      each.setAttribute("aria-pressed", String(on));
    }
    const facts = model.get("details")?.[label];
    detail.replaceChildren(...(facts ? referenceDetail(facts) : []));
    detail.hidden = !facts;
    showInner(facts);
    if (focus) chosen?.focus({ preventScroll: false });
  }

  function begin() {
    let place = -1;
    const next = () => {
      place += 1;
      if (place >= references.length) { halt(); return; }
      choose(references[place].dataset.label, false);
      root.say(references[place].getAttribute("aria-label"));
    };
    play.textContent = "Stop";
    timer = setInterval(next, PAGE_WALK_PACE);
    next();
  }

  function halt() {
    clearInterval(timer);
    timer = null;
    play.textContent = "Play";
  }

  function redraw(text) {
    const focused = drawing.contains(document.activeElement);
    drawing.replaceChildren(...(text ? [picture(text)] : []));
    const titles = model.get("details") ?? {};
    const order = Object.keys(titles);
    references = [...drawing.querySelectorAll(".vlab-reference")]
      .sort((one, other) => order.indexOf(one.dataset.label) - order.indexOf(other.dataset.label));
    for (const each of references) {
      const facts = titles[each.dataset.label];
      each.setAttribute("role", "button");
      each.setAttribute("aria-label", `${facts?.title}, entry ${facts?.entry}`);
      each.addEventListener("click", () => { halt(); choose(each.dataset.label, true); });
    }
    drawing.firstChild?.setAttribute("role", "group");
    play.disabled = references.length < 2;
    choose(label, focused);
  }

  drawing.addEventListener("keydown", (event) => {
    const current = event.target.closest?.(".vlab-reference");
    if (!current) return;
    const moves = ["ArrowLeft", "ArrowRight", "ArrowUp", "ArrowDown", "Home", "End"];
    if (moves.includes(event.key)) {
      event.preventDefault();
      halt();
      const ladders = !model.get("inner")?.length;
      choose(pageWalkNeighbour(references, current, event.key, ladders).dataset.label, true);
    } else if (event.key === "Enter" || event.key === " ") {
      event.preventDefault();
      detail.querySelector("button")?.focus();
    }
  });

  const ends = [
    follow(model, ["fixed"], (fixed) => { bar.asking.hidden = bar.places.hidden = fixed || !model.set; }),
    follow(model, ["wanted"], (wanted) => {
      if (document.activeElement !== bar.input) bar.input.value = wanted;
    }),
    follow(model, ["drawing"], redraw),
    follow(model, ["details"], () => choose(label, drawing.contains(document.activeElement))),
    follow(model, ["inner"], () => showInner(model.get("details")?.[label])),
    follow(model, ["problem"], (text) => { problem.textContent = text; problem.hidden = !text; }),
    follow(model, ["alive"], (alive) => { gone.hidden = alive !== false; }),
    follow(model, ["places", "wanted"], (places, wanted) => {
      bar.places.replaceChildren(...(places ?? []).map(([name, address]) => node("button", {
        type: "button", title: `Walk ${address}`, "aria-pressed": String(wanted?.toUpperCase() === name),
        onclick: () => bar.ask(name),
      }, `${name} ${address}`)));
    }),
  ];
  return () => { halt(); for (const end of ends) end(); };
}

export default { render };
