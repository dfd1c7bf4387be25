"""The whole comparison of shadow and nested page tables, and what must be true of it.

``measure`` sweeps working sets and update rates, finds the crossovers and runs the microbenchmarks; the
result's ``conclusions`` say of each expected shape whether it came out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

from vlab.compare.crossover import Crossover, find_crossover, workload_at
from vlab.compare.ept_shape import FIGURES, Shape, Timing, evaluate
from vlab.compare.sweep import NESTED, Point, Sweep
from vlab.compare.walk_costs import Processor
from vlab.compare.walk_counts import expected

__all__ = ["FULL", "QUICK", "Conclusion", "Extent", "Report", "measure"]

MISSES: Final = 0.25
"""The part of the touches from which on a working set counts as missing the TLB; below FITS it fits."""
FITS: Final = 0.001
TIE: Final = 0.01
"""Gains that differ from 1 by so little are no difference."""
_NEARLY: Final = 0.9
"""How far a crossover may lie below that of a smaller working set, for they are found by runs with chance."""


@dataclass(frozen=True, slots=True)
class Extent:
    """How much is measured. pages: working sets. scan: touches for each update, rising.

    closer: the ratio of rates between which a crossover is enclosed. touches: those measured of a workload.
    timing: how long the microbenchmarks are timed.
    """

    pages: tuple[int, ...]
    scan: tuple[int, ...]
    closer: float
    touches: int
    timing: Timing


_PAGES: Final = (64, 256, 512, 1024, 2048, 4096)
FULL: Final = Extent(_PAGES, (1, 4, 16, 64, 256, 1024), 1.25, 8192, Timing(500_000, 3))
QUICK: Final = Extent((256, 4096), (1, 16, 256), 20.0, 4096, Timing(100_000, 1))


@dataclass(frozen=True, slots=True)
class Conclusion:
    """A shape that is expected, in words with the figures that were found, and whether it is there."""

    text: str
    holds: bool


@dataclass(frozen=True, slots=True)
class Report:
    """All that was measured.

    grid: a row for each working set, with a point for each rate of ``extent.scan`` and one without updates
    at its end. crossovers, crossovers_large: with 4 KiB and with 2 MiB pages in the nested tables, the
    second for the first processor alone.
    """

    extent: Extent
    processors: Sequence[Processor]
    grid: tuple[tuple[Point, ...], ...]
    crossovers: tuple[Crossover, ...]
    crossovers_large: tuple[Crossover, ...]
    shape: Shape
    runs: int

    @property
    def holds(self) -> bool:
        """Whether every expected shape is there."""
        return all(conclusion.holds for conclusion in self.conclusions())

    def conclusions(self) -> list[Conclusion]:
        """Judge the expected shapes."""
        return [*_walks(self.shape), *self._rates(), *self._lines(), *self._paper()]

    def _cases(self, column: int) -> Iterator[tuple[Processor, Point]]:
        for row in self.grid:
            for processor in self.processors:
                yield processor, row[column]

    def _rates(self) -> Iterator[Conclusion]:
        quiet = [(at.miss_ratio(each.name), at.gain(each.name)) for each, at in self._cases(-1)]
        missing = [1 / gain for misses, gain in quiet if misses >= MISSES]
        fitting = [abs(gain - 1) for misses, gain in quiet if misses <= FITS]
        yield Conclusion(
            f"Without updates, where the TLB misses, shadow tables win: {_span(missing)} times faster.",
            bool(missing) and min(missing) > 1 + TIE,
        )
        yield Conclusion(
            "Without updates, where the TLB holds the working set, there is no difference.",
            bool(fitting) and max(fitting) <= TIE,
        )
        busy = [at.gain(each.name) for each, at in self._cases(0)]
        yield Conclusion(
            f"With an update for {_touches(self.extent.scan[0])}, nested tables win for every working set: "
            f"{_span(busy)} times faster.",
            min(busy) > 1 + TIE,
        )

    def _lines(self) -> Iterator[Conclusion]:
        rising = True
        for processor in self.processors:
            rates = [each.rate for each in self.crossovers if each.processor == processor.name]
            found = [rate for rate in rates if rate is not None]
            rising &= len(found) == len(rates) and all(a * _NEARLY <= b for a, b in pairwise(found))
        yield Conclusion(
            "The more a working set misses the TLB, the more updates it takes for nested tables to win.",
            rising,
        )
        small = {each.pages: each.rate for each in self.crossovers if each.processor == self._first}
        both = [(small[each.pages], each.rate) for each in self.crossovers_large]
        moved = [(four, two) for four, two in both if four and two is not None]
        yield Conclusion(
            "With 2 MiB pages in the nested tables fewer updates are enough.",
            bool(moved) and all(two < four for four, two in moved),
        )

    @property
    def _first(self) -> str:
        return self.processors[0].name

    def _paper(self) -> Iterator[Conclusion]:
        small, nested_large, _, large = (
            [micro.point.gain(each.name) for each in self.processors] for micro in self.shape.missing
        )
        costs = [_span([1 / gain for gain in gains]) for gains in (small, nested_large, large)]
        yield Conclusion(
            f"Large pages take the cost of nested tables away: where the TLB misses they take {costs[0]} "
            f"times the cycles with small pages, {costs[1]} with large ones in the nested tables, {costs[2]} "
            "in both.",
            all(a < b for a, b in zip(small, nested_large, strict=True))
            and all(abs(gain - 1) <= 2 * TIE for gain in large),
        )
        names = {each.name for each in self.processors}
        for gain in FIGURES:
            at = [each for each in self.shape.figures if each.gain == gain and each.processor in names]
            text = ", ".join(f"{each.touches:.0f} ({each.processor})" for each in at if each.rate) or "none"
            yield Conclusion(
                f"A gain of {gain - 1:.0%}, as in Bhatia (2009), takes an update in so many touches: {text}.",
                all(each.rate for each in at),
            )


def _walks(shape: Shape) -> Iterator[Conclusion]:
    levels = ((4, 4), (4, 3), (3, 4), (3, 3))
    counted = [micro.point.nested.walk.references for micro in shape.missing]
    shadow = [micro.point.shadow.walk.references for micro in shape.missing]
    four, nested_large, guest_large, three = counted
    yield Conclusion(
        f"A walk reads {shadow[0]} entries over shadow tables and {four} over nested ones; "
        f"with 2 MiB pages in the nested tables {nested_large}, in the guest {guest_large}, in both {three} "
        f"(shadow {shadow[-1]}).",
        counted == [expected(*each) for each in levels] and shadow == [expected(each[0]) for each in levels],
    )


def _span(values: Sequence[float]) -> str:
    if not values:
        return "never"
    low, high = f"{min(values):.2f}", f"{max(values):.2f}"
    return low if low == high else f"{low} to {high}"


def _touches(count: int) -> str:
    return "every touch" if count == 1 else f"{count:,} touches"


def measure(
    processors: Sequence[Processor], extent: Extent = FULL, say: Callable[[str], None] = lambda _text: None
) -> Report:
    """Measure it all. say: is told what runs now. Raises Disagreement when runs that must agree do not."""
    sweep = Sweep(processors, extent.touches, say)
    rates = (*extent.scan, 0)
    grid = tuple(
        tuple(sweep.point(workload_at(pages, touches)) for touches in rates) for pages in extent.pages
    )
    crossovers = tuple(
        find_crossover(sweep, pages, processor.name, scan=extent.scan, closer=extent.closer)
        for processor in processors
        for pages in extent.pages
    )
    largest = extent.pages[-1:]
    crossovers_large = tuple(
        find_crossover(
            sweep, pages, processors[0].name, scan=extent.scan, closer=extent.closer, nested=NESTED
        )
        for pages in largest
    )
    shape = evaluate(sweep, extent.scan, extent.timing)
    return Report(extent, processors, grid, crossovers, crossovers_large, shape, sweep.runs)
