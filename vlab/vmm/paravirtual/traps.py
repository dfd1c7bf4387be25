"""The guest's trap table: how its faults, system calls and events reach it, and how it returns from them.

It takes the place of an IDT and a TSS, which the guest does not have. The pushes are those of an interrupt
gate (AMD APM vol. 2, rev. 3.44, 8.7).
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import Final

from vlab.isa.control import EFlags
from vlab.isa.state import Segment
from vlab.machine.core import LiveCore
from vlab.vmm.paravirtual.interface import KERNEL_CODE, KERNEL_DATA, USER_CODE, USER_DATA, SharedInfo
from vlab.vmm.paravirtual.space import GuestSpace

_IF: Final = EFlags.IF.mask
_CLEARED: Final = EFlags.TF.mask | EFlags.NT.mask | EFlags.RF.mask | EFlags.VM.mask
_NOT_TAKEN: Final = _IF | EFlags.IOPL.mask | EFlags.VM.mask | EFlags.VIF.mask | EFlags.VIP.mask
_MASK32: Final = 0xFFFFFFFF
_LIMIT: Final = 0xFFFFFFFF
SEGMENTS: Final = {
    KERNEL_CODE: Segment(KERNEL_CODE, 0, _LIMIT, 0xCBB),
    KERNEL_DATA: Segment(KERNEL_DATA, 0, _LIMIT, 0xCB3),
    USER_CODE: Segment(USER_CODE, 0, _LIMIT, 0xCFB),
    USER_DATA: Segment(USER_DATA, 0, _LIMIT, 0xCF3),
}
"""What the processor holds for the four selectors."""
_TRAP: Final = struct.Struct("<HHII")
_VECTORS: Final = 256
_TRAPS, _STACK = "trap.", "kernel_stack"


class Traps:
    """The trap table of one guest. ``kernel_stack``: where pushing begins for a trap from ring 3."""

    def __init__(self, core: LiveCore, space: GuestSpace) -> None:
        self._core = core
        self._space = space
        self._table: dict[int, tuple[int, int]] = {}  # vector -> EIP, privilege
        self.kernel_stack = 0

    def allows(self, vector: int) -> bool:
        """Whether INT n may be used from ring 3."""
        return self._table.get(vector, (0, 0))[1] == 3

    def load(self, linear: int) -> bool | None:
        """Take over the table at ``linear``; False if it is not in order, None if it cannot be read."""
        table: dict[int, tuple[int, int]] = {}
        for place in range(linear, linear + (_VECTORS + 1) * _TRAP.size, _TRAP.size):
            raw = self._space.read_argument(place, _TRAP.size)
            if raw is None:
                return None
            vector, privilege, cs, eip = _TRAP.unpack(raw)
            if not eip:
                self._table = table
                return True
            if vector >= _VECTORS or privilege not in (1, 3) or cs != KERNEL_CODE:
                return False
            table[vector] = eip, privilege
        return False

    def deliver(self, shared: SharedInfo, vector: int, error_code: int | None = None) -> str:
        """Enter the guest's handler; "" or why that is not possible, with nothing changed."""
        entry = self._table.get(vector)
        if entry is None:
            return f"its trap table has no entry for vector {vector}"
        core = self._core
        flags, cs, esp = core.rflags, core.segment("cs").selector, core.rsp & _MASK32
        image = [core.rip & _MASK32, cs, flags & ~_IF | (_IF if shared.interrupts_on else 0)]
        from_program = cs & 3 == 3
        if from_program:
            image += [esp, core.segment("ss").selector]
            esp = self.kernel_stack
        if error_code is not None:
            image.insert(0, error_code)
        esp -= 4 * len(image)
        if esp < 0 or not self._space.write(esp, struct.pack(f"<{len(image)}I", *image)):
            return f"the stack at {esp & _MASK32:#x} cannot be written"
        if from_program:
            self._enter_ring(KERNEL_CODE, KERNEL_DATA)
        core.rip, core.rsp, core.rflags = entry[0], esp, flags & ~_CLEARED
        core.end_shadow()
        shared.interrupts_on = 0
        return ""

    def leave(self, shared: SharedInfo) -> str:
        """Return from a trap, by HV_IRET; "" or why that is not possible."""
        core = self._core
        esp = core.rsp & _MASK32
        raw = self._space.read(esp, 16)
        if raw is None:
            return f"the stack at {esp:#x} cannot be read for HV_IRET"
        eax, eip, cs, flags = struct.unpack("<4I", raw)
        why = self._go_to(eip, cs, flags & ~_NOT_TAKEN | _IF, esp + 4)
        if not why:
            core.words[0] = eax
            shared.interrupts_on = flags >> 9 & 1
        return why

    def iret(self) -> bool:
        """Carry out an IRET of the guest's own; False for #GP(0).

        It is stopped before, since the emulator would let CPL 1 to 3 go to virtual-8086 mode by it, which no
        processor does (Intel SDM vol. 2A, "IRET").
        """
        core = self._core
        esp = core.rsp & _MASK32
        raw = self._space.read(esp, 12)
        if raw is None:
            return False
        eip, cs, flags = struct.unpack("<3I", raw)
        if flags & EFlags.VM.mask or cs & 3 < core.cpl:
            return False
        return not self._go_to(eip, cs, flags & ~_NOT_TAKEN | _IF, esp)

    def _go_to(self, eip: int, cs: int, flags: int, esp: int) -> str:
        """Go where three words at ``esp`` say; from ring 3, two more are its stack."""
        core = self._core
        if cs == USER_CODE:
            raw = self._space.read(esp + 12, 8)
            after, ss = struct.unpack("<2I", raw) if raw is not None else (0, 0)
            if ss != USER_DATA:
                return f"HV_IRET finds {ss:#x} for SS, which is not that of a program"
            self._enter_ring(USER_CODE, USER_DATA)
        elif cs == KERNEL_CODE:
            after = esp + 12
        else:
            return f"HV_IRET finds {cs:#x} for CS, which is neither the kernel's nor a program's"
        core.rip, core.rsp, core.rflags = eip, after & _MASK32, flags
        return ""

    def _enter_ring(self, cs: int, ss: int) -> None:
        core = self._core
        core.set_segment("cs", SEGMENTS[cs])
        core.set_segment("ss", SEGMENTS[ss])
        core.set_cpl(cs & 3)
        core.refresh()

    def save(self) -> dict[str, int]:
        """Give the state for a snapshot."""
        table = {f"{_TRAPS}{vector}": eip | ring << 32 for vector, (eip, ring) in self._table.items()}
        return {_STACK: self.kernel_stack} | table

    def restore(self, state: Mapping[str, int]) -> None:
        """Take it back."""
        self.kernel_stack = state[_STACK]
        self._table = {
            int(name.removeprefix(_TRAPS)): (value & _MASK32, value >> 32)
            for name, value in state.items()
            if name.startswith(_TRAPS)
        }
