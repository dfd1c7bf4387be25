"""The shape of VMware's evaluation of nested page tables on Nehalem, at laboratory scale.

Bhatia, "Performance Evaluation of Intel EPT Hardware Assist", VMware 2009, compares shadow page tables with
EPT: up to 48 % better on benchmarks that work the MMU hard, up to 600 % on microbenchmarks of it, and a few
workloads slower, which large pages in guest and monitor make good. Here are a microbenchmark of either kind,
and the rates of updates at which the paper's two figures come out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from vlab.compare.crossover import Crossover, find_crossover, workload_at
from vlab.compare.sweep import NESTED, NESTED_SMALL, SHADOW, Point, Sweep
from vlab.compare.tlb import Workload

__all__ = ["FIGURES", "Micro", "Shape", "Timing", "evaluate"]

FIGURES: Final = (1.48, 7.0)
"""The paper's gains as multiples: 48 % and 600 % better."""
IN_REACH, BEYOND = 256, 4096
"""Working sets in pages of 4 KiB: 1 MiB, which the second TLB of every processor holds, and 16 MiB."""


_EXIT_IN_TOUCHES: Final = 50
"""How many touches take as long here as an exit, about."""


@dataclass(frozen=True, slots=True)
class Timing:
    """How long is timed. touches: of each run, about. repeat: how often, for the quickest is taken."""

    touches: int
    repeat: int


@dataclass(frozen=True, slots=True)
class Micro:
    """A microbenchmark: what was counted and modelled. wall: the ratio of the times that it took here.

    ``wall`` is None when a time was too short to be told from the guest's start.
    """

    name: str
    nested: str
    point: Point
    wall: float | None


@dataclass(frozen=True, slots=True)
class Shape:
    """What came out. editing: page tables edited at every touch. missing: no edits, and a TLB that misses.

    ``missing`` begins with small pages everywhere and ends with large ones everywhere; between are large
    pages in the nested tables alone and in the guest alone. figures: the rates at which the paper's gains are
    reached, by processor.
    """

    editing: Micro
    missing: tuple[Micro, ...]
    figures: tuple[Crossover, ...]


def evaluate(sweep: Sweep, scan: tuple[int, ...], timing: Timing) -> Shape:
    """Run the microbenchmarks. scan: touches for each update, rising."""
    rows: Sequence[tuple[str, bool, str]] = (
        ("TLB misses, 4 KiB in guest", False, NESTED_SMALL),
        ("TLB misses, 4 KiB in guest", False, NESTED),
        ("TLB misses, 2 MiB in guest", True, NESTED_SMALL),
        ("TLB misses, 2 MiB in guest", True, NESTED),
    )
    missing = tuple(
        _micro(sweep, name, workload_at(BEYOND, 0, large=large), nested, timing)
        for name, large, nested in rows
    )
    editing = _micro(sweep, "page tables edited", workload_at(IN_REACH, scan[0]), NESTED, timing)
    figures = tuple(
        find_crossover(sweep, IN_REACH, processor.name, scan=scan, gain=gain)
        for processor in sweep.processors
        for gain in FIGURES
    )
    return Shape(editing, missing, figures)


def _micro(sweep: Sweep, name: str, workload: Workload, nested: str, timing: Timing) -> Micro:
    def seconds(way: str) -> float:
        return sweep.seconds(workload, way, _rounds(workload, way, timing), timing.repeat)

    slow, quick = seconds(SHADOW), seconds(nested)
    wall = slow / quick if slow and quick else None
    return Micro(name, nested, sweep.point(workload, nested), wall)


def _rounds(workload: Workload, way: str, timing: Timing) -> int:
    """Give the rounds of a timed run: fewer where each of them has exits."""
    dear = _EXIT_IN_TOUCHES if workload.updates and way == SHADOW else 1
    return max(1, timing.touches // workload.touches // dear)
