"""What is behind guest-physical pages, as shadow entries ready to be narrowed."""

from __future__ import annotations

from array import array
from typing import Final

from vlab.machine.memory import LARGE_PAGE, PAGE
from vlab.vmm.guest_memory import Backing, GuestMemory, Region
from vlab.vmm.paging.shadow.entries import ENTRIES, LARGE, LEAF, NO_EXECUTE, WRITABLE

NOTHING: Final = 0


class PhysicalMap:
    """A guest's physical memory map; ``forget`` what is remembered of it when it changes.

    RAM in one piece is remembered by the 2 MiB, all else page by page.

    ``displacement``: what is added to host-physical addresses in entries (see ``fence``). ``known``: what
    ``memory`` has given, by guest frame number, to be looked at first where every call counts.
    """

    def __init__(self, memory: GuestMemory) -> None:
        self._memory = memory
        self.displacement = 0
        self._pages: dict[int, int] = {}
        self._large: dict[int, int] = {}
        self._parts: dict[int, array[int]] = {}
        self.known: dict[int, int] = {}

    def page(self, gfn: int) -> int:
        """Give the widest entry for the 4 KiB page with guest frame number ``gfn``; NOTHING where none is."""
        number = gfn >> 9
        whole = self._large.get(number) or self.large(number)
        if whole != NOTHING:
            return whole - LARGE + gfn % ENTRIES * PAGE
        entry = self._pages.get(gfn)
        if entry is None:
            entry = self._pages[gfn] = self._find(gfn)
        return entry

    def parts(self, number: int) -> array[int]:
        """Give what ``page`` gives for each 4 KiB page of 2 MiB page ``number``."""
        found = self._parts.get(number)
        if found is None:
            found = self._parts[number] = array("Q", [NOTHING]) * ENTRIES
            first = number * ENTRIES
            for region in self._memory.regions():
                start = max(region.gpa // PAGE, first)
                end = min((region.gpa + region.size) // PAGE, first + ENTRIES)
                if start < end:
                    entry = self._entry(region, start)
                    row = range(entry, entry + (end - start) * PAGE, PAGE)
                    found[start - first : end - first] = array("Q", row)
        return found

    def _find(self, gfn: int) -> int:
        region = self._memory.find(gfn * PAGE)
        return NOTHING if region is None else self._entry(region, gfn)

    def _entry(self, region: Region, gfn: int) -> int:
        entry = region.hpa + gfn * PAGE - region.gpa + self.displacement | LEAF
        if region.backing is Backing.WINDOW:
            return entry | WRITABLE | NO_EXECUTE
        return entry | WRITABLE if region.writable else entry

    def large(self, number: int) -> int:
        """Give the widest entry for 2 MiB page ``number``; NOTHING unless all of it is RAM in one piece."""
        entry = self._large.get(number)
        if entry is None:
            gpa = number * LARGE_PAGE
            region = self._memory.find(gpa)
            entry = NOTHING
            if region is not None and region.backing is Backing.RAM:
                hpa = region.hpa + gpa - region.gpa
                if gpa + LARGE_PAGE <= region.gpa + region.size and not hpa % LARGE_PAGE:
                    entry = hpa + self.displacement | LEAF | LARGE | WRITABLE
            self._large[number] = entry
        return entry

    def memory(self, gfn: int) -> int | None:
        """Give the host-physical address of a page of RAM or firmware; None for anything else."""
        hpa = self.known.get(gfn)
        if hpa is None:
            region = self._memory.find(gfn * PAGE)
            if region is None or region.backing is Backing.WINDOW:
                return None
            hpa = self.known[gfn] = region.hpa + gfn * PAGE - region.gpa
        return hpa

    def forget(self) -> None:
        """Drop what is remembered."""
        self._pages.clear()
        self._large.clear()
        self._parts.clear()
        self.known.clear()
