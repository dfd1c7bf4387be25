"""What a virtual machine is displayed as: its buttons, its console, and its parts on demand."""

from __future__ import annotations

import re

from playwright.sync_api import expect

from tests.browser.notebooks import CELL_COUNT, Browser

CELLS = ("import vlab\nvm = vlab.VM('wren')\nvm", "vm.run(until='$ ', timeout=60); print('there')")


def test_a_vm_is_run_stepped_and_taken_back_with_buttons(browser: Browser) -> None:
    with browser.notebook(*CELLS) as notebook:
        page = notebook.page
        notebook.run_all()
        assert not notebook.errors()
        view = notebook.view()
        facts = view.locator(".vlab-dashboard-facts")
        facts.get_by_text("41 exits").wait_for()
        view.locator(".vlab-dashboard-console .xterm-rows").wait_for()

        view.get_by_role("button", name="Snapshot").click()
        view.get_by_text("snapshot 1: after exit 41").first.wait_for()
        view.get_by_role("button", name="Step", exact=True).click()
        facts.get_by_text("42 exits").wait_for()
        view.get_by_role("button", name="Step back").click()
        facts.get_by_text("41 exits").wait_for()

        view.get_by_text("Registers").click()
        rflags = view.locator("tr", has=page.get_by_role("button", name="rflags")).first
        rflags.wait_for()
        assert "IF" in rflags.inner_text()
        notebook.photograph("dashboard-registers", view)
        view.get_by_text("Registers").click()
        view.get_by_text("Screen", exact=True).click()
        view.locator("img.vlab-screen").wait_for()

        view.get_by_role("button", name="Run").click()
        view.locator(".vlab-dashboard-state", has_text="running").wait_for()
        view.locator(".xterm-screen").click()
        expect(view.locator(".xterm-helper-textarea")).to_be_focused()
        page.keyboard.type("echo ddxx\n")
        shown = re.compile(r"wren:\shello\n\$\secho\sddxx\nddxx")  # blanks are no-break spaces there
        expect(view.locator(".xterm-rows")).to_contain_text(shown, use_inner_text=True, timeout=60_000)
        notebook.photograph("dashboard", view)
        view.get_by_role("button", name="Pause").focus()
        page.keyboard.type("dd")
        page.keyboard.press("Enter")
        view.locator(".vlab-dashboard-state", has_text="paused").wait_for()
        view.get_by_role("button", name="Go back to it").click()
        facts.get_by_text("41 exits").wait_for()
        assert page.evaluate(CELL_COUNT) == 2
