// Monitors side by side: a table that can be sorted, with a bar beside each number.
import { node, view, follow } from "./common.js";

function comparisonBar(cell, most) {
  const parts = cell.parts.length ? cell.parts : [{ name: "", amount: cell.value, colour: "guest" }];
  return node("span", { class: "comparison-bar", "aria-hidden": "true" }, ...parts.map((part) => {
    const own = part.colour === "guest" || part.colour === "exits";
    const width = `width: ${(100 * part.amount) / most}%`;
    return node("span", {
      class: own ? `comparison-${part.colour}` : null,
      style: own ? width : `${width}; background: ${part.colour}`,
    });
  }));
}

// Words that belong together stay on a line.
function comparisonNote(text) {
  const parts = text.split(/(?<=[,;]) /);
  return node("span", { class: "comparison-note small faint" },
    ...parts.flatMap((part) => [node("span", { class: "comparison-whole" }, part), " "]));
}

function comparisonCell(cell, column, most) {
  const bar = column.bars && typeof cell.value === "number" && most > 0 ? comparisonBar(cell, most) : null;
  const verdict = column.key === "agrees" ? { "✓": "good", "✗": "bad" }[cell.text[0]] ?? null : null;
  return node(column.key === "way" ? "th" : "td", {
    class: column.bars ? "comparison-number" : column.key === "result" ? "code" : null,
    scope: column.key === "way" ? "row" : null,
  }, node("span", { class: verdict && `comparison-${verdict}` }, cell.text), bar,
  cell.note ? comparisonNote(cell.note) : null);
}

function comparisonOrder(rows, key, down, look) {
  const kept = rows.map((row, place) => [look(row, key).value, place, row]);
  kept.sort(([one, i], [other, j]) => {
    if (one === null || other === null) return (one === null) - (other === null) || i - j;
    const sign = typeof one === "string" ? one.localeCompare(other) : one - other;
    return (down ? -sign : sign) || i - j;
  });
  return kept.map(([, , row]) => row);
}

function render({ model, el }) {
  const table = model.get("table");
  const state = { key: null, down: false, group: "all", generation: model.get("generation") };
  const look = (row, key) => (key === "cycles" ? row.cycles[state.generation] : row.cells[key]);
  const heads = table.columns.map((column) => node("th", { scope: "col" }, node("button", {
    type: "button", title: `${column.title}: ${column.about}; press to sort`, onclick: () => sort(column),
  }, column.title)));
  const bodies = node("table", { class: "comparison" }, node("thead", {}, node("tr", {}, ...heads)));
  const processor = node("select", { onchange: () => choose(processor.value) },
    ...table.generations.map(([name, title]) => node("option", { value: name }, title)));
  const names = table.groups.map(({ name }) => name);
  const groups = node("select", { onchange: () => { state.group = groups.value; draw(); } },
    ...["all", ...names].map((name) => node("option", { value: name }, name)));
  const bar = node("div", { class: "bar" },
    names.length > 1 ? node("label", {}, "Show: ", groups) : null,
    node("label", {}, "Cycles modelled for: ", processor));
  const legend = node("p", { class: "small faint" }, "Bars of cycles: ",
    node("span", { class: "comparison-key comparison-guest" }), " the guest's own, ",
    node("span", { class: "comparison-key comparison-exits" }), " its exits.");
  const notes = table.notes.map((text) => node("p", { class: "small" }, text));
  const scroll = node("div", { class: "comparison-scroll" }, bodies);
  const root = view(el, `Monitors compared: ${names.join(", ")}`, bar, scroll, legend, ...notes);

  function draw() {
    for (const body of [...bodies.tBodies]) body.remove();
    for (const { name, rows } of table.groups) {
      if (state.group !== "all" && state.group !== name) continue;
      const sorted = state.key ? comparisonOrder(rows, state.key, state.down, look) : rows;
      const most = (key) => Math.max(0, ...rows.map((row) => Number(look(row, key).value) || 0));
      const heading = { class: "comparison-group", colspan: table.columns.length, scope: "rowgroup" };
      const cells = (row) => table.columns.map(
        (column) => comparisonCell(look(row, column.key), column, most(column.key)));
      bodies.append(node("tbody", {}, node("tr", {}, node("th", heading, name)),
        ...sorted.map((row) => node("tr", {}, ...cells(row)))));
    }
    table.columns.forEach((column, place) => {
      const active = column.key === state.key;
      heads[place].setAttribute("aria-sort", active ? (state.down ? "descending" : "ascending") : "none");
      heads[place].firstChild.textContent = column.title + (active ? (state.down ? " ▼" : " ▲") : "");
    });
  }

  function sort(column) {
    state.down = state.key === column.key ? !state.down : column.bars;
    state.key = column.key;
    draw();
    root.say(`Sorted by ${column.title}, ${state.down ? "highest" : "lowest"} first`);
  }

  function choose(name) {
    state.generation = name;
    model.set?.("generation", name);
    model.save_changes?.();
    draw();
  }

  bodies.addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    const place = heads.findIndex((head) => head.contains(event.target));
    if (!step || place < 0) return;
    event.preventDefault();
    heads[(place + step + heads.length) % heads.length].firstChild.focus();
  });
  return follow(model, ["generation"], (name) => {
    state.generation = name;
    processor.value = name;
    draw();
  });
}

export default { render };
