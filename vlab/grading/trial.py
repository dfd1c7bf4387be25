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
"""Seconds of wall time after which a guest is given up that ran into no other limit."""
MOST_EXITS: Final = 100_000
MOST_TIME_NS: Final = 1_000_000_000
"""Virtual time after which a guest is given up, unless told otherwise."""
_LOOKS: Final = 3
"""How often a sleeping guest is looked at, some 50 ms apart, before it is given up."""


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
        self,
        vm: VM,
        until: str | Callable[[VM], bool] | None = None,
        *,
        exits: int = MOST_EXITS,
        time_ns: int = MOST_TIME_NS,
        hint: str = "",
    ) -> Stop:
        """Run it to its end, or to what is waited for.

        exits, time_ns: the most that it may take, in exits and virtual time. Raises Broken, with ``hint``,
        when it gets neither there nor to an end; what the student's code raises comes through.
        """
        limit, end = vm.exits.total + exits, vm.virtual_time_ns + time_ns
        sleep = _Sleep()

        def enough(vm: VM) -> bool:
            spent = vm.exits.total >= limit or vm.virtual_time_ns >= end
            return spent or _there(vm, until) or sleep.is_for_good(vm)

        stop = vm.run(enough, timeout=PATIENCE)
        if stop.final or _there(vm, until):
            return stop
        wanted = "it was to end" if until is None else "what was waited for had not come"
        if isinstance(until, str):
            wanted = f"{until!r} had not come"
        if sleep.long:
            raise Broken(f"the guest sleeps, and nothing is left to wake it; {wanted}", hint=hint, vm=vm)
        if vm.exits.total >= limit:
            raise Broken(f"after {exits:,} exits the guest was still running; {wanted}", hint=hint, vm=vm)
        raise Broken(
            f"after {time_ns / 1e9:g} s of its time the guest was still running; {wanted}", hint=hint, vm=vm
        )

    def run_ours(
        self,
        vm: VM,
        until: str | Callable[[VM], bool] | None = None,
        *,
        exits: int = MOST_EXITS,
        status: int | None = 0,
    ) -> Stop:
        """Run a guest without anything of the student's, for others to be compared with.

        status: what it ends with where nothing is waited for, None for any. Raises RuntimeError when it does
        not get there: that is a fault of ours, and no mark may come of it.
        """
        try:
            stop = self.run(vm, until, exits=exits)
        except Broken as broken:
            raise RuntimeError(f"the guest to compare with: {broken.why}") from broken
        if not _there(vm, until) and (until is not None or status not in (None, stop.exit_code)):
            raise RuntimeError(f"the guest to compare with stopped with '{stop.headline}'")
        return stop

    def close(self) -> None:
        """Give the guests' memory back."""
        while self.vms:
            self.vms.pop().close()


@dataclass(slots=True)
class _Sleep:
    """Notices a guest that waits in HLT with no timer set: nobody types here, so it would wait for ever."""

    at: tuple[int, int] = -1, -1
    times: int = 0

    @property
    def long(self) -> bool:
        return self.times >= _LOOKS

    def is_for_good(self, vm: VM) -> bool:
        now = vm.exits.total, vm.virtual_time_ns
        self.times = self.times + 1 if vm.halted and now == self.at else 0
        self.at = now
        return self.long


def _there(vm: VM, until: str | Callable[[VM], bool] | None) -> bool:
    if until is None:
        return False
    return until in vm.console.text if isinstance(until, str) else until(vm)
