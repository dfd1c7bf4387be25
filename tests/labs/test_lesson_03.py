"""Lesson 03: it runs, and its exercises are marked as they should be."""

from __future__ import annotations

from importlib import import_module
from random import Random

import pytest

from tests.labs.running import (
    broken,
    exercises,
    marked,
)
from vlab.grading.catalogue import find
from vlab.guests.kept import keep
from vlab.session import VM

LESSON = "03"


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        ("'pushfd'", "find gave 'pushfd', and it is to give an address or None"),
        ("True", "find gave True, and it is to give an address or None"),
        ("-1", "find gave -1, and it is to give an address or None"),
        ("debugger.registers('mine')", "machine is 'mine'; it is 'right' or 'wrong'"),
        ("debugger.memory('right', 0x8000, 5000)", "5000 bytes at 0x8000: give at most 4096"),
        ("debugger.machines", "your code raised AttributeError"),
    ],
)
def test_what_a_debugger_cannot_give_is_told(answer: str, why: str) -> None:
    exercise = exercises(LESSON)[0].values[1]
    told = broken(marked(exercise, f"# exercise: find\ndef find(debugger):\n    return {answer}\n"))
    assert set(told) == {each.name for each in exercise.invariants}
    assert all(why in each for each in told.values()), told


@pytest.mark.parametrize(
    ("body", "why"),
    [
        ("cpu.eip += 2", "the instruction at 0x10002"),
        ("cpu.esp -= 1 << 20", "esp: -"),
        ("cpu.eflags ^= 1 << 17; cpu.eip += 1", "bits 0x20000 are not for POPF to change"),
        ("cpu.read('esp')", "address: 'esp' is no number of 32 bits"),
    ],
)
def test_what_no_processor_could_be_given_is_refused(body: str, why: str) -> None:
    exercise = exercises(LESSON)[1].values[1]
    source = f"# exercise: repair\ndef pushf(cpu):\n    {body}\n\n\npopf = pushf\n"
    told = broken(marked(exercise, source))
    assert set(told) == {each.name for each in exercise.invariants}
    assert why in told["pushes"], told


def test_what_is_planted_does_go_wrong_and_nothing_else_does() -> None:
    find(LESSON).module()
    planted = import_module("planted_03")
    for seed in range(12):
        for kind in (planted.in_registers, planted.in_memory, planted.in_flags, None):
            made = planted.make(Random(f"{seed} {kind}"), kind, decoys=2)
            with VM(keep(made.guest, "guest.bin"), monitor="trap-emulate", memory="2M") as vm:
                assert vm.run(timeout=20).exit_code == 0
                silent = {each.rip for each in vm.silent}
                watched = vm.disassemble(1, at=made.planted)[0] if made.planted else ""
            if any(name in watched for name in ("mov", "push c", "push s", "lar", "lsl")):
                assert not silent, watched  # the laboratory cannot watch these
            else:
                assert silent == ({made.planted} if made.planted else set()), watched
