"""The translation cache in a notebook."""

from __future__ import annotations

from tests.browser.notebooks import Browser
from vlab.session import VM
from vlab.widgets import bundle
from vlab.widgets.translation_view import TranslationView

_BOOT = (
    "import vlab\nvm = vlab.VM('wren', monitor='binary-translation')\n"
    "vm.run(until='$ ')\nvlab.show(vm.translation)"
)

_WITHOUT_KERNEL = """async ([text, traits]) => {
  const url = URL.createObjectURL(new Blob([text], { type: "text/javascript" }));
  const { default: { render } } = await import(url);
  const el = document.createElement("div");
  document.body.append(el);
  const end = render({ model: { get: (name) => traits[name] }, el });
  el.querySelector("[role=option]").click();
  const shown = el.textContent;
  end();
  el.remove();
  return shown;
}"""


def _recorded() -> list[object]:
    names = ("counts", "call_outs", "fates", "listed", "block", "drawing", "alive")
    with VM("wren", monitor="binary-translation") as vm:
        vm.run(until="$ ")
        view = TranslationView(vm)
        return [bundle.module("translation_view.js"), {name: getattr(view, name) for name in names}]


def test_blocks_are_chosen_by_keys_and_links_lead_from_one_to_the_next(browser: Browser) -> None:
    with browser.notebook(_BOOT, "1 + 1") as notebook:
        notebook.run_all()
        view, keys = notebook.view(), notebook.page.keyboard
        rows = view.locator(".vlab-blocks-row[role=option]")
        rows.nth(49).wait_for()
        assert rows.count() == 50
        view.locator("td", has_text="mov esp, 0xc0113000").first.wait_for()

        view.get_by_role("listbox").focus()
        keys.press("ArrowDown")
        view.locator(".vlab-block-title", has_text="Block 0xc01000c4").wait_for()
        keys.press("PageDown")
        view.get_by_text("51 to 100 of").wait_for()
        keys.press("ArrowUp")
        view.get_by_text("1 to 50 of").wait_for()
        view.locator(".vlab-blocks-row:nth-child(50)[aria-selected=true]").wait_for()

        view.get_by_role("searchbox").fill("0xc010327c")
        view.get_by_text("1 to 1 of 1 found").wait_for()
        rows.first.click()
        view.locator(".vlab-block-title", has_text="Block 0xc010327c").wait_for()
        for words in ("copied", "not linked", "chained", "lookup", "out of use"):
            assert view.locator(".vlab-fate", has_text=words).count()
        view.get_by_role("region", name="where the block leads").get_by_role("button").first.click()
        view.locator(".vlab-block-title", has_text="Block 0xc01032b0").wait_for()
        keys.press("Alt+ArrowLeft")
        view.locator(".vlab-block-title", has_text="Block 0xc010327c").wait_for()
        view.get_by_role("searchbox").fill("")
        view.get_by_text("1 to 50 of").wait_for()
        keys.type("dd")
        assert notebook.page.locator(".jp-CodeCell").count() == 2
        view.get_by_role("searchbox").fill("")
        view.get_by_text("1 to 50 of").wait_for()
        notebook.photograph("translation", view)


def test_a_watched_run_tells_hit_rates(browser: Browser) -> None:
    with browser.notebook(_BOOT) as notebook:
        notebook.run_all()
        view = notebook.view()
        before = int(view.locator(".vlab-cache-count strong").first.inner_text().replace(",", ""))
        view.get_by_label("type").fill("ls")
        view.get_by_label("or until").fill("$ ")
        view.get_by_label("or until").press("Enter")
        view.get_by_text("the text appeared").wait_for()
        assert "%" in view.locator(".vlab-rate").first.inner_text()
        notebook.page.wait_for_function(
            "(before) => before < Number("
            "document.querySelector('.vlab-cache-count strong').textContent.replace(',', ''))",
            arg=before,
        )
        view.locator(".vlab-cache-map svg").click(position={"x": 600, "y": 100})
        view.locator(".vlab-block-title", has_not_text="Block 0xc0100075").wait_for()
        view.get_by_text("What the signs mean").click()
        notebook.photograph("translation-profile", view)

        assert "mov esp, 0xc0113000" in notebook.page.evaluate(_WITHOUT_KERNEL, _recorded())
