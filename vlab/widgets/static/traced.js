// What the views of a recorded run share: see traced.py, whose traits these follow.
import { node, follow, count } from "./common.js";
import { readTrace } from "./trace.js";

// The button that asks for a trace too long to come by itself.
export function fetchButton(act) {
  return node("button", { onclick: () => act("fetch"), hidden: true });
}

// Call back with each trace that comes; the button and the note say what is to be said of it. Gives the ends.
export function followTrace(model, fetch, note, loaded, noted = () => {}) {
  let reading = 0;
  return [
    follow(model, ["trace"], (bytes) => {
      if (!bytes?.byteLength) return;
      const turn = ++reading;
      readTrace(bytes).then((trace) => { if (turn === reading) loaded(trace); },
        (error) => { note.textContent = error.message; });
    }),
    follow(model, ["waiting", "live"], (waiting, live) => {
      fetch.hidden = !(live && waiting);
      fetch.textContent = `Fetch the trace: ${count(waiting ?? 0)} records`;
    }),
    follow(model, ["alive", "note", "problem"], (alive, words, problem) => {
      note.textContent = problem || words || (alive === false ? "This VM is gone; its trace stays." : "");
      noted();
    }),
  ];
}
