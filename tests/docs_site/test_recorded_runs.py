"""A recorded run in a page of the site is scrubbed from disk, without a server."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from vlab.bench.notebooks import ARGUMENTS, chromium

playwright = pytest.importorskip(
    "playwright.sync_api", reason="playwright is not here: pip install -e '.[test]'"
)
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(chromium() is None, reason="no Chromium is here; CHROMIUM names its path"),
]


@pytest.fixture(scope="module")
def page(site: Path) -> Iterator[playwright.Page]:
    problems: list[str] = []
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=chromium(), args=ARGUMENTS)
        page = browser.new_page(viewport={"width": 1280, "height": 1000}, color_scheme="light")
        page.on("pageerror", lambda error: problems.append(f"page error: {error}"))
        page.on("console", lambda said: problems.append(said.text) if said.type == "error" else None)
        page.on("request", lambda asked: _stays(asked.url) or problems.append(f"left the disk: {asked.url}"))
        page.goto((site / "recorded.html").as_uri())
        page.wait_for_function(
            "() => document.querySelectorAll('.vlab-recording[data-ready]').length"
            " === document.querySelectorAll('.vlab-recording').length"
        )
        yield page
        browser.close()
    assert not problems


def _stays(url: str) -> bool:
    return url.startswith(("file:", "data:", "blob:"))


def test_scrubbing_by_keys_shows_other_exits_and_other_registers(page: playwright.Page) -> None:
    first = page.locator(".vlab-recording").first
    strip, reason = first.locator(".strip"), first.locator("[data-fact=reason]")
    strip.focus()
    page.keyboard.press("Home")
    playwright.expect(first.locator("[data-exit]").first).to_have_attribute("data-exit", "1")
    assert "CPUID" in reason.inner_text() or "PF" in reason.inner_text()
    registers = first.locator(".inspector-registers")
    before = registers.inner_text()
    for _ in range(5):
        page.keyboard.press("ArrowRight")
    playwright.expect(first.locator("[data-exit]").first).to_have_attribute("data-exit", "6")
    playwright.expect(registers).not_to_have_text(before)
    assert "≠ was" in registers.inner_text()
    playwright.expect(first.locator(".inspector-place h3")).to_contain_text("after exit 6")
    assert "def " in first.locator(".inspector-handler pre").inner_text()


def test_scrubbing_by_pointer_goes_to_the_end(page: playwright.Page) -> None:
    last = page.locator(".vlab-recording").last
    strip = last.locator(".strip")
    strip.scroll_into_view_if_needed()
    box = strip.bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + 5, box["y"] + 5)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] - 1, box["y"] + 5, steps=10)
    page.mouse.up()
    playwright.expect(last.locator("[data-fact=reason]")).to_contain_text("SHUTDOWN")
    playwright.expect(last.locator(".inspector-stop")).to_contain_text("triple fault")


def test_a_recording_can_be_downloaded_and_is_a_trace(page: playwright.Page, tmp_path: Path) -> None:
    from vlab.trace.file import load

    with page.expect_download() as waiting:
        page.locator(".vlab-recording figcaption a").first.click()
    file = tmp_path / waiting.value.suggested_filename
    waiting.value.save_as(file)
    trace = load(file)
    assert file.suffix == ".vlabtrace"
    assert trace.metadata["guest"] == "wren"
    assert len(trace.exits) > 50


def test_the_views_follow_the_theme_of_the_site(page: playwright.Page) -> None:
    view = page.locator(".vlab-view").first
    colour = "element => getComputedStyle(element).backgroundColor"
    light = view.evaluate(colour)
    page.emulate_media(color_scheme="dark")
    page.wait_for_function("() => document.body.dataset.jpThemeLight === 'false'")
    assert view.evaluate(colour) != light
    if folder := os.environ.get("VLAB_SCREENS"):
        Path(folder).mkdir(parents=True, exist_ok=True)
        page.screenshot(path=Path(folder) / "recorded-dark.png")
    page.emulate_media(color_scheme="light")


def test_without_scripts_a_picture_is_left(site: Path) -> None:
    text = (site / "recorded.html").read_text(encoding="utf-8")
    assert text.count('<div class="vlab-stage"><svg') == text.count('<figure class="vlab-recording"')


def test_the_exits_that_the_page_points_at_are_what_it_says() -> None:
    import vlab
    from tests.docs_site.pages import text_of

    page = text_of("docs/recorded.md")
    for words in (
        "exit 1, before",
        "exit 8, the write to CR0",
        "exit 10, the first",
        "exits 2 and 31, CPUID",
        "exit 67, the first",
    ):
        assert words in page
    with vlab.VM("wren", paging="shadow", trace="full") as vm:
        vm.run(until="$ ")
        exits = list(vm.exits)
    assert exits[0].reason == "PF"
    assert (exits[7].reason, exits[7].qualification) == ("CR", (0, 1))
    assert exits[8].reason == "PF"
    assert exits[9].qualification[0] == exits[9].rip > 0xC0000000
    assert [number for number, each in enumerate(exits, 1) if each.reason == "CPUID"] == [2, 31]
    assert next(number for number, each in enumerate(exits, 1) if each.ring == 3) == 67
    with vlab.VM("wren", monitor="trap-emulate", trace="full") as vm:
        vm.run(timeout=60)
        assert vm.exits[154].qualification == (0x10100F4, 2)
