// Plays what recorded.py put into the page. `views` and `facts` are defined in front of this text.

// The views follow JupyterLab's mark for its theme; here it follows the site's.
const darkness = matchMedia("(prefers-color-scheme: dark)");
const follow = () => {
  const { theme } = document.body.dataset;
  const dark = theme === "dark" || (theme !== "light" && darkness.matches);
  document.body.dataset.jpThemeLight = String(!dark);
};
darkness.addEventListener("change", follow);
new MutationObserver(follow).observe(document.body, { attributes: true, attributeFilter: ["data-theme"] });
follow();

function bytesOf(element) {
  return Uint8Array.from(atob(element.textContent.trim()), (letter) => letter.charCodeAt(0));
}

async function placesOf(element) {
  const stream = new Blob([bytesOf(element)]).stream().pipeThrough(new DecompressionStream("deflate"));
  return JSON.parse(await new Response(stream).text());
}

// What a view takes for the kernel's half: it answers, and tells when something was set.
function modelOf(values) {
  const listeners = new Map();
  return {
    get: (name) => values[name],
    set(name, value) {
      values[name] = value;
      for (const listener of listeners.get(`change:${name}`) ?? []) listener();
    },
    on(event, listener) { listeners.set(event, [...(listeners.get(event) ?? []), listener]); },
    off(event, listener) {
      listeners.set(event, (listeners.get(event) ?? []).filter((each) => each !== listener));
    },
    save_changes() {},
    send() {},
  };
}

// Exits of one block share a stop: it is the first place with at least so many.
function follows(root, model, places) {
  const show = () => {
    const number = Number(root.dataset.exit);
    const place = places.find((each) => each.number >= number) ?? places[places.length - 1];
    if (place === model.get("place")) return;
    model.set("place", place);
    model.set("here", place.number);
  };
  new MutationObserver(show).observe(root, { attributes: true, attributeFilter: ["data-exit"] });
}

async function play(figure) {
  const bytes = bytesOf(figure.querySelector("script.vlab-trace"));
  const places = await placesOf(figure.querySelector("script.vlab-places"));
  const length = new DataView(bytes.buffer).getUint32(12, true);
  const header = JSON.parse(new TextDecoder().decode(bytes.subarray(24, 24 + length)));
  const stage = figure.querySelector(".vlab-stage");
  stage.replaceChildren();
  for (const name of figure.dataset.views.split(" ")) {
    const model = modelOf({
      ...(facts.monitors[header.metadata.monitor] ?? facts.monitors.hardware),
      tables: facts.tables, modes: facts.modes, trace: new DataView(bytes.buffer),
      at: Number(figure.dataset.at), here: -1, alive: true, live: false, place: {},
    });
    views[name].render({ model, el: stage });
    if (name === "inspector") follows(stage.lastElementChild, model, places);
  }
  figure.dataset.ready = "true";
}

for (const figure of document.querySelectorAll(".vlab-recording")) play(figure);
