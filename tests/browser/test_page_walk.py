"""Page walks in a notebook: typed addresses, arrow keys, bits, and the grid of the nested walk."""

from __future__ import annotations

from playwright.sync_api import expect

from tests.browser.notebooks import Browser

START = """import vlab
from vlab.widgets.page_walk import PageWalk
vm = vlab.VM("longmode")
vm.run(timeout=20)"""


def test_a_nested_walk_is_a_grid_through_which_arrow_keys_lead(browser: Browser) -> None:
    with browser.notebook(START, "PageWalk(vm)") as notebook:
        notebook.run_all()
        view, keyboard = notebook.view(), notebook.page.keyboard
        references = view.locator(".vlab-walk-scroll .vlab-reference")
        expect(references).to_have_count(24)
        references.first.click()
        expect(view.locator(".vlab-walk-detail h4")).to_have_text(
            "reference 1 of 24: nPML4E, nested walk for the guest's PML4E"
        )
        expect(view.locator(".vlab-walk-inner .vlab-reference")).to_have_count(4)
        for key, title in (
            ("ArrowRight", "reference 2 of 24: nPDPE, nested walk for the guest's PML4E"),
            ("End", "reference 24 of 24: nPTE, nested walk final"),
            ("ArrowUp", "reference 19 of 24: nPTE, nested walk for the guest's PTE"),
            ("ArrowRight", "reference 20 of 24: the guest's PTE"),
        ):
            keyboard.press(key)
            expect(view.locator(".vlab-walk-detail h4")).to_have_text(title)
        notebook.page.mouse.move(0, 0)
        keyboard.press("Enter")
        expect(view.locator(".vlab-walk-meaning")).to_contain_text("NX (bit 63)")
        keyboard.press("ArrowLeft")
        expect(view.locator(".vlab-walk-meaning")).to_contain_text("P (bit 0) = 1: present")
        keyboard.type("ddx")
        assert notebook.page.locator(".jp-CodeCell").count() == 2
        notebook.photograph("walk-nested", view)


def test_an_address_is_typed_and_what_is_none_is_said_politely(browser: Browser) -> None:
    cell = """vm = vlab.VM("longmode", paging="shadow")
vm.run(timeout=20)
vlab.show(PageWalk(vm), vm.walk(0xffff800000000000), columns=1)"""
    with browser.notebook(START, cell) as notebook:
        notebook.run_all()
        view = notebook.view(0)
        box = view.get_by_label("Linear address to walk")
        box.fill("0x400000")
        box.press("Enter")
        expect(view).to_contain_text("Not present yet = will be filled")
        expect(view).to_contain_text("stopped here")
        notebook.photograph("walk-shadow", view)
        box.fill("c0100000")
        box.press("Enter")
        expect(view.locator(".problem").first).to_contain_text("did you mean 0xc0100000?")
        view.get_by_role("button", name="RSP").click()
        expect(view.locator(".problem").first).to_be_hidden()
        fixed = notebook.view(1)
        expect(fixed).to_contain_text("0xffff800000000000")
        expect(fixed.get_by_label("Linear address to walk")).to_be_hidden()
