"""The memory map in a notebook: ranges are chosen, traced by mouse and keyboard, zoomed into, refreshed."""

from __future__ import annotations

from playwright.sync_api import expect

from tests.browser.notebooks import Browser

START = """import vlab
from vlab.widgets.memory_map import MemoryMap
machine = vlab.Machine("64M")
one = vlab.VM("longmode", machine=machine)
two = vlab.VM("wren", paging="shadow", machine=machine)
one.run(timeout=20), two.run(until="$ ", timeout=30)"""


def test_a_range_is_traced_through_the_columns_and_zoomed_into(browser: Browser) -> None:
    with browser.notebook(START, "MemoryMap(one, two)", "MemoryMap(two)") as notebook:
        notebook.run_all()
        view, keyboard = notebook.view(), notebook.page.keyboard
        heading = view.locator(".vlab-map-detail h4")
        view.locator(".vlab-box").first.click()
        expect(heading).to_contain_text("guest-virtual 0x1000 to")
        expect(view.locator(".vlab-box.traced")).not_to_have_count(0)
        expect(view.locator(".vlab-band.traced")).not_to_have_count(0)
        notebook.photograph("map-two", view)
        keyboard.press("ArrowRight")
        expect(heading).to_contain_text("guest-physical 0x0 to 0x9ffff: RAM")
        keyboard.press("ArrowRight")
        expect(heading).to_contain_text("host frames 0x0 to 0xffffff: RAM of VM 1")
        keyboard.press("ArrowLeft")
        keyboard.press("ArrowLeft")
        expect(heading).to_contain_text("guest-virtual 0x1000 to")
        keyboard.press("Enter")
        expect(view.locator(".bar")).to_contain_text("VM 1, virtual 0x1000 to")
        notebook.photograph("map-zoomed", view)
        keyboard.type("dd")
        keyboard.press("Escape")
        expect(view.locator(".bar")).to_contain_text("all of it")
        assert notebook.page.locator(".jp-CodeCell").count() == 3
        notebook.photograph("map-one", notebook.view(1))


def test_a_map_follows_the_guest_and_says_when_it_is_gone(browser: Browser) -> None:
    with browser.notebook(
        "import vlab\nfrom vlab.widgets.memory_map import MemoryMap\nvm = vlab.VM('wren')\nMemoryMap(vm)",
        "vm.run(until='$ ', timeout=30)",
        "import time; time.sleep(2); vm.close()",
    ) as notebook:
        notebook.run_all()
        view = notebook.view()
        expect(view.locator(".vlab-box").filter(has_text="0xc0000000")).to_have_count(1)
        expect(view).to_contain_text("A VM of this map is gone")
        expect(view.get_by_role("button", name="Refresh")).to_be_disabled()
