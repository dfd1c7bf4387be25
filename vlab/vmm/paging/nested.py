"""Nested paging: the hardware walks the guest's tables and, for each of their addresses, ours (APM2 15.25).

The monitor writes one tree from guest-physical to host-physical addresses and is left alone until the guest
touches an address that is not there. Sections of AMD APM vol. 2, rev. 3.42.
"""

from __future__ import annotations

from vlab.machine.machine import Machine
from vlab.vmm.guest_memory import GuestMemory
from vlab.vmm.paging.tables import PRESENT, USER, WRITABLE, TableTree


class NestedPaging:
    """The nested tables of one guest.

    Entries carry the user bit, since the hardware takes every guest access for a user's (APM2 15.25.5), and
    never NX, which the emulator underneath does not survive in a page that holds a guest page table.
    """

    name = "nested"

    def __init__(self, machine: Machine, memory: GuestMemory) -> None:
        self._tree = TableTree(machine)
        self._memory = memory
        self.build()

    @property
    def root(self) -> int:
        """Host-physical address of the top table: the VMCB's nested CR3."""
        return self._tree.root

    def build(self) -> None:
        """Write the tables anew from the guest's memory map; the caller flushes."""
        self._tree.clear()
        for region in self._memory.regions():
            flags = PRESENT | USER | (WRITABLE if region.writable else 0)
            self._tree.map_run(region.gpa, region.hpa, region.size, flags)

    def map_window(self, gpa: int, hpa: int) -> None:
        """Map one page at ``gpa`` onto a device window; the caller flushes."""
        self._tree.map(gpa, hpa, PRESENT | WRITABLE | USER)

    def close(self) -> None:
        """Give the tables' frames back."""
        self._tree.close()
