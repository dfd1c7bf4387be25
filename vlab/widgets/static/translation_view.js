// The translation cache: counts, a map, the blocks, one of them beside its original, and hit rates.
import { node, view, follow, count, picture } from "./common.js";
import { blockList } from "./translation_list.js";
import { blockPanel } from "./translation_block.js";
import { profilePanel } from "./translation_profile.js";

const CACHE_COUNTS = [
  ["blocks", "blocks", "translated so far; one that was dropped and made anew counts twice"],
  ["instructions", "instructions", "of the guest's, in those blocks"],
  ["expansion", "expansion", "bytes of translation for each byte of the guest's"],
  ["links", "links", "jumps from block to block that were written in afterwards"],
  ["unlinked", "unlinked", "ends of blocks that led to the monitor, for there was no link yet"],
  ["targets", "lookup targets", "of returns and indirect jumps: comparisons that lookups know"],
  ["misses", "misses", "lookups that ended at the monitor"],
  ["callouts", "call-outs", "instructions that the monitor carried out"],
  ["dropped", "dropped", "blocks thrown away because the guest changed its code"],
  ["slow", "slow", "accesses translated anew as call-outs, for they kept faulting"],
  ["flushes", "flushes", "how often the whole cache was emptied"],
];

function inCacheUnits(bytes) {
  if (bytes < 1024) return `${bytes} bytes`;
  return bytes < 1 << 20 ? `${(bytes / 1024).toFixed(1)} KiB` : `${(bytes / (1 << 20)).toFixed(2)} MiB`;
}

function countsPanel() {
  const values = CACHE_COUNTS.map(([, name, meaning]) => {
    const value = node("strong");
    const label = node("span", { class: "small faint" }, name);
    return [value, node("li", { class: "vlab-cache-count", title: meaning }, label, value)];
  });
  const used = node("strong");
  const element = node("div", {},
    node("ul", { class: "vlab-cache-counts" }, values.map(([, box]) => box),
      node("li", { class: "vlab-cache-count" }, node("span", { class: "small faint" }, "cache used"), used)),
    node("details", {}, node("summary", { class: "small" }, "What the numbers count"),
      node("ul", { class: "small" },
        CACHE_COUNTS.map(([, name, meaning]) => node("li", {}, `${name}: ${meaning}`)))));
  return {
    element,
    show(counts) {
      CACHE_COUNTS.forEach(([field], index) => {
        const value = counts[field] ?? 0;
        values[index][0].textContent = field === "expansion" ? value.toFixed(2) : count(value);
      });
      const [code, gates, codeSize] = counts.room ?? [0, 0, 0];
      used.textContent = `${inCacheUnits(code)} of ${inCacheUnits(codeSize)}`;
      used.title = `and ${inCacheUnits(gates)} of gates`;
    },
  };
}

function render({ model, el }) {
  const can = typeof model.send === "function";
  const ask = (message) => { if (can) model.send(message); };
  const state = node("span", { class: "small faint" });
  const problem = node("p", { class: "problem", role: "alert", hidden: true });
  const gone = node("p", { class: "problem", hidden: true }, "This VM is gone.");
  const counts = countsPanel();
  const map = node("div", { class: "vlab-cache-map" });
  const list = blockList(ask, can);
  const panel = blockPanel((key) => ask({ do: "choose", key }));
  const calls = node("tbody");
  const callOuts = node("section", { "aria-label": "call-outs" }, node("h4", {}, "Call-outs in the cache"),
    node("table", {}, node("thead", {}, node("tr", {}, node("th", { scope: "col" }, "family"),
      node("th", { scope: "col", class: "number" }, "places"))), calls));
  const profile = profilePanel(ask, can);
  const root = view(el, "The translation cache",
    node("div", { class: "bar" }, node("strong", {}, "Translation cache"), state), gone, problem,
    counts.element, map, node("div", { class: "vlab-cache-main" }, list.element, panel.element),
    node("div", { class: "vlab-cache-foot" }, callOuts, profile.element));
  root.classList.add("vlab-cache");
  list.element.addEventListener("enter", () => panel.focus());
  map.addEventListener("click", (event) => {
    const part = map.querySelector("rect.vlab-cache-part");
    const code = model.get("counts").room?.[0];
    if (!part || !code || !event.target.closest(".vlab-cache-part")) return;
    const { left, width } = part.getBoundingClientRect();
    ask({ do: "at", offset: Math.max(0, Math.floor((event.clientX - left) / width * code)) });
  });

  const ends = [
    follow(model, ["counts"], (found) => counts.show(found ?? {})),
    follow(model, ["drawing"], (drawing) => map.replaceChildren(...(drawing ? [picture(drawing)] : []))),
    follow(model, ["listed"], (listed) => list.show(listed)),
    follow(model, ["block"], (block) => {
      const said = panel.show(block, model.get("fates") ?? []);
      list.chosen(block?.key ?? "");
      if (said) root.say(said);
    }),
    follow(model, ["call_outs"], (found) => {
      const families = found?.length ? found : [["none yet", 0]];
      calls.replaceChildren(...families.map(([family, places]) => node("tr", {},
        node("td", {}, family), node("td", { class: "number" }, count(places)))));
    }),
    follow(model, ["seen", "profiling", "running"], (seen, profiling, running) => {
      profile.show(seen, profiling, running);
      state.textContent = running ? "the guest runs; the list and the map follow when it stands still" : "";
    }),
    follow(model, ["problem"], (text) => { problem.textContent = text ?? ""; problem.hidden = !text; }),
    follow(model, ["alive"], (alive) => { gone.hidden = alive !== false; }),
  ];
  return () => { for (const end of ends) end(); list.end(); };
}

export default { render };
