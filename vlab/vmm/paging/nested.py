"""Nested paging: the hardware walks the guest's tables and, for each of their addresses, ours (APM2 15.25).

The monitor writes one tree from guest-physical to host-physical addresses and is left alone until the guest
touches an address that is not there. Sections of AMD APM vol. 2, rev. 3.42.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from vlab.isa.paging import PagingControls
from vlab.isa.state import CpuState
from vlab.isa.vmcb import VmcbControl
from vlab.machine.memory import PAGE
from vlab.vmm.exits import Exit, NestedPageFault
from vlab.vmm.guest_memory import GuestMemory
from vlab.vmm.paging.strategy import PagingHost
from vlab.vmm.paging.tables import PRESENT, USER, WRITABLE, TableTree
from vlab.vmm.verdicts import RESUME, Verdict

MOST_OPEN: Final = 256
"""Pages of open bus that are mapped at a time; each may take three tables of its own."""


class NestedTables:
    """A tree from guest-physical to host-physical addresses.

    Entries carry the user bit, since the hardware takes every guest access for a user's (APM2 15.25.5), and
    never NX, which the emulator underneath does not survive in a page that holds a guest page table.
    ``open_pages``: where nobody answers and the guest has found that out, by address.
    """

    def __init__(self, tree: TableTree, memory: GuestMemory) -> None:
        self._tree = tree
        self._memory = memory
        self.open_pages: dict[int, None] = {}
        self.build()

    @property
    def root(self) -> int:
        """Host-physical address of the top table: the VMCB's nested CR3."""
        return self._tree.root

    @property
    def table_count(self) -> int:
        """How many frames the tables take."""
        return self._tree.table_count

    def build(self) -> None:
        """Write the tables anew from the guest's memory map; the caller flushes."""
        self._tree.clear()
        self.open_pages.clear()
        for region in self._memory.regions():
            flags = PRESENT | USER | (WRITABLE if region.writable else 0)
            self._tree.map_run(region.gpa, region.hpa, region.size, flags)

    def map_window(self, gpa: int, hpa: int) -> None:
        """Map one page at ``gpa`` onto a device window; the caller flushes."""
        self._tree.map(gpa, hpa, PRESENT | WRITABLE | USER)

    def map_nothing(self, gpa: int, hpa: int) -> None:
        """Map the page around ``gpa`` onto the window ``hpa`` in which nobody answers; the caller flushes.

        A guest that looks for memory everywhere must not take all frames for tables: after MOST_OPEN pages
        the tables are written anew.
        """
        if len(self.open_pages) >= MOST_OPEN:
            self.build()
        page = gpa & ~(PAGE - 1)
        self.open_pages[page] = None
        self.map_window(page, hpa)

    def close(self) -> None:
        """Give the tables' frames back."""
        self._tree.close()


class NestedPaging:
    """The strategy of hardware with nested page tables."""

    name = "nested"

    def attach(self, host: PagingHost) -> None:
        """Write the tables for the whole guest at once."""
        self._host = host
        self._nothing = host.machine.window(_read_nothing, _write_nothing)
        self._tables = NestedTables(TableTree(host.machine), host.memory)

    @property
    def table_count(self) -> int:
        """How many frames the nested tables take."""
        return self._tables.table_count

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
        """An address without a page is a device's, firmware that is written to, or nobody's.

        Where nobody answers there is an open bus, one page of it from now on, and the instruction starts
        again: the monitor needs not know what it does.
        """
        if not isinstance(exit_, NestedPageFault):
            return None
        if not self._is_nobodys(exit_.gpa & ~(PAGE - 1)):
            return self._host.emulate_device_access(exit_.gpa)
        self._open((exit_.gpa,))
        return RESUME

    def _is_nobodys(self, page: int) -> bool:
        windows = self._host.board.memory_windows.windows
        served = any(window.first < page + PAGE and page <= window.last for window in windows)
        return not served and self._host.memory.find(page) is None

    def _open(self, addresses: Iterable[int]) -> None:
        for gpa in addresses:
            self._tables.map_nothing(gpa, self._nothing)
        self._flush()

    def _flush(self) -> None:
        self._host.machine.processor.set_nested_root(self._tables.root)

    def rebuild(self) -> None:
        """Write the tables anew and have the TLB flushed."""
        self._tables.build()
        self._flush()

    def save(self) -> dict[str, int]:
        """Where the guest has met an open bus, that it exits there no second time. The rest of the tables
        follows from the memory map.
        """
        return {f"{_OPEN_BUS} {number}": page for number, page in enumerate(self._tables.open_pages)}

    def restore(self, state: dict[str, int]) -> None:
        """Write the tables anew; the memory map may be another one."""
        self._tables.build()
        self._open(page for name, page in state.items() if name.startswith(_OPEN_BUS))

    def close(self) -> None:
        """Give the tables' frames and the open bus back."""
        self._tables.close()
        self._host.machine.give_back_window(self._nothing)


_OPEN_BUS: Final = "open bus"


def _read_nothing(_offset: int, size: int) -> int:
    return (1 << 8 * size) - 1


def _write_nothing(_offset: int, _size: int, _value: int) -> None:
    pass
