"""The monitor's own part of every address space: the descriptor table for the processor.

It is one page table with one page, both in frames that are not the guest's. The guest's kernel can read the
page, as it could with SGDT and a look; nothing in it is secret, and none of it can be written. Under direct
paging the table's entries have 4 bytes, as the guest's have, under shadow paging 8 (AMD APM vol. 2, rev.
3.42, 5.2.2 and 5.2.3).
"""

from __future__ import annotations

import struct
from typing import Final

from vlab.machine.machine import Machine
from vlab.machine.memory import PAGE
from vlab.vmm.paravirtual.interface import MONITOR_BASE

FIRST_ENTRY, END_ENTRY = MONITOR_BASE >> 22, 1024
"""Of each directory, the entries that the monitor fills."""

_CODE, _DATA = 0x00CF9B000000FFFF, 0x00CF93000000FFFF  # base 0, limit 4 GiB, accessed already
_RING_1, _RING_3 = 1 << 45, 3 << 45
_DESCRIPTORS: Final = struct.pack(
    "<7Q", 0, 0, 0, _CODE | _RING_1, _DATA | _RING_1, _CODE | _RING_3, _DATA | _RING_3
)
DESCRIPTORS_BASE: Final = MONITOR_BASE
DESCRIPTORS_LIMIT: Final = len(_DESCRIPTORS) - 1
_PRESENT: Final = 1


class MonitorArea:
    """The frames of one virtual machine that its guest cannot write.

    entry_size: bytes of an entry of ``table``, the page table's host-physical address.
    """

    def __init__(self, machine: Machine, *, entry_size: int) -> None:
        self._machine = machine
        self.table: Final = machine.frames.allocate(2 * PAGE, use="descriptor table, and its page table")
        page = self.table + PAGE
        machine.memory.zero(self.table, 2 * PAGE)
        machine.memory.write(self.table, entry_size, page | _PRESENT)
        machine.memory.write_bytes(page, _DESCRIPTORS)

    def show_in(self, directory: int) -> None:
        """Fill the monitor's entries of the directory at a host-physical address."""
        entries = (self.table | _PRESENT).to_bytes(4, "little")
        entries = entries.ljust(4 * (END_ENTRY - FIRST_ENTRY), b"\0")
        self._machine.memory.write_bytes(directory + 4 * FIRST_ENTRY, entries)

    def hide_in(self, directory: int) -> None:
        """Clear them again: the frame is about to become the guest's."""
        self._machine.memory.write_bytes(directory + 4 * FIRST_ENTRY, bytes(4 * (END_ENTRY - FIRST_ENTRY)))

    def close(self) -> None:
        """Give the frames back."""
        self._machine.frames.free(self.table)
