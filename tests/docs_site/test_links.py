"""Links lead somewhere: in the pages as they are written, and in the site. Nothing is fetched."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.docs_site.pages import DOCUMENTS, ROOT, anchors, prose, text_of

LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)|<(https?://[^>\s]+)>|(?<![(<\w])(https?://[^\s)>\"]+)")


def links(document: str) -> list[str]:
    return [one or two or three for one, two, three in LINK.findall(prose(text_of(document)))]


@pytest.mark.parametrize("document", DOCUMENTS)
def test_links_within_the_repository_lead_to_a_file_and_to_a_heading(document: str) -> None:
    broken = []
    for link in links(document):
        if urlsplit(link).scheme:
            continue
        path, _, anchor = link.partition("#")
        target = (ROOT / document).parent / path if path else ROOT / document
        if not target.exists():
            broken.append(f"{link}: there is no such file")
        elif anchor and anchor not in anchors(target.read_text(encoding="utf-8")):
            broken.append(f"{link}: there is no such heading")
    assert not broken


@pytest.mark.parametrize("document", DOCUMENTS)
def test_addresses_elsewhere_are_well_formed(document: str) -> None:
    for link in links(document):
        parts = urlsplit(link)
        if not parts.scheme:
            continue
        assert parts.scheme == "https", f"{link}: write https"
        assert re.fullmatch(r"[\w-]+(\.[\w-]+)+", parts.netloc), f"{link}: no host, or a port or a user"
        assert not parts.netloc.startswith("localhost")


def test_the_check_notices_what_is_broken(tmp_path: Path) -> None:
    text = "# One\n\n## One\n\n[a](b.md#c) <https://x.example/y> `[not](one)`\n\n```\n[nor](this)\n```\n"
    assert anchors(text) == {"one", "one-1"}
    assert [one or two or three for one, two, three in LINK.findall(prose(text))] == [
        "b.md#c",
        "https://x.example/y",
    ]
