"""Lesson 06: it runs, what it reveals is right, and no shadow entry is made on trust."""

from __future__ import annotations

import pytest

from tests.labs.running import (
    broken,
    exercises,
    marked,
    solution,
)

LESSON = "06"


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
