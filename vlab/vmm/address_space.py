"""Everything that a guest's page tables map, found by reading each table once.

Neighbouring pages with the same rights, whose frames are neighbours too, make one range. The number of ranges
and of tables is bounded, for a guest may point its tables at each other (AMD APM vol. 2, rev. 3.42, 5.3).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final, NamedTuple

from vlab.isa.page_entries import LegacyPdeLarge, Pte
from vlab.isa.paging_modes import Level, PagingControls, PagingMode
from vlab.vmm.guest_memory import GuestMemory, Region

MOST: Final = 4000
"""Ranges that are given unless more are asked for."""
_MOST_TABLES: Final = 4096

_P, _RW, _US, _A, _D = Pte.P.mask, Pte.RW.mask, Pte.US.mask, Pte.A.mask, Pte.D.mask
_PS, _NX = 1 << 7, Pte.NX.mask
_ADDRESS, _HIGH = Pte.FRAME.mask, LegacyPdeLarge.FRAME_HIGH.mask
_4M: Final = 1 << 22
_SIGN: Final = 0xFFFF << 48

ReadTable = Callable[[int, int], bytes | None]


class MappedRange(NamedTuple):
    """``size`` bytes from ``linear`` on, at ``physical`` and what follows; ``page_size`` in bytes.

    ``dirty``: the D bit of every page is set.
    """

    linear: int
    size: int
    physical: int
    page_size: int
    writable: bool
    user: bool
    executable: bool
    dirty: bool


@dataclass(frozen=True, slots=True)
class AddressSpace:
    """What the tables of one CR3 map, and the guest's physical memory map.

    ``ranges``: lowest linear address first; ``complete``: they are all. ``tables``: how many tables were
    read. ``regions``: the guest-physical memory map; ``ram``: host-physical address of its first byte.
    """

    mode: PagingMode
    root: int
    ranges: tuple[MappedRange, ...]
    complete: bool
    tables: int
    regions: tuple[Region, ...]
    ram: int


class _Cut(Exception):
    """The bound is reached."""


def map_space(
    controls: PagingControls,
    read: ReadTable,
    physical: Callable[[int], int],
    memory: GuestMemory,
    most: int = MOST,
) -> AddressSpace:
    """Walk all tables that ``controls`` lead to.

    read: gives ``size`` bytes of a table at an address out of the tables, None where no memory is. physical:
    makes a guest-physical address of such an address. most: the most ranges.
    """
    finder = _Finder(controls, read)
    ranges: list[MappedRange] = []
    complete = True
    if controls.mode is PagingMode.NONE:
        ranges.append(MappedRange(0, memory.size, 0, 4096, True, True, True, False))
    else:
        try:
            for page in finder.pages(controls.plan.levels, controls.plan.top, 0, _RW | _US, 0):
                found = page._replace(physical=physical(page.physical))
                if ranges and _continues(ranges[-1], found):
                    ranges[-1] = ranges[-1]._replace(size=ranges[-1].size + found.size)
                elif len(ranges) == most:
                    raise _Cut
                else:
                    ranges.append(found)
        except _Cut:
            complete = False
    regions = tuple(memory.regions())
    return AddressSpace(
        controls.mode, controls.plan.top, tuple(ranges), complete, finder.tables, regions, memory.hpa
    )


def _continues(run: MappedRange, page: MappedRange) -> bool:
    return (
        run.linear + run.size == page.linear
        and run.physical + run.size == page.physical
        and run[3:] == page[3:]
    )


class _Finder:
    """Reads tables. ``tables``: how many it has read."""

    def __init__(self, controls: PagingControls, read: ReadTable) -> None:
        self._long = controls.mode is PagingMode.LONG
        self._nxe = controls.nxe and controls.mode is not PagingMode.LEGACY
        self._entry_size = controls.plan.entry_size
        self._read = read
        self.tables = 0

    def pages(
        self, levels: tuple[Level, ...], table: int, linear: int, allowed: int, nx: int
    ) -> Iterator[MappedRange]:
        """Give the runs of pages below one table.

        linear: where it begins, without the copies of bit 47. allowed, nx: what the entries on the way there
        leave and forbid.
        """
        level, below = levels[0], levels[1:]
        if self.tables == _MOST_TABLES:
            raise _Cut
        self.tables += 1
        content = self._read(table, (level.index_mask + 1) * self._entry_size)
        if content is None:
            return
        words = memoryview(content).cast("Q" if self._entry_size == 8 else "I")
        run: MappedRange | None = None
        first, after, expected, size = 0, -1, 0, 1 << level.shift
        for index, entry in enumerate(words):
            if not entry & _P:
                continue
            if run is not None:
                if index == after and entry & ~_A == expected:  # the next page of the same run
                    after, expected = after + 1, expected + size
                    continue
                yield run._replace(size=(after - first) * size)
                run = None
            large = level.large is not None and bool(entry & _PS)
            if entry & (level.large_zero if large else level.zero):
                continue  # a reserved bit: any access faults
            here = linear | index << level.shift
            rights, forbidden = allowed & (entry | level.grants), nx | entry & _NX
            if below and not large:
                yield from self.pages(below, entry & _ADDRESS, here, rights, forbidden)
            else:
                run = self._page(here, entry, size, rights, forbidden)
                first, after, expected = index, index + 1, (entry & ~_A) + size
        if run is not None:
            yield run._replace(size=(after - first) * size)

    def _page(self, linear: int, entry: int, size: int, rights: int, forbidden: int) -> MappedRange:
        frame = entry & _ADDRESS & -size
        if size == _4M:
            frame = (entry & _ADDRESS | (entry & _HIGH) << 19) & -size  # APM2 5.2.2
        return MappedRange(
            linear | _SIGN if self._long and linear >> 47 else linear,
            size,
            frame,
            size,
            bool(rights & _RW),
            bool(rights & _US),
            not (self._nxe and forbidden),
            bool(entry & _D),
        )
