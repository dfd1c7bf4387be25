"""A look at the student's nested tables before the processor may use them."""

from __future__ import annotations

from typing import Final

from guests_08 import FRAME, SHIFTS

from vlab.grading.exercise import Broken
from vlab.guests.probes import NX, PS, RW, US, P
from vlab.machine.machine import Machine
from vlab.vmm.guest_memory import Region

_IGNORED: Final = 1 << 5 | 1 << 6
"""Accessed and dirty: the processor sets them itself."""


class Audit:
    """A look at all that nested tables can lead to. Raises Broken for what no guest may have."""

    def __init__(self, machine: Machine, regions: list[Region], tables: set[int]) -> None:
        self._words = machine.memory.bytes.cast("Q")
        self._regions, self._tables = regions, tables
        self._seen: set[tuple[int, int]] = set()

    def table(self, table: int, level: int, base: int) -> None:
        """Look at a table of a level and at all below it. base: the guest-physical address of entry 0."""
        if (table, level) in self._seen:
            return
        self._seen.add((table, level))
        for index in range(512):
            entry = self._words[(table >> 3) + index] & ~_IGNORED
            if entry & P:
                self._entry(entry, level, base + (index << SHIFTS[level]))

    def _entry(self, entry: int, level: int, gpa: int) -> None:
        where = f"the level {level} entry for guest-physical {gpa:#x} is {entry:#x}"
        if entry & NX or entry & ~(FRAME | P | RW | US | PS | 0xE18) or (level > 2 and entry & PS):
            raise Broken(f"{where}: only P, R/W, U/S, at level 2 PS, and the frame may be set in it here")
        if level > 1 and not entry & PS:
            if entry & FRAME not in self._tables:
                raise Broken(f"{where}, and there is no table of yours", hint="tables.new() gives addresses")
            self.table(entry & FRAME, level - 1, gpa)
            return
        size, frame = 1 << SHIFTS[level], entry & FRAME
        if level == 1 and entry & PS:
            raise Broken(f"{where}: bit 7 is PS at level 2 alone")
        if frame % size:
            raise Broken(
                f"{where}: a page of 2 MiB begins at a multiple of 2 MiB", hint="where may PS be set?"
            )
        if not any(each.hpa <= frame and frame + size <= each.hpa + each.size for each in self._regions):
            raise Broken(
                f"{where}: it gives the guest {size >> 10} KiB of host memory from {frame:#x} on that are "
                f"not its own",
                hint=(
                    "hpa - gpa is another distance in each region, and a page must not reach beyond its "
                    "region"
                ),
            )
