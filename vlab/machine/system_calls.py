"""SYSCALL and SYSENTER, which the emulator leaves to us; the ways back it executes itself.

Sections are those of AMD APM vol. 2, rev. 3.42 (APM2), and vol. 3, rev. 3.36 (APM3, by instruction).
"""

from __future__ import annotations

from typing import Protocol

from vlab.isa.state import Segment
from vlab.isa.vectors import Vector
from vlab.machine.delivery.core import CR0_PE, EFER_LMA, IF, MASK32, MASK64, RF, VM, Core
from vlab.machine.faults import CpuFault

_UD, _GP = int(Vector.UD), int(Vector.GP)
_EFER_SCE = 1 << 0
_RCX, _R11 = 1, 11
_LENGTH = 2  # both instructions, in bytes

# The fixed hidden parts: flat, present, ring 0, accessed (APM2 6.1.1). Nothing is read from the GDT.
_CODE_64, _CODE_32, _STACK = 0xA9B, 0xC9B, 0xC93
_LONG_ATTRIBUTE = 1 << 9


class SystemCallCore(Core, Protocol):
    """A core with the registers of the two instructions, as full 64-bit MSR values."""

    @property
    def star(self) -> int:
        """MSR STAR: legacy target EIP, SYSCALL selectors in bits 47:32."""

    @property
    def lstar(self) -> int:
        """MSR LSTAR: target from 64-bit mode."""

    @property
    def cstar(self) -> int:
        """MSR CSTAR: target from compatibility mode."""

    @property
    def sfmask(self) -> int:
        """MSR SFMASK: the flags that SYSCALL clears in long mode."""

    @property
    def sysenter_cs(self) -> int:
        """MSR SYSENTER_CS."""

    @property
    def sysenter_esp(self) -> int:
        """MSR SYSENTER_ESP."""

    @property
    def sysenter_eip(self) -> int:
        """MSR SYSENTER_EIP."""


def syscall(core: SystemCallCore) -> None:
    """Execute the SYSCALL at ``core.rip`` (APM3 "SYSCALL"; APM2 6.1.1).

    Raises CpuFault #UD, with nothing changed, when EFER.SCE is clear and outside protected mode.
    """
    efer, rflags = core.efer, core.rflags
    if not efer & _EFER_SCE:
        raise CpuFault(_UD, why="SYSCALL needs EFER.SCE")
    if not core.cr0 & CR0_PE or (rflags & VM and not efer & EFER_LMA):
        raise CpuFault(_UD, why="SYSCALL is an instruction of protected mode")
    star = core.star
    selector = star >> 32 & 0xFFFC
    if efer & EFER_LMA:
        from_64_bit = core.segment("cs").attributes & _LONG_ATTRIBUTE
        core.set_gpr(_RCX, (core.rip + _LENGTH) & (MASK64 if from_64_bit else MASK32))
        core.set_gpr(_R11, rflags & ~RF)
        target = core.lstar if from_64_bit else core.cstar
        core.rflags = rflags & ~(core.sfmask & MASK32 | RF) | 2
        _enter_ring_0(core, selector, _CODE_64)
    else:
        core.set_gpr(_RCX, (core.rip + _LENGTH) & MASK32)
        target = star & MASK32
        core.rflags = rflags & ~(VM | IF | RF)
        _enter_ring_0(core, selector, _CODE_32)
    core.rip = target


def sysenter(core: SystemCallCore) -> None:
    """Execute SYSENTER (APM3 "SYSENTER"; APM2 6.1.2).

    Raises CpuFault, with nothing changed: #UD in long mode, where AMD processors do not have it; #GP(0) in
    real mode and while SYSENTER_CS is null.
    """
    if core.efer & EFER_LMA:
        raise CpuFault(_UD, why="SYSENTER is not available in long mode on AMD processors")
    if not core.cr0 & CR0_PE:
        raise CpuFault(_GP, 0, why="SYSENTER is not available in real mode")
    selector = core.sysenter_cs & 0xFFFC
    if not selector:
        raise CpuFault(_GP, 0, why="MSR SYSENTER_CS holds a null selector")
    core.rflags &= ~(VM | IF | RF)
    _enter_ring_0(core, selector, _CODE_32)
    core.rsp = core.sysenter_esp & MASK32
    core.rip = core.sysenter_eip & MASK32


def _enter_ring_0(core: Core, selector: int, code_attributes: int) -> None:
    core.set_segment("cs", Segment(selector, 0, MASK32, code_attributes))
    core.set_segment("ss", Segment((selector + 8) & 0xFFFF, 0, MASK32, _STACK))
    core.set_cpl(0)
