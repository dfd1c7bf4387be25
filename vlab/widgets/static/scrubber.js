// A strip over all exits of a trace: a lane for each of the most frequent reasons, the darker the denser.
// The lanes are drawn once; scrubbing moves a cursor over them.
import { node, count } from "./common.js";

const LANES = 6;
const LANE_HEIGHT = 14;
const OTHERS = "others";

// Which lane each reason code has, and the lanes' names.
function lanesOf(trace) {
  const counts = new Uint32Array(trace.reasons.length);
  const codes = trace.columns.reason;
  for (const row of trace.exits) counts[codes[row]]++;
  const used = [...counts.keys()].filter((code) => counts[code]).sort((a, b) => counts[b] - counts[a]);
  const named = used.length > LANES ? used.slice(0, LANES - 1) : used;
  const lane = new Uint8Array(counts.length).fill(named.length);
  named.forEach((code, place) => { lane[code] = place; });
  const names = named.map((code) => [trace.reasons[code], counts[code]]);
  const rest = trace.length - named.reduce((sum, code) => sum + counts[code], 0);
  return { lane, names: rest ? [...names, [OTHERS, rest]] : names };
}

// How many exits of each lane fall on each column of pixels.
function densityOf(trace, lane, lanes, width) {
  const found = new Uint32Array(lanes * width);
  const codes = trace.columns.reason;
  const { exits } = trace;
  for (let n = 0; n < exits.length; n++) {
    found[lane[codes[exits[n]]] * width + Math.floor((n * width) / exits.length)]++;
  }
  return found;
}

function drawLanes(canvas, trace, { lane, names }) {
  const scale = devicePixelRatio || 1;
  const width = Math.max(1, Math.round(canvas.clientWidth * scale));
  const high = LANE_HEIGHT * scale;
  canvas.width = width;
  canvas.height = Math.max(1, Math.round(names.length * high));
  const paint = canvas.getContext("2d");
  const columns = Math.min(width, trace.length);
  const density = densityOf(trace, lane, names.length, columns);
  const most = Math.max(1, trace.length / columns);
  const style = getComputedStyle(canvas);
  paint.fillStyle = style.color;
  for (let place = 0; place < names.length; place++) {
    for (let column = 0; column < columns; column++) {
      const share = Math.min(1, density[place * columns + column] / most);
      if (!share) continue;
      paint.globalAlpha = 0.2 + 0.8 * share;
      const left = Math.floor((column * width) / columns);
      paint.fillRect(left, Math.round(place * high) + scale,
        Math.max(1, Math.floor(((column + 1) * width) / columns) - left), Math.round(high) - 2 * scale);
    }
  }
}

// onMove(n) is called with the exit, from 0, that its user moves to.
export function makeStrip(onMove) {
  const labels = node("div", { class: "strip-labels", "aria-hidden": "true" });
  const canvas = node("canvas", { class: "strip-lanes" });
  const cursor = node("div", { class: "strip-cursor" });
  const guest = node("div", { class: "strip-guest", hidden: true, title: "the guest is here" });
  const slider = node("div", {
    class: "strip", role: "slider", tabindex: 0, "aria-label": "exit", "aria-valuemin": 1,
    "aria-valuemax": 1, "aria-valuenow": 1, "aria-orientation": "horizontal",
  }, canvas, cursor, guest);
  const element = node("div", { class: "strip-frame" }, labels, slider);
  let trace = null;
  let lanes = null;
  let place = 0;
  let stands = -1;
  let width = 0;

  const draw = () => {
    width = slider.clientWidth;
    if (trace && width) drawLanes(canvas, trace, lanes);
  };
  const left = (n) => (trace && trace.length > 1 ? (n * (width - 1)) / (trace.length - 1) : 0);
  const put = (marker, n) => { marker.style.transform = `translateX(${left(n)}px)`; };
  const move = (n) => {
    if (!trace?.length) return;
    const to = Math.max(0, Math.min(trace.length - 1, Math.round(n)));
    if (to !== place) onMove(place = to); // at once: more keys can come before it is drawn
  };
  const pointed = (event) => {
    const { left: edge } = slider.getBoundingClientRect();
    move(((event.clientX - edge) / Math.max(1, width - 1)) * (trace.length - 1));
  };
  slider.addEventListener("pointerdown", (event) => {
    if (!trace?.length) return;
    slider.setPointerCapture(event.pointerId);
    slider.focus();
    pointed(event);
  });
  slider.addEventListener("pointermove", (event) => {
    if (slider.hasPointerCapture(event.pointerId)) pointed(event);
  });
  slider.addEventListener("keydown", (event) => {
    if (!trace || event.ctrlKey || event.altKey || event.metaKey) return;
    const page = Math.max(10, Math.round(trace.length / 100));
    const to = {
      ArrowLeft: place - 1, ArrowDown: place - 1, ArrowRight: place + 1, ArrowUp: place + 1,
      PageUp: place + page, PageDown: place - page, Home: 0, End: trace.length - 1,
    }[event.key];
    if (to === undefined) return;
    event.preventDefault();
    move(to);
  });
  const sized = new ResizeObserver(() => { draw(); put(cursor, place); put(guest, stands); });
  sized.observe(slider);
  // JupyterLab hides everything while it changes the theme, and says nothing when it shows it again.
  const redraw = (tries) => {
    draw();
    if (!width && tries) setTimeout(redraw, 100, tries - 1);
  };
  const themed = new MutationObserver(() => redraw(20));
  themed.observe(document.body, { attributes: true, attributeFilter: ["data-jp-theme-light"] });

  return {
    element, slider,
    load(found) {
      trace = found;
      lanes = lanesOf(trace);
      labels.replaceChildren(...lanes.names.map(([name, many]) => (
        node("div", { title: `${count(many)} exits` }, `${name} ${count(many)}`))));
      slider.setAttribute("aria-valuemax", trace.length);
      slider.style.height = `${Math.max(1, lanes.names.length) * LANE_HEIGHT}px`;
      draw();
    },
    // Show the cursor at exit n; words: what a screen reader says of it.
    at(n, number, words) {
      place = n;
      put(cursor, n);
      slider.setAttribute("aria-valuenow", number);
      slider.setAttribute("aria-valuetext", words);
    },
    // Show where the guest is: behind exit n; hidden for one that is not in the trace.
    guestAt(n) {
      stands = n;
      guest.hidden = !trace?.length || n < 0 || n >= trace.length;
      if (!guest.hidden) put(guest, n);
    },
    close() {
      sized.disconnect();
      themed.disconnect();
    },
  };
}
