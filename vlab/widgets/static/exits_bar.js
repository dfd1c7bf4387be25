// What is above the charts of exits: what they show, buttons for what can be done, the keys of the timeline.
import { node, follow } from "./common.js";
import { awaitPart, frameOf } from "./frame.js";

const BUTTONS = [
  ["earlier", "◀ Earlier", "Look at earlier exits (left arrow)"],
  ["later", "Later ▶", "Look at later exits (right arrow)"],
  ["closer", "+ Closer", "Zoom in (up arrow)"],
  ["wider", "− Wider", "Zoom out (down arrow)"],
  ["all", "All", "Look at all exits (Home)"],
];
const SELECTION = [
  ["narrower", "Narrow", "Halve the selection (Shift and up arrow)"],
  ["broader", "Broaden", "Double the selection (Shift and down arrow)"],
  ["zoom", "Zoom to it", "Look at the selection alone (Enter)"],
  ["clear", "Clear", "Select nothing (Escape)"],
];
const KEYS = {
  ArrowLeft: "earlier", ArrowRight: "later", ArrowUp: "closer", ArrowDown: "wider", "+": "closer",
  "-": "wider", Home: "all", Enter: "zoom", Escape: "clear", " ": "select",
};
const SHIFTED = {
  ArrowLeft: "select_earlier", ArrowRight: "select_later", ArrowUp: "narrower", ArrowDown: "broader",
};

function exitsButtons(list, act) {
  return list.map(([action, text, title]) => node("button", {
    type: "button", "data-do": action, title, "aria-label": title, onclick: () => act(action),
  }, text));
}

function exitsKeys(timeline, act, label) {
  timeline.tabIndex = 0;
  timeline.setAttribute("role", "application");
  timeline.setAttribute("aria-label", label);
  const pressed = (event) => {
    if (event.ctrlKey || event.altKey || event.metaKey) return;
    const action = (event.shiftKey && SHIFTED[event.key]) || KEYS[event.key];
    if (!action) return;
    event.preventDefault();
    act(action);
  };
  timeline.addEventListener("keydown", pressed);
  return () => timeline.removeEventListener("keydown", pressed);
}

// The charts of bars, told to a screen reader.
function exitsSpoken({ root, spoken }) {
  root?.querySelectorAll(".vlab-exits-bars").forEach((chart, place) => {
    chart.setAttribute("role", "img");
    chart.setAttribute("aria-label", spoken[place] ?? "");
  });
}

function render({ model, el }) {
  const act = (action) => model.send?.({ do: action });
  const status = node("div", { class: "unseen", role: "status", "aria-live": "polite" });
  const summary = node("p", { class: "exits-summary" });
  const shown = node("p", { class: "exits-shown" });
  const problem = node("p", { class: "problem", hidden: true });
  const drag = exitsButtons([["drag", "Drag: move", "What dragging in the timeline does"]], act)[0];
  const selection = exitsButtons(SELECTION, act);
  const costs = node("select", {
    onchange: () => { model.set("choice", costs.value); model.save_changes(); },
  });
  const move = node("div", { class: "bar", role: "toolbar", "aria-label": "The time in sight" },
    ...exitsButtons(BUTTONS, act), drag);
  const pick = node("div", { class: "bar", role: "toolbar", "aria-label": "The selected time" },
    node("span", {}, "Selection:"),
    ...exitsButtons([["select", "Select", "Select the middle of the time in sight (Space)"]], act),
    ...selection);
  const cost = node("div", { class: "bar" }, node("label", {}, "Cost: ", costs));
  el.classList.add("exits-bar");
  el.setAttribute("data-lm-suppress-shortcuts", "true");
  el.append(summary, problem, move, pick, shown, cost, status);
  const ends = [];
  const state = { root: null, spoken: [] };
  ends.push(
    frameOf(el, model.get("label"), (root) => {
      state.root = root;
      ends.push(awaitPart(root, ".vlab-exits-bars + .vlab-exits-bars", () => exitsSpoken(state)));
      ends.push(awaitPart(root, ".vlab-exits-timeline", (timeline) => {
        ends.push(exitsKeys(timeline, act, model.get("timeline_label")));
      }));
    }),
    follow(model, ["spoken"], (spoken) => { state.spoken = spoken; exitsSpoken(state); }),
    follow(model, ["summary"], (text) => { summary.textContent = text; }),
    follow(model, ["shown"], (text) => { shown.textContent = text; }),
    follow(model, ["said"], (text) => { if (text) status.textContent = text; }),
    follow(model, ["problem", "alive"], (text, alive) => {
      problem.hidden = !text && alive !== false;
      problem.textContent = alive === false ? "This VM is gone; these are its last exits." : text;
    }),
    follow(model, ["brushing"], (brushing) => {
      drag.textContent = brushing ? "Drag: select" : "Drag: move";
      drag.setAttribute("aria-pressed", String(Boolean(brushing)));
    }),
    follow(model, ["selected", "records"], (selected, records) => {
      for (const button of selection) button.disabled = !selected;
      move.hidden = pick.hidden = !records;
    }),
    follow(model, ["choices", "choice"], (choices, choice) => {
      costs.replaceChildren(...choices.map(([value, text]) => node("option", { value }, text)));
      costs.value = choice;
    }),
  );
  return () => { for (const end of ends) end(); };
}

export default { render };
