"""A lesson's source: what is read, and what is complained about, with its line."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.course.sample import NAME, NEEDS_JUPYTEXT, changed, lesson
from vlab.course.source import LessonProblems, read
from vlab.errors import UnusableInput
from vlab.grading.catalogue import find

pytestmark = NEEDS_JUPYTEXT


def problems(directory: Path, *changes: tuple[str, str], file: str = "lesson.md") -> list[str]:
    """Give the complaints about a changed lesson, without its path."""
    labs = changed(directory, *changes, file=file)
    with pytest.raises(LessonProblems) as caught:
        read(find("90", labs))
    source = str(labs / NAME / "lesson.md")
    assert all(each.startswith(f"{source}:") for each in caught.value.problems)
    assert all("\n" not in each for each in caught.value.problems)
    return [each.removeprefix(f"{source}:") for each in caught.value.problems]


def test_a_lesson_has_its_header_its_exercises_and_cells_with_their_roles() -> None:
    read = lesson()
    assert (read.title, read.minutes, read.needs_linux) == ("Pages and bits", 5, False)
    assert [each.ident for each in read.exercises] == ["page_number", "set_bits"]
    roles = [(each.role, each.name) for each in read.cells if each.role not in ("prose", "code")]
    assert roles == [
        ("setup", ""),
        ("predict", "size"),
        ("reveal", "size"),
        ("exercise", "page_number"),
        ("check", "page_number"),
        ("exercise", "set_bits"),
        ("check", "set_bits"),
    ]


def test_a_cell_knows_the_line_where_its_text_begins() -> None:
    read = lesson()
    lines = read.files.source.read_text(encoding="utf-8").split("\n")
    for each in read.cells:
        assert lines[each.line - 1] == each.text.split("\n")[0]


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ('lesson: "90"', "lesson: 90", """1: vlab: lesson is 90; write "90", with quotes"""),
        ("minutes: 5", "minutes: soon", "1: vlab: minutes is 'soon'; write a whole number of minutes"),
        ('title: "Pages and bits"', 'title: ""', "1: vlab: title is ''; write a few words"),
        ("needs_linux: false", "needs_linux: 1", "1: vlab: needs_linux is 1; write true or false"),
        ("import vlab\n", "", "18: the first code cell does without 'import vlab'; write it there"),
        (
            ":tags: [exercise]\n",
            ":tags: [excercise]\n",
            (
                "38: there is no tag 'excercise'; the tags are check, exercise, hide-input, hide-output, "
                "instructor, raises-exception, solution-only"
            ),
        ),
        (
            "# exercise: page_number",
            "# exercise : page_number",
            "38: an exercise cell begins with '# exercise: ID', not with '# exercise : page_number'",
        ),
        ("    # END SOLUTION\n", "", "41: a solution begins that does not end: write # END SOLUTION"),
        ("    # BEGIN SOLUTION\n", "", "43: a solution ends that did not begin: write # BEGIN SOLUTION"),
        ("return linear >> 12", "return linear >>", "43: page_number is no Python: invalid syntax"),
        (
            "from collections.abc import Iterable",
            "import vlab.session",
            "65: set_bits imports vlab.session; it is marked with vlab.isa alone",
        ),
        (
            "def page_number",
            "def page_numbers",
            "38: page_number is to define page_number, and its cell does not",
        ),
        (
            'lab.check("page_number")',
            'print(lab.check("page_number"))',
            """50: a check cell is lab.check("ID") and nothing else, not 'print(lab.check("page_number"))'""",
        ),
        (
            ":tags: [check]\n",
            "",
            "49: lab.check stands in a cell without the tag check; add the tag",
        ),
        (
            'lab.reveal("size"',
            'lab.reveal("sizes"',
            '26: lab.predict("size") has no lab.reveal("size") after it; add one',
        ),
        (
            "## Bits",
            "# BEGIN SOLUTION",
            "59: a solution is marked in a cell that is no exercise; tag the cell exercise",
        ),
    ],
)
def test_what_is_wrong_is_told_with_its_line(old: str, new: str, told: str, tmp_path: Path) -> None:
    assert told in problems(tmp_path, (old, new))


def test_exercises_and_their_cells_must_match_both_ways(tmp_path: Path) -> None:
    found = problems(
        tmp_path,
        ('"set_bits",\n        "Set bits"', '"clear_bits",\n        "Set bits"'),
        file="exercises_90.py",
    )
    assert found == [
        "1: clear_bits is in EXERCISES of exercises_90.py and has no check cell; add one",
        "1: clear_bits is in EXERCISES of exercises_90.py and has no exercise cell; add one",
        "64: set_bits is not in EXERCISES of exercises_90.py; write it there",
        "82: set_bits is not in EXERCISES of exercises_90.py; write it there",
    ]


def test_all_that_is_wrong_is_told_at_once_in_the_order_of_lines(tmp_path: Path) -> None:
    found = problems(tmp_path, ("minutes: 5", "minutes: 0"), ('lab.check("set_bits")', "lab.check('x', 1)"))
    assert [each.split(":")[0] for each in found] == ["1", "1", "82"]


def test_a_header_that_is_no_yaml_is_told_with_its_file(tmp_path: Path) -> None:
    (found,) = problems(tmp_path, ("vlab: {lesson", "vlab: {{lesson"))
    assert "Notebook metadata" in found


def test_a_lesson_without_its_source_says_where_sources_come_from(tmp_path: Path) -> None:
    labs = changed(tmp_path)
    files = find("90", labs)
    files.source.unlink()
    with pytest.raises(UnusableInput, match="sources come with a checkout of vlab"):
        read(files)
