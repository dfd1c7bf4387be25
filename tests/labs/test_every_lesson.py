"""Every lesson: it runs from top to bottom, and its exercises are marked as they should be.

Here they are marked in this process; `vlab course check` does so in jails, in tests/course/test_checking.py.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.labs.running import (
    SEEDS,
    broken,
    exercises,
    marked,
    mistakes,
    run_solution,
    solution,
    texts,
    unsolved,
    wrong,
)
from tests.labs.shown import SHOWN, TIMES
from vlab.grading.catalogue import find, lessons
from vlab.grading.exercise import Exercise, Mistake

ALL = tuple(each.id for each in lessons())


@pytest.fixture(autouse=True)
def _without_linux(monkeypatch: pytest.MonkeyPatch) -> None:
    """It takes long to boot; what it makes of lesson 09's chips is asked in test_lesson_09.py."""
    find("09").module()
    monkeypatch.setattr("linux_09.AVAILABLE", False)


@pytest.mark.slow
@pytest.mark.parametrize("lesson", ALL)
def test_the_solution_edition_shows_what_its_text_says_and_earns_all_that_is_not_hidden(
    lesson: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = texts(run_solution(lesson, tmp_path, monkeypatch))
    for exercise in find(lesson).exercises():
        seen = sum(each.points for each in exercise.invariants if not each.hidden)
        assert f"{exercise.title}: {seen:g} of {exercise.points:g} marks" in shown
    for text in SHOWN[lesson]:
        assert text in shown
        assert shown.count(text) == TIMES.get((lesson, text), shown.count(text))


def test_what_a_kernel_sends_of_a_line_in_pieces_is_read_as_one_line() -> None:
    nbformat = pytest.importorskip("nbformat", reason="nbformat is not here: pip install 'vlab[grade]'")
    new = nbformat.v4.new_output
    cut = [new("stream", name="stdout", text=text) for text in ("measured: 18", " of", " 18\n")]
    pictures = [new("display_data", {"text/plain": text}) for text in ("<Rings>", "<Exits>")]
    outputs = [*cut, new("stream", name="stderr", text="late\n"), *pictures]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(outputs=outputs)])
    assert texts(notebook) == "measured: 18 of 18\n\nlate\n\n<Rings>\n<Exits>"


@pytest.mark.parametrize(("lesson", "exercise"), exercises(*ALL))
@pytest.mark.parametrize("seed", SEEDS)
def test_the_solution_gets_full_marks(lesson: str, exercise: Exercise, seed: str) -> None:
    mark = marked(exercise, solution(lesson, exercise.ident), seed)
    assert broken(mark) == {}
    assert mark.earned == mark.points


@pytest.mark.parametrize(("lesson", "exercise"), exercises(*ALL))
def test_without_a_solution_nothing_is_earned(lesson: str, exercise: Exercise) -> None:
    mark = marked(exercise, unsolved(lesson, exercise.ident))
    assert mark.earned == 0
    assert all(each.why.startswith("not written yet: write ") for each in mark.invariants), broken(mark)


@pytest.mark.parametrize(("lesson", "exercise", "mistake"), mistakes(*ALL))
def test_a_mistake_breaks_what_it_should(lesson: str, exercise: Exercise, mistake: Mistake) -> None:
    for seed in SEEDS:
        mark = marked(exercise, wrong(lesson, exercise.ident, mistake), seed)
        assert tuple(broken(mark)) == mistake.broken, (seed, broken(mark))
        told = [text for each in mark.invariants if not each.holds for text in (each.why, each.hint)]
        assert any(mistake.hint in text for text in (*told, *exercise.hints)), told


@pytest.mark.parametrize("lesson", ALL)
def test_every_exercise_has_typical_mistakes_hints_and_a_hidden_part(lesson: str) -> None:
    for exercise in find(lesson).exercises():
        assert len(exercise.mistakes) >= 2, exercise.ident
        assert len(exercise.hints) >= 2, exercise.ident
        assert any(each.hidden for each in exercise.invariants), exercise.ident
