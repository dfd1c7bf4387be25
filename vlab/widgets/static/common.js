// What all views share. A view is render({ model, el }), as anywidget calls it; the same function serves
// where there is no kernel, with a model that only answers get().

const SVG = "http://www.w3.org/2000/svg";

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return element;
}

// An HTML element: node("button", { onclick: f, "aria-label": "step" }, "Step").
export function node(tag, attributes, ...children) {
  return fill(document.createElement(tag), attributes, children);
}

// The same for SVG.
export function shape(tag, attributes, ...children) {
  return fill(document.createElementNS(SVG, tag), attributes, children);
}

// JupyterLab looks for its shortcuts from the focused element outwards, and some of them fit any element that
// has the focus: so each one that gets it has to be marked itself, and not only what is around it.
export function keepShortcutsOut(root) {
  const mark = (element) => element.setAttribute("data-lm-suppress-shortcuts", "true");
  mark(root);
  root.addEventListener("focusin", (event) => mark(event.target));
}

// The root of a view. JupyterLab's shortcuts stay out of it, or typing "dd" here would delete the reader's cell.
export function view(el, label, ...children) {
  const status = node("div", { class: "unseen", role: "status", "aria-live": "polite" });
  const root = node("div", {
    class: "vlab-view", role: "group", "aria-label": label, "data-lm-suppress-shortcuts": "true",
  }, ...children, status);
  keepShortcutsOut(root);
  root.say = (text) => { if (status.textContent !== text) status.textContent = text; };
  el.append(root);
  return root;
}

// A drawing that Python made, as an element.
export function picture(text) {
  const found = new DOMParser().parseFromString(text, "image/svg+xml").documentElement;
  return document.importNode(found, true);
}

// Call back with the model's traits now and whenever one of them changes; ends with the returned function.
export function follow(model, names, callback) {
  const wanted = () => callback(...names.map((name) => model.get(name)));
  for (const name of names) model.on?.(`change:${name}`, wanted);
  wanted();
  return () => { for (const name of names) model.off?.(`change:${name}`, wanted); };
}

// Numbers as the field writes them.
export function hex(value, digits = 0) {
  return "0x" + value.toString(16).padStart(digits, "0");
}

export function count(value) {
  return value.toLocaleString("en-US");
}

export function milliseconds(ns) {
  return (ns / 1e6).toLocaleString("en-US", { minimumFractionDigits: 3, maximumFractionDigits: 3 }) + " ms";
}

// A value whose base does not matter, in the one that the reader chose in JupyterLab's settings.
export function based(value) {
  return document.body.dataset.vlabBase === "dec" ? count(value) : hex(value);
}

// Whether to show every change at once, without movement.
export function calm() {
  return document.body.dataset.vlabSpeed === "off" || matchMedia("(prefers-reduced-motion: reduce)").matches;
}

// How long movements last, as a multiple of the usual, by the same settings.
export function pace() {
  return { slow: 2.5, fast: 0.4 }[document.body.dataset.vlabSpeed] ?? 1;
}

// At most one call a frame, with the latest arguments.
export function framed(callback) {
  let waiting = null;
  return (...args) => {
    if (waiting === null) requestAnimationFrame(() => { const now = waiting; waiting = null; callback(...now); });
    waiting = args;
  };
}
