"""Memory accesses that the monitor carries out: to devices, to pages of code, and to what is in the window.

Sections are those of AMD APM vol. 2, rev. 3.42.
"""

from __future__ import annotations

from typing import Final

from vlab.isa.paging import Access, Fault, accessed_dirty_updates, translate, walk
from vlab.isa.vectors import PageFaultError
from vlab.machine.faults import CpuFault
from vlab.machine.memory import PAGE
from vlab.vmm.deprivileged.virtual_core import VirtualCore
from vlab.vmm.device_bus import DeviceBus
from vlab.vmm.guest_memory import Backing, GuestMemory
from vlab.vmm.mmio import code_bits
from vlab.vmm.mmio_alu import FLAGS_ONLY
from vlab.vmm.mmio_decode import MmioInstruction, decode
from vlab.vmm.mmio_operands import linear_address
from vlab.vmm.paging.shadow.space import ShadowSpace
from vlab.vmm.recorded_bus import Answering
from vlab.vmm.translation.source import SourceCode

PERSISTENT: Final = 8
"""Faults of one instruction after which it is translated into a call-out."""
_WRITE: Final = PageFaultError.W.mask


class MemoryBus(DeviceBus):
    """The guest's whole physical memory, as an emulated operand meets it: RAM too, and who watches it."""

    def __init__(
        self, windows: Answering, memory: GuestMemory, space: ShadowSpace, source: SourceCode
    ) -> None:
        super().__init__(windows, memory)
        self._guest = memory
        self._space = space
        self._source = source

    def write(self, gpa: int, size: int, value: int) -> None:
        """Write to RAM or a device; page tables and translations made of these bytes follow."""
        region = self._guest.find(gpa)
        if region is None or region.backing is not Backing.RAM:
            super().write(gpa, size, value)
            return
        start = region.hpa - self._guest.hpa + gpa - region.gpa
        self._guest.ram[start : start + size] = value.to_bytes(size, "little")
        self._space.written(gpa, size)
        self._source.carried_out(gpa, size)


class Faulting:
    """Which of a kernel's instructions keep faulting.

    ``counts``: by address. ``regrets``: how often one of them would not have faulted.
    """

    def __init__(self) -> None:
        self.counts: dict[int, int] = {}
        self.regrets: dict[int, int] = {}

    def note(self, linear: int) -> bool:
        """Count a fault; say whether the instruction is better carried out by the monitor at once."""
        count = self.counts[linear] = self.counts.get(linear, 0) + 1
        return count == PERSISTENT

    def regret(self, linear: int) -> bool:
        """Count an access that would not have faulted; say whether to let the instruction execute again."""
        count = self.regrets[linear] = self.regrets.get(linear, 0) + 1
        return count == PERSISTENT

    def clear(self) -> None:
        """Forget all."""
        self.counts.clear()
        self.regrets.clear()


def is_write(code: int) -> bool:
    """Say whether the error code of a page fault tells of a write."""
    return bool(code & _WRITE)


def reach(cpu: VirtualCore, linear: int, *, write: bool) -> int:
    """Give the guest-physical address of one access, as the guest's own tables have it.

    Accessed and dirty bits are set. Raises CpuFault; whether there is memory is not asked.
    """
    controls, mmu = cpu.paging, cpu.mmu
    access = Access(write, cpu.cpl == 3)
    steps = list(walk(linear, controls, access, mmu.read_physical))
    found = translate(linear, controls, access, mmu.read_physical)
    if isinstance(found, Fault):
        raise CpuFault(int(found.vector), found.error_code, linear, found.why)
    for address, size, entry in accessed_dirty_updates(steps, access):
        cpu.engine.memory.write(mmu.host_address(address, write=True), size, entry)
    return found.physical


def operand_of(code: bytes, cpu: VirtualCore) -> tuple[int, bool] | None:
    """Give the linear address of an instruction's memory operand, and whether it is written to.

    None for an instruction that ``mmio`` does not carry out: of another kind, or across the end of a page.
    """
    instruction = decode(code, code_bits(cpu))
    if not isinstance(instruction, MmioInstruction):
        return None
    memory = instruction.memory[0]
    linear = linear_address(cpu, memory, instruction.bits)
    if linear % PAGE + memory.size > PAGE:
        return None
    return linear, memory is instruction.operands[0] and instruction.name not in FLAGS_ONLY
