// A page of exits, with the way to the other pages.
import { node, follow, count } from "./common.js";

function render({ model, el }) {
  const go = (to) => model.send?.({ page: to });
  const button = (text, label, where) => node("button", {
    type: "button", "aria-label": label, onclick: () => go(where()),
  }, text);
  const state = { first: 0, total: 0, size: 1 };
  const last = () => Math.max(0, Math.floor((state.total - 1) / state.size) * state.size);
  const back = [
    button("First", "First page", () => 0),
    button("Previous", "Previous page", () => Math.max(0, state.first - state.size)),
  ];
  const on = [
    button("Next", "Next page", () => Math.min(last(), state.first + state.size)),
    button("Last", "Last page", last),
  ];
  const where = node("span", { class: "exits-where", role: "status", "aria-live": "polite" });
  const body = node("tbody");
  const names = model.get("columns");
  const head = node("tr", {}, ...names.map((name) => node("th", { scope: "col" }, name)));
  const scroll = node("div", { class: "exits-scroll", tabindex: "0", role: "region", "aria-label": "Exits" },
    node("table", {}, node("thead", {}, head), body));
  const bar = node("div", { class: "bar" }, ...back, where, ...on);
  scroll.addEventListener("keydown", (event) => {
    const to = { PageDown: on[0], PageUp: back[1], Home: back[0], End: on[1] }[event.key];
    if (!to) return;
    event.preventDefault();
    if (!to.disabled) to.click();
  });
  el.classList.add("exits-table");
  el.setAttribute("data-lm-suppress-shortcuts", "true");
  el.append(bar, scroll);
  const traits = ["rows", "signs", "first", "total", "size"];
  const end = follow(model, traits, (rows, signs, first, total, size) => {
    Object.assign(state, { first, total, size });
    const range = `${count(first + 1)}–${count(first + rows.length)}`;
    where.textContent = total ? `${range} of ${count(total)} exits` : "No exits";
    for (const each of back) each.disabled = first === 0;
    for (const each of on) each.disabled = first + rows.length >= total;
    body.replaceChildren(...rows.map((row) => node("tr", {}, ...row.map((text, place) => {
      const named = { "data-name": names[place] };
      if (place !== 2) return node("td", { class: place < 2 ? "number" : "code", ...named }, text);
      const [sign, colour] = signs[text] ?? ["·", "inherit"];
      const shown = node("span", { "aria-hidden": "true", style: `color: ${colour}` }, `${sign} `);
      return node("td", {}, shown, text);
    }))));
  });
  return end;
}

export default { render };
