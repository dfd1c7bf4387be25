"""The processor that a deprivileged guest is to see: its rings, flags and tables, made of the real one's.

The guest's ring 0 executes at CPL 1. What of the processor's state it cannot own there lives here: the
interrupt flag and IOPL, GDTR, IDTR, LDTR and TR. The real GDT is empty, so every load of a segment register
that names a descriptor faults, and the monitor loads the hidden part from the guest's own table; nothing of
the monitor's has to be in the guest's address space.

Real mode cannot be deprivileged, but virtual-8086 mode looks like it and traps on all that matters (AMD APM
vol. 2, rev. 3.42, 2.3, 8.8). Where segments have other bases than theirs (on the way to protected mode and
back) 16-bit protected mode stands in, whose segment loads trap like any.

Delivery, and the emulation of instructions, work on this as on the processor itself: it is a
``machine.delivery.Core``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from vlab.isa.control import CR0, EFER, EFlags
from vlab.isa.state import GENERAL_REGISTERS, SEGMENT_REGISTERS, CpuState, Segment, TableRegister
from vlab.machine import registers as reg
from vlab.machine.processor import Processor
from vlab.vmm.paging.shadow.guest_core import GuestCore
from vlab.vmm.paging.shadow.registers import VirtualRegisters
from vlab.vmm.paging.shadow.space import ShadowSpace

_IF, _IOPL, _VM = EFlags.IF.mask, EFlags.IOPL.mask, EFlags.VM.mask
_IOPL_SHIFT: Final = 12
_PE: Final = CR0.PE.mask
_LMA: Final = EFER.LMA.mask
_COMPATIBILITY: Final = 4  # LiveCore.mode_code
_CS32: Final = 1 << 4  # in hflags
_LONG_CODE: Final = 0x200
_DPL: Final = 0x60
_DPL_SHIFT: Final = 5
_PRESENT_SEGMENT: Final = 0x90  # P and S
_BIG_OR_LONG: Final = 0x600
_V86: Final = 0xF3
"""Attributes of every segment in virtual-8086 mode: present, DPL 3, writable, accessed."""
_REAL_CODE, _REAL_DATA = 0x9B, 0x93
_KERNEL: Final = 1
"""The real ring of the guest's rings 0 and 1."""
_SYSTEM: Final = ("ldtr", "tr")
_MSRS: Final = ("star", "lstar", "cstar", "sfmask", "kernel_gs_base", "sysenter_esp", "sysenter_eip", "pat")


class VirtualCore(GuestCore):
    """The guest's view of the processor, and the way to change it.

    ``interrupt_flag``, ``iopl``: RFLAGS.IF and IOPL as the guest set them; the real ones are always 1 and 0.
    """

    def __init__(self, processor: Processor, space: ShadowSpace, registers: VirtualRegisters) -> None:
        super().__init__(processor, space, registers)
        self._real = processor.core
        self._stands_in = False  # virtual-8086 mode, for real mode
        self.interrupt_flag = False
        self.iopl = 0
        self._sysenter_target = 0
        self._ring = 0
        self._gdtr, self._idtr = TableRegister(), TableRegister()
        self._system = {name: Segment() for name in _SYSTEM}
        self._kept: dict[str, tuple[Segment, Segment]] = {}  # what was written to the processor, for what

    # --- mode, ring and flags -----------------------------------------------------------------------------

    @property
    def real_mode(self) -> bool:
        """Whether the guest believes to be in real mode."""
        return not self._registers.cr0 & _PE

    @property
    def mode_code(self) -> int:
        """The guest's operating mode as its place in ``isa.state.Mode``."""
        if self.real_mode:
            return 0
        code = super().mode_code
        if code == _COMPATIBILITY and not self._registers.efer & _LMA:
            return 3 if self.words32[reg.HFLAGS] & _CS32 else 2  # long mode is the monitor's alone
        return code

    @property
    def cpl(self) -> int:
        """The guest's privilege level."""
        if self.real_mode:
            return 0
        return 3 if self.words[reg.EFLAGS] & _VM else self._ring

    def set_cpl(self, cpl: int) -> None:
        """Enter the guest's ring ``cpl``."""
        self._ring = cpl
        super().set_cpl(max(cpl, _KERNEL))

    @property
    def rflags(self) -> int:
        """RFLAGS as the guest must see it."""
        value = self.read_flags() & ~(_IF | _IOPL)
        if self.real_mode:
            value &= ~_VM
        return value | self.interrupt_flag << 9 | self.iopl << _IOPL_SHIFT

    @rflags.setter
    def rflags(self, value: int) -> None:
        self.interrupt_flag = bool(value & _IF)
        self.iopl = value >> _IOPL_SHIFT & 3
        kept = self.words[reg.EFLAGS] & _VM if self.real_mode else value & _VM
        self.write_flags(value & ~(_IOPL | _VM) | _IF | kept)

    @property
    def interrupts_enabled(self) -> bool:
        """The guest's RFLAGS.IF, without an interrupt shadow."""
        return self.interrupt_flag and not self.interrupt_shadow

    @property
    def sysenter_cs(self) -> int:
        """The guest's MSR SYSENTER_CS; the processor's is 0, so that SYSENTER faults."""
        return self._sysenter_target

    @sysenter_cs.setter
    def sysenter_cs(self, value: int) -> None:
        self._sysenter_target = value & 0xFFFFFFFF

    # --- segments and tables ------------------------------------------------------------------------------

    @property
    def gdtr(self) -> TableRegister:
        """The guest's GDTR; the processor's is empty."""
        return self._gdtr

    @gdtr.setter
    def gdtr(self, table: TableRegister) -> None:
        self._gdtr = table.copy()

    @property
    def idtr(self) -> TableRegister:
        """The guest's IDTR."""
        return self._idtr

    @idtr.setter
    def idtr(self, table: TableRegister) -> None:
        self._idtr = table.copy()

    def segment(self, name: str) -> Segment:
        """Give a segment register as the guest loaded it."""
        if name in _SYSTEM:
            return self._system[name]
        real = super().segment(name)
        written = self._kept.get(name)
        if written is not None and written[0] == real:
            return written[1]
        if self._stands_in or self.real_mode:  # loaded by the guest itself, in virtual-8086 mode
            return Segment(real.selector, real.base, 0xFFFF, _REAL_CODE if name == "cs" else _REAL_DATA)
        if name == "ss" and not real.selector & 0xFFFC:  # 64-bit code can load null by itself
            return Segment(real.selector & ~3 | self._ring, real.base, real.limit, self._ring << _DPL_SHIFT)
        return real  # a null selector, or a base that WRFSBASE wrote

    def set_segment(self, name: str, segment: Segment) -> None:
        """Load a segment register of the guest's."""
        if name in _SYSTEM:
            self._system[name] = segment.copy()
            return
        super().set_segment(name, self._deprivileged(name, segment))
        self._kept[name] = super().segment(name), segment.copy()

    def _deprivileged(self, name: str, segment: Segment) -> Segment:
        """Give what the processor holds for a segment of the guest's."""
        if self.words[reg.EFLAGS] & _VM:
            return Segment(segment.selector, segment.base, 0xFFFF, _V86)
        attributes, selector = segment.attributes, segment.selector
        if not self._registers.efer & _LMA:
            attributes &= ~_LONG_CODE  # which the guest's processor ignores, and the real one might not
        kept = attributes & _PRESENT_SEGMENT == _PRESENT_SEGMENT or name == "ss"
        if kept and not attributes & _DPL:
            attributes |= _KERNEL << _DPL_SHIFT  # for the processor takes its CPL from SS
        if name in ("cs", "ss") and not (selector & 3 or segment.attributes & _DPL) and not self.real_mode:
            selector |= _KERNEL
        return Segment(selector, segment.base, segment.limit, attributes)

    def follow_segments(self) -> None:
        """After a load of segment registers: CS and SS say what kind of code this is, and at which ring.

        In real mode these may be the loads after which virtual-8086 mode can stand for it.
        """
        if self.real_mode and not self.words[reg.EFLAGS] & _VM:
            self.settle()
        else:
            self.refresh()

    def settle(self) -> None:
        """After a change of mode: load the processor anew with what stands for the guest's segments.

        In real mode that is virtual-8086 mode if it can be.
        """
        segments = {name: self.segment(name).copy() for name in SEGMENT_REGISTERS}
        flags = self.words[reg.EFLAGS]
        if self.real_mode or self._stands_in:  # else VM is the guest's own
            flags &= ~_VM
        self._stands_in = self.real_mode and all(_is_real(name, segments[name]) for name in segments)
        flags |= _VM if self._stands_in else 0
        self.words[reg.EFLAGS] = flags
        for name, segment in segments.items():
            self.set_segment(name, segment)
        if self.real_mode:
            self._ring = 0
        if not flags & _VM:
            super().set_cpl(max(self._ring, _KERNEL))
        self.refresh()

    # --- whole states -------------------------------------------------------------------------------------

    def load(self, state: CpuState) -> None:
        """Take over a whole state of the guest's. The caller puts the control registers in place."""
        for index, name in enumerate(GENERAL_REGISTERS):
            self.words[index] = getattr(state, name)
        self._registers.load(state.cr0, state.cr3, state.cr4, state.efer)
        self.words[reg.EFLAGS], self._stands_in = 2, False
        self._ring = state.cpl
        self.cr2 = state.cr2
        self.gdtr, self.idtr = state.gdtr, state.idtr
        self.dr6, self.dr7 = state.dr6, state.dr7
        for name in (*_MSRS, "sysenter_cs"):
            setattr(self, name, getattr(state, name))
        self.rip, self.rflags = state.rip, state.rflags
        for name in (*SEGMENT_REGISTERS, *_SYSTEM):
            self.set_segment(name, getattr(state, name))
        self.end_shadow()
        self.empty_tables()
        self.settle()

    def empty_tables(self) -> None:
        """Empty the processor's own tables: the monitor needs none, and the guest finds nothing there."""
        self._real.gdtr = self._real.idtr = TableRegister(0, 0)
        super().set_segment("ldtr", Segment(0, 0, 0, 0))
        super().set_segment("tr", Segment(0, 0, 0, 0x8B))

    def save(self) -> dict[str, int]:
        """Give what no real register holds, for a snapshot."""
        state = {
            "if": int(self.interrupt_flag), "iopl": self.iopl, "ring": self._ring,
            "sysenter_cs": self.sysenter_cs,
        }  # fmt: skip
        for name, table in (("gdtr", self._gdtr), ("idtr", self._idtr)):
            state |= {f"{name}.base": table.base, f"{name}.limit": table.limit}
        for name in (*SEGMENT_REGISTERS, *_SYSTEM):
            segment = self.segment(name)
            for part in Segment.__slots__:
                state[f"{name}.{part}"] = getattr(segment, part)
        return state

    def restore(self, state: Mapping[str, int]) -> None:
        """Take that back; the real registers are in place already."""
        self.interrupt_flag, self.iopl = bool(state["if"]), state["iopl"]
        self._ring, self.sysenter_cs = state["ring"], state["sysenter_cs"]
        self._stands_in = self.real_mode and bool(self.words[reg.EFLAGS] & _VM)
        self._gdtr = TableRegister(state["gdtr.base"], state["gdtr.limit"])
        self._idtr = TableRegister(state["idtr.base"], state["idtr.limit"])
        for name in (*SEGMENT_REGISTERS, *_SYSTEM):
            self.set_segment(name, Segment(*(state[f"{name}.{part}"] for part in Segment.__slots__)))


def _is_real(name: str, segment: Segment) -> bool:
    """Whether virtual-8086 mode can stand for the segment."""
    plain = segment.base == segment.selector << 4 and segment.limit == 0xFFFF
    return plain and not (name in ("cs", "ss") and segment.attributes & _BIG_OR_LONG)
