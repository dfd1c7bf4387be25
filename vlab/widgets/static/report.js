// The marks of one exercise: a row for each invariant, with the reason and a way to the trace where one failed.
import { node, view, follow } from "./common.js";

function marks(value) {
  return value.toLocaleString("en-US", { maximumFractionDigits: 2 });
}

function row(each, open) {
  const story = [node("div", {}, each.says)];
  if (each.why) story.push(node("div", { class: "vlab-report-why" }, each.why));
  if (each.hint) story.push(node("div", { class: "vlab-report-hint" }, `Look at: ${each.hint}`));
  if (each.trace) {
    story.push(node("button", { type: "button", onclick: () => open(each.name) }, "Show it in the inspector"));
  }
  return node("tr", {},
    node("td", { class: each.holds ? "good" : each.waits ? "faint" : "bad" }, each.holds ? "✓ holds" : each.waits ? "… waits" : "✗ broken"),
    node("td", {}, ...story),
    node("td", { class: "vlab-report-points" }, `${marks(each.earned)} of ${marks(each.points)}`));
}

function render({ model, el }) {
  const head = node("caption", {});
  const body = node("tbody", {});
  const table = node("table", { class: "vlab-report" }, head, body);
  const root = view(el, "Marks of an exercise", table);
  return follow(model, ["title", "rows", "earned", "points"], (title, rows, earned, points) => {
    const total = `${title}: ${marks(earned)} of ${marks(points)} marks`;
    head.textContent = total;
    body.replaceChildren(...rows.map((each) => row(each, (name) => model.send?.({ open: name }))));
    root.say(total);
  });
}

export default { render };
