"""Shadow paging for a paravirtual guest: its tables are plain memory, and a strategy's are the processor's.

Nothing that the guest writes into its tables is checked, neither by a hypercall nor by a store of its own,
since no processor walks them: a lie is a translation that the guest's memory does not have, and comes to
nothing when it is used. That is how Xen ran guests that did not know machine addresses.

The monitor's part of the linear space is left out of the guest's tables altogether. When the processor first
looks for a descriptor there in an address space, the fault is answered with the monitor's own table.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from vlab.isa.paging import PagingControls
from vlab.isa.state import CpuState
from vlab.isa.vectors import PageFaultError, Vector
from vlab.machine.faults import Event, EventKind
from vlab.machine.memory import PAGE
from vlab.vmm.exits import PageFault
from vlab.vmm.paging.shadow import ShadowPaging
from vlab.vmm.paging.shadow.entries import LINK
from vlab.vmm.paging.strategy import PagingHost
from vlab.vmm.paravirtual.area import MonitorArea
from vlab.vmm.paravirtual.interface import MONITOR_BASE
from vlab.vmm.paravirtual.layout import Layout
from vlab.vmm.paravirtual.tables import GuestTables
from vlab.vmm.verdicts import RESUME, Inject, Verdict

_PRESENT: Final = PageFaultError.P.mask
_BASE: Final = 0
"""The guest's machine addresses: those that it would have on a machine of its own."""


class ShadowedTables(GuestTables):
    """Tables of guest-physical addresses, which ``paging`` shadows for ``host``."""

    def __init__(self, host: PagingHost, paging: ShadowPaging) -> None:
        super().__init__(host.machine, host.memory, _BASE)
        self.name = paging.name
        self.paging: Final = paging
        self._core = host.core
        self._memory = host.memory
        self._area = MonitorArea(host.machine, entry_size=8)
        self._pinned: set[int] = set()
        self._changed: set[int] = set()
        paging.attach(host)

    @property
    def loaded(self) -> int:
        """The CR3 that the guest has loaded."""
        return self.paging.registers.cr3

    def host_address(self, linear: int, *, write: bool) -> int | None:
        """Walk the guest's tables. Where the caller writes to one, it is protected no longer."""
        hpa = super().host_address(linear, write=write)
        if hpa is None or not write:
            return hpa
        return self.paging.space.host_address(hpa - self._to_host, write=True)

    def is_directory(self, address: int) -> bool:
        """Whether it was pinned, and not unpinned."""
        return address in self._pinned

    def directories(self) -> list[int]:
        """Give all pinned directories."""
        return sorted(self._pinned)

    def pin(self, address: int) -> bool:
        """Note a directory. What is in it is no matter."""
        if not self.owns(address) or address % PAGE or address in self._pinned:
            return False
        self._pinned.add(address)
        return True

    def unpin(self, address: int) -> bool:
        """Forget it."""
        if address not in self._pinned:
            return False
        self._pinned.remove(address)
        return True

    def update(self, address: int, entry: int) -> bool:
        """Write a word of the guest's memory, whatever it says."""
        if not self.owns(address) or address & 3:
            return False
        self._words[address >> 2] = entry
        self._changed.add(address & -PAGE)
        return True

    def updated(self) -> None:
        """Have the shadow follow. No protection has caught these writes."""
        for address in self._changed:
            self.paging.space.written(address, PAGE)
        self._changed.clear()

    def load(self, directory: int) -> None:
        """Go over to the shadow of another directory."""
        self.paging.registers.write_cr3(directory)
        self.flush()

    def flush_page(self, linear: int) -> None:
        """As INVLPG does."""
        self.paging.space.invalidate(linear)
        if self.paging.space.stale:
            self.paging.flush()

    def flush(self) -> None:
        """As a load of CR3 does."""
        self.paging.follow(translation=True)

    def page_fault(self, address: int, code: int) -> Verdict:
        """A miss in the shadow, or in the monitor's part; else the guest's own."""
        if address < MONITOR_BASE:
            verdict = self.paging.handle(PageFault(address, code))
            assert verdict is not None
            return verdict
        if address < MONITOR_BASE + PAGE and not code & _PRESENT and self._show_area():
            return RESUME
        return Inject(Event(EventKind.EXCEPTION, Vector.PF, code, address))

    def _show_area(self) -> bool:
        """Have the monitor's table in the address space in use; False if it was there."""
        space = self.paging.space
        place, link = space.directory_entry(MONITOR_BASE), self._area.table | LINK
        if space.read_directory_entry(place) == link:
            return False
        space.put_directory_entry(place, link)
        if space.stale:
            self.paging.flush()
        return True

    def begin(self, layout: Layout, directories: Iterable[int]) -> None:
        """Take these for pinned."""
        self._pinned = set(directories)
        self._changed.clear()

    def initial_state(self, state: CpuState) -> CpuState:
        """Give the state with the real control registers, over an empty shadow."""
        return self.paging.initial_state(state)

    def guest_state(self, state: CpuState) -> CpuState:
        """Give the state with the guest's control registers."""
        return self.paging.guest_state(state)

    def controls(self) -> PagingControls:
        """Give what the guest's registers say."""
        return self.paging.guest_paging()

    def save(self) -> dict[str, int]:
        """Give the strategy's state."""
        return self.paging.save()

    def restore(self, state: Mapping[str, int]) -> None:
        """Take it back; the shadow begins anew."""
        self.paging.restore(dict(state))

    def close(self) -> None:
        """Give the shadow's frames and the monitor's area back."""
        self.paging.close()
        self._area.close()
