"""Exits in figures, fast: a million of them counted by reason and by time, for as many bins as a chart has.

Times are virtual nanoseconds. Nothing here knows of a browser.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final
from weakref import WeakKeyDictionary

import numpy as np
import numpy.typing as npt

from vlab.trace.events import MODES
from vlab.trace.exits import Exits
from vlab.trace.storage import exits_of, name_of
from vlab.vmm.exits import REASONS, describe
from vlab.widgets.units import milliseconds

if TYPE_CHECKING:
    from vlab.trace.storage import Rows, Source

OTHERS: Final = "others"
"""The lane of all reasons that have none of their own."""
LANES: Final = 9
MOST_BARS: Final = 10
"""The reasons that charts of bars show."""

COLUMNS: Final = ("number", "time", "reason", "what", "rip", "mode", "ring", "handled by", "handler time")
"""What the table of exits has."""


@dataclass(frozen=True, slots=True)
class Span:
    """A stretch of virtual time, in ns: from ``start`` to before ``end``."""

    start: int
    end: int

    @classmethod
    def of_milliseconds(cls, start: float, end: float) -> Span:
        """Make one of times in ms, at least 1 ns long."""
        first = round(start * 1e6)
        return cls(first, max(round(end * 1e6), first + 1))

    @property
    def length(self) -> int:
        """How long it is."""
        return self.end - self.start

    def within(self, all_: Span, least: int) -> Span:
        """Move it into another span, and make it at least so long but no longer than that."""
        length = min(max(self.length, least), all_.length)
        start = min(max(self.start, all_.start), all_.end - length)
        return Span(start, start + length)


@dataclass(frozen=True, slots=True)
class Tally:
    """Exits of one reason: how many, and the wall time of their handlers in ns."""

    reason: str
    count: int
    handler_ns: int


@dataclass(frozen=True, slots=True)
class Kept:
    """The exits of a trace that have a record, oldest first. time, reason, duration: columns of ``table``."""

    table: Rows
    time: npt.NDArray[np.uint64]
    reason: npt.NDArray[np.uint16]
    duration: npt.NDArray[np.uint32]
    reasons: tuple[str, ...]
    handlers: tuple[str, ...]

    @classmethod
    def of(cls, source: Source) -> Kept:
        """Take them out of a recorder, which may go on meanwhile, or a stored trace."""
        table = exits_of(source.rows())
        time = np.ascontiguousarray(table["time"])
        if len(time) and bool((time[1:] < time[:-1]).any()):  # several processors
            table = table[np.argsort(time, kind="stable")]
            time = np.ascontiguousarray(table["time"])
        reason, duration = (np.ascontiguousarray(table[name]) for name in ("reason", "duration"))
        return cls(table, time, reason, duration, tuple(source.reasons), tuple(source.handlers))

    def __len__(self) -> int:
        """Count them."""
        return len(self.time)

    @property
    def span(self) -> Span:
        """All of their time; a microsecond when there are none."""
        if not len(self.time):
            return Span(0, 1_000)
        return Span(int(self.time[0]), int(self.time[-1]) + 1)

    def rows(self, span: Span) -> tuple[int, int]:
        """Give the first row in a span, and the one behind its last."""
        ends = np.array([max(span.start, 0), max(span.end, 0)], np.uint64)
        first, last = np.searchsorted(self.time, ends)
        return int(first), int(last)

    def tallies(self, span: Span) -> list[Tally]:
        """Count the exits in a span by reason, the most frequent first."""
        first, last = self.rows(span)
        codes = self.reason[first:last]
        counts = np.bincount(codes, minlength=len(self.reasons))
        took = np.bincount(codes, self.duration[first:last], len(self.reasons))
        found = [
            Tally(name_of(self.reasons, code), int(counts[code]), int(took[code]))
            for code in np.flatnonzero(counts).tolist()
        ]
        return ranked(found)

    def lanes(self) -> tuple[str, ...]:
        """Name the reasons in the trace, the most frequent first; the rarest share a lane where many are."""
        names = [each.reason for each in self.tallies(self.span)]
        return (*names[: LANES - 1], OTHERS) if len(names) > LANES else tuple(names)

    def timeline(self, span: Span, lanes: Sequence[str], bins: int) -> npt.NDArray[np.int64]:
        """Count the exits in each of ``bins`` equal parts of a span, a row for each lane."""
        places = {name: place for place, name in enumerate(lanes)}
        other = places.get(OTHERS, 0)
        size = max(int(self.reason.max()) + 1 if len(self.reason) else 0, len(self.reasons))
        lane = np.array([places.get(name_of(self.reasons, code), other) for code in range(size)], np.int64)
        first, last = self.rows(span)
        since = (self.time[first:last] - np.uint64(max(span.start, 0))).astype(np.float64)
        part = np.minimum((since * (bins / span.length)).astype(np.int64), bins - 1)
        keys = lane[self.reason[first:last]] * bins + part
        return np.bincount(keys, minlength=len(lanes) * bins).reshape(len(lanes), bins)

    def page(self, first: int, last: int) -> list[list[str]]:
        """Tell rows ``first`` to before ``last``, as COLUMNS says."""
        return [self._row(number) for number in range(first, min(last, len(self)))]

    def _row(self, number: int) -> list[str]:
        row = self.table[number]
        reason, took = name_of(self.reasons, int(row["reason"])), int(row["duration"])
        return [
            f"{number + 1:,}",
            milliseconds(int(row["time"]), 6),
            reason,
            _qualification(reason, int(row["info1"]), int(row["info2"])),
            f"{int(row['rip']):#x}",
            MODES[int(row["mode"])].value,
            f"{int(row['ring'])}",
            name_of(self.handlers, int(row["handler"])),
            f"{took / 1e3:,.1f} µs" if took else "not measured",
        ]


_shared: WeakKeyDictionary[Exits, tuple[tuple[int, int], Kept]] = WeakKeyDictionary()


def kept(exits: Exits) -> Kept:
    """Take the exits out, once for all views of them: a notebook keeps every view, and a trace is large."""
    version = exits.source.version
    found = _shared.get(exits)
    if found is None or found[0] != version:
        found = _shared[exits] = version, Kept.of(exits.source)
    return found[1]


def ranked(tallies: Sequence[Tally]) -> list[Tally]:
    """Put the most frequent first."""
    return sorted(tallies, key=lambda each: (-each.count, each.reason))


def counted(source: Source) -> list[Tally]:
    """Give the counts of all exits, kept or not; their handlers' time is not known."""
    pairs = zip(tuple(source.reasons), tuple(source.counts), strict=True)
    return ranked([Tally(name, count, 0) for name, count in pairs if count])


def heights(counts: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
    """Give each count's height, 0 to 1, by the logarithm of one more: a lone exit can be seen, too."""
    most = float(np.log1p(counts.max(initial=0)))
    return (np.log1p(counts) / (most or 1.0)).astype(np.float32)


def _qualification(reason: str, info1: int, info2: int) -> str:
    if reason in REASONS:
        with suppress(ValueError):  # the record of another version, or a damaged one
            return ", ".join(f"{name} {value}" for name, value in describe(reason, info1, info2).items())
    return f"{info1:#x}, {info2:#x}"
