"""Lesson 00: it runs, and its exercises are marked as they should be."""

from __future__ import annotations

import pytest

from tests.labs.running import (
    broken,
    exercises,
    marked,
)

LESSON = "00"


@pytest.mark.parametrize(
    ("body", "why"),
    [
        ("return 7", "spoken gave 7, and it is to give text"),
        ("return ''.join(chr(each.infos) for each in exits)", "your code raised AttributeError"),
        ("return None", "spoken gave None"),
    ],
)
def test_an_answer_of_another_kind_is_told(body: str, why: str) -> None:
    (exercise, _) = (each.values[1] for each in exercises(LESSON))
    mark = marked(exercise, f"# exercise: spoken\ndef spoken(exits):\n    {body}\n")
    assert mark.earned == 0
    assert all(each.why.startswith(why) for each in mark.invariants), broken(mark)


@pytest.mark.parametrize(
    ("body", "why"),
    [
        ("cpu.rip += 3", "cpuid left RIP at 0x"),
        ("cpu.ebx = -1", "ebx cannot be -0x1: it takes whole numbers from 0 to 0xffffffff"),
        ("cpu.ebx = 'vlab'", "ebx cannot be 'vlab'"),
        (
            "cpu.processor('0', 0)",
            "leaf: '0' is no number of 32 bits; give a whole number from 0 to 0xffffffff",
        ),
        ("cpu.monitor.end(None)", "your code raised AttributeError"),
    ],
)
def test_what_no_processor_could_be_given_is_refused(body: str, why: str) -> None:
    exercise = exercises(LESSON)[1].values[1]
    mark = marked(exercise, f"# exercise: cpuid\ndef cpuid(cpu, vendor, name):\n    {body}\n")
    assert mark.earned == 0
    assert all(why in each.why for each in mark.invariants), broken(mark)
