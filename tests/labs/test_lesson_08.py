"""Lesson 08: it runs, what it reveals is right, and no nested table gets to the processor unseen."""

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

LESSON = "08"


def test_the_solution_edition_runs_from_top_to_bottom(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = texts(run_solution(LESSON, tmp_path, monkeypatch))
    assert "It is: 24" in shown
    assert "It is: 19" in shown
    assert "It is: shadow tables" in shown
    assert "It is: nested tables" in shown
    assert "It is: not even its first instruction runs" in shown
    assert "A walk in two dimensions: 9 of 11 marks" in shown  # the others are hidden
    assert "Nested tables for a guest: 9 of 11 marks" in shown


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
        ("return None", "your walk returned None; it has to return the host-physical address, a number, or"),
        ("return 0.5", "your walk returned 0.5"),
        ("return -1", "yours ended with host-physical address -0x1"),
        ("return host.read(-8)", "no entry can be at the host-physical address -0x8"),
        ("return host.read(1 << 45)", "no entry can be at the host-physical address 0x200000000000"),
        ("return host.nested_fault('x')", "gpa: 'x' is no address"),
        ("host.guest_cr3 = 0", "guest_cr3 cannot be assigned"),
    ],
)
def test_what_no_walk_could_give_is_told(body: str, why: str) -> None:
    exercise = exercises(LESSON)[0].values[1]
    mark = marked(exercise, f"# exercise: walk\ndef walk(host, linear):\n    {body}\n")
    assert mark.earned == 0
    assert all(why in each.why for each in mark.invariants), broken(mark)


@pytest.mark.parametrize(
    ("body", "why"),
    [
        ("tables.write(0x1000000, 0, 7)", "table: 16777216 is neither tables.root nor of tables.new()"),
        ("tables.write(tables.root, 512, 7)", "index: 512 is not from 0 to 511"),
        ("tables.write(tables.root, 0, 1 << 64)", "entry: 18446744073709551616 is no number of 64 bits"),
        ("tables.write(tables.root, 0, 0x3000 | 7)", "is 0x3007, and there is no table of yours"),
        ("tables.write(tables.root, 0, 7 | 1 << 63)", "is 0x8000000000000007: only P, R/W, U/S"),
        ("tables.write(tables.root, 0, 0x87)", "is 0x87: only P, R/W, U/S, at level 2 PS"),
        ("pass", "which is ROM, and your tables did not let it"),
        ("tables.write(tables.root, 0, tables.root | 7)", "host memory from 0x"),
    ],
)
def test_no_table_that_leads_out_gets_to_the_processor(body: str, why: str) -> None:
    exercise = exercises(LESSON)[1].values[1]
    mark = marked(exercise, f"# exercise: tables\ndef build(tables, regions):\n    {body}\n")
    assert mark.earned == 0
    assert any(why in each.why for each in mark.invariants), broken(mark)


def test_a_student_who_takes_all_frames_is_stopped() -> None:
    exercise = exercises(LESSON)[1].values[1]
    cell = "# exercise: tables\ndef build(tables, regions):\n    while True:\n        tables.new()\n"
    mark = marked(exercise, cell)
    assert mark.earned == 0
    assert all("no free run" in each.why for each in mark.invariants), broken(mark)
