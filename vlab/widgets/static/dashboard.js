// A virtual machine at a glance: how it is, buttons, its console; screen and registers when they are opened.
import { node, view, follow, count, milliseconds } from "./common.js";
import { registerRow } from "./register_rows.js";

const DASHBOARD_MARKS = { running: "▶", paused: "❚❚", ended: "■", gone: "✕" };

// Show the view of another model in `place`; gives the function that takes it away again.
async function dashboardChild(model, reference, place) {
  const manager = model.widget_manager;
  if (!manager || !reference) return () => {};
  const child = await manager.get_model(reference.replace("IPY_MODEL_", ""));
  const made = await manager.create_view(child);
  place.replaceChildren(made.el);
  return () => made.remove();
}

// The line at the top: name, what it is made of, how it is.
function dashboardHead(model, root, parent) {
  const name = node("b", { class: "vlab-dashboard-name" }, model.get("name"));
  const state = node("span", { class: "vlab-dashboard-state" });
  const facts = node("span", { class: "vlab-dashboard-facts" });
  const why = node("span", {});
  const story = node("pre", { class: "code small" });
  const whole = node("details", { class: "vlab-dashboard-why" }, node("summary", {}, why), story);
  const short = node("p", { class: "vlab-dashboard-why" });
  const about = node("span", { class: "faint" }, model.get("about"));
  parent.append(node("div", { class: "bar" }, name, about, state), facts, short, whole);
  const ends = [
    follow(model, ["state", "why", "alive"], (how, text, alive) => {
      const word = alive === false ? "gone" : how;
      state.textContent = word;
      state.dataset.mark = DASHBOARD_MARKS[word];
      state.dataset.state = word;
      const [first, ...more] = (text ?? "").split("\n");
      short.textContent = why.textContent = first;
      story.textContent = more.join("\n");
      short.hidden = !first || more.length > 0;
      whole.hidden = more.length === 0;
      root.say(first ? `The guest is ${word}: ${first}` : `The guest is ${word}`);
    }),
    follow(model, ["exits", "rate", "time", "state"], (exits, rate, time, how) => {
      const pace = how === "running" ? `, ${count(Math.round(rate))} a second` : "";
      facts.textContent = `${count(exits)} exits${pace} · ${milliseconds(time)} of virtual time`;
    }),
  ];
  return () => { for (const end of ends) end(); };
}

// The buttons, each usable when the guest is in a state for it; and what came of the last one.
function dashboardButtons(model, parent) {
  const ask = (kind, more) => model.send?.({ kind, ...more });
  const make = (kind, label, hint) => node("button", { onclick: () => ask(kind), title: hint }, label);
  const run = make("run", "▶ Run", "run on in the background");
  const pause = make("pause", "❚❚ Pause", "stop between two blocks of guest code");
  const step = make("step", "Step", "run to the end of the next exit");
  const back = make("back", "Step back", "go back to the state after the exit before");
  const snapshot = make("snapshot", "Snapshot", "remember this moment");
  const moments = node("select", { "aria-label": "Snapshots" });
  const goBack = () => ask("restore", { number: Number(moments.value) });
  const restore = node("button", { onclick: goBack }, "Go back to it");
  const said = node("span", { class: "faint", role: "status" });
  const problem = node("span", { class: "problem", role: "alert" });
  const buttons = [run, pause, step, back, snapshot, moments, restore];
  parent.append(node("div", { class: "bar" }, ...buttons, said, problem));
  const ends = [
    follow(model, ["state", "alive", "stuck", "taken"], (how, alive, stuck, taken) => {
      const there = alive !== false && Boolean(model.send);
      run.disabled = !there || how !== "paused";
      pause.disabled = !there || how !== "running";
      step.disabled = !there || how !== "paused" || Boolean(stuck);
      back.disabled = !there || how === "running" || Boolean(stuck);
      snapshot.disabled = !there;
      restore.disabled = !there;
      if (stuck) step.title = back.title = stuck;
      if (moments.options.length !== (taken ?? []).length) {
        const options = taken.map((label, number) => node("option", { value: String(number) }, label));
        moments.replaceChildren(...options);
        moments.selectedIndex = taken.length - 1;
      }
      moments.hidden = restore.hidden = !(taken ?? []).length;
    }),
    follow(model, ["said"], (text) => { said.textContent = text ?? ""; }),
    follow(model, ["problem"], (text) => { problem.textContent = text ?? ""; }),
  ];
  return () => { for (const end of ends) end(); };
}

// A part that the guest pays for only while it is open.
function dashboardPart(model, part, label, body) {
  const whole = node("details", { class: "vlab-dashboard-part" }, node("summary", {}, label), body);
  const tell = () => model.send?.({ kind: "open", part, open: whole.open });
  whole.addEventListener("toggle", tell);
  return { whole, end: () => { if (whole.open) model.send?.({ kind: "open", part, open: false }); } };
}

function dashboardRegisters(model, parent) {
  const body = node("tbody", {});
  const table = node("table", { class: "vlab-registers" }, body);
  const part = dashboardPart(model, "registers", "Registers", table);
  parent.append(part.whole);
  let rows = [];
  let names = "";
  let before = [];
  const end = follow(model, ["registers"], (registers) => {
    const now = (registers ?? []).map(([name]) => name).join();
    if (now !== names) {
      rows = registers.map((each) => registerRow(each, model.get("kinds")));
      body.replaceChildren(...rows.flatMap((row) => row.rows));
      before = [];
      names = now;
    }
    rows.forEach((row, place) => {
      const value = registers[place][2];
      row.show(value, before[place] !== undefined && before[place] !== value);
    });
    before = (registers ?? []).map((each) => each[2]);
  });
  return () => { end(); part.end(); };
}

function dashboardScreen(model, parent) {
  const place = node("div", {});
  const part = dashboardPart(model, "screen", "Screen", place);
  parent.append(part.whole);
  let shown = null;
  let takeAway = () => {};
  const end = follow(model, ["screen"], async (reference) => {
    if (reference === shown) return;
    shown = reference;
    takeAway();
    takeAway = () => {};
    place.replaceChildren();
    if (reference && part.whole.open) {
      const end = await dashboardChild(model, reference, place);
      if (shown === reference) takeAway = end;
      else end();
    }
  });
  return () => { end(); takeAway(); part.end(); };
}

function render({ model, el }) {
  const head = node("div", { class: "vlab-dashboard-head" });
  const console_ = node("div", { class: "vlab-dashboard-console" });
  const root = view(el, `The virtual machine ${model.get("name")}`, head, console_);
  const ends = [
    dashboardHead(model, root, head),
    dashboardButtons(model, head),
    dashboardScreen(model, root),
    dashboardRegisters(model, root),
  ];
  let over = false;
  dashboardChild(model, model.get("terminal"), console_).then((end) => {
    if (over) end();
    else ends.push(end);
  });
  return () => {
    over = true;
    for (const end of ends) end();
  };
}

export default { render };
