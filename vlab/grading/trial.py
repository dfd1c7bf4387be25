"""One try of one invariant: the student, chance with a seed, and guests that run on a machine of ours."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from os import PathLike
from typing import Any, Final

from vlab.grading.exercise import Broken
from vlab.grading.student import Student
from vlab.guests.kept import keep
from vlab.session import VM, Machine, Stop

PATIENCE: Final = 20.0
"""Seconds of wall time after which a guest is given up that ran into no budget of exits."""
MOST_EXITS: Final = 100_000


@dataclass(slots=True)
class Trial:
    """What an invariant is tried with.

    student: answers for the cell. rng: seeded by student, exercise and invariant. hidden: whether marks are
    at stake. machine: where the guests run, None for a machine for each. vms: those that were made.
    """

    student: Student
    rng: random.Random
    hidden: bool = False
    machine: Machine | None = None
    vms: list[VM] = field(default_factory=list)

    def vm(self, guest: str | PathLike[str] | bytes, **options: Any) -> VM:
        """Make a VM as ``vlab.VM`` does, traced in full; bytes are an image. It is closed with the trial."""
        chosen = keep(guest, "guest.bin") if isinstance(guest, bytes) else guest
        vm = VM(chosen, **{"trace": "full", "machine": self.machine} | options)
        self.vms.append(vm)
        return vm

    def run(
        self, vm: VM, until: str | Callable[[VM], bool] | None = None, *, exits: int = MOST_EXITS
    ) -> Stop:
        """Run it to its end, or to what is waited for.

        exits: the most that it may take. Raises Broken when it gets neither there nor to an end; what the
        student's code raises comes through.
        """
        limit = vm.exits.total + exits
        stop = vm.run(lambda vm: vm.exits.total >= limit or _there(vm, until), timeout=PATIENCE)
        if stop.final or _there(vm, until):
            return stop
        wanted = f"; it was to come to {until!r}" if isinstance(until, str) else ""
        if vm.exits.total >= limit:
            raise Broken(f"the guest had not come to its end after {exits:,} exits{wanted}", vm=vm)
        raise Broken(f"the guest had not come to its end after {PATIENCE:g} seconds{wanted}", vm=vm)

    def close(self) -> None:
        """Give the guests' memory back."""
        while self.vms:
            self.vms.pop().close()


def _there(vm: VM, until: str | Callable[[VM], bool] | None) -> bool:
    if until is None:
        return False
    return until in vm.console.text if isinstance(until, str) else until(vm)
