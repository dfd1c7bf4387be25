"""Where the monitor's additions lie in the memory of a paravirtual guest."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from vlab.isa.state import CpuState
from vlab.machine.memory import PAGE
from vlab.vmm.guest_memory import GuestMemory
from vlab.vmm.paravirtual.interface import KERNEL_BASE, SharedInfo

TABLE_SPAN: Final = PAGE // 4 * PAGE
"""Bytes that one page table maps."""
PRESENT_WRITABLE: Final = 3


@dataclass(frozen=True, slots=True)
class Layout:
    """Where the monitor's additions lie in guest-physical memory, page by page from ``start_info``."""

    start_info: int
    memory_size: int

    @property
    def shared_info(self) -> int:
        """The page of struct hv_shared_info."""
        return self.start_info + PAGE

    @property
    def directory(self) -> int:
        """The first page directory."""
        return self.start_info + 2 * PAGE

    @property
    def tables(self) -> int:
        """The first of the page tables that map all memory, one after the other."""
        return self.start_info + 3 * PAGE

    @property
    def table_count(self) -> int:
        """How many there are."""
        return -(-self.memory_size // TABLE_SPAN)

    @property
    def free_start(self) -> int:
        """The first address behind them."""
        return self.tables + self.table_count * PAGE

    @classmethod
    def of(cls, state: CpuState, memory: GuestMemory) -> Layout:
        """Give the layout that a guest was started with."""
        return cls(state.rsi - KERNEL_BASE, memory.size)


def kernel_entries(layout: Layout, base: int) -> list[int]:
    """Give entries 768 to 1023 of the first directory, those of the monitor empty.

    base: machine address of guest-physical 0.
    """
    tables = base + layout.tables
    entries = [tables + number * PAGE | PRESENT_WRITABLE for number in range(layout.table_count)]
    return entries + [0] * (256 - len(entries))


def shared_info(layout: Layout, memory: GuestMemory) -> SharedInfo:
    """Give the view of the shared page."""
    return SharedInfo(memory.ram[layout.shared_info : layout.shared_info + SharedInfo.SIZE])
