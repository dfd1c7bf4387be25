// One translated block: the guest's instructions beside their translation, and the blocks around it.
import { node, count } from "./common.js";

const WAYS_BY = { jump: "jump", branch: "conditional jump", gate: "gate", lookup: "lookup" };

// go(key): shows another block. Gives the element, and show(block, fates).
export function blockPanel(go) {
  const past = [];
  let shown = "";
  const back = node("button", { disabled: true, onclick: () => step() }, "◂ Back");
  const title = node("strong", { tabindex: -1, class: "vlab-block-title" });
  const facts = node("span", { class: "small faint" });
  const lines = node("tbody");
  const table = node("table", { class: "vlab-block-lines" },
    node("thead", {}, node("tr", {}, ["address", "original", "became", "translation"]
      .map((name) => node("th", { scope: "col" }, name)))), lines);
  const onward = node("ul");
  const hither = node("ul");
  const legend = node("dl", { class: "vlab-block-legend small" });
  const none = node("p", { class: "faint" });
  const body = node("div", {},
    node("div", {
      class: "vlab-block-scroll", tabindex: 0, role: "region", "aria-label": "code of the block",
    }, table),
    node("div", { class: "vlab-block-chains" },
      node("section", { "aria-label": "where the block leads" }, node("h4", {}, "Leads to"), onward),
      node("section", { "aria-label": "who leads to the block" }, node("h4", {}, "Comes from"), hither)),
    node("details", {}, node("summary", {}, "What the signs mean"), legend));
  const element = node("div", { class: "vlab-block" },
    node("div", { class: "bar" }, back, title, facts), none, body);

  element.addEventListener("keydown", (event) => {
    if (event.altKey && event.key === "ArrowLeft" && past.length) { event.preventDefault(); step(); }
  });

  function step() {
    const key = past.pop();
    back.disabled = !past.length;
    if (key) go(key);
  }

  function follow(key) {
    past.push(shown);
    back.disabled = false;
    go(key);
    title.focus();
  }

  function link(key, text) {
    return node("button", { class: "code vlab-block-link", onclick: () => follow(key) }, text);
  }

  function sign(fates, word) {
    const found = fates.find(([name]) => name === word);
    const kind = `vlab-fate vlab-fate-${word.replaceAll(" ", "-")}`;
    return node("span", { class: kind, title: found?.[2] ?? "" },
      node("span", { class: "vlab-fate-sign", "aria-hidden": true }, found?.[1] ?? ""), word);
  }

  function lineOf(block, fates, [rip, source, fate, offset, code, words, way]) {
    const [to, , , key, address] = block.ways[way] ?? ["", "", "", "", ""];
    const told = node("div", { class: "small faint" }, words);
    const then = words.endsWith("?") ? " then " : words ? ", " : "";
    if (key && fate !== "out of use") told.append(then, "to block ", link(key, address));
    else if (to && fate === "not linked" && source + words !== "" && !words.startsWith("leads to")) {
      told.append(then, `to ${to}`);
    }
    return node("tr", { class: source ? "" : "vlab-block-more" },
      node("td", { class: "code faint" }, source ? rip : ""), node("td", { class: "code" }, source),
      node("td", {}, sign(fates, fate)),
      node("td", { title: `at ${offset} in the cache` }, node("span", { class: "code" }, code), told));
  }

  function wayOf([to, context, by, key, address, there], arriving) {
    const how = ` ${WAYS_BY[by] ?? by}`;
    const toward = node("span", { class: "code" }, to);
    if (!key) return node("li", {}, toward, ` ${context},${how}: not linked yet`);
    return node("li", {}, link(key, arriving ? address : to), ` ${arriving ? there : context},${how}`);
  }

  function fill(list, ways, empty, arriving, more = 0) {
    list.replaceChildren(...ways.map((way) => wayOf(way, arriving)));
    if (!ways.length) list.append(node("li", { class: "faint" }, empty));
    if (more) list.append(node("li", { class: "faint" }, `and ${count(more)} more`));
  }

  return {
    element,
    focus() { title.focus(); },
    show(block, fates) {
      const there = Boolean(block?.lines);
      body.hidden = !there;
      none.hidden = there;
      facts.textContent = "";
      if (!there) {
        title.textContent = "No block";
        none.textContent = block?.gone ? `The block at ${block.gone} is not in the cache any more.`
          : "Run the guest; then choose one of its blocks.";
        return "";
      }
      shown = block.key;
      const [source, size, start] = block.bytes;
      title.textContent = `Block ${block.rip}, ${block.context}`;
      facts.textContent = `${block.instructions} instructions, ${source} bytes, translated to ${size} bytes `
        + `at 0x${start.toString(16)} in the cache`;
      lines.replaceChildren(...block.lines.map((line) => lineOf(block, fates, line)));
      fill(onward, block.ways, "the monitor alone: it ends with a call-out", false);
      fill(hither, block.arrivals, "the monitor alone: no block is linked to it", true, block.more);
      legend.replaceChildren(...fates.flatMap(([word, , meaning]) => [
        node("dt", {}, sign(fates, word)), node("dd", {}, meaning),
      ]));
      return title.textContent;
    },
  };
}
