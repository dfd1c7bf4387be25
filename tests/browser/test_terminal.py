"""The serial terminal in a notebook: a guest's shell, typed at in a browser."""

from __future__ import annotations

import re

from playwright.sync_api import expect

from tests.browser.notebooks import Browser, Notebook

ROWS = ".jp-OutputArea .xterm-rows"
CELLS = (
    "import vlab\nfrom vlab.widgets.terminal import Terminal\nvm = vlab.VM('wren')\nTerminal(vm)",
    "vm.run(until='$ ', timeout=60); print('there')",
    "1 + 1",
)


def wait_for_text(notebook: Notebook, text: str) -> None:
    """Wait until the terminal shows it; xterm.js writes blanks as no-break spaces."""
    wanted = re.compile(re.escape(text).replace(r"\ ", r"\s"))
    expect(notebook.page.locator(ROWS)).to_contain_text(wanted, use_inner_text=True, timeout=30_000)


def test_a_shell_is_used_through_the_terminal(browser: Browser) -> None:
    with browser.notebook(*CELLS) as notebook:
        page = notebook.page
        notebook.run_all()
        assert not notebook.errors()
        wait_for_text(notebook, "$ ")
        view = notebook.view()
        assert "paused" in view.locator(".vlab-console-state").inner_text()
        view.get_by_role("button", name="Run").click()
        view.locator(".vlab-console-state", has_text="running").wait_for()

        view.locator(".xterm-screen").click()
        expect(view.locator(".xterm-helper-textarea")).to_be_focused()
        page.keyboard.type("echo dd aa bb", delay=20)
        page.keyboard.press("Enter")
        wait_for_text(notebook, "$ echo dd aa bb\ndd aa bb")
        assert page.locator(".jp-CodeCell").count() == 3
        notebook.photograph("terminal", view)

        page.keyboard.press("Shift+Tab")
        assert page.evaluate("document.activeElement.matches('.vlab-console-bar input')")
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.matches('.xterm-helper-textarea')")
        page.keyboard.press("Escape")
        page.keyboard.press("Tab")
        assert not page.evaluate("!!document.activeElement.closest('.vlab-console')")
