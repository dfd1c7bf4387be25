"""What the tests of lessons share: editions that are executed, cells with and without solutions, marks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import groupby
from pathlib import Path
from typing import Any

import pytest

from vlab.grading.catalogue import find
from vlab.grading.exercise import Exercise, Mistake
from vlab.grading.local import LocalStudent
from vlab.grading.marking import mark
from vlab.grading.result import ExerciseMark
from vlab.grading.student import Student
from vlab.session import Machine

SEEDS = ("", "ada", "grace")
NewStudent = Callable[[str], Student]


def read_lesson(lesson: str) -> Any:
    """Read a lesson's source; the test is skipped without jupytext."""
    pytest.importorskip("jupytext", reason="jupytext is not here: pip install 'vlab[grade]'")
    from vlab.course.source import read

    return read(find(lesson))


def run_solution(lesson: str, directory: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Execute the solution edition in ``directory``, with progress of its own, and give the notebook.

    A cell that raises fails the test with its traceback.
    """
    nbclient = pytest.importorskip("nbclient", reason="nbclient is not here: pip install 'vlab[grade]'")
    nbformat = pytest.importorskip("nbformat", reason="nbformat is not here: pip install 'vlab[grade]'")
    pytest.importorskip("ipykernel", reason="ipykernel is not here: pip install 'vlab[jupyter]'")
    from vlab.course.editions import build, to_text

    notebook = nbformat.reads(to_text(build(read_lesson(lesson), "solution")), as_version=4)
    monkeypatch.setenv("VLAB_DATA", str(directory / "data"))
    monkeypatch.setenv("VLAB_STUDENT", "ada")
    client = nbclient.NotebookClient(notebook, timeout=120, resources={"metadata": {"path": str(directory)}})
    client.execute()
    return notebook


def texts(notebook: Any) -> str:
    """Join all that the cells show as plain text, each output from a line of its own.

    A kernel sends what a cell prints in pieces, and where it cuts is a matter of time: the pieces that follow
    each other in one stream are one output, as in JupyterLab.
    """
    found: list[str] = []
    for cell in notebook.cells:
        outputs = cell.get("outputs", ())
        for stream, pieces in groupby(outputs, lambda output: output.get("name", "")):
            shown = [each.get("text") or each.get("data", {}).get("text/plain", "") for each in pieces]
            found.extend(["".join(shown)] if stream else shown)
    return "\n".join(found)


def solution(lesson: str, exercise: str) -> str:
    """Give an exercise's cell with its solution."""
    from vlab.course.solutions import solved

    return solved(read_lesson(lesson).exercise_cell(exercise).text, exercise)


def unsolved(lesson: str, exercise: str) -> str:
    """Give an exercise's cell as students get it."""
    from vlab.course.solutions import unsolved

    return unsolved(read_lesson(lesson).exercise_cell(exercise).text, exercise)


def wrong(lesson: str, exercise: str, mistake: Mistake) -> str:
    """Give an exercise's cell with a typical mistake."""
    return mistake.cell(solution(lesson, exercise))


def exercises(*lessons: str) -> list[Any]:
    """Give (lesson, exercise) for each exercise, as parameters of a test."""
    return [
        pytest.param(lesson, each, id=f"{lesson}-{each.ident}")
        for lesson in lessons
        for each in find(lesson).exercises()
    ]


def mistakes(*lessons: str) -> list[Any]:
    """Give (lesson, exercise, mistake) for each planted mistake, as parameters of a test."""
    return [
        pytest.param(lesson, each, mistake, id=f"{lesson}-{each.ident}-{mistake.name.replace(' ', '-')}")
        for lesson in lessons
        for each in find(lesson).exercises()
        for mistake in each.mistakes
    ]


def marked(
    exercise: Exercise, source: str, seed: str = "", student: NewStudent | None = None
) -> ExerciseMark:
    """Mark a cell with all invariants, the hidden ones too; in this process unless told otherwise."""
    make = LocalStudent.of_source if student is None else student
    machine = Machine("64M")
    try:
        return mark(exercise, lambda: make(source), seed, hidden=True, machine=machine)
    finally:
        machine.close()


def broken(mark: ExerciseMark) -> dict[str, str]:
    """Give what is broken, with why."""
    return {each.name: each.why for each in mark.invariants if not each.holds}


@contextmanager
def jail(seconds: float = 10.0) -> Iterator[NewStudent]:
    """Give a maker of students in a jail; the test is skipped where there is none."""
    from vlab.grading.jail.launch import NoJail, Zygote
    from vlab.grading.jail.student import JailedStudent

    zygote = Zygote()
    try:
        JailedStudent(zygote, "pass", seconds).close()
    except NoJail as error:
        zygote.close()
        pytest.skip(f"there is no jail on this computer: {error}")
    try:
        yield lambda source: JailedStudent(zygote, source, seconds)
    finally:
        zygote.close()
