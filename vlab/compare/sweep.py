"""Shadow against nested page tables: one guest under both, its exits counted and its cycles modelled.

The guest `sweep` touches a working set and edits the page tables behind it. Each workload runs twice under
each way, for fewer and for more rounds, and only the difference counts, so the guest's start cancels.
Counted from the runs are the exits, the shadow's fills, and the memory references of a walk; from a model
that follows the guest's accesses, TLB misses (``tlb``). The rest are costs out of two tables:

    touches x touch + updates x update + TLB hits behind the first level x hit
    + walks x (last references x last_reference + upper references x upper_reference)
    + exits x (way to the monitor and back + its work)

A walk is made at each TLB miss, and once more where it ended in a fault that the monitor answers with a fill.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from vlab.compare.tlb import Lookups, Picks, Workload, simulate
from vlab.compare.walk_costs import Processor
from vlab.compare.walk_counts import (
    SmallNestedPaging,
    WalkCount,
    nested_walk,
    shadow_walk,
    shadowed_address,
)
from vlab.errors import VlabError
from vlab.session import VM
from vlab.vmm.paging.nested import NestedPaging
from vlab.vmm.paging.shadow import ShadowPaging

__all__ = ["NESTED", "NESTED_SMALL", "SHADOW", "WINDOW", "Counted", "Disagreement", "Point", "Sweep"]

SHADOW: Final = "shadow"
NESTED: Final = "nested, 2 MiB"
NESTED_SMALL: Final = "nested, 4 KiB"
"""The ways, nested ones by the largest pages in the nested tables."""
WINDOW: Final = 0xFFFF_8000_0000_0000
"""The linear address of the guest's working set."""

MEMORY: Final = "64M"
PATIENCE: Final = 60.0
"""Seconds of wall time that no run comes near."""
FEWEST, MOST = 4, 1024
"""Rounds with updates that are measured: so many that chance evens out, and not more than a run is worth."""
_PAGING_EXITS: Final = ("PF", "INVLPG", "CR", "NPF")
_DIGESTS: Final = re.compile(r"picked ([0-9a-f]{16}), contents ([0-9a-f]{16})")
_TRANSLATIONS: Final = 16
"""How many pages' translations are compared after each run."""


class Disagreement(VlabError):
    """Two runs of the same workload came to different results, or the model does not follow the guest."""


@dataclass(frozen=True, slots=True)
class Counted:
    """What one way took for the measured rounds of a workload.

    exits: those that concern memory, by reason. fills: page faults that a shadow entry answered. writes:
    those that were writes to a protected page table. walk: a walk through the tables as they were at the end.
    """

    exits: Mapping[str, int]
    fills: int
    writes: int
    walk: WalkCount


@dataclass(frozen=True, slots=True)
class Point:
    """One workload over shadow and over nested tables. cycles: (shadow, nested) a touch, by processor."""

    workload: Workload
    rounds: int
    shadow: Counted
    nested: Counted
    lookups: Mapping[str, Lookups]
    cycles: Mapping[str, tuple[float, float]]

    def gain(self, processor: str) -> float:
        """Give how many times the cycles of nested tables the shadow takes: above 1 nested wins."""
        shadow, nested = self.cycles[processor]
        return shadow / nested

    def miss_ratio(self, processor: str) -> float:
        """Give the part of the touches that miss the TLBs, over nested tables."""
        return self.lookups[processor].misses / (self.rounds * self.workload.touches)


@dataclass(frozen=True, slots=True)
class _Run:
    """One run of the guest: what was counted up to its end."""

    exits: Mapping[str, int]
    fills: int
    writes: int
    walk: WalkCount
    picked: int
    contents: int
    seconds: float


@dataclass(slots=True)
class Sweep:
    """Runs workloads and remembers them. touches: how many of each are measured, about.

    say: is told what runs now. ``runs``: how often the guest was started.
    """

    processors: Sequence[Processor]
    touches: int = 8192
    say: Callable[[str], None] = lambda _text: None
    runs: int = 0
    _points: dict[tuple[Workload, str], Point] = field(default_factory=dict)
    _counted: dict[tuple[Workload, str], Counted] = field(default_factory=dict)
    _contents: dict[Workload, int] = field(default_factory=dict)

    def point(self, workload: Workload, nested: str = NESTED_SMALL) -> Point:
        """Measure a workload over shadow tables and over nested ones. Raises Disagreement."""
        key = workload, nested
        if key not in self._points:
            self._points[key] = self._measure(workload, nested)
        return self._points[key]

    def rounds(self, workload: Workload) -> tuple[int, int]:
        """Give how many rounds come before the measured ones, and how many are measured."""
        measured = max(1, -(-self.touches // workload.touches))
        if workload.updates:
            measured = min(max(measured, FEWEST), MOST)
        return -(-measured // 2), measured

    def seconds(self, workload: Workload, way: str, rounds: int, repeat: int) -> float:
        """Give the processor time that a round takes here, this monitor's Python included.

        It is the difference of runs with and without so many rounds, of each the quickest of ``repeat``.
        """
        short, long = (
            min(self._run(workload, way, count).seconds for _ in range(repeat)) for count in (1, rounds + 1)
        )
        return max(long - short, 0.0) / rounds

    def _measure(self, workload: Workload, nested_way: str) -> Point:
        _, rounds = self.rounds(workload)
        shadow, nested = self._count(workload, SHADOW), self._count(workload, nested_way)
        lookups, cycles = {}, {}
        for processor in self.processors:
            misses = self._look_up(processor, workload, nested.walk.page_size)
            shadow_misses = misses
            if shadow.walk.page_size != nested.walk.page_size:
                shadow_misses = self._look_up(processor, workload, shadow.walk.page_size)
            lookups[processor.name] = misses
            cycles[processor.name] = (
                cycles_a_touch(processor, workload, rounds, shadow, shadow_misses),
                cycles_a_touch(processor, workload, rounds, nested, misses),
            )
        return Point(workload, rounds, shadow, nested, lookups, cycles)

    def _look_up(self, processor: Processor, workload: Workload, page_size: int) -> Lookups:
        before, rounds = self.rounds(workload)
        return simulate(workload, before, rounds, processor.tlb(page_size), page_size)

    def _count(self, workload: Workload, way: str) -> Counted:
        """Run for fewer and for more rounds, and give the difference."""
        key = workload, way
        if key not in self._counted:
            before, rounds = self.rounds(workload)
            short = self._run(workload, way, before)
            long = self._run(workload, way, before + rounds)
            self._check(workload, way, before + rounds, long)
            self._counted[key] = Counted(
                {reason: long.exits[reason] - short.exits[reason] for reason in _PAGING_EXITS},
                long.fills - short.fills,
                long.writes - short.writes,
                long.walk,
            )
        return self._counted[key]

    def _check(self, workload: Workload, way: str, rounds: int, run: _Run) -> None:
        """The model must have picked the same pages, and every way must leave the same contents."""
        picks = Picks(workload)
        for _ in picks.rounds(rounds):
            pass
        if picks.digest != run.picked:
            raise Disagreement(f"sweep: the model picked other pages than the guest did: {workload}")
        if self._contents.setdefault(workload, run.contents) != run.contents:
            raise Disagreement(f"sweep: the pages are not the same over {way} tables: {workload}")

    def _run(self, workload: Workload, way: str, rounds: int) -> _Run:
        self.runs += 1
        self.say(f"{workload.command_line(rounds)}, {way}")
        shadow = ShadowPaging() if way == SHADOW else None
        paging = shadow or (NestedPaging() if way == NESTED else SmallNestedPaging())
        with VM("sweep", paging=paging, memory=MEMORY, append=workload.command_line(rounds)) as vm:
            began = time.process_time()
            stop = vm.run(timeout=PATIENCE)
            seconds = time.process_time() - began
            digests = _DIGESTS.search(vm.console.text)
            if stop.exit_code != 0 or digests is None:
                raise Disagreement(f"sweep: the guest did not finish: {stop.headline}")
            exits = {reason: int(count) for reason, count in vm.exits.by_reason().items()}
            return _Run(
                {reason: exits.get(reason, 0) for reason in _PAGING_EXITS},
                shadow.fills - shadow.space.released if shadow else 0,
                shadow.space.released if shadow else 0,
                nested_walk(vm, WINDOW) if shadow is None else _walk_in_step(vm, shadow, workload),
                int(digests[1], 16),
                int(digests[2], 16),
                seconds,
            )


def _walk_in_step(vm: VM, shadow: ShadowPaging, workload: Workload) -> WalkCount:
    """Count a walk through the shadow, which must lead some of the pages to where the guest's tables do."""
    step = max(1, workload.pages // _TRANSLATIONS)
    for page in range(0, workload.pages, step):
        linear = WINDOW + (page << 12)
        if shadowed_address(vm, shadow, linear) != vm.walk(linear).host:
            raise Disagreement(f"sweep: the shadow of {linear:#x} is not what the guest's tables say")
    return shadow_walk(vm, shadow, WINDOW)


def cycles_a_touch(
    processor: Processor, workload: Workload, rounds: int, counted: Counted, lookups: Lookups
) -> float:
    """Model the cycles that a workload takes on a processor, a touch; see the head of the module."""
    cost = {name: figure.cycles for name, figure in processor.cycles.items()}
    walk = counted.walk
    a_walk = walk.last * cost["last_reference"] + walk.upper * cost["upper_reference"]
    levels = processor.tlb(walk.page_size)
    total = rounds * (workload.touches * cost["touch"] + workload.updates * cost["update"])
    total += sum(hits * level.hit for hits, level in zip(lookups.hits, levels, strict=True))
    total += (lookups.misses + counted.fills) * a_walk
    total += sum(count * processor.exit_cycles(reason) for reason, count in counted.exits.items())
    return total / (rounds * workload.touches)
