"""A model of translation lookaside buffers, and of what the guest `sweep` does to one.

The guest's accesses are made again here by the same generator, and a digest of them is compared with the one
that the guest printed: the model follows the run, or there is no result. Only the window of the working set
is modelled. The few pages of code, stack and page tables beside it are the same under every monitor.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from vlab.compare.walk_costs import TlbLevel

_32: Final = (1 << 32) - 1
_64: Final = (1 << 64) - 1


@dataclass(frozen=True, slots=True)
class Lookups:
    """What became of accesses: ``hits`` of each level of the TLB, and ``misses``, which are walks."""

    hits: tuple[int, ...]
    misses: int


class Tlb:
    """Levels of set-associative TLBs with true LRU; a translation that is loaded is put into all of them."""

    def __init__(self, levels: tuple[TlbLevel, ...]) -> None:
        self._levels: list[tuple[list[dict[int, None]], int, int]] = [
            ([{} for _ in range(each.sets)], each.sets, each.ways) for each in levels
        ]

    def look_up(self, page: int) -> int:
        """Make an access to page number ``page``; give the level that had it, or the number of levels."""
        levels, found = self._levels, 0
        for sets, count, _ in levels:
            entries = sets[page % count]
            if page in entries:
                del entries[page]
                entries[page] = None
                break
            found += 1
        for sets, count, ways in levels[:found]:
            entries = sets[page % count]
            if len(entries) == ways:
                del entries[next(iter(entries))]
            entries[page] = None
        return found

    def invalidate(self, page: int) -> None:
        """Forget a page: INVLPG."""
        for sets, count, _ in self._levels:
            sets[page % count].pop(page, None)


@dataclass(frozen=True, slots=True)
class Workload:
    """What `sweep` is told: a working set of ``pages`` of 4 KiB, in rounds of ``touches`` and ``updates``.

    large: the working set is mapped in 2 MiB pages.
    """

    pages: int
    touches: int
    updates: int
    large: bool = False

    def command_line(self, rounds: int) -> str:
        """Give the guest's command line for so many rounds."""
        return (
            f"pages={self.pages} rounds={rounds} touches={self.touches} updates={self.updates} "
            f"large={self.large:d}"
        )

    @property
    def rate(self) -> float:
        """Updates per touch."""
        return self.updates / self.touches


class Picks:
    """The pages that the guest picks (`sweep/main.c`), and ``digest``, which it prints of them."""

    def __init__(self, workload: Workload) -> None:
        self._workload = workload
        self._state = 1
        self.digest = 0

    def rounds(self, count: int) -> Iterator[tuple[int, bool]]:
        """Give (page, whether it is updated) for the next rounds."""
        pages, touches, updates = self._workload.pages, self._workload.touches, self._workload.updates
        kinds = [False] * touches + [True] * updates
        state, digest = self._state, self.digest
        for _ in range(count):
            for update in kinds:
                state = state * 1664525 + 1013904223 & _32
                page = state * pages >> 32
                digest = digest * 31 + page & _64
                yield page, update
        self._state, self.digest = state, digest


def simulate(
    workload: Workload, before: int, rounds: int, levels: tuple[TlbLevel, ...], page_size: int
) -> Lookups:
    """Count what the TLBs answer in ``rounds`` rounds, after a sweep through all pages and ``before`` rounds.

    page_size: bytes that an entry covers, 4096 or 2 MiB. An update invalidates its page.
    """
    shift = page_size.bit_length() - 13
    tlb, picks = Tlb(levels), Picks(workload)
    look_up, bottom = tlb.look_up, len(levels)
    for page in range(workload.pages):
        look_up(page >> shift)
    counts = [0] * (bottom + 1)
    for measured, count in ((False, before), (True, rounds)):
        for page, update in picks.rounds(count):
            if update:
                tlb.invalidate(page >> shift)
            else:
                counts[look_up(page >> shift)] += measured
    return Lookups(tuple(counts[:bottom]), counts[bottom])
