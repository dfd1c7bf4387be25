"""The views in Notebook 7, JupyterLab's plain sister: skipped where `notebook` is not installed."""

from __future__ import annotations

import re
from collections.abc import Iterator
from importlib.util import find_spec

import pytest
from playwright.sync_api import expect

import vlab
from tests.browser.notebooks import Browser, Notebook, Server

pytestmark = pytest.mark.skipif(find_spec("notebook") is None, reason="not here: Notebook 7")

_CELLS = (
    "import vlab\nvm = vlab.VM('wren', trace='full')\nvm.run(until='$ ', timeout=20)\nvm",
    "from vlab.widgets.rings import Rings\nRings(vm)",
    "vlab.show(vm, at=20)",
    "vm.exits",
    "from vlab.widgets.terminal import Terminal\nTerminal(vm)",
    "vm.devices",
    "vm.walk(vm.registers().rip)",
)


@pytest.fixture(scope="module")
def plain(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """A second server, of Notebook 7, in the same browser."""
    found = Server(tmp_path_factory.mktemp("notebook7"), "notebook")
    yield Browser(browser.context, found)
    found.close()


def _cells(notebook: Notebook) -> int:
    return notebook.page.locator(".jp-CodeCell").count()


def forgive(notebook: Notebook) -> None:
    """Leave out an error of Notebook 7's own: its shortcuts hear of settings before they have theirs."""
    notebook.problems[:] = [each for each in notebook.problems if "(reading 'schema')" not in each]


def test_the_views_work_in_notebook_7(plain: Browser) -> None:
    with plain.notebook(*_CELLS) as notebook:
        page = notebook.page
        for index in range(len(_CELLS)):
            notebook.run(index)
        assert notebook.errors() == ""
        dashboard, rings, inspector, exits, terminal, board, walk = (
            page.locator(".jp-CodeCell").nth(index).locator(".vlab-view").first
            for index in range(len(_CELLS))
        )
        expect(dashboard).to_contain_text("wren")
        strip = inspector.get_by_role("slider", name="exit")
        expect(strip).to_have_attribute("aria-valuenow", "20")
        strip.press("ArrowRight")
        expect(strip).to_have_attribute("aria-valuenow", "21")
        rings.get_by_role("button", name="Step", exact=True).click()
        expect(rings.locator("[data-fact=exit]")).to_contain_text("1 of")
        expect(exits.locator(".bqplot").first).to_be_visible()
        expect(board).to_contain_text("serial")
        expect(walk).to_contain_text("The TLB would hold")
        for view in (strip, rings.locator("[tabindex='0']").first, dashboard.get_by_role("button").first):
            view.focus()
            page.keyboard.type("ddx")
            assert _cells(notebook) == len(_CELLS)
        terminal.locator("textarea").focus()
        page.keyboard.type("echo dd was typed\n")
        terminal.get_by_role("button", name=re.compile("run", re.IGNORECASE)).first.click()
        expect(terminal).to_contain_text("dd was typed")
        assert _cells(notebook) == len(_CELLS)
        notebook.photograph("notebook7")
        forgive(notebook)


def test_the_panel_and_the_trace_viewer_work_in_notebook_7(plain: Browser) -> None:
    with vlab.VM("longmode", trace="full") as vm:
        vm.run(exits=900)
        vm.save_trace(plain.server.folder / "notebooks" / "boot.vlabtrace")
    with plain.notebook("import vlab\nvm = vlab.VM('hello')") as notebook:
        notebook.run(0)
        notebook.command("vlab:show-machines")
        expect(notebook.page.locator("#vlab-machines")).to_contain_text("hello")
        notebook.photograph("notebook7-panel")
        forgive(notebook)
    with plain.page() as notebook:
        notebook.page.goto(f"{plain.server.url}/tree")
        with notebook.page.expect_popup() as opened:
            notebook.page.get_by_text("boot.vlabtrace").dblclick()
        viewer = opened.value
        expect(viewer.locator(".vlab-trace [data-fact=exit]").first).to_have_text("900 of 900")
        viewer.close()
        forgive(notebook)
