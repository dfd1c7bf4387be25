"""Somebody else on the machine: memory that a guest of the student's must not reach."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from vlab.grading.exercise import Broken
from vlab.grading.trial import Trial
from vlab.machine.memory import LARGE_PAGE, PAGE

_DECOY: Final = b"somebody else's memory. "


@contextmanager
def neighbour(trial: Trial) -> Iterator[None]:
    """Let somebody have the machine's first frames, so that no guest's addresses are the host's."""
    machine = trial.machine
    if machine is None:
        yield
        return
    taken = machine.frames.allocate(LARGE_PAGE, LARGE_PAGE, use="somebody else")
    content = _DECOY * (PAGE // len(_DECOY))
    machine.memory.bytes[taken : taken + len(content)] = content
    try:
        yield
        if bytes(machine.memory.bytes[taken : taken + len(content)]) != content:
            raise Broken("your guest has written to memory that is somebody else's")
    finally:
        machine.memory.zero(taken, PAGE)
        machine.frames.free(taken)
