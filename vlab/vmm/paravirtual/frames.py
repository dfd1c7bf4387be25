"""What each frame of the guest is used for, and whether a change of its page tables is in order.

This is where a guest is not believed. The processor walks the guest's own tables, so whatever is in them
holds; therefore nothing gets into them that has not been checked here. A frame has one use at a time, and
for each frame it is known how many entries of tables in use map it writable: a table has none.

The rules are those of ``hypercall.h``, "VALIDATION"; entries are those of APM2 5.2.2 (AMD APM vol. 2,
rev. 3.44).
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable, Sequence
from enum import IntEnum
from typing import Final

from vlab.errors import UnusableInput
from vlab.isa.page_entries import LegacyPte
from vlab.machine.memory import PAGE, PhysicalMemory
from vlab.vmm.paravirtual.area import FIRST_ENTRY, MonitorArea
from vlab.vmm.paravirtual.interface import KERNEL_BASE

_P, _W, _US = LegacyPte.P.mask, LegacyPte.RW.mask, LegacyPte.US.mask
_FORBIDDEN: Final = LegacyPte.PWT.mask | LegacyPte.PCD.mask | LegacyPte.PAT.mask | LegacyPte.G.mask
_DIRECTORY_FORBIDDEN: Final = LegacyPte.PWT.mask | LegacyPte.PCD.mask | 1 << 7  # PS: a page of 4 MB
_MARKS: Final = LegacyPte.A.mask | LegacyPte.D.mask
_FRAME: Final = LegacyPte.FRAME.mask
_FIRST_KERNEL: Final = KERNEL_BASE >> 22
_ENTRIES: Final = PAGE // 4


class Use(IntEnum):
    """The use of a frame. A frame that is PLAIN may be mapped writable."""

    PLAIN = 0
    TABLE = 1
    DIRECTORY = 2


class Frames:
    """The frames of one guest, ``size`` bytes from host-physical ``base``.

    ``stale``: the processor may still remember a mapping that is gone. Before a frame becomes a table that
    must be over, or the guest could write to it by what is remembered; ``flush()`` is called then.
    """

    def __init__(self, memory: PhysicalMemory, base: int, size: int, area: MonitorArea) -> None:
        self._words = memory.bytes[base : base + size].cast("I")
        self._base, self._end = base, base + size
        self._area = area
        self._kernel: Sequence[int] = ()
        self._kernel_tables: frozenset[int] = frozenset()
        self.stale = False
        self.flush: Callable[[], None] = lambda: None
        self._use = bytearray()
        self._writable = array("i")
        self._references = array("i")

    def begin(self, kernel: Sequence[int], directories: Iterable[int], shared: int) -> None:
        """Work out all uses from the tables there are.

        kernel: entries 768 to 1023 that all address spaces have. directories: machine addresses of those
        that are pinned. shared: of the page that the monitor writes to, which is as good as mapped writable.
        """
        count = (self._end - self._base) // PAGE
        self._use = bytearray(count)
        self._writable, self._references = array("i", bytes(4 * count)), array("i", bytes(4 * count))
        self._writable[self._number(shared)] += 1
        self._kernel = tuple(kernel)
        tables = [self._number(entry) for entry in kernel if entry & _P]
        self._kernel_tables = frozenset(tables)
        pinned = [self._number(address) for address in directories]
        for number in tables:
            self._use[number] = Use.TABLE
            self._references[number] = 1  # for good
        for number in pinned:
            self._use[number] = Use.DIRECTORY
        for number in tables:
            self._count(self._present(number), 1)
        for number in pinned:
            for entry in self._user_entries(number):
                if not self._take_table(entry):
                    raise UnusableInput(
                        f"memory: the page directory at {number * PAGE:#x} refers to what is no page table; "
                        "the monitor does not allow that, so something else wrote there"
                    )
            self._area.show_in(self._base + number * PAGE)

    # --- looking ------------------------------------------------------------------------------------------

    def owns(self, address: int) -> bool:
        """Whether a machine address is in a frame of the guest's."""
        return self._base <= address < self._end

    def use(self, address: int) -> Use:
        """Give the use of the frame at a machine address of the guest's."""
        return Use(self._use[self._number(address)])

    def directories(self) -> list[int]:
        """Give the machine addresses of all pinned directories."""
        return [self._base + n * PAGE for n, use in enumerate(self._use) if use == Use.DIRECTORY]

    # --- changing -----------------------------------------------------------------------------------------

    def pin(self, address: int) -> bool:
        """Make a frame a directory; False, with nothing changed, if what is in it is not in order."""
        if not self.owns(address) or address % PAGE:
            return False
        number = self._number(address)
        self._settle()
        if self._use[number] != Use.PLAIN or self._writable[number] or not self._kernel_part_is_right(number):
            return False
        self._use[number] = Use.DIRECTORY  # first: none of its tables may map it writable
        taken: list[int] = []
        for entry in self._user_entries(number):
            if not self._take_table(entry):
                for earlier in taken:
                    self._drop_table(earlier)
                self._use[number] = Use.PLAIN
                return False
            taken.append(entry)
        self._area.show_in(address)
        return True

    def unpin(self, address: int) -> bool:
        """Make a directory a plain frame; False if it is none."""
        if not self.owns(address) or address % PAGE or self.use(address) is not Use.DIRECTORY:
            return False
        number = self._number(address)
        for entry in self._user_entries(number):
            self._drop_table(entry)
        self._use[number] = Use.PLAIN
        self._area.hide_in(address)
        self.stale = True
        return True

    def update(self, address: int, entry: int) -> bool:
        """Write an entry of a table or directory; False, with nothing changed, if that is not in order."""
        if not self.owns(address) or address & 3:
            return False
        use = self._use[self._number(address)]
        if use == Use.TABLE:
            return self._update_table(address, entry)
        return use == Use.DIRECTORY and self._update_directory(address, entry)

    def _update_table(self, address: int, entry: int) -> bool:
        number, index = self._number(address), address - self._base >> 2
        if not self._is_right(entry, kernel=number in self._kernel_tables):
            return False
        before = self._words[index]
        self._count((before,), -1)
        self._count((entry,), 1)
        self._words[index] = entry
        self.stale |= bool(before & _P)
        return True

    def _update_directory(self, address: int, entry: int) -> bool:
        index = address - self._base >> 2
        if index % _ENTRIES >= _FIRST_KERNEL or (entry & _P and not self._take_table(entry)):
            return False
        before = self._words[index]
        if before & _P:
            self._drop_table(before)
            self.stale = True
        self._words[index] = entry
        return True

    def _take_table(self, entry: int) -> bool:
        """Count a directory's reference to a table, which may become one by it; False if it is not fit."""
        if entry & _DIRECTORY_FORBIDDEN or not self.owns(entry):
            return False
        number = self._number(entry)
        if self._use[number] == Use.PLAIN:
            self._settle()
            if self._writable[number]:
                return False
            self._use[number] = Use.TABLE  # first: it must not map itself writable
            present = self._present(number)
            if not all(self._is_right(each, kernel=False) for each in present):
                self._use[number] = Use.PLAIN
                return False
            self._count(present, 1)
        if self._use[number] != Use.TABLE:
            return False
        self._references[number] += 1
        return True

    def _drop_table(self, entry: int) -> None:
        number = self._number(entry)
        self._references[number] -= 1
        if not self._references[number]:
            self._count(self._present(number), -1)
            self._use[number] = Use.PLAIN
            self.stale = True

    def _settle(self) -> None:
        if self.stale:
            self.flush()

    # --- checking -----------------------------------------------------------------------------------------

    def _is_right(self, entry: int, *, kernel: bool) -> bool:
        """Whether a table may have this entry."""
        if not entry & _P:
            return True
        if entry & _FORBIDDEN or (kernel and entry & _US) or not self._base <= entry < self._end:
            return False
        return not entry & _W or self._use[(entry & _FRAME) - self._base >> 12] == Use.PLAIN

    def _kernel_part_is_right(self, number: int) -> bool:
        first = number * _ENTRIES
        ours = self._words[first + _FIRST_KERNEL : first + FIRST_ENTRY]
        return all(
            not entry or entry & ~_MARKS == expected & ~_MARKS
            for entry, expected in zip(ours, self._kernel, strict=False)
        )

    def _number(self, address: int) -> int:
        return address - self._base >> 12

    def _present(self, number: int) -> list[int]:
        return [entry for entry in self._words[number * _ENTRIES : (number + 1) * _ENTRIES] if entry & _P]

    def _user_entries(self, number: int) -> list[int]:
        first = number * _ENTRIES
        return [entry for entry in self._words[first : first + _FIRST_KERNEL] if entry & _P]

    def _count(self, entries: Iterable[int], change: int) -> None:
        """Count the frames that these entries map writable."""
        writable, base = self._writable, self._base
        for entry in entries:
            if entry & (_P | _W) == _P | _W:
                writable[(entry & _FRAME) - base >> 12] += change
