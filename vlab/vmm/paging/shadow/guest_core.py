"""The processor as the guest believes it to be: its own control registers, and memory through its own tables.

What the microcode cannot do over shadow tables is done over this: a task switch, which changes CR3 in its
middle (AMD APM vol. 2, rev. 3.42, 12.3 and 15.14.1).
"""

from __future__ import annotations

from typing import Final

from vlab.isa.paging import Access, PagingControls
from vlab.machine.core import LiveCore
from vlab.machine.mmu import Mmu, NestedFault
from vlab.machine.processor import Processor
from vlab.vmm.paging.shadow.registers import VirtualRegisters
from vlab.vmm.paging.shadow.space import ShadowSpace

_WRITE: Final = 2
_OFFSET: Final = 0xFFF


class GuestMmu(Mmu):
    """Translates through the guest's tables, to host-physical addresses of its memory.

    Translations are kept until the guest has its processor forget them (AMD APM vol. 2, rev. 3.42, 5.5).
    """

    def __init__(self, processor: Processor, space: ShadowSpace) -> None:
        super().__init__(processor.memory)
        self._space = space
        self._kept: dict[tuple[int, bool, bool, bool], int] = {}
        self._events = space.events

    def host_address(self, gpa: int, *, write: bool = False) -> int:
        """Give the host-physical address of ``gpa``; raises NestedFault where there is no memory for that."""
        hpa = self._space.host_address(gpa, write=write)
        if hpa is None:
            raise NestedFault(gpa, _WRITE if write else 0)
        return hpa

    def translate(
        self,
        linear: int,
        controls: PagingControls,
        *,
        write: bool = False,
        user: bool = False,
        fetch: bool = False,
    ) -> int:
        """Give the host-physical address of ``linear`` for one access, and set accessed and dirty bits.

        Raises CpuFault and NestedFault.
        """
        if self._space.events != self._events:
            self._events = self._space.events
            self._kept.clear()
        key = (linear >> 12, write, user, fetch)
        frame = self._kept.get(key)
        if frame is None or (write and self._space.protects(frame)):
            hpa = super().translate(linear, controls, write=write, user=user, fetch=fetch)
            self._kept[key] = hpa & ~_OFFSET
            return hpa
        return frame | linear & _OFFSET


class GuestCore(LiveCore):
    """The processor's registers, apart from ``registers``, which are the guest's.

    Whoever changes those has the real ones follow before the processor runs on.
    """

    def __init__(self, processor: Processor, space: ShadowSpace, registers: VirtualRegisters) -> None:
        super().__init__(processor.engine, GuestMmu(processor, space))
        self.on_debug_registers = processor.breakpoints.sync
        self._registers = registers
        self.space: Final = space

    def reach(self, linear: int) -> None:
        """Have the code at ``linear`` in the shadow, if the guest can execute it."""
        self.space.resolve(linear, Access(user=self.cpl == 3, fetch=True))

    @property
    def cr0(self) -> int:
        """The guest's CR0."""
        return self._registers.cr0

    @cr0.setter
    def cr0(self, value: int) -> None:
        self._registers.cr0 = value

    @property
    def cr3(self) -> int:
        """The guest's CR3."""
        return self._registers.cr3

    @cr3.setter
    def cr3(self, value: int) -> None:
        self._registers.cr3 = value

    @property
    def cr4(self) -> int:
        """The guest's CR4."""
        return self._registers.cr4

    @cr4.setter
    def cr4(self, value: int) -> None:
        self._registers.cr4 = value

    @property
    def efer(self) -> int:
        """The guest's EFER."""
        return self._registers.efer

    @efer.setter
    def efer(self, value: int) -> None:
        self._registers.efer = value

    @property
    def paging(self) -> PagingControls:
        """What steers the guest's translation."""
        return self._registers.controls()
