"""nbgrader, otter and `vlab grade` on a lesson that is taught, 05: the same marks from all three."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any, Final

import pytest

from tests.course.graders import NEEDS_GRADERS, grades, otter_scores, run, run_otter, vlab_scores
from tests.course.sample import NEEDS_JUPYTEXT, cell
from vlab.course.editions import build
from vlab.course.source import read
from vlab.grading.catalogue import find

pytestmark = [pytest.mark.slow, NEEDS_JUPYTEXT, NEEDS_GRADERS]

FILES: Final = find("05")
NAME: Final = FILES.name
EXERCISES: Final = {each.ident: each for each in FILES.exercises()}
SOLVED_BY_HALF: Final = "walk"
MISTAKEN: Final = "tlb"
SECRET: Final = "the secret of a course that has this lesson alone"

Scores = dict[str, dict[str, float]]


@cache
def expected() -> Scores:
    """Give the marks by student and exercise, as the exercises and the planted mistake declare them."""
    full = {ident: float(each.points) for ident, each in EXERCISES.items()}
    broken = EXERCISES[MISTAKEN].mistakes[0].broken
    lost = sum(each.points for each in EXERCISES[MISTAKEN].invariants if each.name in broken)
    assert 0 < lost < full[MISTAKEN], "a mistake that costs some of the points is wanted"
    return {
        "correct": full,
        "half": dict.fromkeys(full, 0.0) | {SOLVED_BY_HALF: full[SOLVED_BY_HALF]},
        "empty": dict.fromkeys(full, 0.0),
        "mistake": full | {MISTAKEN: full[MISTAKEN] - lost},
    }


def handed_in() -> Iterator[tuple[str, dict[str, Any]]]:
    """Give each student's notebook."""
    lesson = read(FILES)
    solutions = {ident: cell(build(lesson, "solution"), f"exercise-{ident}")["source"] for ident in EXERCISES}
    mistake = EXERCISES[MISTAKEN].mistakes[0].cell(solutions[MISTAKEN])
    answers = {
        "correct": solutions,
        "half": {SOLVED_BY_HALF: solutions[SOLVED_BY_HALF]},
        "empty": {},
        "mistake": solutions | {MISTAKEN: mistake},
    }
    for student, sources in answers.items():
        notebook = build(lesson, "student")
        for ident, source in sources.items():
            cell(notebook, f"exercise-{ident}")["source"] = source
        yield student, notebook


@pytest.fixture(scope="module")
def course(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The lesson's course, with what all students handed in."""
    directory = tmp_path_factory.mktemp("lesson_05")
    secret = directory / "secret"
    secret.write_text(SECRET, encoding="utf-8")
    run(
        "-m", "vlab.cli", "course", "build", "--lesson", FILES.id, "--secret", secret, "--out", directory,
        cwd=directory,
    )  # fmt: skip
    for student, notebook in handed_in():
        path = directory / "nbgrader" / "submitted" / student / NAME / f"{NAME}.ipynb"
        path.parent.mkdir(parents=True)
        path.write_text(json.dumps(notebook), encoding="utf-8")
    return directory


@pytest.fixture(scope="module")
def marks(course: Path) -> dict[str, Scores]:
    """What each grader gives. They do not meet, so they mark at the same time."""
    with ThreadPoolExecutor() as pool:
        running = {each.__name__: pool.submit(each, course) for each in (nbgrader, otter, vlab_grade)}
        return {name: each.result() for name, each in running.items()}


def nbgrader(course: Path) -> Scores:
    directory = course / "nbgrader"
    for command in ("generate_assignment", "autograde"):
        run("-m", "nbgrader", command, NAME, cwd=directory)
    found: Scores = {}
    for student, scores, by_hand in grades(directory, NAME):
        assert not by_hand, student
        found[student] = {ident: score for ident, score in scores.items() if score is not None}
    return found


def otter(course: Path) -> Scores:
    out = course / "results"
    out.mkdir()
    submitted = course / "nbgrader" / "submitted"
    notebooks = [submitted / student / NAME / f"{NAME}.ipynb" for student in expected()]
    found = run_otter(course, NAME, out, *notebooks)
    return {Path(path).parts[-3]: otter_scores(results) for path, results in found.items()}


def vlab_grade(course: Path) -> Scores:
    out = course / "all.json"
    run(
        "-m", "vlab.cli", "grade", course / "nbgrader" / "submitted", "--secret", course / "secret",
        "--out", course / "graded", "--json", out, cwd=course,
    )  # fmt: skip
    return vlab_scores(out)


@pytest.mark.parametrize("grader", ["nbgrader", "otter", "vlab_grade"])
def test_correct_half_right_empty_and_mistaken_answers_get_the_same_marks_from(
    grader: str, marks: dict[str, Scores]
) -> None:
    assert marks[grader] == {
        student: {ident: pytest.approx(score) for ident, score in scores.items()}
        for student, scores in expected().items()
    }
