// The list of translated blocks, a page at a time: Python finds and sorts, for there can be 50,000 of them.
import { node, count } from "./common.js";

const BLOCK_COLUMNS = ["address", "context", "instr.", "bytes", "here"];
const BLOCK_ORDERS = [
  ["made", "as they were made"], ["address", "by address"], ["size", "largest first"],
  ["arrivals", "most ways to it first"],
];
const CHOOSE_AFTER = 90;
const ANSWER_WITHIN = 2000;
let blockLists = 0;

// ask(message): sends one. Gives the element, and show(listed), chosen(key).
export function blockList(ask, can) {
  const id = `vlab-blocks-${++blockLists}`;
  let page = null;
  let active = -1;
  let chosenKey = "";
  let landing = null;
  let timer = null;
  let searching = null;
  let wish = { key: "", until: 0 };  // a block that was asked for, and that older answers do not take back

  const filter = node("input", {
    type: "search", placeholder: "0xc0100154, IF=1, mov cr3", size: 18, disabled: !can,
    title: "part of an address, of a context or of an instruction; commas between several",
    "aria-label": "filter: part of an address, of a context or of an instruction; commas between several",
  });
  const order = node("select", { "aria-label": "order of the list", disabled: !can },
    BLOCK_ORDERS.map(([value, words]) => node("option", { value }, words)));
  const where = node("span", { class: "small faint", role: "status" });
  const back = node("button", { "aria-label": "previous page", onclick: () => turn(-1) }, "◂");
  const on = node("button", { "aria-label": "next page", onclick: () => turn(1) }, "▸");
  const rows = node("div", {
    class: "vlab-blocks-rows", role: "listbox", tabindex: 0, onkeydown: keys,
    "aria-label": "blocks; arrows move, Page Up and Page Down turn the page, Enter goes to the code",
  });
  const head = node("div", { class: "vlab-blocks-row vlab-blocks-head", "aria-hidden": true },
    BLOCK_COLUMNS.map((name, at) => node("span", { class: at > 1 ? "number" : null }, name)));
  const box = node("div", { class: "vlab-blocks-box" }, head, rows);
  const element = node("div", { class: "vlab-blocks" }, node("div", { class: "bar" }, filter, order), box,
    node("div", { class: "bar" }, back, on, where));

  let typing = null;
  filter.addEventListener("input", () => {
    clearTimeout(typing);
    clearTimeout(searching);
    typing = setTimeout(() => ask({ do: "list", text: filter.value, first: 0 }), 250);
  });
  filter.addEventListener("keydown", (event) => {
    if (event.key === "ArrowDown") { event.preventDefault(); rows.focus(); }
  });
  order.addEventListener("change", () => ask({ do: "list", order: order.value, first: 0 }));

  function turn(by, land = null) {
    if (!page || !can) return;
    const first = page.first + by * page.page;
    if (first < 0 || first >= page.found) return;
    clearTimeout(timer);
    landing = land;
    ask({ do: "list", first });
  }

  function move(to) {
    if (!page?.rows.length) return;
    if (to < 0) return turn(-1, "last");
    if (to >= page.rows.length) return turn(1, "first");
    activate(to);
    choose(page.rows[to][0], CHOOSE_AFTER);
  }

  function choose(key, delay) {
    wish = { key, until: performance.now() + delay + ANSWER_WITHIN };
    clearTimeout(timer);
    timer = setTimeout(() => ask({ do: "choose", key }), delay);
  }

  function activate(index) {
    rows.children[active]?.setAttribute("aria-selected", "false");
    active = index;
    const row = rows.children[active];
    if (!row) return rows.removeAttribute("aria-activedescendant");
    row.setAttribute("aria-selected", "true");
    rows.setAttribute("aria-activedescendant", row.id);
    box.scrollTop = Math.min(box.scrollTop, row.offsetTop - head.offsetHeight);
    box.scrollTop = Math.max(box.scrollTop, row.offsetTop + row.offsetHeight - box.clientHeight);
  }

  function keys(event) {
    const last = (page?.rows.length ?? 0) - 1;
    const to = { ArrowUp: active - 1, ArrowDown: active + 1, Home: 0, End: last }[event.key];
    if (to !== undefined) move(to);
    else if (event.key === "PageUp") turn(-1, "first");
    else if (event.key === "PageDown") turn(1, "first");
    else if (event.key === "Enter" && active >= 0) element.dispatchEvent(new CustomEvent("enter"));
    else return;
    event.preventDefault();
  }

  function rowOf([key, rip, context, source, size, instructions, arrivals], index) {
    const label = `${rip}, ${context}, ${instructions} instructions, ${source} bytes, ${size} in the cache, `
      + `${arrivals} ways lead here`;
    return node("div", {
      class: "vlab-blocks-row", role: "option", id: `${id}-${index}`, "aria-selected": "false",
      "aria-label": label,
      onclick: () => { activate(index); choose(key, 0); },
    }, node("span", { class: "code" }, rip), node("span", {}, context),
    [instructions, `${source}→${size}`, arrivals].map((value) => node("span", { class: "number" }, value)));
  }

  return {
    element,
    show(listed) {
      if (!listed?.rows) return;
      page = listed;
      active = -1;
      rows.replaceChildren(...page.rows.map(rowOf));
      const longest = Math.max(10, ...page.rows.map(([, rip]) => rip.length));
      element.style.setProperty("--vlab-address", `${longest + 0.5}ch`);
      if (document.activeElement !== filter && filter.value !== page.text) filter.value = page.text;
      order.value = page.order;
      const last = page.first + page.rows.length;
      const all = (page.found === page.total ? "" : ` found, of ${count(page.total)}`)
        + (page.unread ? `; ${count(page.unread)} still to search` : "");
      const shown = `${count(page.first + 1)} to ${count(last)} of ${count(page.found)}${all}`;
      const none = page.unread ? `searching ${count(page.unread)} blocks…`
        : page.total ? `none of ${count(page.total)} blocks has that` : "no blocks yet";
      where.textContent = page.found ? shown : none;
      back.disabled = !can || page.first === 0;
      on.disabled = !can || last >= page.found;
      clearTimeout(searching);
      if (page.unread && can) searching = setTimeout(() => ask({ do: "list", first: page.first }), 50);
      const wanted = landing;
      landing = null;
      if (wanted) move(wanted === "last" ? page.rows.length - 1 : 0);
      else this.chosen(chosenKey);
    },
    chosen(key) {
      if (wish.key && key !== wish.key && performance.now() < wish.until) return;
      wish = { key: "", until: 0 };
      chosenKey = key;
      const index = page?.rows.findIndex((row) => row[0] === key) ?? -1;
      if (index !== active) activate(index);
    },
    end() { for (const each of [timer, typing, searching]) clearTimeout(each); },
  };
}
