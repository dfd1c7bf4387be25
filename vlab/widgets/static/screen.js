// The VGA text screen: a picture for the eyes, its text for screen readers and for copying.
import { node, view, follow } from "./common.js";

function render({ model, el }) {
  const image = node("img", { class: "vlab-screen", alt: "" });
  const text = node("pre", { class: "unseen" });
  const gone = node("p", { class: "problem", hidden: true }, "This VM is gone.");
  const root = view(el, "The guest's screen", image, text, gone);
  root.tabIndex = 0;
  let address = null;
  const ends = [
    follow(model, ["image"], (bytes) => {
      if (address) URL.revokeObjectURL(address);
      address = bytes?.byteLength ? URL.createObjectURL(new Blob([bytes], { type: "image/png" })) : null;
      if (address) image.src = address;
    }),
    follow(model, ["lines"], (lines) => { text.textContent = lines.join("\n"); }),
    follow(model, ["alive"], (alive) => { gone.hidden = alive !== false; }),
  ];
  return () => {
    for (const end of ends) end();
    if (address) URL.revokeObjectURL(address);
  };
}

export default { render };
