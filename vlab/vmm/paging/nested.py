"""Nested paging: the hardware walks the guest's tables and, for each of their addresses, ours (APM2 15.25).

The monitor writes one tree from guest-physical to host-physical addresses and is left alone until the guest
touches an address that is not there. Sections of AMD APM vol. 2, rev. 3.42.
"""

from __future__ import annotations

from vlab.isa.paging import PagingControls
from vlab.isa.state import CpuState
from vlab.isa.vmcb import VmcbControl
from vlab.vmm.exits import Exit, NestedPageFault
from vlab.vmm.guest_memory import GuestMemory
from vlab.vmm.paging.strategy import PagingHost
from vlab.vmm.paging.tables import PRESENT, USER, WRITABLE, TableTree
from vlab.vmm.verdicts import Verdict


class NestedTables:
    """A tree from guest-physical to host-physical addresses.

    Entries carry the user bit, since the hardware takes every guest access for a user's (APM2 15.25.5), and
    never NX, which the emulator underneath does not survive in a page that holds a guest page table.
    """

    def __init__(self, tree: TableTree, memory: GuestMemory) -> None:
        self._tree = tree
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


class NestedPaging:
    """The strategy of hardware with nested page tables."""

    name = "nested"

    def attach(self, host: PagingHost) -> None:
        """Write the tables for the whole guest at once."""
        self._host = host
        self._tables = NestedTables(TableTree(host.machine), host.memory)

    def configure(self, control: VmcbControl) -> None:
        """Turn nested paging on (APM2 15.25.3); nothing of the guest's own paging is intercepted."""
        control.nested_ctl = 1
        control.nested_cr3 = self._tables.root

    def initial_state(self, state: CpuState) -> CpuState:
        """The guest has the registers to itself."""
        return state

    def guest_state(self, state: CpuState) -> CpuState:
        """What the processor holds is what the guest sees."""
        return state

    def guest_paging(self) -> PagingControls:
        """The processor's own."""
        return self._host.core.paging

    def handle(self, exit_: Exit) -> Verdict | None:
        """An address without a page is a device's, or nobody's."""
        if isinstance(exit_, NestedPageFault):
            return self._host.emulate_device_access(exit_.gpa)
        return None

    def rebuild(self) -> None:
        """Write the tables anew and have the TLB flushed."""
        self._tables.build()
        self._host.machine.processor.set_nested_root(self._tables.root)

    def save(self) -> dict[str, int]:
        """Nothing: the tables follow from the memory map."""
        return {}

    def restore(self, state: dict[str, int]) -> None:
        """Write the tables anew; the memory map may be another one."""
        self.rebuild()

    def close(self) -> None:
        """Give the tables' frames back."""
        self._tables.close()
