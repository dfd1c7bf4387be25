"""Lesson 05: it runs, what it reveals is right, and no answer of a walk or a TLB is taken on trust."""

from __future__ import annotations

import pytest

from tests.labs.running import (
    broken,
    exercises,
    marked,
    solution,
)

LESSON = "05"


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
