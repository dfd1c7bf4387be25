"""The feedback page: complete, harmless whatever the student wrote, and usable without seeing it."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest

from vlab.grading import feedback
from vlab.grading.feedback import page, write
from vlab.grading.journal import Graded, Stamp
from vlab.grading.result import ExerciseMark, InvariantMark

HOSTILE = "</code></pre><script>alert(1)</script><img src=x onerror=alert(2)>\"' & \u202e \x1b[2J"
GRADED = Graded(
    f"<b>Zoë</b> {HOSTILE}",
    "02",
    "here",
    Stamp("d", "e", "s"),
    (
        ExerciseMark(
            "cli",
            "CLI <and> STI",
            (
                InvariantMark("trap", "CLI traps & is emulated", 0.1, 0.1),
                InvariantMark(
                    "flag",
                    "IF follows",
                    0.2,
                    0.0,
                    f"your code raised ValueError: {HOSTILE} in line 3 of the cell, `boom`",
                    "what does POPF do?",
                    b"\x00trace\xff",
                ),
            ),
        ),
    ),
    {"cli": f"# exercise: cli\ndef cli(cpu):\n    boom('{HOSTILE}')\n\treturn"},
    notes=("The cell of <hlt> was missing.",),
)
VOID = {"meta", "br", "img", "link", "input", "hr"}


class Reader(HTMLParser):
    """Reads a page, checks that its elements are nested, and keeps what is of interest."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.seen: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[tuple[tuple[str, ...], str]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append((tuple(self.open), data))

    def all(self, tag: str) -> Iterator[dict[str, str | None]]:
        return (attributes for name, attributes in self.seen if name == tag)

    def text(self, tag: str) -> str:
        return "".join(data for where, data in self.texts if tag in where)


def read(graded: Graded) -> Reader:
    reader = Reader()
    reader.feed(page(graded, "zoe-02")[0])
    assert reader.open == []
    return reader


def test_the_page_tells_marks_reasons_and_hints() -> None:
    text = read(GRADED).text("main")
    for words in (
        "0.1 of 0.3 points", "CLI <and> STI: 0.1 of 0.3 points", "CLI traps & is emulated", "0 of 0.2",
        "Your code raised ValueError", "Hint: What does POPF do?", "The cell of <hlt> was missing.",
        "✓ holds", "✗ broken",
    ):  # fmt: skip
        assert words in text


def test_nothing_of_a_students_becomes_markup() -> None:
    reader = read(GRADED)
    assert {tag for tag, _ in reader.seen} <= {
        "html", "head", "meta", "title", "style", "body", "main", "h1", "h2", "h3", "p", "strong", "ul", "li",
        "section", "table", "caption", "thead", "tbody", "tr", "th", "td", "em", "a", "code", "pre", "span",
        "mark",
    }  # fmt: skip
    assert not [name for _, attributes in reader.seen for name in attributes if name.startswith("on")]
    assert "<script>alert(1)</script>" in reader.text("pre")
    assert not set("\u202e\x1b") & set("".join(data for _, data in reader.texts))


def test_the_page_loads_nothing_and_its_policy_says_so() -> None:
    reader = read(GRADED)
    (policy,) = (
        each["content"] for each in reader.all("meta") if "Content" in (each.get("http-equiv") or "")
    )
    assert policy == "default-src 'none'; style-src 'unsafe-inline'"
    assert not [each for _, attributes in reader.seen for each in attributes if each == "src"]
    assert not re.search(r"url\(|@import|https?:", page(GRADED, "x")[0])


def test_the_line_that_was_named_is_marked_for_eyes_and_ears() -> None:
    marked = read(GRADED).text("mark")
    assert marked.startswith("This line was named above: 3    boom(")


def test_the_cell_is_there_line_by_line() -> None:
    reader = read(GRADED)
    shown = "".join(
        data for where, data in reader.texts if "pre" in where and not data.isdigit() and "above" not in data
    )
    assert shown.startswith("# exercise: clidef cli(cpu):    boom('")
    assert shown.endswith("    return")
    assert "\t" not in shown


def test_the_page_can_be_used_without_seeing_it() -> None:
    reader = read(GRADED)
    assert next(reader.all("html"))["lang"] == "en"
    assert reader.text("title")
    assert len(list(reader.all("h1"))) == 1
    assert reader.text("caption") == "What was checked in exercise cli"
    assert all(each.get("scope") in ("col", "row") for each in reader.all("th"))
    (section,) = reader.all("section")
    assert section["aria-labelledby"] in {each.get("id") for each in reader.all("h2")}
    (code,) = reader.all("pre")
    assert (code["tabindex"], code["aria-label"]) == ("0", "Your cell")


def test_a_trace_is_in_the_page_to_be_downloaded() -> None:
    (link,) = read(GRADED).all("a")
    target = link["href"] or ""
    assert base64.b64decode(target.removeprefix("data:application/octet-stream;base64,")) == b"\x00trace\xff"
    assert link["download"] == "zoe-02-cli-flag.vlabtrace"


def test_a_long_trace_is_a_file_beside_the_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feedback, "EMBEDDED", 4)
    write(tmp_path, [replace(GRADED, student="zoe")])
    assert sorted(each.name for each in tmp_path.iterdir()) == ["zoe-02-cli-flag.vlabtrace", "zoe-02.html"]
    assert (tmp_path / "zoe-02-cli-flag.vlabtrace").read_bytes() == b"\x00trace\xff"
    assert 'href="zoe-02-cli-flag.vlabtrace"' in (tmp_path / "zoe-02.html").read_text(encoding="utf-8")


def test_a_submission_that_could_not_be_used_says_why() -> None:
    reader = read(replace(GRADED, trouble="the notebook is broken: <it> has no cells", cells={}, notes=()))
    assert "The notebook is broken: <it> has no cells." in reader.text("main")
    assert not list(reader.all("pre"))


def test_a_failure_of_ours_is_no_feedback(tmp_path: Path) -> None:
    write(tmp_path, [replace(GRADED, error="the worker died")])
    assert list(tmp_path.iterdir()) == []
