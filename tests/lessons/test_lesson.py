"""A lesson in a notebook: predictions are kept, hints unlock by trying, and a check says what is missing."""

from __future__ import annotations

from pathlib import Path

import pytest

from vlab.errors import UnusableInput
from vlab.grading import catalogue
from vlab.lessons import lesson
from vlab.lessons.cells import latest_in
from vlab.lessons.lab import Lesson
from vlab.lessons.progress import Progress
from vlab.trace.file import TraceFile

EMPTY = """# exercise: interrupt-flag
def cli(cpu, insn):
    raise NotImplementedError("write cli")
def sti(cpu, insn):
    raise NotImplementedError("write sti")
"""
STUCK = """# exercise: interrupt-flag
def cli(cpu, insn):
    cpu.interrupt_flag = False
def sti(cpu, insn):
    cpu.interrupt_flag = True
"""


@pytest.fixture
def progress(tmp_path: Path) -> Progress:
    return Progress(tmp_path / "progress.json")


def made(progress: Progress, *cells: str, student: str = "ada") -> Lesson:
    return Lesson(catalogue.find("02"), student, progress, lambda ident: latest_in(cells, ident))


def test_a_prediction_is_kept_and_held_against_what_came_out(progress: Progress) -> None:
    lab = made(progress)
    question = lab.predict("who", "Which ring?", ["ring 0", "ring 1"])
    question.chosen = "ring 1"
    again = made(progress).predict("who", "Which ring?", ["ring 0", "ring 1"])
    assert again.chosen == "ring 1"
    shown = lab.reveal("who", "ring 0", why="it cannot tell")
    assert shown.verdict() == "You predicted: ring 1"
    assert shown.words().splitlines() == [
        "Which ring?", "  ( ) ring 0", "  (x) ring 1", "It is: ring 0", "it cannot tell",
        "You predicted: ring 1",
    ]  # fmt: skip
    assert progress.of("02").right == {"who": False}


def test_an_answer_can_be_seen_without_a_prediction(progress: Progress) -> None:
    lab = made(progress)
    lab.predict("who", "Which ring?", ["0", "1"])
    assert lab.reveal("who", 0).verdict() == "You made no prediction."
    assert progress.of("02").right == {}


def test_questions_without_a_choice_are_refused(progress: Progress) -> None:
    lab = made(progress)
    with pytest.raises(UnusableInput, match="is no choice; give two different answers or more"):
        lab.predict("who", "Which ring?", ["0", "0"])
    with pytest.raises(UnusableInput, match=r"name: 'Who\?' is not possible; use small letters, digits"):
        lab.predict("Who?", "Which ring?", ["0", "1"])
    with pytest.raises(UnusableInput, match=r"'who' was not asked yet; run the cell with lab\.predict"):
        lab.reveal("who", 0)


def test_a_check_names_what_is_not_written(progress: Progress) -> None:
    report = made(progress, EMPTY).check("interrupt-flag")
    assert report.earned == 0
    assert "not written yet: write" in report.table.words()
    assert progress.of("02").attempts == {"interrupt-flag": 1}


def test_a_check_shows_where_a_guest_went_wrong_with_its_trace(progress: Progress) -> None:
    report = made(progress, STUCK).check("interrupt-flag")
    assert "(`sti`): afterwards RIP is" in report.table.words()
    assert "  waits  0/1  all of that on guests that you have not seen" in report.table.words()
    trace = report.trace("follows")
    assert isinstance(trace, TraceFile)
    assert trace.metadata["monitor"] == "trap-emulate"
    report._asked(None, {"open": "follows"}, [])
    assert len(report.children) == 2
    with pytest.raises(UnusableInput, match="'nothing' has no trace; those with one: follows"):
        report.trace("nothing")


def test_the_last_cell_that_ran_counts(progress: Progress) -> None:
    report = made(progress, STUCK, EMPTY, "print(1)\n" + STUCK).check("interrupt-flag")
    assert "not written yet" in report.table.words()


def test_a_check_needs_the_cell(progress: Progress) -> None:
    lab = made(progress)
    with pytest.raises(UnusableInput, match="`# exercise: interrupt-flag` was not run yet; run it first"):
        lab.check("interrupt-flag")
    with pytest.raises(UnusableInput, match="lesson 02 has no 'flag'; choose from interrupt-flag, "):
        lab.check("flag")


def test_a_check_gives_nbgrader_no_marks(progress: Progress, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NBGRADER_EXECUTION", "autograde")
    with pytest.raises(
        UnusableInput, match="nbgrader runs this notebook by itself, without the settings that"
    ):
        made(progress, EMPTY).check("interrupt-flag")


def test_hints_are_unlocked_by_trying(progress: Progress) -> None:
    lab, name = made(progress, EMPTY), "interrupt-flag"
    assert lab.hint(name) == "The next hint is unlocked by trying: lab.check('interrupt-flag')"
    lab.check(name)
    first = lab.hint(name)
    assert first.startswith("Hint 1: ")
    assert lab.hint(name) == f"{first}\nThe next hint is unlocked by trying: lab.check('interrupt-flag')"
    for _ in range(5):
        lab.check(name)
    assert [lab.hint(name).count("Hint ") for _ in range(3)] == [2, 3, 3]
    assert lab.hint(name).startswith("These are all the hints:")


def test_the_dashboard_counts_what_was_done(progress: Progress) -> None:
    lab = made(progress, STUCK)
    lab.predict("who", "Which ring?", ["0", "1"]).chosen = "0"
    lab.reveal("who", 0)
    lab.check("interrupt-flag")
    row = next(row for row in lab.progress.rows() if row[0].startswith("02"))
    assert row[1] == "0 of 3 solved"
    assert row[3] == "1 of 1"
    assert "<th scope='row'>02 Trap and emulate</th>" in lab.progress._repr_html_()
    assert "02 Trap and emulate" in repr(lab.progress)


def test_each_student_has_chance_of_their_own(progress: Progress) -> None:
    ada, bob = made(progress), made(progress, student="bob")
    assert ada.chance("x").random() == made(progress).chance("x").random() != bob.chance("x").random()


def test_a_lesson_that_there_is_not_is_refused() -> None:
    with pytest.raises(UnusableInput, match="there is no lesson '99'; choose one of 0"):
        lesson("99")
