"""The inspector in a notebook: scrubbing, decoding, and the guest taken to the exit at the cursor."""

from __future__ import annotations

import base64
import re
from typing import Any

import pytest
from playwright.sync_api import expect

import vlab
from tests.browser.notebooks import Browser
from vlab.widgets import bundle
from vlab.widgets.inspector import Inspector
from vlab.widgets.rings import Rings

_RUN = """
import vlab
from vlab.widgets.inspector import Inspector
vm = vlab.VM('wren', trace='full')
vm.run(until='$ ', timeout=20)
vm.send('primes 50\\n')
vm.run(until='$ ', timeout=20)
Inspector(vm)
"""
_TRACE = """
import vlab, vlab.trace
vm = vlab.VM('longmode', trace='full')
vm.run(exits=900)
vm.save_trace('at.vlabtrace')
trace = vlab.trace.load('at.vlabtrace')
trace
"""
_MILLION = """
import numpy as np, vlab
from vlab.trace.exits import Exits
from vlab.trace.storage import freeze, select
from vlab.widgets.inspector import Inspector
vm = vlab.VM('longmode', trace='full')
vm.run(timeout=20)
table = np.resize(vm.exits.source.rows(), 1_000_000).copy()
table['time'] = np.arange(1_000_000) * 1000
Inspector(Exits(select(freeze(vm.exits.source), table)))
"""
_WITHOUT_KERNEL = """async ({ code, style, state, trace }) => {
  document.head.append(Object.assign(document.createElement("style"), { textContent: style }));
  const module = await import(URL.createObjectURL(new Blob([code], { type: "text/javascript" })));
  const bytes = Uint8Array.from(atob(trace), (letter) => letter.charCodeAt(0));
  const all = { ...state, trace: new DataView(bytes.buffer) };
  module.default.render({ model: { get: (name) => all[name] }, el: document.body });
}"""
_INK = """(canvas) => {
  const [red, green, blue] = canvas.getContext("2d").getImageData(20, 6, 1, 1).data;
  const wanted = getComputedStyle(canvas).color.match(/\\d+/g).map(Number);
  return Math.max(...[red, green, blue].map((value, place) => Math.abs(value - wanted[place]))) < 12;
}"""
_SCRUB = """async (slider) => {
  const times = [];
  let before = performance.now();
  const box = slider.getBoundingClientRect();
  for (let turn = 0; turn < 90; turn++) {
    slider.dispatchEvent(new KeyboardEvent("keydown", { key: turn % 2 ? "PageUp" : "ArrowRight" }));
    await new Promise(requestAnimationFrame);
    const now = performance.now();
    times.push(now - before);
    before = now;
  }
  times.sort((a, b) => a - b);
  return times[Math.floor(times.length / 2)];
}"""


def test_the_strip_scrubs_and_the_guest_goes_there(browser: Browser) -> None:
    with browser.notebook(_RUN, "vm.exits.total, vm.registers().rip", "1 + 1") as notebook:
        page = notebook.page
        page.evaluate("() => { window.jupyterapp.shell.currentWidget.content.activeCellIndex = 0; }")
        notebook.command("notebook:run-cell")
        notebook.idle()
        assert notebook.errors() == ""
        view = notebook.view()
        strip = view.get_by_role("slider", name="exit")
        expect(view).to_have_attribute("data-exits", re.compile(r"[1-9]"))
        last = int(view.get_attribute("data-exits") or 0)
        expect(strip).to_have_attribute("aria-valuenow", str(last))
        strip.focus()
        for key, number in (("Home", 1), ("ArrowRight", 2), ("PageUp", 12), ("ArrowLeft", 11), ("End", last)):
            page.keyboard.press(key)
            expect(strip).to_have_attribute("aria-valuenow", str(number))
        page.keyboard.type("ddx")
        assert page.locator(".jp-CodeCell").count() == 3
        box = strip.bounding_box()
        assert box is not None
        page.mouse.click(box["x"] + box["width"] / 2, box["y"] + 5)
        expect(strip).to_have_attribute("aria-valuenow", re.compile(f"^({last // 2}|{last // 2 + 1})$"))
        view.get_by_label("exit number").fill("20")
        page.keyboard.press("Enter")
        expect(strip).to_have_attribute("aria-valuenow", "20")
        expect(view.locator("[data-fact=reason]")).to_contain_text("CPUID")
        expect(strip).to_have_attribute("aria-valuetext", re.compile("exit 20: CPUID, leaf 0x1"))
        view.get_by_role("button", name="Go there").click()
        place = view.locator(".inspector-place")
        expect(place.locator("h3")).to_contain_text("The guest, after exit 20: protected 32-bit mode, ring 0")
        expect(place.locator(".changed").first).to_contain_text("≠ was")
        expect(place.locator(".inspector-handler")).to_contain_text("Served by HardwareMonitor._cpuid")
        expect(place.locator(".inspector-handler pre")).to_contain_text("self.identity.cpuid(")
        expect(place.locator(".marked").first).to_contain_text("the exit")
        notebook.photograph("inspector", view)
        view.get_by_role("button", name="Step", exact=True).click()
        expect(strip).to_have_attribute("aria-valuenow", "21")
        view.get_by_role("button", name="Step back").click()
        expect(strip).to_have_attribute("aria-valuenow", "20")
        assert view.get_attribute("data-exits") == str(last)  # the way ahead is still there
        page.evaluate("() => { window.jupyterapp.shell.currentWidget.content.activeCellIndex = 1; }")
        notebook.command("notebook:run-cell")
        notebook.idle()
        expect(notebook.outputs.nth(1)).to_contain_text("(20, ")


def test_a_trace_is_opened_at_an_exit_and_its_cursor_can_be_moved(browser: Browser) -> None:
    with browser.notebook(
        _TRACE, "found = vlab.show(trace, at=7)\nfound", "found.children[0].look_at(3)"
    ) as notebook:
        notebook.run(0)
        view = notebook.view()
        strip = view.get_by_role("slider", name="exit")
        expect(strip).to_have_attribute("aria-valuenow", "900")
        notebook.run(1)
        other = notebook.view(1).get_by_role("slider", name="exit")
        expect(other).to_have_attribute("aria-valuenow", "7")
        other.press("End")
        notebook.run(2)
        assert notebook.errors() == ""
        expect(other).to_have_attribute("aria-valuenow", "3")
        expect(strip).to_have_attribute("aria-valuenow", "900")


def test_a_million_exits_scrub_at_30_frames_a_second(browser: Browser) -> None:
    with browser.notebook(_MILLION) as notebook:
        notebook.run_all()
        assert notebook.errors() == ""
        view = notebook.view()
        expect(view).to_have_attribute("data-exits", "1000000", timeout=60_000)
        strip = view.get_by_role("slider", name="exit")
        strip.press("Home")
        assert strip.evaluate(_SCRUB) < 1000 / 30
        notebook.photograph("inspector-million", view)
        notebook.dark(True)
        notebook.page.wait_for_timeout(1000)
        assert view.locator("canvas").evaluate(_INK)  # drawn anew in the colour of the theme
        notebook.dark(False)


@pytest.mark.parametrize("kind", [Inspector, Rings])
def test_a_recorded_trace_is_shown_without_a_kernel(
    browser: Browser, kind: type[Inspector] | type[Rings]
) -> None:
    with vlab.VM("rings", monitor="trap-emulate", trace="full") as vm:
        vm.run(timeout=20)
        view = kind(vm.exits)
    names = [
        name for name in view.keys if not name.startswith("_") and name not in ("trace", "layout", "tabbable")
    ]
    state: dict[str, Any] = {name: getattr(view, name) for name in names}
    page = browser.context.new_page()
    problems: list[str] = []
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.goto("about:blank")
    style = bundle.style(*kind.styles)
    trace = base64.b64encode(view.trace).decode()
    argument = {"code": bundle.module(kind.script), "style": style, "state": state, "trace": trace}
    page.evaluate(_WITHOUT_KERNEL, argument)
    if kind is Rings:
        page.locator("[data-events]").wait_for()
        page.get_by_role("button", name="Step", exact=True).click()
        expect(page.locator("[data-fact=out]")).to_contain_text(
            "PF: address 0x10000c, error code 0x10, bits I"
        )
        expect(page.locator(".rings-place.runs")).to_have_attribute("data-place", "out")
    else:
        page.locator("[data-exits]").wait_for()
        strip = page.get_by_role("slider", name="exit")
        strip.press("Home")
        strip.press("End")
        expect(strip).to_have_attribute("aria-valuenow", str(vm.exits.total))
        expect(page.locator("[data-fact=reason]")).to_contain_text(
            "TRAP: A sensitive instruction that trapped"
        )
        expect(page.get_by_role("button", name="Go there")).to_be_hidden()
    assert not problems
    page.close()
