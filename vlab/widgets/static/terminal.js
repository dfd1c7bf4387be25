// The serial console: xterm.js for the eyes and the keyboard, bytes to and from the guest.
import { node, view, follow } from "./common.js";
import { XtermTerminal, XtermFit } from "./xterm.js";

const CONSOLE_COLUMNS = 80;
const CONSOLE_ROWS = 24;
const CONSOLE_KEPT = 1 << 17; // bytes, as in Python
const CONSOLE_FONT = { most: 13, least: 10 }; // pixels
const CONSOLE_COLOURS = [
  "background", "foreground", "cursor", "cursorAccent", "selectionBackground", "black", "red", "green",
  "yellow", "blue", "magenta", "cyan", "white", "brightBlack", "brightRed", "brightGreen",
  "brightYellow", "brightBlue", "brightMagenta", "brightCyan", "brightWhite",
];
// What a terminal says of its own accord, when the guest asks: a report, never a key.
const CONSOLE_ANSWER = /^\x1b(\[[?>=]?[\d;]*\$?[cnRyt]|[\]P][^\x07\x1b]*(\x07|\x1b\\))$/;
const CONSOLE_WORDS = {
  running: "The guest is running.",
  paused: "The guest is paused: it reads what you type when it runs on.",
  ended: "The guest is over",
  gone: "This VM is gone.",
};

function consoleBytes(value) {
  if (!value) return new Uint8Array(0);
  if (!value.buffer) return new Uint8Array(value);
  return new Uint8Array(value.buffer, value.byteOffset, value.byteLength);
}

// Keeps the end of the output in the model, for every view of it: of each message what is new.
function initialize({ model }) {
  const take = (message, buffers) => {
    if (message?.kind !== "output") return;
    const piece = consoleBytes(buffers?.[0]);
    let place = message.again ? 0 : model.get("place");
    let tail = message.again ? new Uint8Array(0) : consoleBytes(model.get("tail"));
    const end = message.start + piece.length;
    if (end > place) {
      if (message.start > place) tail = new Uint8Array(0);
      const fresh = piece.subarray(Math.max(0, place - message.start));
      const joined = new Uint8Array(tail.length + fresh.length);
      joined.set(tail);
      joined.set(fresh, tail.length);
      tail = joined.slice(-CONSOLE_KEPT);
      place = end;
    }
    model.set("tail", tail);
    model.set("place", place);
  };
  model.on("msg:custom", take);
  model.send?.({ kind: "whole" }); // what was sent before anybody listened
  return () => model.off("msg:custom", take);
}

// The colours that the style sheet and JupyterLab's theme give now.
function consoleTheme(root) {
  const probe = node("span", { hidden: true });
  root.append(probe);
  const theme = {};
  for (const name of CONSOLE_COLOURS) {
    probe.style.color = `var(--vlab-console-${name.toLowerCase()})`;
    theme[name] = getComputedStyle(probe).color;
  }
  probe.remove();
  return theme;
}

// Which keys are not the guest's: Shift+Tab, Tab after Escape, and copying.
function consoleKeys(terminal) {
  let escaped = false;
  return (event) => {
    if (event.type !== "keydown" || ["Shift", "Control", "Alt", "Meta"].includes(event.key)) return true;
    const leaves = event.key === "Tab" && (event.shiftKey || escaped);
    escaped = event.key === "Escape";
    if (event.ctrlKey && event.shiftKey && event.key.toLowerCase() === "c") {
      event.preventDefault();
      if (terminal.hasSelection()) navigator.clipboard?.writeText(terminal.getSelection());
      return false;
    }
    return !leaves;
  };
}

// Eighty columns in whatever width there is: guests take the width of a serial terminal for granted.
function consoleFit(terminal, paper) {
  const fit = new XtermFit();
  terminal.loadAddon(fit);
  const look = () => {
    const found = paper.clientWidth ? fit.proposeDimensions() : undefined;
    if (!found || !Number.isFinite(found.cols)) return;
    const size = terminal.options.fontSize * found.cols / CONSOLE_COLUMNS;
    const wanted = Math.floor(Math.min(CONSOLE_FONT.most, Math.max(CONSOLE_FONT.least, size)) * 4) / 4;
    const tooSmall = found.cols > CONSOLE_COLUMNS && terminal.options.fontSize < CONSOLE_FONT.most;
    if (found.cols < CONSOLE_COLUMNS || tooSmall) terminal.options.fontSize = wanted;
  };
  const observer = new ResizeObserver(look);
  observer.observe(paper);
  return () => observer.disconnect();
}

// What stands above the terminal: how it is with the guest, and what can be done about it.
function consoleBar(model, terminal) {
  const state = node("span", { class: "vlab-console-state" });
  const run = node("button", { onclick: () => model.send?.({ kind: "run" }) }, "▶ Run");
  const problem = node("span", { class: "problem", role: "alert" });
  const reader = node("input", {
    type: "checkbox", onchange: () => { terminal.options.screenReaderMode = reader.checked; },
  });
  const bar = node("div", { class: "bar vlab-console-bar" }, state, run, problem,
    node("span", { class: "faint small vlab-console-hint" },
      "Leave with Shift+Tab, or Esc and then Tab. Copy with Ctrl+Shift+C."),
    node("label", { class: "faint small" }, reader, " screen reader"));
  return { bar, state, run, problem };
}

// Writes what is new and sends what is typed; gives the function that ends it.
function consoleTraffic(model, terminal) {
  const me = Math.random().toString(36).slice(2);
  const send = (bytes, answer) => {
    if (model.get("alive") === false) return;
    model.send?.({ kind: "keys", view: me, answer }, undefined, [bytes.buffer]);
  };
  let shown = 0;
  let replaying = 0; // while old output is written again, its questions are not answered again
  const end = follow(model, ["place"], (place) => {
    const tail = consoleBytes(model.get("tail"));
    const first = shown === 0;
    if (place < shown) {
      terminal.reset();
      shown = 0;
    }
    const from = Math.max(shown, place - tail.length);
    if (from > shown && shown > 0) terminal.reset();
    shown = place;
    if (first) replaying += 1;
    terminal.write(tail.subarray(tail.length - (place - from)), () => { if (first) replaying -= 1; });
  });
  terminal.onData((text) => {
    const answer = CONSOLE_ANSWER.test(text);
    if (!(answer && replaying)) send(new TextEncoder().encode(text), answer);
  });
  terminal.onBinary((text) => send(Uint8Array.from(text, (letter) => letter.charCodeAt(0)), false));
  const mine = () => model.send?.({ kind: "focus", view: me });
  terminal.textarea?.addEventListener("focus", mine);
  mine();
  return () => {
    end();
    model.send?.({ kind: "left", view: me });
  };
}

function render({ model, el }) {
  const terminal = new XtermTerminal({
    cols: CONSOLE_COLUMNS, rows: CONSOLE_ROWS, convertEol: true, scrollback: 5000,
    fontSize: CONSOLE_FONT.most, minimumContrastRatio: 4.5,
    linkHandler: { activate: () => {} }, // a guest opens no pages
  });
  const { bar, state, run, problem } = consoleBar(model, terminal);
  const paper = node("div", { class: "vlab-console" });
  const root = view(el, "The guest's serial console", bar, paper);
  terminal.options.fontFamily = "var(--jp-code-font-family, monospace)";
  terminal.open(paper);
  terminal.attachCustomKeyEventHandler(consoleKeys(terminal));
  const paint = () => {
    const family = getComputedStyle(root).getPropertyValue("--jp-code-font-family").trim();
    terminal.options.fontFamily = family || "ui-monospace, monospace";
    terminal.options.theme = consoleTheme(root);
  };
  const themes = new MutationObserver(paint);
  themes.observe(document.body, { attributes: true });
  const shown = new IntersectionObserver(paint); // only then there are styles
  shown.observe(root);
  const ends = [
    consoleFit(terminal, paper),
    consoleTraffic(model, terminal),
    follow(model, ["state", "why", "alive"], (how, why, alive) => {
      const word = alive === false ? "gone" : how ?? "gone";
      const story = why && alive !== false ? ` (${why})` : "";
      state.textContent = word === "ended" ? `${CONSOLE_WORDS.ended}${why ? `: ${why}` : "."}`
        : CONSOLE_WORDS[word].replace(/([:.])/, `${story}$1`);
      state.dataset.state = word;
      run.hidden = word !== "paused" || !model.send;
      root.say(state.textContent);
    }),
    follow(model, ["problem"], (text) => { problem.textContent = text ?? ""; }),
  ];
  return () => {
    for (const end of ends) end();
    themes.disconnect();
    shown.disconnect();
    terminal.dispose();
  };
}

export default { initialize, render };
