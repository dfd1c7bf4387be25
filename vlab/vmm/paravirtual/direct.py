"""Direct paging: the processor walks the guest's own tables, and each change of them is checked before."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from vlab.isa.paging import PagingControls
from vlab.isa.state import CpuState
from vlab.isa.vectors import Vector
from vlab.machine.faults import Event, EventKind
from vlab.machine.machine import Machine
from vlab.vmm.guest_memory import GuestMemory
from vlab.vmm.paravirtual.area import MonitorArea
from vlab.vmm.paravirtual.frames import Frames, Use
from vlab.vmm.paravirtual.layout import Layout, kernel_entries
from vlab.vmm.paravirtual.tables import GuestTables
from vlab.vmm.verdicts import Inject, Verdict


class DirectTables(GuestTables):
    """Tables of machine addresses that the guest can read and only its monitor can write."""

    name = "direct"

    def __init__(self, machine: Machine, memory: GuestMemory) -> None:
        super().__init__(machine, memory, memory.hpa)
        self._core = machine.processor.core
        self._processor = machine.processor
        self._area = MonitorArea(machine, entry_size=4)
        self.frames = Frames(machine.memory, memory.hpa, memory.size, self._area)
        self.frames.flush = self.flush

    @property
    def loaded(self) -> int:
        """The processor's own CR3."""
        return self._core.cr3

    def is_directory(self, address: int) -> bool:
        """Whether a pinned directory begins there."""
        return not address & 0xFFF and self.owns(address) and self.frames.use(address) is Use.DIRECTORY

    def directories(self) -> list[int]:
        """Give all pinned directories."""
        return self.frames.directories()

    def pin(self, address: int) -> bool:
        """Check a directory, and all in it."""
        return self.frames.pin(address)

    def unpin(self, address: int) -> bool:
        """Give its frames back to ordinary use."""
        return self.frames.unpin(address)

    def update(self, address: int, entry: int) -> bool:
        """Check an entry and write it."""
        return self.frames.update(address, entry)

    def updated(self) -> None:
        """Nothing more: the tables are the processor's."""

    def load(self, directory: int) -> None:
        """Load the processor's CR3."""
        self._core.cr3 = directory
        self.flush()

    def flush_page(self, linear: int) -> None:
        """Flush, if there is anything; the processor is asked to forget all, which is as good."""
        if self.frames.stale:
            self.flush()

    def flush(self) -> None:
        """Have the processor forget all translations."""
        self._processor.engine.flush_tlb()
        self._processor.code.forget()
        self.frames.stale = False

    def page_fault(self, address: int, code: int) -> Verdict:
        """Every page fault is the guest's own."""
        return Inject(Event(EventKind.EXCEPTION, Vector.PF, code, address))

    def begin(self, layout: Layout, directories: Iterable[int]) -> None:
        """Work out what each frame is used for."""
        shared = self.base + layout.shared_info
        self.frames.begin(kernel_entries(layout, self.base), directories, shared)

    def initial_state(self, state: CpuState) -> CpuState:
        """The guest's registers are the processor's."""
        return state

    def guest_state(self, state: CpuState) -> CpuState:
        """The guest's registers are the processor's."""
        return state

    def controls(self) -> PagingControls:
        """Give what the processor itself walks by."""
        return self._core.paging

    def save(self) -> dict[str, int]:
        """Nothing: CR3 is among the registers."""
        return {}

    def restore(self, state: Mapping[str, int]) -> None:
        """Nothing to take back."""

    def close(self) -> None:
        """Give the monitor's area back."""
        self._area.close()
