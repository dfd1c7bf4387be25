"""Views that have little room, as between two open side bars."""

from __future__ import annotations

from playwright.sync_api import Locator

from tests.browser.notebooks import Browser

_VIEWS = """
import vlab
from vlab.widgets.rings import Rings
from vlab.widgets.terminal import Terminal
vm = vlab.VM('wren', trace='full')
vm.run(until='$ ', timeout=20)
vlab.show(Rings(vm), vm.exits, vm.devices, vm.walk(vm.registers().rip), Terminal(vm), vlab.show(vm, at=20))
"""
_NARROW = 370
_SHOWN = "(text) => parseFloat(getComputedStyle(text).fontSize) * text.getScreenCTM().a"
_OVER = """(view) => view.scrollWidth - view.clientWidth"""


def room(view: Locator) -> float:
    box = view.bounding_box()
    assert box is not None
    return box["width"]


def test_no_view_scrolls_as_a_whole_and_its_words_can_be_read(browser: Browser) -> None:
    with browser.notebook(_VIEWS) as notebook:
        notebook.run_all()
        assert notebook.errors() == ""
        page, view = notebook.page, notebook.view()
        for command in ("vlab:show-machines", "filebrowser:activate"):
            notebook.command(command)
        page.locator("#vlab-machines").wait_for()
        page.wait_for_timeout(500)
        page.set_viewport_size({"width": round(1280 - room(view) + _NARROW), "height": 900})
        page.wait_for_timeout(500)
        assert abs(room(view) - _NARROW) < 20
        views = page.locator(".jp-OutputArea .vlab-view")
        assert views.count() >= 6
        for each in views.all():
            assert each.evaluate(_OVER) < 8, each.get_attribute("aria-label")
        assert view.locator(".rings-who").first.evaluate(_SHOWN) > 7.5
        assert view.locator(".rings-what").first.evaluate(_SHOWN) > 7
        row = page.locator(".exits-scroll tbody tr").first
        assert row.evaluate("(row) => row.scrollWidth <= row.closest('.exits-scroll').clientWidth")
        letters = page.locator(".vlab-console .xterm-rows").first
        assert letters.evaluate("(rows) => parseFloat(getComputedStyle(rows).fontSize)") >= 10
        assert room(page.locator(".vlab-board-list").first) > 300
