"""Building 4-level tables in the machine's memory, frame by frame."""

from __future__ import annotations

from typing import Final

from vlab.isa.paging import Pte
from vlab.machine.machine import Machine
from vlab.machine.memory import LARGE_PAGE, PAGE

PRESENT, WRITABLE, USER, LARGE = Pte.P.mask, Pte.RW.mask, Pte.US.mask, 1 << 7
_ALL: Final = PRESENT | WRITABLE | USER
_FRAME: Final = Pte.FRAME.mask


class TableTree:
    """A 4-level tree whose tables are host frames. ``root``: host-physical address of the top table.

    use: what the frames are for, as onlookers are told.
    """

    def __init__(self, machine: Machine, use: str = "nested tables") -> None:
        self._machine = machine
        self._use = use
        self._words = machine.memory.bytes.cast("Q")
        self._tables: list[int] = []
        self.root: Final = self.new_table()

    @property
    def table_count(self) -> int:
        """How many frames the tables take."""
        return len(self._tables)

    def new_table(self) -> int:
        """Take a frame for a table and clear it."""
        table = self._machine.frames.allocate(PAGE, use=self._use)
        self._machine.memory.zero(table, PAGE)
        self._tables.append(table)
        return table

    def map(self, address: int, frame: int, flags: int, *, large: bool = False) -> None:
        """Map one page at ``address``; tables on the way are made, with every permission."""
        words, table = self._words, self.root
        for shift in (39, 30) if large else (39, 30, 21):
            place = table + 8 * (address >> shift & 0x1FF) >> 3
            entry = words[place]
            if not entry & PRESENT:
                words[place] = entry = self.new_table() | _ALL
            table = entry & _FRAME
        shift = 21 if large else 12
        words[table + 8 * (address >> shift & 0x1FF) >> 3] = frame | flags | (LARGE if large else 0)

    def map_run(self, address: int, frame: int, size: int, flags: int) -> None:
        """Map ``size`` bytes, in 2 MiB pages where both sides are aligned."""
        end = address + size
        while address < end:
            large = not (address | frame) % LARGE_PAGE and end - address >= LARGE_PAGE
            self.map(address, frame, flags, large=large)
            step = LARGE_PAGE if large else PAGE
            address, frame = address + step, frame + step

    def clear(self) -> None:
        """Unmap everything; all tables but the root go back."""
        for table in self._tables[1:]:
            self._machine.frames.free(table)
        del self._tables[1:]
        self._machine.memory.zero(self.root, PAGE)

    def close(self) -> None:
        """Give all tables back."""
        for table in self._tables:
            self._machine.frames.free(table)
        self._tables.clear()
