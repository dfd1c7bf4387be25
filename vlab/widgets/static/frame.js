// The root of a view that is a box of widgets: the box gets what view() gives to others, from a child of it.

import { keepShortcutsOut } from "./common.js";

// Calls back with the box once it is in the page; the returned function ends the wait.
export function frameOf(el, label, callback) {
  let frame = null;
  const look = () => {
    const root = el.closest(".vlab-framed");
    if (!root) {
      frame = requestAnimationFrame(look);
      return;
    }
    keepShortcutsOut(root);
    root.setAttribute("role", "group");
    root.setAttribute("aria-label", label);
    callback(root);
  };
  look();
  return () => cancelAnimationFrame(frame);
}

// Calls back with an element of the box when it has been drawn.
export function awaitPart(root, selector, callback) {
  const found = root.querySelector(selector);
  if (found) {
    callback(found);
    return () => {};
  }
  const watcher = new MutationObserver(() => {
    const late = root.querySelector(selector);
    if (late) {
      watcher.disconnect();
      callback(late);
    }
  });
  watcher.observe(root, { childList: true, subtree: true });
  return () => watcher.disconnect();
}
