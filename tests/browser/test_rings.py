"""Rings and modes in a notebook: the recorded exits are played, stepped and told."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import Locator, expect

from tests.browser.notebooks import Browser


def runs(view: Locator) -> str | None:
    return view.locator(".rings-place.runs").get_attribute("data-place")


@pytest.mark.parametrize(
    ("monitor", "guest", "kernel"),
    [("hardware", "wren", "guest-0"), ("paravirtual", "wren-paravirt", "host-1"), ("none", "wren", "host-0")],
)
def test_stepping_goes_from_the_guest_over_the_hardware_to_the_monitor_and_back(
    browser: Browser, monitor: str, guest: str, kernel: str
) -> None:
    with browser.notebook(
        "import vlab\nfrom vlab.widgets.rings import Rings\n"
        f"vm = vlab.VM({guest!r}, monitor={monitor!r}, trace='full')\nvm.run(until='$ ', timeout=20)\n"
        "vm.send('primes 50\\n'); vm.run(until='$ ', timeout=20)\nRings(vm)",
        "1 + 1",
    ) as notebook:
        notebook.run_all()
        assert notebook.errors() == ""
        view = notebook.view()
        expect(view).to_have_attribute("data-events", re.compile(r"\d"))
        assert runs(view) == kernel
        step = view.get_by_role("button", name="Step", exact=True)
        if monitor == "none":  # nothing but what interrupts do
            step.click()
            assert runs(view) == "out"
            expect(view.locator("[data-fact=out]")).to_contain_text("interrupt: vector ")
            step.click()
            assert runs(view) == "host-0"
            notebook.photograph("rings-none", view)
            return
        seen = []
        for _ in range(4):
            step.click()
            seen.append(runs(view))
        assert seen == ["out", "host-0", "back", kernel]
        fact = view.locator("[data-fact=out]")
        first = fact.inner_text()
        assert first
        # the keyboard does the same, and stays in the view
        view.focus()
        for key in ("ArrowRight", "ArrowRight", "d", "d", "End", "PageUp", "Home"):
            notebook.page.keyboard.press(key)
        assert notebook.page.locator(".jp-CodeCell").count() == 2
        assert runs(view) == kernel
        notebook.page.keyboard.press("ArrowRight")
        # focus tells the instruction and the section
        view.locator("[data-place=out]").focus()
        expect(view.locator(".rings-about")).to_contain_text("hardware, when the guest leaves")
        expect(view.locator(".rings-about")).to_contain_text("See ")
        view.locator("[data-place=host-0]").hover()
        expect(view.locator(".rings-about")).to_contain_text("monitor: ring 0 in host mode")
        notebook.photograph(f"rings-{monitor}", view)


def test_playing_goes_along_the_trace_and_the_picture_follows_a_running_guest(browser: Browser) -> None:
    with browser.notebook(
        "import vlab\nfrom vlab.widgets.rings import Rings\nvm = vlab.VM('wren', trace='full')\nRings(vm)",
        "vm.start(until='$ ')\nvm.wait(20)\nvm.pause()",
        "vm.close()",
    ) as notebook:
        page = notebook.page
        notebook.command("notebook:run-cell-and-select-next")
        notebook.idle()
        view = notebook.view()
        expect(view.locator(".rings-now")).to_contain_text("stands still")
        notebook.command("notebook:run-cell-and-select-next")
        notebook.idle()
        expect(view).to_have_attribute("data-events", re.compile(r"[1-9]"))
        view.get_by_role("combobox").select_option("3")
        view.focus()
        page.keyboard.press("Space")
        position = view.locator(".rings-position")
        expect(position).not_to_have_value("0", timeout=10_000)
        expect(view.get_by_role("button", name="Pause")).to_be_visible()
        page.keyboard.press("Space")
        expect(view.get_by_role("button", name="Play")).to_be_visible()
        position.focus()
        page.keyboard.press("End")
        assert int(position.input_value()) == int(view.get_attribute("data-events") or 0) - 1
        page.evaluate("() => { window.jupyterapp.shell.currentWidget.content.activeCellIndex = 2; }")
        notebook.command("notebook:run-cell-and-select-next")
        notebook.idle()
        expect(view.locator(".problem")).to_contain_text("This VM is gone")
        view.get_by_role("button", name="Step back").click()
        assert notebook.errors() == ""
