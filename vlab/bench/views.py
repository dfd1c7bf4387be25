"""What the views cost: a million exits on the screen, scrubbing through them, a dashboard beside a guest.

Measured in a real browser that shows a real notebook.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from vlab.bench.notebooks import Browser, Notebook, Server, browsing, missing
from vlab.bench.registry import Measurement, NotMeasured, Say, at_least, at_most, bench

EXITS = 1_000_000
RECORD: Final = """
import vlab
from vlab.bench.loops import cpuid_loop
with cpuid_loop({exits}).file() as path:
    vm = vlab.VM(path, memory="4M", trace="full")
    vm.run(exits={exits})
"""
INSPECT: Final = "from vlab.widgets.inspector import Inspector\nInspector(vm.exits)"
BUSY: Final = """
import time, vlab
from vlab.bench.loops import tight_loop
loop = tight_loop(1_000_000).file()
vm = vlab.VM(loop.__enter__(), memory="4M")
vm.start()
def speed():
    rates = []
    for _ in range(12):
        before, began = vm.blocks, time.perf_counter()
        time.sleep(0.25)
        rates.append((vm.blocks - before) / (time.perf_counter() - began))
    return sorted(rates)[len(rates) // 2]
speed()
print("alone", speed())
"""
SPEED: Final = 'print("shown", speed())\nvm.pause()'
_FIRST_PAINT: Final = """async ([index, wanted]) => {
  const { content } = window.jupyterapp.shell.currentWidget;
  content.activeCellIndex = index;
  const began = performance.now();
  void window.jupyterapp.commands.execute("notebook:run-cell");
  const cell = content.widgets[index].node;
  while (!cell.querySelector(wanted)) await new Promise(requestAnimationFrame);
  await new Promise(requestAnimationFrame);
  return (performance.now() - began) / 1000;
}"""
_SCRUB: Final = """async (seconds) => {
  const strip = document.querySelector('.jp-OutputArea .vlab-view [role="slider"]');
  strip.focus();
  const key = (name) => strip.dispatchEvent(new KeyboardEvent("keydown", { key: name, bubbles: true }));
  key("Home");
  const began = performance.now();
  let frames = 0, moved = 0, before = strip.getAttribute("aria-valuenow");
  while (performance.now() - began < 1000 * seconds) {
    key(frames % 5 ? "ArrowRight" : "PageDown");
    await new Promise(requestAnimationFrame);
    frames++;
    const now = strip.getAttribute("aria-valuenow");
    moved += now !== before;
    before = now;
  }
  return [frames, moved, (performance.now() - began) / 1000];
}"""


def _shown(notebook: Notebook, wanted: str, say: Say) -> tuple[float, int]:
    """Record exits and show them; give the seconds until ``wanted`` is there, and bytes received before."""
    say(f"recording {EXITS:,} exits")
    notebook.run(0)
    before = notebook.received
    say("showing them")
    seconds = notebook.page.evaluate(_FIRST_PAINT, [1, wanted])
    notebook.idle()
    return seconds, before


@bench("view-million", unit="s", bar=at_most(2.0))
def view_million(say: Say) -> Measurement:
    """From the call that shows the exits of a trace of a million of them to the first picture."""
    with laboratory() as browser, browser.notebook(RECORD.format(exits=EXITS), "vm.exits") as notebook:
        seconds, before = _shown(notebook, ".bqplot path, .bqplot rect.bar", say)
    return Measurement(seconds, f"{(notebook.received - before) / 1e6:.2f} MB received")


@bench("view-scrub", unit="frames/s", bar=at_least(30))
def view_scrub(say: Say) -> Measurement:
    """Pictures a second while a million exits are scrubbed through, key by key."""
    with laboratory() as browser, browser.notebook(RECORD.format(exits=EXITS), INSPECT) as notebook:
        seconds, before = _shown(notebook, '.vlab-view [role="slider"]', say)
        notebook.page.wait_for_function(
            f"""() => document.querySelector('.vlab-view [role="slider"]').ariaValueMax >= {EXITS - 1}"""
        )
        say("scrubbing")
        frames, moved, spent = notebook.page.evaluate(_SCRUB, 3)
    rate = min(frames, moved) / spent
    return Measurement(
        rate, f"first shown after {seconds:.2f} s, {(notebook.received - before) / 1e6:.2f} MB received"
    )


@bench("view-dashboard", unit="ratio", bar=at_least(0.9))
def view_dashboard(say: Say) -> Measurement:
    """The speed of a busy guest whose dashboard is open, over its speed without."""
    with laboratory() as browser, browser.notebook(BUSY, "vm", SPEED) as notebook:
        say("alone")
        notebook.run(0)
        say("with the dashboard")
        notebook.page.evaluate(_FIRST_PAINT, [1, ".vlab-view"])
        notebook.page.wait_for_timeout(2_000)
        notebook.run(2)
        words = " ".join(notebook.outputs.all_inner_texts()).split()
        alone, shown = (float(words[words.index(name) + 1]) for name in ("alone", "shown"))
    return Measurement(shown / alone, f"{alone:,.0f} blocks/s alone")


@bench("view-first", unit="s", bar=at_most(3.0))
def view_first(say: Say) -> Measurement:
    """From running the first cell of a notebook whose kernel is ready to the first picture of a VM."""
    with laboratory() as browser, browser.notebook("import vlab\nvm = vlab.VM('wren')\nvm") as notebook:
        say("the first picture")
        return Measurement(notebook.page.evaluate(_FIRST_PAINT, [0, ".vlab-view"]))


@contextmanager
def laboratory() -> Iterator[Browser]:
    """Start JupyterLab and a browser; raises NotMeasured where one is not there."""
    lacks = missing()
    if lacks:
        raise NotMeasured(
            f"not here: {', '.join(lacks)}; `pip install 'vlab[test]'` and a Chromium bring them"
        )
    with tempfile.TemporaryDirectory() as folder:
        server = Server(Path(folder))
        try:
            with browsing(server, Path(folder) / "browser") as browser:
                yield browser
        finally:
            server.close()
