"""The built site: it builds without a warning, its links lead somewhere, and it needs nobody else."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from tests.docs_site.pages import PAGES, ROOT

pytestmark = pytest.mark.slow

#: Attributes by which a browser fetches something without being asked.
FETCHED = {("script", "src"), ("img", "src"), ("link", "href"), ("iframe", "src"), ("source", "src")}


class Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.names: set[str] = set()
        self.links: list[str] = []
        self.fetched: list[str] = []
        self.images_without_words = 0

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        given = dict(attributes)
        self.names |= {given[key] or "" for key in ("id", "name") if key in given}
        if tag == "a" and given.get("href"):
            self.links.append(given["href"] or "")
        self.fetched += [
            value
            for key, value in attributes
            if (tag, key) in FETCHED and value and given.get("rel") != "canonical"
        ]
        self.images_without_words += tag == "img" and "alt" not in given


def read(page: Path) -> Reader:
    reader = Reader()
    reader.feed(page.read_text(encoding="utf-8"))
    return reader


@pytest.fixture(scope="session")
def pages(site: Path) -> dict[Path, Reader]:
    return {path: read(path) for path in sorted(site.rglob("*.html"))}


def test_every_document_has_its_page(site: Path) -> None:
    missing = [page for page in PAGES if not (site / page[len("docs/") :]).with_suffix(".html").exists()]
    assert not missing


def test_every_link_and_anchor_of_the_site_leads_somewhere(pages: dict[Path, Reader]) -> None:
    broken = []
    for page, reader in pages.items():
        for link in reader.links + reader.fetched:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            target = (page.parent / unquote(parts.path)).resolve() if parts.path else page
            if not target.exists():
                broken.append(f"{page.name}: {link}")
            elif parts.fragment and target in pages and unquote(parts.fragment) not in pages[target].names:
                broken.append(f"{page.name}: {link} (no such place)")
    assert not broken


def test_the_site_fetches_nothing_from_elsewhere(site: Path, pages: dict[Path, Reader]) -> None:
    abroad = [
        f"{page.name}: {url}"
        for page, reader in pages.items()
        for url in reader.fetched
        if urlsplit(url).netloc
    ]
    assert not abroad
    for sheet in site.rglob("*.css"):
        assert not re.search(r"url\(['\"]?(https?:)?//|@import", sheet.read_text(encoding="utf-8")), (
            sheet.name
        )


def test_the_reference_has_what_people_look_up(site: Path) -> None:
    def page(name: str) -> str:
        return (site / "reference" / name).with_suffix(".html").read_text(encoding="utf-8")

    for method in ("run", "walk", "go_to", "snapshot", "state_hash"):
        assert f'id="vlab.session.VM.{method}"' in page("virtual_machine")
    from vlab.cli import cli
    from vlab.vmm.exits import EXIT_TYPES, REASONS

    for reason, kind in zip(REASONS, EXIT_TYPES, strict=True):
        assert reason in page("exits")
        assert kind.__name__ in page("exits")
    for command in cli.commands:
        assert f'id="vlab-{command}"' in page("cli")
    assert "VmcbControl" in page("registers")
    assert 'id="vlab.vmm.paging.strategy.PagingStrategy.handle"' in page("paging")
    assert 'id="vlab.grading.exercise.Exercise"' in page("grading")


def test_pages_say_their_language_and_describe_their_images(pages: dict[Path, Reader]) -> None:
    for page, reader in pages.items():
        assert '<html class="no-js" lang="en"' in page.read_text(encoding="utf-8"), page.name
        assert not reader.images_without_words, page.name


def test_every_page_has_one_heading_on_top_and_a_way_past_the_navigation(pages: dict[Path, Reader]) -> None:
    for page in pages:
        text = page.read_text(encoding="utf-8")
        if page.name != "search.html":  # its heading comes by script
            assert text.count("<h1") == 1, page.name
            assert 'class="skip-to-content' in text, page.name


def test_the_page_of_lessons_has_every_lesson(site: Path) -> None:
    text = (site / "lessons.html").read_text(encoding="utf-8")
    for source in (ROOT / "labs").glob("[0-9][0-9]_*/lesson.md"):
        assert source.parent.name in text
