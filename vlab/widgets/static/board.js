// The board of a PC: interrupt lines that light up, chips' registers bit by bit, and the log of accesses.
import { node, view, picture, follow } from "./common.js";
import { registerRow } from "./register_rows.js";

const BOARD_KEPT = 200; // accesses, as in Python

// Keeps values and log in the model, for every view of it, from messages that hold what is new.
function initialize({ model }) {
  const take = (message) => {
    if (message?.kind !== "changes") return;
    const values = { ...model.get("values") };
    const changed = {};
    for (const [chip, registers] of Object.entries(message.registers)) {
      values[chip] = [...(values[chip] ?? [])];
      changed[chip] = Object.keys(registers).map(Number);
      for (const [place, text] of Object.entries(registers)) values[chip][place] = text;
    }
    model.set("changed", changed);
    model.set("values", values);
    if (message.accesses.length || message.again) {
      const before = message.again ? [] : model.get("accesses") ?? [];
      model.set("accesses", [...before, ...message.accesses].slice(-BOARD_KEPT));
    }
  };
  model.on("msg:custom", take);
  model.send?.({ kind: "whole" }); // what was sent before anybody listened
  return () => model.off("msg:custom", take);
}

// The interrupt lines: Python's drawing, whose words and lights follow.
function boardLines(model, parent) {
  const place = node("div", { class: "vlab-board-lines" });
  parent.append(place);
  const drawn = follow(model, ["drawing"], (text) => {
    place.replaceChildren(...(text ? [picture(text)] : []));
    light(model.get("wires"));
  });
  function light(wires) {
    for (const [name, [word, lit]] of Object.entries(wires ?? {})) {
      for (const element of place.querySelectorAll(`[data-word="${name}"]`)) element.textContent = word;
      for (const element of place.querySelectorAll(`[data-wire="${name}"]`)) {
        const shapes = element.tagName === "g" ? element.children : [element];
        for (const each of shapes) each.classList.toggle("now", lit);
      }
    }
  }
  const lit = follow(model, ["wires"], light);
  return () => { drawn(); lit(); };
}

// All chips, one of them open.
function boardChips(model, parent) {
  const list = node("div", {
    role: "tablist", "aria-orientation": "vertical", "aria-label": "Chips", class: "vlab-board-list",
  });
  const panel = node("div", { role: "tabpanel", class: "vlab-board-panel vlab-registers", tabindex: "0" });
  parent.append(node("div", { class: "vlab-board-chips" }, list, panel));
  let tabs = [];
  let open = null;
  let registers = [];

  function choose(name, focus) {
    open = name;
    for (const tab of tabs) {
      const chosen = tab.name === name;
      tab.button.setAttribute("aria-selected", String(chosen));
      tab.button.tabIndex = chosen ? 0 : -1;
      if (chosen && focus) tab.button.focus();
    }
    const chip = model.get("chips").find((each) => each.name === name);
    registers = chip.registers.map((each) => registerRow(each, model.get("kinds")));
    panel.setAttribute("aria-label", chip.title);
    panel.replaceChildren(
      node("p", { class: "vlab-board-title" }, node("b", {}, chip.title),
        node("span", { class: "faint" }, ` ${chip.where}`)),
      node("table", {}, node("tbody", {}, ...registers.flatMap((each) => each.rows))),
    );
    show();
  }
  function show() {
    const [values, changed] = [model.get("values") ?? {}, model.get("changed") ?? {}];
    for (const tab of tabs) tab.news.textContent = changed[tab.name] ? "changed" : "";
    registers.forEach((register, place) =>
      register.show(values[open]?.[place], changed[open]?.includes(place) ?? false));
  }
  list.addEventListener("keydown", (event) => {
    const here = tabs.findIndex((tab) => tab.name === open);
    const steps = { ArrowDown: here + 1, ArrowUp: here - 1, Home: 0, End: tabs.length - 1 };
    if (!(event.key in steps)) return;
    event.preventDefault();
    choose(tabs[(steps[event.key] + tabs.length) % tabs.length].name, true);
  });
  const ends = [
    follow(model, ["chips"], (chips) => {
      tabs = (chips ?? []).map((chip) => {
        const news = node("span", { class: "vlab-news small" });
        const chosen = () => choose(chip.name, true);
        const button = node("button", { role: "tab", onclick: chosen }, chip.title, news);
        return { name: chip.name, button, news };
      });
      list.replaceChildren(...tabs.map((tab) => tab.button));
      const there = (name) => tabs.some((tab) => tab.name === name);
      if (tabs.length) choose([open, "serial", tabs[0].name].find(there));
    }),
    follow(model, ["values"], show),
  ];
  return () => { for (const end of ends) end(); };
}

// The log of accesses, the newest first.
function boardLog(model, parent) {
  const about = node("span", { class: "faint" });
  const body = node("tbody", {});
  const heads = ["virtual time, ms", "", "chip", "register", "at", "value"];
  const head = node("tr", {}, ...heads.map((text) => node("th", { scope: "col" }, text)));
  const scroll = node("div", {
    class: "vlab-board-log", tabindex: "0", role: "region",
    "aria-label": "Accesses to devices, the newest first",
  }, node("table", {}, node("thead", {}, head), body));
  parent.append(node("p", { class: "vlab-board-title" }, node("b", {}, "Accesses "), about), scroll);
  const row = ([time, chip, register, at, way, value]) => node("tr", {},
    node("td", { class: "number" }, (time / 1e6).toFixed(6)),
    node("td", {}, way === "writes" ? "write" : "read"), node("td", {}, chip), node("td", {}, register),
    node("td", { class: "code" }, at), node("td", { class: "code number" }, value || "not in the trace"));
  return follow(model, ["accesses", "logged"], (accesses, logged) => {
    scroll.hidden = logged < 0;
    about.textContent = logged < 0 ? "are logged under trace=\"full\": vlab.VM(…, trace=\"full\")"
      : `the last ${logged}, the newest first`;
    body.replaceChildren(...(accesses ?? []).map(row).reverse());
  });
}

function render({ model, el }) {
  const words = "This VM is gone; this is how its devices were.";
  const gone = node("p", { class: "problem", hidden: true }, words);
  const root = view(el, "The devices of the virtual machine", gone);
  const ends = [
    boardLines(model, root),
    boardChips(model, root),
    boardLog(model, root),
    follow(model, ["alive"], (alive) => { gone.hidden = alive !== false; }),
  ];
  return () => { for (const end of ends) end(); };
}

export default { initialize, render };
