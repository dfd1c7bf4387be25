"""The guest `sweep` over shadow and over nested tables, on a processor that chance made: cycles a touch.

Its exits are counted anew for each try; `vlab.compare.sweep` says what a touch takes.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

from runs_11 import by_reason

from vlab.compare.crossover import workload_at
from vlab.compare.sweep import WINDOW, Counted, cycles_a_touch
from vlab.compare.tlb import Lookups, Picks, Workload, simulate
from vlab.compare.walk_costs import FIGURES, Processor, TlbLevel, read_processors
from vlab.compare.walk_counts import SmallNestedPaging, nested_walk, shadow_walk
from vlab.grading.exercise import Broken
from vlab.grading.facade import Value
from vlab.grading.trial import Trial
from vlab.vmm.paging.shadow import ShadowPaging

MEMORY: Final = "8M"
LIMIT: Final = 256
"""Touches for each update, at most, that the crossover is looked for at."""
MOST_RUNS: Final = 14
_TOUCHES: Final = 768


@dataclass(slots=True)
class Lab:
    """The guest `sweep` over both kinds of tables, on a processor that chance made.

    pages: its working set. known: cycles that were measured, by touches for each update.
    """

    trial: Trial
    processor: Processor
    pages: int
    known: dict[int, tuple[float, float]]
    nested: Counted | None = None
    """What was counted over nested tables, once for all rates: nothing exits there, and a walk is a walk."""

    def measure(self, touches: Value) -> Value:
        """Give cycles a touch over shadow and over nested tables, with one update in so many touches."""
        if isinstance(touches, bool) or not isinstance(touches, int) or not 1 <= touches <= LIMIT:
            raise Broken(f"measure was called with {touches!r}; touches are a number from 1 to {LIMIT}")
        if touches not in self.known:
            if len(self.known) == MOST_RUNS:
                raise Broken(
                    f"after {MOST_RUNS} measurements you want another one, of {touches}",
                    hint="halve the range each time, and halve it by its ratio: sqrt(often * seldom)",
                )
            shadow, nested = (self.cycles(touches, way) for way in ("shadow", "nested"))
            self.known[touches] = shadow, nested
        return list(self.known[touches])

    def cycles(self, touches: int, way: str) -> float:
        """Model the cycles a touch over one kind of tables, of what was counted."""
        workload = workload_at(self.pages, touches)
        rounds, counted, lookups = self.count(workload, way)
        return cycles_a_touch(self.processor, workload, rounds, counted, lookups)

    def count(self, workload: Workload, way: str) -> tuple[int, Counted, Lookups]:
        """Count the exits of so many rounds, by the difference of two runs, and the TLB's misses."""
        rounds = max(4, min(32, _TOUCHES // workload.touches))
        before = rounds // 2
        counted = self.nested if way == "nested" else None
        if counted is None:
            counted = self._difference(workload, way, before, rounds)
        if way == "nested":
            self.nested = counted
        levels = self.processor.small
        return rounds, counted, simulate(workload, before, rounds, levels, counted.walk.page_size)

    def _difference(self, workload: Workload, way: str, before: int, rounds: int) -> Counted:
        few, many = (self._run(workload, way, each) for each in (before, before + rounds))
        exits = {
            reason: many.exits.get(reason, 0) - few.exits.get(reason, 0) for reason in ("PF", "INVLPG", "NPF")
        }
        return Counted(exits, many.fills - few.fills, many.writes - few.writes, many.walk)

    def _run(self, workload: Workload, way: str, rounds: int) -> Counted:
        shadow = ShadowPaging() if way == "shadow" else None
        vm = self.trial.vm(
            "sweep", paging=shadow or SmallNestedPaging(), memory=MEMORY, trace="counters",
            append=workload.command_line(rounds),
        )  # fmt: skip
        self.trial.run_ours(vm)
        picks = Picks(workload)
        for _ in picks.rounds(rounds):
            pass
        if f"picked {picks.digest:016x}" not in vm.console.text:
            raise ValueError(f"the model does not follow the guest: {vm.console.text!r}")
        walk = nested_walk(vm, WINDOW) if shadow is None else shadow_walk(vm, shadow, WINDOW)
        fills = shadow.fills - shadow.space.released if shadow else 0
        counted = Counted(by_reason(vm), fills, shadow.space.released if shadow else 0, walk)
        self.trial.vms.remove(vm)
        vm.close()
        return counted


def lab_of(trial: Trial, *, reach: int = 8, factor: float = 1.0) -> Lab:
    """Make a processor by chance. reach: entries of its TLB. factor: what its exits cost of the table's."""
    rng = trial.rng
    old = rng.choice(read_processors())
    cycles = {
        name: replace(old.cycles[name], cycles=round(old.cycles[name].cycles * rng.uniform(1, 1.5), 1))
        for name in FIGURES
    }
    exits = {
        name: replace(each, cycles=round(each.cycles * factor * rng.uniform(0.8, 1.2), 1))
        for name, each in old.generation.hardware.items()
    }
    processor = replace(
        old,
        small=(TlbLevel(reach // 2, 4), TlbLevel(reach, 4, rng.randrange(5, 10))),
        cycles=cycles,
        generation=replace(old.generation, hardware=exits),
    )
    return Lab(trial, processor, rng.randrange(30, 36), {})
