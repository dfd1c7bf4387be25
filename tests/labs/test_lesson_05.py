"""Lesson 05: it runs, what it reveals is right, and no answer of a walk or a TLB is taken on trust."""

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

LESSON = "05"


def test_the_solution_edition_runs_from_top_to_bottom(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = texts(run_solution(LESSON, tmp_path, monkeypatch))
    assert "It is: 4" in shown
    assert "It is: 0x7: P, W and U" in shown
    assert "It is: AA: it still sees the old page" in shown
    assert "It is: AA: a processor that breaks its promise" in shown
    assert "Not flushed yet" in shown
    assert "A 32-bit page walk: 9 of 11 marks" in shown  # the others are hidden
    assert "reserved bits: 9 of 11 marks" in shown
    assert "What a TLB has to forget: 8 of 10 marks" in shown


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
        ("return None", "your walk returned None; it has to return the physical address, a number, or"),
        ("return True", "your walk returned True"),
        ("return [linear]", "your walk returned ["),
        ("return linear ^ 8", "your walk gives physical address"),
        ("return -1", "your walk gives physical address -0x1"),
        ("return mmu.page_fault(99)", "error_code: 99 is not the error code of a page fault"),
        ("return mmu.page_fault(2)", "your walk gives a page fault with error code 0x2"),
        ("return mmu.read(-4)", "address: no entry of 4 bytes can be at -0x4"),
        ("return mmu.read(1 << 40)", "address: no entry of 4 bytes can be at 0x10000000000"),
        ("return mmu.read('x')", "address: no entry of 4 bytes can be at 'x'"),
    ],
)
def test_what_no_walk_could_give_is_told(body: str, why: str) -> None:
    exercise = exercises(LESSON)[0].values[1]
    mark = marked(exercise, f"# exercise: walk\ndef walk(mmu, linear, write, user):\n    {body}\n")
    assert mark.earned == 0
    assert all(why in each.why for each in mark.invariants), broken(mark)


def test_a_tlb_cannot_drop_what_is_no_address() -> None:
    exercise = exercises(LESSON)[2].values[1]
    cell = solution(LESSON, "tlb").replace('tlb.drop(entry["page"])', "tlb.drop(entry)")
    why = broken(marked(exercise, cell))
    assert all("is no address" in each for each in why.values()), why
