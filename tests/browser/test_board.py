"""The devices board in a notebook: chips by keyboard, bits on demand, lines that light up, a log."""

from __future__ import annotations

from tests.browser.notebooks import CELL_COUNT, Browser

CELLS = (
    "import vlab\nvm = vlab.VM('wren', trace='full')\nvm.devices",
    "vm.run(until='$ ', timeout=60); print('there')",
    "vm.send('echo hello\\n'); vm.run(until='hello\\r', timeout=60)",
)


def test_the_board_follows_the_guest(browser: Browser) -> None:
    with browser.notebook(*CELLS) as notebook:
        page = notebook.page
        notebook.run_all()
        assert not notebook.errors()
        view = notebook.view()
        panel = view.get_by_role("tabpanel")
        panel.get_by_text("16550A serial port").wait_for()

        ier = panel.locator("tr", has=page.get_by_role("button", name="ier")).first
        assert "0x1" in ier.inner_text()
        assert "ERBFI 1" in ier.inner_text()
        ier.get_by_role("button").focus()
        page.keyboard.press("Enter")
        panel.get_by_text("received data available, and character timeout").wait_for()
        assert "bit 0" in panel.inner_text()

        view.get_by_role("tab", selected=True).focus()
        for key in ("Home", "ArrowDown", "ArrowUp"):
            page.keyboard.press(key)
        panel.get_by_text("8259A interrupt controllers").wait_for()
        panel.get_by_role("button", name="master.imr").wait_for()
        page.keyboard.type("dd")
        assert page.evaluate(CELL_COUNT) == 3

        words = {
            each.get_attribute("data-word"): each.text_content() for each in view.locator("[data-word]").all()
        }
        assert words["pic8"] == "masked"
        assert words["pic4"] in ("ready", "in service", "requested") or "taken" in words["pic4"]
        log = view.locator(".vlab-board-log")
        log.locator("tr", has_text="THR").filter(has_text="0x6f").first.wait_for()
        notebook.photograph("board", view)
        log.scroll_into_view_if_needed()
        notebook.photograph("board-page")
