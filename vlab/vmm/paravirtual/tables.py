"""The guest's page tables, as its monitor uses them: how they are read, and what becomes of a change.

Two kinds of paging give a paravirtual guest its memory, and the same guest runs on both:

- ``direct``: the processor walks the guest's own tables. They hold machine addresses, and a change is checked
  before it is made (see ``frames``).
- ``shadow``: the processor walks tables of the monitor's, made from the guest's by a strategy (see
  ``shadowed``). The guest's hold its own physical addresses, which it is told are machine addresses.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from typing import Final

from vlab.isa.page_entries import LegacyPte
from vlab.isa.paging import PagingControls
from vlab.isa.state import CpuState
from vlab.machine.machine import Machine
from vlab.machine.memory import PAGE
from vlab.vmm.guest_memory import GuestMemory
from vlab.vmm.paravirtual.interface import MONITOR_BASE
from vlab.vmm.paravirtual.layout import Layout
from vlab.vmm.verdicts import Verdict

_P, _W = LegacyPte.P.mask, LegacyPte.RW.mask
_FRAME: Final = LegacyPte.FRAME.mask
_ENTRIES: Final = PAGE // 4


class GuestTables(ABC):
    """The page tables of the guest that has ``memory``.

    base: the machine address that the guest has for its first byte; ``name`` is what ``--paging`` calls them.
    Addresses of tables, and in entries, are machine addresses as the guest knows them.
    """

    name: str

    def __init__(self, machine: Machine, memory: GuestMemory, base: int) -> None:
        self._words = machine.memory.bytes[memory.hpa : memory.hpa + memory.size].cast("I")
        self.base: Final = base
        self._end = base + memory.size
        self._to_host = memory.hpa - base

    # --- looking ------------------------------------------------------------------------------------------

    def owns(self, address: int) -> bool:
        """Whether a machine address is in a frame of the guest's."""
        return self.base <= address < self._end

    def entry_address(self, linear: int) -> int | None:
        """Give the machine address of the table's entry that maps ``linear``, in the directory that is
        loaded; None where no table of the guest's is.
        """
        if linear >= MONITOR_BASE:
            return None
        entry = self._words[(self.loaded - self.base >> 2) + (linear >> 22)]
        if not entry & _P or not self.owns(entry):
            return None
        return (entry & _FRAME) + 4 * (linear >> 12 & _ENTRIES - 1)

    def host_address(self, linear: int, *, write: bool) -> int | None:
        """Walk the tables as the kernel's access would; give a host-physical address, None where that faults.

        write: the caller is going to write there.
        """
        place = self.entry_address(linear)
        if place is None:
            return None
        entry = self._words[place - self.base >> 2]
        both = entry & self._words[(self.loaded - self.base >> 2) + (linear >> 22)]
        if not entry & _P or (write and not both & _W) or not self.owns(entry):
            return None
        return (entry & _FRAME | linear & PAGE - 1) + self._to_host

    @property
    @abstractmethod
    def loaded(self) -> int:
        """Machine address of the directory that is loaded."""

    @abstractmethod
    def is_directory(self, address: int) -> bool:
        """Whether a pinned directory begins at a machine address."""

    @abstractmethod
    def directories(self) -> list[int]:
        """Give the machine addresses of all pinned directories."""

    # --- what the guest asks for --------------------------------------------------------------------------

    @abstractmethod
    def pin(self, address: int) -> bool:
        """Make a frame a directory; False, with nothing changed, if that is not in order."""

    @abstractmethod
    def unpin(self, address: int) -> bool:
        """Make a directory a plain frame; False if it is none."""

    @abstractmethod
    def update(self, address: int, entry: int) -> bool:
        """Write an entry; False, with nothing changed, if that is not in order."""

    @abstractmethod
    def updated(self) -> None:
        """Follow the updates of one hypercall, which are all made."""

    @abstractmethod
    def load(self, directory: int) -> None:
        """Change to the address space of a pinned directory, and flush."""

    @abstractmethod
    def flush_page(self, linear: int) -> None:
        """Have changes of the entry that maps an address seen."""

    @abstractmethod
    def flush(self) -> None:
        """Have all changes seen."""

    @abstractmethod
    def page_fault(self, address: int, code: int) -> Verdict:
        """Serve #PF: the guest's own, unless the monitor left something out."""

    # --- the guest as a whole -----------------------------------------------------------------------------

    @abstractmethod
    def begin(self, layout: Layout, directories: Iterable[int]) -> None:
        """Take up service with these directories pinned. Raises UnusableInput where they are not in order."""

    @abstractmethod
    def initial_state(self, state: CpuState) -> CpuState:
        """Give the state that the processor must hold for the guest to begin with ``state``."""

    @abstractmethod
    def guest_state(self, state: CpuState) -> CpuState:
        """Give what the guest sees while the processor holds ``state``."""

    @abstractmethod
    def controls(self) -> PagingControls:
        """Give what steers the walk of the guest's own tables."""

    @abstractmethod
    def save(self) -> dict[str, int]:
        """Give what a snapshot needs beside the pinned directories."""

    @abstractmethod
    def restore(self, state: Mapping[str, int]) -> None:
        """Take it back; registers and memory are in place, and ``begin`` comes next."""

    @abstractmethod
    def close(self) -> None:
        """Give the monitor's frames back."""
