"""A fence around a guest on shadow tables: nested tables with nothing behind them but its own memory.

Shadow tables keep a guest in as long as it cannot choose the tables. A hardware task switch chooses: it loads
CR3 from a TSS, which the guest wrote. A processor that is asked to exits before it does (AMD APM vol. 2,
rev. 3.42, 15.14.1); the one underneath, for a far JMP or CALL and for IRET, does not. So what the guest's
CR3, and every entry behind it, can name at all is fenced in, and chosen such that the two kinds of addresses
do not meet:

- shadow tables are at ``TABLES``, where a PC has no memory, and their entries name the guest's memory from
  ``MEMORY`` on, which the 32 bits that a task switch loads do not reach;
- a CR3 of the guest's own names nothing. The first access after the switch ends in a nested page fault, and
  the monitor finishes what the processor has begun.

A guest that loads an address in ``TABLES`` runs on what it finds there, and gets no further than the fence.
"""

from __future__ import annotations

from typing import Final

from vlab.errors import UnusableInput
from vlab.machine.machine import Machine
from vlab.vmm.guest_memory import GuestMemory
from vlab.vmm.paging.shadow.frames import FramePool
from vlab.vmm.paging.tables import PRESENT, USER, WRITABLE, TableTree

TABLES: Final = 0xFEC00000
"""Below the APICs and above any RAM: where the frames of shadow tables end. CR3 of PAE has 32 bits."""
MEMORY: Final = 1 << 39
"""What is added to the host-physical addresses of the guest's memory and of its device windows."""


class Fence:
    """The nested tables around one guest. Raises UnusableInput when its RAM reaches to its shadow tables.

    ``memory`` is added to host-physical addresses in entries that map pages, ``tables`` in entries that point
    to tables, and in CR3.
    """

    def __init__(self, machine: Machine, memory: GuestMemory, pool: FramePool) -> None:
        if memory.size > TABLES - pool.size:
            raise UnusableInput(
                f"memory: {memory.size >> 20} MiB leave no room for shadow tables below {TABLES:#x}; "
                "give the guest less memory"
            )
        self.memory: Final = MEMORY
        self.tables: Final = TABLES - pool.size - pool.base
        self._memory = memory
        self._pool = pool
        self._tree = TableTree(machine)
        try:
            self.build()
        except UnusableInput:
            self._tree.close()
            raise

    @property
    def root(self) -> int:
        """Host-physical address of the top table: the VMCB's nested CR3."""
        return self._tree.root

    def build(self) -> None:
        """Write the tables anew from the guest's memory map; the caller flushes."""
        tree, pool = self._tree, self._pool
        tree.clear()
        tree.map_run(TABLES - pool.size, pool.base, pool.size, PRESENT | WRITABLE | USER)
        for region in self._memory.regions():
            flags = PRESENT | USER | (WRITABLE if region.writable else 0)
            tree.map_run(MEMORY + region.hpa, region.hpa, region.size, flags)

    def close(self) -> None:
        """Give the tables' frames back."""
        self._tree.close()
