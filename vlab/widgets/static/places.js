// The parts of a drawing that name themselves: hover and focus tell about them, a token shows which one is
// active.
import { pace } from "./common.js";
const GLIDE = 160; // ms that the token takes from one place to the next

function aboutPlace(place, told) {
  const kind = place.dataset.place;
  const said = place.dataset.about;
  if (!told || !place.classList.contains("runs")) return said;
  const stage = kind === "out" || kind === "back" ? kind : place === told.monitorPlace ? "monitor" : "guest";
  const now = told[stage];
  return `${said}. Now: ${now}. ${told.section ? `See ${told.section}.` : ""}`;
}

// frame: what holds the drawing. line: where the words go.
export function walkPlaces(frame, line) {
  let told = null;
  let pointed = null;
  let current = null;
  const parts = new Map();
  const say = () => { line.textContent = pointed ? aboutPlace(pointed, told) : ""; };
  const point = (event) => {
    const found = event.target.closest?.("[data-place]");
    if (found !== pointed) { pointed = found; say(); }
  };
  const leave = () => { pointed = null; say(); };
  frame.addEventListener("pointerover", point);
  frame.addEventListener("focusin", point);
  frame.addEventListener("pointerleave", leave);
  frame.addEventListener("focusout", leave);

  function move(token, trail, from, to, glide) {
    token.setAttribute("visibility", "visible");
    token.setAttribute("cx", to.dataset.x);
    token.setAttribute("cy", to.dataset.y);
    const moves = from && from !== to;
    trail.setAttribute("visibility", moves ? "visible" : "hidden");
    if (!moves) return;
    const ends = { x1: from.dataset.x, y1: from.dataset.y, x2: to.dataset.x, y2: to.dataset.y };
    for (const [name, value] of Object.entries(ends)) trail.setAttribute(name, value);
    if (glide) {
      const shift = `translate(${from.dataset.x - to.dataset.x}px, ${from.dataset.y - to.dataset.y}px)`;
      token.animate([{ transform: shift }, { transform: "translate(0, 0)" }], { duration: GLIDE * pace() });
    }
  }

  return {
    // The drawing is new.
    begin() {
      parts.clear();
      current = null;
      for (const part of frame.querySelectorAll("[data-place]")) parts.set(part.dataset.place, part);
      frame.firstElementChild?.setAttribute("role", "group");
      const runs = frame.querySelector(".runs");
      if (runs) this.mark(runs.dataset.place, false);
    },
    // What is active.
    mark(name, glide) {
      const to = parts.get(name);
      if (!to) return;
      for (const part of parts.values()) part.classList.toggle("runs", part === to);
      const [token, trail] = ["token", "trail"].map((part) => frame.querySelector(`[data-part=${part}]`));
      move(token, trail, current, to, glide);
      current = to;
      say();
    },
    // What there is to say about what is active.
    tell(words) {
      told = { ...words, monitorPlace: parts.get("host-0") };
      say();
    },
  };
}
