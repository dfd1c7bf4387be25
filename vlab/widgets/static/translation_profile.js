// A run of the guest that is watched, and how often its code found its way without the monitor.
import { node, count, milliseconds } from "./common.js";

function share(rate) {
  return `${(100 * rate).toFixed(rate > 0.99 && rate < 1 ? 3 : 1)} %`;
}

function rateRow(name, rate, hits, misses, words) {
  const known = hits + misses > 0;
  return node("div", { class: "vlab-rate" },
    node("span", {}, name),
    node("span", { class: "vlab-rate-bar", "aria-hidden": true },
      node("span", { style: `width: ${known ? 100 * rate : 0}%` })),
    node("strong", {}, known ? share(rate) : "none yet"),
    node("span", { class: "small faint" }, words));
}

// ask(message): sends one. Gives the element, and show(seen, profiling, running).
export function profilePanel(ask, can) {
  const time = node("input", {
    type: "number", min: 1, max: 60000, value: 100, class: "vlab-profile-time",
  });
  const send = node("input", { size: 10, placeholder: "ls" });
  const until = node("input", { size: 8, placeholder: "$ " });
  const go = node("button", { type: "submit" }, "▶ Run and watch");
  const stop = node("button", { type: "button", onclick: () => ask({ do: "stop" }) }, "■ Stop");
  const state = node("span", { role: "status", class: "small" });
  const result = node("div");
  const form = node("form", { class: "bar" },
    node("label", {}, "type ", send, " and Enter,"),
    node("label", {}, "run for ", time, " ms of virtual time"),
    node("label", {}, "or until ", until, " appears"), go, stop, state);
  form.addEventListener("keydown", (event) => {
    if (event.key !== "Enter" || event.target.tagName !== "INPUT") return;
    event.preventDefault();
    if (!go.disabled) form.requestSubmit(go);
  });
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    ask({
      do: "profile", milliseconds: Number(time.value), until: until.value,
      send: send.value ? send.value.replaceAll("\\n", "\n").replace(/\n?$/, "\n") : "",
    });
  });
  const why = node("p", { class: "small faint" },
    "The cache cannot count its own jumps: its code could not write to a counter. So hit rates are taken "
    + "while the guest is watched at every block that it enters, which slows it down many times. What it "
    + "does stays the same.");
  const element = node("section", { class: "vlab-profile", "aria-label": "hit rates" },
    node("h4", {}, "Hit rates"), why, form, result);
  return {
    element,
    show(seen, profiling, running) {
      go.disabled = !can || running || profiling;
      stop.disabled = !can || !profiling;
      state.textContent = profiling ? "watching…" : running ? "the guest runs already" : "";
      result.replaceChildren();
      if (!seen?.blocks && seen?.blocks !== 0) return;
      result.append(
        rateRow("direct ways", seen.chain_rate, seen.chained, seen.unlinked,
          `${count(seen.chained)} led on in the cache, ${count(seen.unlinked)} ended at the monitor`),
        rateRow("lookups", seen.lookup_rate, seen.found, seen.lost,
          `${count(seen.found)} found their target, ${count(seen.lost)} did not`),
        node("p", { class: "small" }, `${count(seen.blocks)} blocks entered in `
          + `${milliseconds(seen.time_ns)} of virtual time, ${count(seen.by_monitor)} of them by the `
          + `monitor's hand; ${seen.end}.`));
    },
  };
}
