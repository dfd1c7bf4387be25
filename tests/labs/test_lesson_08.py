"""Lesson 08: it runs, what it reveals is right, and no nested table gets to the processor unseen."""

from __future__ import annotations

import pytest

from tests.labs.running import (
    broken,
    exercises,
    marked,
)

LESSON = "08"


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
