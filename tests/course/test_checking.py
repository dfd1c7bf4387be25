"""`vlab course check`: what it finds to be as it should, and what it tells when it is not."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.course.sample import LABS, NEEDS_JUPYTEXT, changed, lesson
from vlab.cli import main
from vlab.course.checking import Attempt, attempts, check, local
from vlab.course.source import read
from vlab.grading.catalogue import find, lessons
from vlab.grading.exercise import Mistake
from vlab.grading.result import ExerciseMark

pytestmark = NEEDS_JUPYTEXT
ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def _plain(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "120")


def troubles(labs: Path) -> list[str]:
    found = check(attempts(read(find("90", labs))), local)
    return [
        f"{each.attempt.exercise.ident}, {each.attempt.name}: {one}"
        for each in found
        for one in each.troubles
    ]


def test_each_exercise_is_tried_unsolved_solved_and_with_each_mistake() -> None:
    assert [(each.exercise.ident, each.name) for each in attempts(lesson())] == [
        ("page_number", "unsolved"),
        ("page_number", "solved"),
        ("page_number", "mistake: forgets the upper half"),
        ("page_number", "mistake: counts in decimal"),
        ("set_bits", "unsolved"),
        ("set_bits", "solved"),
        ("set_bits", "mistake: begins with nothing"),
    ]


def test_the_lesson_of_these_tests_is_as_it_should_be() -> None:
    found = list(check(attempts(lesson()), local))
    assert not [one for each in found for one in each.troubles]
    assert [each.mark.earned for each in found if each.mark] == [0, 5, 2, 0, 2, 5, 3]


@pytest.mark.parametrize(
    ("file", "old", "new", "told"),
    [
        (
            "lesson.md",
            "return linear >> 12\n",
            "linear += 4096\n    return linear >> 12\n",
            "page_number, solved: the solution breaks low: page_number(",
        ),
        (
            "lesson.md",
            "    # stub: return value\n",
            "    # stub: for each in bits:\n    # stub:     value |= 1 << each\n    # stub: return value\n",
            "set_bits, unsolved: without its solution it gets all 5 points",
        ),
        (
            "lesson.md",
            "    # BEGIN SOLUTION\n    # the secret",
            (
                "    # BEGIN SOLUTION\n    # stub: if linear < 0:\n    # stub:     "
                'raise NotImplementedError("write page_number")\n    # stub: return 0\n    # the secret'
            ),
            "page_number, unsolved: without the solution low says 'page_number(",
        ),
        (
            "exercises_90.py",
            'broken=("high", "highest")',
            'broken=("low", "high")',
            "page_number, mistake: forgets the upper half: it does not break low",
        ),
        (
            "exercises_90.py",
            'broken=("high", "highest")',
            'broken=("high",)',
            "page_number, mistake: forgets the upper half: it also breaks highest: page_number(",
        ),
        (
            "exercises_90.py",
            'broken=("kept",)',
            'broken=("keep",)',
            "set_bits, mistake: begins with nothing: there is no invariant keep",
        ),
        (
            "exercises_90.py",
            'hint="stay as they were"',
            'hint="no such text"',
            "set_bits, mistake: begins with nothing: students do not read 'no such text', but: set_bits(",
        ),
    ],
)
def test_what_is_not_as_it_should_be_is_told(
    file: str, old: str, new: str, told: str, tmp_path: Path
) -> None:
    found = troubles(changed(tmp_path, (old, new), file=file))
    assert [each for each in found if each.startswith(told)], found


SECOND_PART = """return linear >> 12
    # END SOLUTION


def offset(linear):
    # BEGIN SOLUTION
    return linear & 4095
"""


def test_of_several_parts_each_is_left_out_once(tmp_path: Path) -> None:
    labs = changed(tmp_path, ("return linear >> 12\n", SECOND_PART), file="lesson.md")
    names = [each.name for each in attempts(read(find("90", labs)))]
    assert names[:4] == ["unsolved", "all but: write page_number", "all but: write offset", "solved"]
    found = troubles(labs)
    assert "page_number, all but: write offset: without its solution it gets all 5 points" in found
    met = "no invariant comes to what is not written, 'not written yet: write offset'"
    assert f"page_number, all but: write offset: {met}" in found
    assert not [each for each in found if each.startswith("page_number, all but: write page_number")]


def test_a_mistake_that_edits_what_is_not_there_is_told_with_its_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    labs = changed(tmp_path, ('("return linear >> 12"', '("return linear // 2"'), file="exercises_90.py")
    assert main(["course", "check", "--labs", str(labs), "--no-jail"]) == 1
    told = capsys.readouterr().err
    assert (
        "exercises_90.py: page_number: the mistake 'forgets the upper half' edits 'return linear // 2'"
        in told
    )


def test_a_mistake_that_is_to_break_nothing_is_none() -> None:
    (attempt,) = [
        each for each in attempts(lesson()) if each.exercise.ident == "set_bits" and each.kind == "solved"
    ]
    none = Attempt("90", attempt.exercise, "mistake", attempt.source, Mistake("is right"))
    (found,) = check([none], local)
    assert found.troubles == ("it is to break nothing; then it is no mistake",)


def test_a_failure_of_grading_itself_is_told() -> None:
    def fails(wanted: list[Attempt]) -> Iterator[tuple[Attempt, ExerciseMark | None, str]]:
        yield wanted[0], None, "the worker process ended with signal 9"

    (found,) = check(attempts(lesson()), fails)  # type: ignore[arg-type]
    assert found.troubles == ("grading failed: the worker process ended with signal 9",)


def test_the_command_shows_a_table_and_writes_the_marks(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "marks.json"
    assert main(["course", "check", "--labs", str(LABS), "--no-jail", "--json", str(file)]) == 0
    shown = capsys.readouterr()
    assert shown.err == ""
    rows = [line.split() for line in shown.out.splitlines()]
    assert ["90", "page_number", "solved", "5", "of", "5", "yes"] in rows
    assert ["90", "set_bits", "mistake:", "begins", "with", "nothing", "3", "of", "5", "yes"] in rows
    written = json.loads(file.read_text())
    assert [(each["tried"], each["earned"], each["troubles"]) for each in written[:2]] == [
        ("unsolved", 0.0, []),
        ("solved", 5.0, []),
    ]
    assert written[0]["invariants"][0]["why"] == "not written yet: write page_number"


def test_the_command_tells_the_story_and_fails_when_one_is_wrong(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    labs = changed(tmp_path, ("return linear >> 12\n", "linear += 4096\n    return linear >> 12\n"))
    assert main(["course", "check", "--labs", str(labs), "--no-jail", "--lesson", "90"]) == 1
    told = capsys.readouterr().err
    assert "lesson 90, page_number, solved: the solution breaks low: page_number(" in told
    assert told.endswith("vlab course check: 2 of 7 attempts did not go as they should\n")


@pytest.mark.slow
def test_the_command_marks_in_jails(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["course", "check", "--labs", str(LABS)]) == 0
    assert capsys.readouterr().err == ""


@pytest.mark.slow
def test_every_lesson_is_as_it_should_be_when_all_are_checked_in_one_go(tmp_path: Path) -> None:
    command = (sys.executable, "-m", "vlab.cli", "course", "check", "--labs", ROOT / "labs")
    file = tmp_path / "marks.json"
    done = subprocess.run(
        [*command, "--json", file],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=1200,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    tried = {(each["lesson"], each["tried"]) for each in json.loads(file.read_text())}
    graded = {each.id for each in lessons(ROOT / "labs") if each.exercises()}
    assert tried >= {(lesson, what) for lesson in graded for what in ("unsolved", "solved")}
