"""Guests that probe page tables, over a student's paging and on the bare machine: both must see the same."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final, Protocol

from vlab.grading.exercise import Broken
from vlab.grading.trial import Trial
from vlab.guests.probes import HERE, MEMORY, Tables
from vlab.vmm.paging.strategy import PagingStrategy

_MOST_EXITS: Final = 3_000


class Probes(Protocol):
    """What `vlab.guests.probes.Plan` and `Script` have in common: a guest with page tables, and results."""

    tables: Tables

    def guest(self) -> bytes:
        """Give its image."""

    def seen(self, ram: memoryview) -> list[tuple[Any, Any]]:
        """Give what was tried and what came of it."""


class Pair:
    """A guest over ``paging``, ``yours``, and the same on the bare machine, ``ours``, ready to run."""

    def __init__(self, trial: Trial, probes: Probes, paging: PagingStrategy) -> None:
        self._trial, self._probes, guest = trial, probes, probes.guest()
        self.yours = trial.vm(guest, paging=paging, memory=MEMORY)
        self.ours = trial.vm(guest, monitor="none", memory=MEMORY)

    def run(self, *, exits: int = _MOST_EXITS) -> Iterator[tuple[Any, Any, Any]]:
        """Run both; give what was tried, and what yours and ours saw, where that is not the same.

        exits: the most that yours may take. Raises Broken when it does not come to its end, once all
        differences were asked for.
        """
        for vm in (self.yours, self.ours):
            self._probes.tables.write(vm.memory)
        self._trial.run_ours(self.ours)
        stop = self._trial.run(self.yours, exits=exits)
        seen = (self._probes.seen(vm.memory) for vm in (self.yours, self.ours))
        for (tried, mine), (_, right) in zip(*seen, strict=True):
            if mine != right:
                yield tried, mine, right
        if stop.exit_code != 0:
            raise Broken(f"the guest stopped with '{stop.headline}'", vm=self.yours)

    @property
    def misses(self) -> int:
        """How often what the guest probes was missing in the student's tables."""
        return sum(each.reason == "PF" and each.info1 >= HERE for each in self.yours.exits)
