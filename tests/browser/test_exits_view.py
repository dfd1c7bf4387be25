"""The exits of a run in a notebook: charts that are looked at, moved and brushed, by mouse and by keys."""

from __future__ import annotations

import time

from tests.browser.notebooks import Browser

MILLION = """
import numpy as np, vlab
from vlab.trace.exits import Exits
from vlab.trace.storage import StoredTrace
from vlab.widgets.exits_view import ExitsView
with vlab.VM('longmode', trace='full') as vm:
    vm.run(timeout=60)
    source, rows = vm.exits.source, vm.exits.source.rows()
many = np.tile(rows, 1_000_000 // len(rows) + 1)[:1_000_000]
many['kind'] = 0
many['time'] = np.arange(1_000_000, dtype=np.uint64) * 1_000
counts = np.bincount(many['reason'], minlength=len(source.reasons)).tolist()
exits = Exits(StoredTrace('full', source.reasons, tuple(source.handlers), tuple(counts), (0,) * 4, 0, many))
"""
RANGE = "print('sight', *view.visible, 'selected', view.selection)"


def test_a_timeline_is_moved_and_brushed_and_the_table_follows(browser: Browser) -> None:
    with browser.notebook(
        "import vlab\nfrom vlab.widgets.exits_view import ExitsView\n"
        "vm = vlab.VM('wren', trace='full', append='selftest')\nvm.run(timeout=60)",
        "view = ExitsView(vm)\nview",
        RANGE,
    ) as notebook:
        notebook.run_all()
        page, view = notebook.page, notebook.view()
        timeline = view.locator(".vlab-exits-timeline")
        timeline.locator("path.line").first.wait_for()
        page.wait_for_timeout(1000)
        assert view.get_attribute("data-lm-suppress-shortcuts") == "true"
        assert view.get_attribute("aria-label") == "Exits"
        bars = view.locator(".vlab-exits-bars").first
        assert bars.get_attribute("aria-label").startswith("Exits by reason: IOIO 2,7")
        view.locator(".exits-shown", has_text="In sight: 0.284 ms").wait_for()
        notebook.photograph("exits", view)

        timeline.focus()
        page.keyboard.type("ddx")
        view.locator("select").focus()
        page.keyboard.type("dd")
        view.locator(".exits-scroll").focus()
        page.keyboard.type("dda")
        assert page.locator(".jp-CodeCell").count() == 3

        timeline.focus()
        shown = view.locator(".exits-shown")
        whole = shown.inner_text()
        page.keyboard.press("ArrowUp")
        page.wait_for_function("([e, t]) => e.textContent !== t", arg=[shown.element_handle(), whole])
        page.keyboard.press("Space")
        view.locator(".exits-shown", has_text="bars and table are of these").wait_for()
        notebook.photograph("exits-selected", view)
        page.keyboard.press("Escape")
        view.locator(".exits-shown", has_text="bars and table are of these").wait_for(state="detached")

        view.get_by_role("button", name="What dragging").click()
        view.get_by_text("Drag: select").wait_for()
        box = timeline.locator("svg.svg-figure").bounding_box()
        assert box
        page.mouse.move(box["x"] + box["width"] * 0.4, box["y"] + 40)
        page.mouse.down()
        page.mouse.move(box["x"] + box["width"] * 0.5, box["y"] + 45, steps=4)
        page.mouse.move(box["x"] + box["width"] * 0.6, box["y"] + 45, steps=4)
        page.mouse.up()
        view.locator(".exits-shown", has_text="bars and table are of these").wait_for()
        total = view.locator(".exits-where").inner_text()
        view.get_by_role("button", name="Next page").click()
        page.wait_for_function(
            "([e, t]) => e.textContent !== t", arg=[view.locator(".exits-where").element_handle(), total]
        )
        notebook.photograph("exits-brushed", view)


def test_dragging_and_the_wheel_bring_other_exits_into_sight(browser: Browser) -> None:
    with browser.notebook(
        "import vlab\nvm = vlab.VM('wren', trace='full', append='selftest')\nvm.run(timeout=60)\nvm.exits"
    ) as notebook:
        notebook.run_all()
        view, page = notebook.view(), notebook.page
        timeline = view.locator(".vlab-exits-timeline")
        timeline.locator("path.line").first.wait_for()
        page.wait_for_timeout(1000)
        shown = view.locator(".exits-shown")
        before = shown.inner_text()
        box = timeline.bounding_box()
        assert box
        page.mouse.move(box["x"] + box["width"] * 0.5, box["y"] + 40)
        page.mouse.wheel(0, -400)
        page.wait_for_function("([e, t]) => e.textContent !== t", arg=[shown.element_handle(), before])


def test_a_million_exits_are_there_within_two_seconds(browser: Browser) -> None:
    with browser.notebook(MILLION, "ExitsView(exits, monitor='hardware', paging='nested')") as notebook:
        notebook.command("notebook:run-cell-and-select-next")
        notebook.idle()
        began = time.monotonic()
        notebook.command("notebook:run-cell")
        view = notebook.view()
        view.locator(".vlab-exits-timeline path.line").first.wait_for()
        view.get_by_text("of 1,000,000 exits").wait_for()
        took = time.monotonic() - began
        assert took < 6  # 2 s where nothing else runs
        notebook.page.wait_for_timeout(500)
        notebook.photograph("exits-million", view)
