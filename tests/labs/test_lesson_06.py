"""Lesson 06: it runs, what it reveals is right, and no shadow entry is made on trust."""

from __future__ import annotations

from pathlib import Path

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
from vlab.grading.exercise import Exercise, Mistake

LESSON = "06"


def test_the_solution_edition_runs_from_top_to_bottom(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = texts(run_solution(LESSON, tmp_path, monkeypatch))
    assert "It is: 4: the shadow's" in shown
    assert "It is: A=0 D=0" in shown
    assert "It is: write-protect" in shown
    assert shown.count("after a write:  A=1 D=1") == 4  # on vlab's own shadow, under three monitors and alone
    assert "Answering a miss: 10 of 12 marks" in shown  # the others are hidden
    assert "Following the guest's tables: 10 of 12 marks" in shown


@pytest.mark.parametrize(("lesson", "exercise"), exercises(LESSON))
@pytest.mark.parametrize("seed", SEEDS)
def test_the_solution_gets_full_marks(lesson: str, exercise: Exercise, seed: str) -> None:
    assert broken(marked(exercise, solution(lesson, exercise.ident), seed)) == {}


@pytest.mark.parametrize(("lesson", "exercise"), exercises(LESSON))
def test_the_solution_gets_full_marks_in_a_jail(lesson: str, exercise: Exercise) -> None:
    with jail(exercise.seconds) as student:
        for seed in SEEDS:
            assert broken(marked(exercise, solution(lesson, exercise.ident), seed, student)) == {}


@pytest.mark.parametrize(("lesson", "exercise"), exercises(LESSON))
def test_without_a_solution_nothing_is_earned(lesson: str, exercise: Exercise) -> None:
    mark = marked(exercise, unsolved(lesson, exercise.ident))
    assert mark.earned == 0
    assert all(each.why.startswith("not written yet: write ") for each in mark.invariants), broken(mark)


@pytest.mark.parametrize(("lesson", "exercise", "mistake"), mistakes(LESSON))
def test_a_mistake_breaks_what_it_should(lesson: str, exercise: Exercise, mistake: Mistake) -> None:
    for seed in SEEDS:
        mark = marked(exercise, wrong(lesson, exercise.ident, mistake), seed)
        assert set(broken(mark)) == set(mistake.broken), broken(mark)
        told = [text for each in mark.invariants if not each.holds for text in (each.why, each.hint)]
        assert any(mistake.hint in text for text in (*told, *exercise.hints)), told


@pytest.mark.parametrize(
    ("body", "why"),
    [
        ("pass", "your function neither mapped the page nor reflected a fault"),
        ("miss.map(False, False, False)", "misses the shadow again and again: your entry does not allow it"),
        ("miss.map(2, True, True)", "writable: 2 is neither True nor False"),
        ("miss.map(True, 'x', True)", "user: 'x' is neither True nor False"),
        ("miss.reflect(99)", "error_code: 99 is not the error code of a page fault"),
        ("miss.reflect(None)", "error_code: None is not the error code of a page fault"),
        ("miss.dirty = True", "dirty cannot be assigned"),
    ],
)
def test_what_no_shadow_could_be_told_is_refused(body: str, why: str) -> None:
    exercise = exercises(LESSON)[0].values[1]
    mark = marked(exercise, f"# exercise: fill\ndef page_fault(miss):\n    {body}\n")
    assert mark.earned == 0
    assert all(why in each.why for each in mark.invariants), broken(mark)


@pytest.mark.parametrize("act", ["miss.map(True, True, True)", "miss.set_accessed()", "miss.set_dirty()"])
def test_a_page_that_the_guest_does_not_map_stays_unmapped(act: str) -> None:
    exercise = exercises(LESSON)[0].values[1]
    cell = solution(LESSON, "fill").replace("miss.reflect(miss.error_code)", act)
    why = broken(marked(exercise, cell))
    assert "the guest's tables do not " in why["faults"]


@pytest.mark.parametrize(
    ("old", "new", "why"),
    [
        ('return page["may_write"]', "return 7 or 1", "fill returned 7"),
        (
            "shadow.protect(table)",
            "shadow.protect(table + 1)",
            "is not the guest-physical address of a frame",
        ),
        (
            "shadow.protect(table)",
            "shadow.protect(-4096)",
            "frame: -0x1000 is not the guest-physical address",
        ),
        ("shadow.unprotect(table)", "pass", "your function left it protected"),
        ("shadow.protect(table)", "shadow.protect(page['frame'])", "your entry does not allow it"),
    ],
)
def test_what_would_not_protect_is_told(old: str, new: str, why: str) -> None:
    exercise = exercises(LESSON)[1].values[1]
    found = broken(marked(exercise, solution(LESSON, "protect").replace(old, new)))
    assert any(why in each for each in found.values()), found
