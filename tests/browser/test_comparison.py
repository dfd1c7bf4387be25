"""The comparison of monitors in a notebook: sorting by keys, another processor, and no lost cells."""

from __future__ import annotations

from tests.browser.notebooks import Browser

RUN = """
from vlab.compare.side_by_side import side_by_side
from vlab.widgets.comparison import Comparison
ways = [("none", "direct"), ("paravirtual", "direct"), ("hardware", "nested"), ("hardware", "shadow"),
        ("trap-emulate", "shadow")]
runs = side_by_side("wren", append="selftest", ways=ways) + side_by_side("hello", ways=ways)
view = Comparison(runs)
view
"""


def test_a_comparison_is_sorted_by_keys_and_priced_for_another_processor(browser: Browser) -> None:
    with browser.notebook(RUN, "print('chosen', view.generation)") as notebook:
        notebook.run_all(timeout=180)
        page, view = notebook.page, notebook.view()
        view.locator("tbody tr").first.wait_for()
        assert view.locator("tbody").count() == 2
        notebook.photograph("comparison", view)
        exits = view.locator("thead button", has_text="Exits")
        exits.focus()
        page.keyboard.type("dd")
        assert page.locator(".jp-CodeCell").count() == 2
        page.keyboard.press("Enter")
        assert view.locator("th[aria-sort=descending]").inner_text() == "Exits ▼"
        first = view.locator("tbody").first.locator("tr").nth(1).locator("th")
        assert first.inner_text().startswith("paravirtual/direct")
        page.keyboard.press("Enter")
        assert first.inner_text().startswith("none/direct")
        page.keyboard.press("ArrowRight")
        assert "Mcycles" in page.evaluate("document.activeElement.textContent")
        before = view.locator("tbody").first.inner_text()
        view.locator("select").last.select_option("prescott")
        assert view.locator("tbody").first.inner_text() != before
        view.get_by_text("not possible there").first.wait_for()
        page.wait_for_timeout(300)
        page.evaluate("() => { window.jupyterapp.shell.currentWidget.content.activeCellIndex = 1; }")
        notebook.command("notebook:run-cell")
        notebook.outputs.filter(has_text="chosen prescott").wait_for()
        view.locator("select").first.select_option("hello")
        notebook.photograph("comparison-hello", view)
