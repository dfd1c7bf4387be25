// A memory map: three columns of address ranges. The drawing comes from Python; here a range is chosen,
// traced through the columns, told about, and zoomed into.
import { node, view, picture, follow } from "./common.js";

// The boxes and bands that have to do with a box: what it leads to, and what leads to it.
function mapTrace(bands, key) {
  const boxes = new Set([key]), found = new Set();
  const right = bands.filter((band) => band.dataset.source === key);
  const left = bands.filter((band) => band.dataset.target === key);
  for (const band of [...right, ...left]) {
    found.add(band);
    boxes.add(band.dataset.source);
    boxes.add(band.dataset.target);
  }
  for (const band of bands) { // one column further
    if (right.some((each) => each.dataset.target === band.dataset.source)
      || left.some((each) => each.dataset.source === band.dataset.target)) {
      found.add(band);
      boxes.add(band.dataset.source);
      boxes.add(band.dataset.target);
    }
  }
  return { boxes, found };
}

function mapNeighbour(boxes, bands, current, key) {
  const column = Number(current.dataset.column);
  if (key === "ArrowUp" || key === "ArrowDown" || key === "Home" || key === "End") {
    const own = boxes.filter((box) => Number(box.dataset.column) === column);
    if (key === "Home") return own[0];
    if (key === "End") return own[own.length - 1];
    return own[own.indexOf(current) + (key === "ArrowDown" ? 1 : -1)] ?? current;
  }
  const [from, to, step] = key === "ArrowRight" ? ["source", "target", 1] : ["target", "source", -1];
  const band = bands.find((each) => each.dataset[from] === current.dataset.key);
  return boxes.find((box) => box.dataset.key === band?.dataset[to])
    ?? boxes.find((box) => Number(box.dataset.column) === column + step) ?? current;
}

function mapDetail(detail, zoomIn) {
  if (!detail) return [node("p", { class: "faint" }, "Choose a range: click, or Tab and arrow keys.")];
  return [
    node("h4", {}, detail.name),
    node("table", {}, detail.facts.map(([name, words]) => node("tr", {},
      node("th", { scope: "row", class: "faint" }, name), node("td", {}, words)))),
    detail.zoom && zoomIn
      ? node("button", { type: "button", onclick: () => zoomIn(detail.zoom) }, "Zoom into it (Enter)") : null,
  ];
}

function render({ model, el }) {
  let boxes = [], bands = [], key = "";
  const history = [];
  const drawing = node("div", { class: "vlab-map-scroll" });
  const detail = node("div", { class: "vlab-map-detail" });
  const gone = node("p", { class: "problem", hidden: true },
    "A VM of this map is gone; what you see is the last look.");
  const cut = node("p", { class: "problem", hidden: true },
    "A guest maps more ranges than are read; the rest is left out.");
  const problem = node("p", { class: "problem", role: "alert", hidden: true });
  const back = node("button", { type: "button", onclick: () => zoomOut() }, "Zoom out (Esc)");
  const where = node("span", { class: "faint" });
  const again = node("button", {
    type: "button",
    onclick: () => { model.set("asked", (model.get("asked") ?? 0) + 1); model.save_changes(); },
  }, "Refresh");
  const bar = node("div", { class: "bar" }, again, back, where);
  bar.hidden = !model.set;
  const root = view(el, "Memory map", bar, gone, cut, problem, drawing, detail);
  root.classList.add("vlab-map");

  function zoom(wanted) {
    model.set("zoom", wanted);
    model.save_changes();
  }

  function zoomIn(wanted) {
    if (!wanted || !model.set) return; // without a kernel nobody draws it
    history.push(model.get("zoom") ?? {});
    key = "";
    zoom(wanted);
    root.say(`Zoomed into ${wanted.start}`);
  }

  function zoomOut() {
    key = "";
    zoom(history.pop() ?? {});
    root.say("Zoomed out");
  }

  function choose(wanted, focus) {
    const chosen = boxes.find((box) => box.dataset.key === wanted);
    key = chosen ? wanted : "";
    const traced = mapTrace(bands, key);
    drawing.firstChild?.classList.toggle("tracing", Boolean(key));
    for (const box of boxes) {
      box.classList.toggle("chosen", box === chosen);
      box.classList.toggle("traced", box !== chosen && traced.boxes.has(box.dataset.key));
      box.setAttribute("tabindex", box === (chosen ?? boxes[0]) ? "0" : "-1");
      box.setAttribute("aria-pressed", String(box === chosen));
    }
    for (const band of bands) band.classList.toggle("traced", traced.found.has(band));
    const told = mapDetail(model.get("details")?.[key], model.set ? zoomIn : null);
    detail.replaceChildren(...told.filter(Boolean));
    if (focus) chosen?.focus();
  }

  function redraw(text) {
    const focused = drawing.contains(document.activeElement);
    const [top, left] = [drawing.scrollTop, drawing.scrollLeft];
    drawing.replaceChildren(...(text ? [picture(text)] : []));
    boxes = [...drawing.querySelectorAll(".vlab-box")];
    bands = [...drawing.querySelectorAll(".vlab-band")];
    for (const box of boxes) {
      box.setAttribute("role", "button");
      box.setAttribute("aria-label", box.querySelector("title")?.textContent ?? "");
      box.addEventListener("click", () => choose(box.dataset.key === key ? "" : box.dataset.key, true));
      box.addEventListener("dblclick", () => zoomIn(model.get("details")?.[box.dataset.key]?.zoom));
    }
    drawing.firstChild?.setAttribute("role", "group");
    drawing.scrollTop = top;
    drawing.scrollLeft = left;
    choose(key || (focused ? boxes[0]?.dataset.key : ""), focused);
  }

  root.addEventListener("keydown", (event) => {
    if (event.key === "Escape" && !back.disabled && model.set) {
      event.preventDefault();
      event.stopPropagation();
      zoomOut();
    }
  });
  drawing.addEventListener("keydown", (event) => {
    const current = event.target.closest?.(".vlab-box");
    if (!current) return;
    if (["ArrowLeft", "ArrowRight", "ArrowUp", "ArrowDown", "Home", "End"].includes(event.key)) {
      event.preventDefault();
      const next = current.dataset.key === key ? mapNeighbour(boxes, bands, current, event.key) : current;
      choose(next.dataset.key, true);
    } else if (event.key === " " || (event.key === "Enter" && current.dataset.key !== key)) {
      event.preventDefault();
      choose(current.dataset.key, true);
    } else if (event.key === "Enter") {
      event.preventDefault();
      zoomIn(model.get("details")?.[key]?.zoom);
    }
  });

  const ends = [
    follow(model, ["drawing"], redraw),
    follow(model, ["details"], () => choose(key, false)),
    follow(model, ["zoom"], (zoomed) => {
      const on = Boolean(zoomed && Object.keys(zoomed).length);
      back.disabled = !on;
      where.textContent = on
        ? `VM ${zoomed.vm + 1}, ${zoomed.space} ${zoomed.start} to ${zoomed.end}` : "all of it";
    }),
    follow(model, ["alive"], (alive) => { gone.hidden = alive !== false; again.disabled = alive === false; }),
    follow(model, ["complete"], (complete) => { cut.hidden = complete !== false; }),
    follow(model, ["problem"], (text) => { problem.textContent = text; problem.hidden = !text; }),
  ];
  return () => { for (const end of ends) end(); };
}

export default { render };
