"""The VGA screen in a notebook."""

from __future__ import annotations

from tests.browser.notebooks import Browser


def test_the_screen_shows_what_the_guest_wrote_and_keys_stay_in_it(browser: Browser) -> None:
    with browser.notebook(
        "import vlab\nvm = vlab.VM('hello')\nvm.screen", "vm.run(timeout=20)", "1 + 1"
    ) as notebook:
        notebook.run_all()
        view = notebook.view()
        view.locator("img").wait_for()
        view.locator("pre", has_text="Hello").wait_for(state="attached")
        view.focus()
        notebook.page.keyboard.type("ddaax")
        assert notebook.page.locator(".jp-CodeCell").count() == 3
        notebook.photograph("screen", view)
