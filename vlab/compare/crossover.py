"""Where nested page tables begin to win: the rate of page-table updates, for a working set and a processor.

Cycles a touch grow with the rate of updates in a straight line, nearly: steeply over shadow tables, where
each update is an exit or two, and hardly over nested ones, which begin higher where the TLB misses. So there
is one rate at which the shadow takes a given multiple of the cycles of nested tables. With the multiple 1 it
is the crossover. It is enclosed by runs, more closely by bisection with further runs, and interpolated at
the end.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

from vlab.compare.sweep import NESTED_SMALL, Point, Sweep
from vlab.compare.tlb import Workload

__all__ = ["Crossover", "find_crossover", "workload_at"]

_QUIET: Final = 1024
"""Touches in a round without updates."""
_TIE: Final = 0.99


@dataclass(frozen=True, slots=True)
class Crossover:
    """The rate at which a gain is reached.

    gain: cycles over shadow tables, as a multiple of those over nested ones. rate: updates a touch, 0 when
    every rate gives that gain, None when none of those that were tried does. least, most: the rates of the
    runs that enclose it.
    """

    pages: int
    processor: str
    gain: float
    rate: float | None
    least: float = 0.0
    most: float = 0.0

    @property
    def touches(self) -> float:
        """Touches for each update; infinite when there need be no updates at all."""
        return math.inf if not self.rate else 1 / self.rate


def workload_at(pages: int, touches: int, *, large: bool = False) -> Workload:
    """Give the workload with one update in so many touches; without any for 0."""
    return Workload(pages, touches or _QUIET, int(touches > 0), large)


def find_crossover(
    sweep: Sweep,
    pages: int,
    processor: str,
    *,
    scan: tuple[int, ...],
    closer: float = math.inf,
    gain: float = 1.0,
    nested: str = NESTED_SMALL,
) -> Crossover:
    """Find the rate at which the shadow takes ``gain`` times the cycles of nested tables.

    scan: touches for each update to begin with, rising. closer: the ratio of the enclosing rates at which
    bisection ends.
    """

    def point(touches: int) -> Point:
        return sweep.point(workload_at(pages, touches), nested)

    def reached(at: Point) -> bool:
        return at.gain(processor) >= gain

    quiet = point(0)
    if quiet.gain(processor) >= gain * _TIE:
        return Crossover(pages, processor, gain, 0.0)
    if not reached(point(scan[0])):
        return Crossover(pages, processor, gain, None)
    often = max(touches for touches in scan if reached(point(touches)))
    seldom = min((touches for touches in scan if touches > often), default=0)
    while seldom and seldom / often > closer and seldom > often + 1:
        middle = min(max(round(math.sqrt(often * seldom)), often + 1), seldom - 1)
        if reached(point(middle)):
            often = middle
        else:
            seldom = middle
    return _between(pages, processor, gain, point(seldom), point(often))


def _between(pages: int, processor: str, gain: float, below: Point, above: Point) -> Crossover:
    """Interpolate between a run that does not reach the gain and one that does."""

    def excess(at: Point) -> float:
        shadow, nested = at.cycles[processor]
        return shadow - gain * nested

    least, most = below.workload.rate, above.workload.rate
    part = excess(below) / (excess(below) - excess(above))
    return Crossover(pages, processor, gain, least + part * (most - least), least, most)
