"""A person's first hour, in one go: run everything, look, type, change the monitor, restart, export, stop."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from playwright.sync_api import expect

from tests.browser.notebooks import Browser, Notebook

FIRST = (
    "import vlab\nmonitor = 'hardware'",
    "vm = vlab.VM('wren', monitor=monitor, trace='full', history=True)\nvm.run(until='$ ', timeout=60)\nvm",
    "vm.exits",
    "from vlab.widgets.inspector import Inspector\nInspector(vm)",
    "from vlab.widgets.page_walk import PageWalk\nPageWalk(vm)",
    "from vlab.widgets.rings import Rings\nRings(vm)",
    "vm.walk(vm.registers().rip)",
    "vm.devices",
)
CONSOLE = "(document.querySelector('.xterm-rows')?.innerText.replaceAll('\\u00a0', ' ') ?? '')"
SAVE = "() => window.jupyterapp.shell.currentWidget.context.save()"
RESTART = "() => window.jupyterapp.shell.currentWidget.sessionContext.session.kernel.restart()"


def view_of_cell(notebook: Notebook, index: int) -> object:
    return notebook.page.locator(".jp-Notebook-cell").nth(index).locator(".vlab-view").first


def look_around(notebook: Notebook) -> None:
    """Every cell has its view, and nothing failed."""
    assert not notebook.errors()
    for index in range(1, len(FIRST)):
        notebook.page.evaluate(
            "(index) => window.jupyterapp.shell.currentWidget.content.scrollToItem(index, 'start')", index
        )
        view_of_cell(notebook, index).wait_for()


def test_a_persons_first_hour(browser: Browser, tmp_path: Path) -> None:
    with browser.notebook(*FIRST) as notebook:
        page = notebook.page
        notebook.run_all(180)
        look_around(notebook)

        # scrub exits
        strip = view_of_cell(notebook, 3).get_by_role("slider").first
        strip.focus()
        page.keyboard.press("Home")
        for _ in range(10):
            page.keyboard.press("ArrowRight")
        page.locator('[role="slider"][aria-valuenow="11"]').wait_for()

        # walk an address
        walk = view_of_cell(notebook, 4)
        walk.get_by_role("textbox").first.fill("0xc0100000")
        page.keyboard.press("Enter")
        walk.get_by_text("Page walk of linear address 0xc0100000").wait_for()

        # type ls into the guest's terminal and see the answer
        dashboard = view_of_cell(notebook, 1)
        dashboard.scroll_into_view_if_needed()
        dashboard.get_by_role("button", name="Run").click()
        dashboard.locator(".vlab-dashboard-state", has_text="running").wait_for()
        dashboard.locator(".xterm-screen").click()
        expect(dashboard.locator(".xterm-helper-textarea")).to_be_focused()
        page.keyboard.type("ls\n")
        page.wait_for_function(f"() => /ls\\s[^]*selftest[^]*\\$ $/.test({CONSOLE}.trimEnd() + ' ')")
        dashboard.get_by_role("button", name="Pause").click()
        notebook.photograph("person")

        # another monitor, a new kernel, all again
        page.evaluate(
            """() => {
              const { content } = window.jupyterapp.shell.currentWidget;
              content.widgets[0].model.sharedModel.setSource("import vlab\\nmonitor = 'binary-translation'");
            }"""
        )
        page.evaluate(RESTART)
        notebook.run_all(240)
        look_around(notebook)
        view_of_cell(notebook, 1).get_by_text("binary-translation").first.wait_for()

        # export with the pictures
        page.evaluate(SAVE)
        saved = browser.server.folder / "notebooks" / notebook.name
        for format_, suffix in (("vlab_html", "html"), ("markdown", "md")):
            line = [sys.executable, "-m", "nbconvert", "--to", format_, str(saved)]
            subprocess.run([*line, "--output-dir", tmp_path], check=True, capture_output=True, timeout=120)
            assert (tmp_path / saved.with_suffix(f".{suffix}").name).exists()
        html = (tmp_path / saved.with_suffix(".html").name).read_text()
        assert html.count("data:image/svg+xml;base64,") + html.count("<svg") >= 5
        assert len(list(tmp_path.glob("*_files/*.svg"))) >= 5
        content = json.loads(saved.read_text())
        assert all("text/plain" in o["data"] for c in content["cells"] for o in c["outputs"] if "data" in o)


def test_the_kernels_interrupt_stops_a_guest_that_loops_for_ever(browser: Browser) -> None:
    loop = "from vlab.bench.loops import tight_loop\nfile = tight_loop(10**6).file()\npath = file.__enter__()"
    with browser.notebook(
        "import vlab", loop, "vm = vlab.VM(path, memory='4M')\nvm.run()", "print('alive', vm.running)"
    ) as notebook:
        notebook.run(0)
        notebook.run(1)
        notebook.page.evaluate("() => { window.jupyterapp.shell.currentWidget.content.activeCellIndex = 2; }")
        notebook.command("notebook:run-cell")
        notebook.page.wait_for_timeout(3_000)
        notebook.page.evaluate(
            "() => window.jupyterapp.shell.currentWidget.sessionContext.session.kernel.interrupt()"
        )
        notebook.idle(60)
        notebook.run(3)
        notebook.page.get_by_text("alive False").wait_for()


def test_closing_the_notebook_frees_its_virtual_machines(browser: Browser) -> None:
    import psutil

    with browser.notebook(
        "import os, vlab\nvm = vlab.VM('wren')\nvm.start()\nprint('pid', os.getpid())"
    ) as notebook:
        notebook.run(0)
        words = " ".join(notebook.outputs.all_inner_texts()).split()
        kernel = psutil.Process(int(words[words.index("pid") + 1]))
        notebook.page.evaluate("() => window.jupyterapp.shell.currentWidget.sessionContext.shutdown()")
        kernel.wait(30)
