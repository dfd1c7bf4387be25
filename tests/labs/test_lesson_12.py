"""Lesson 12 runs, its solutions get full marks, and typical mistakes break what they are to break."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.labs.running import (
    SEEDS,
    broken,
    exercises,
    jail,
    marked,
    mistakes,
    run_solution,
    solution,
    texts,
    unsolved,
    wrong,
)

LESSON = "12"


def test_the_solution_edition_runs_from_top_to_bottom(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = texts(run_solution(LESSON, tmp_path, monkeypatch))
    assert "It is: 3 or 4" in said
    assert "It is: the guest's handler runs in the middle of its critical section" in said
    assert "the same on the console: True" in said


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(("lesson", "exercise"), exercises(LESSON))
def test_a_solution_gets_full_marks(lesson: str, exercise: Any, seed: str) -> None:
    mark = marked(exercise, solution(lesson, exercise.ident), seed)
    assert broken(mark) == {}
    assert mark.earned == mark.points


@pytest.mark.parametrize(("lesson", "exercise"), exercises(LESSON))
def test_a_solution_gets_full_marks_in_a_jail(lesson: str, exercise: Any) -> None:
    with jail(exercise.seconds) as student:
        assert broken(marked(exercise, solution(lesson, exercise.ident), "ada", student)) == {}


@pytest.mark.parametrize(("lesson", "exercise"), exercises(LESSON))
def test_an_unsolved_cell_gets_nothing_and_says_why(lesson: str, exercise: Any) -> None:
    mark = marked(exercise, unsolved(lesson, exercise.ident))
    assert mark.earned == 0
    assert all(each.why.startswith("not written yet: write ") for each in mark.invariants)


@pytest.mark.parametrize(("lesson", "exercise", "mistake"), mistakes(LESSON))
def test_a_typical_mistake_breaks_what_it_is_to_break(lesson: str, exercise: Any, mistake: Any) -> None:
    mark = marked(exercise, wrong(lesson, exercise.ident, mistake))
    assert tuple(broken(mark)) == mistake.broken
    told = " ".join((*(f"{each.why} {each.hint}" for each in mark.invariants), *exercise.hints))
    assert mistake.hint in told
