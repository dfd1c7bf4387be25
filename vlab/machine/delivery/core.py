"""The processor as the delivery microcode sees it, and the microcode's reads of system tables.

All registers are plain numbers. The real processor and the tests' stand-in both satisfy ``Core``, and so
can a monitor's virtual CPU that has to deliver into its guest.
"""

from __future__ import annotations

from typing import Protocol

from vlab.isa.state import Segment, TableRegister
from vlab.machine.faults import CpuFault

CR0_PE = 1 << 0
CR0_TS = 1 << 3
CR0_PG = 1 << 31
EFER_LMA = 1 << 10

TF = 1 << 8
IF = 1 << 9
IOPL_SHIFT = 12
NT = 1 << 14
RF = 1 << 16
VM = 1 << 17
AC = 1 << 18

MASK32 = 0xFFFF_FFFF
MASK64 = 0xFFFF_FFFF_FFFF_FFFF

# Segment attributes in the VMCB's 12-bit form (APM2 15.5.1).
PRESENT = 1 << 7
BIG = 1 << 10


class Core(Protocol):
    """What delivery reads and writes of a processor.

    ``rip`` points at the instruction that caused a fault or a software interrupt, or at the next one to run.
    Memory calls take linear addresses and raise CpuFault where translation fails; any other exception
    passes through ``deliver`` and leaves the registers as they were.
    """

    rip: int
    rsp: int
    rflags: int
    cr0: int
    cr2: int
    cr3: int
    cr4: int
    efer: int
    dr6: int  # these two for hardware task switches only
    dr7: int

    @property
    def cpl(self) -> int:
        """The current privilege level: 0 in real mode, 3 in virtual-8086 mode."""

    @property
    def gdtr(self) -> TableRegister:
        """The global descriptor table."""

    @property
    def idtr(self) -> TableRegister:
        """The interrupt descriptor table, or in real mode the interrupt vector table."""

    def set_cpl(self, cpl: int) -> None:
        """Enter privilege level ``cpl``; RFLAGS, CS and SS have been set before."""

    def segment(self, name: str) -> Segment:
        """Give a segment register: es cs ss ds fs gs ldtr tr. The caller does not change it in place."""

    def set_segment(self, name: str, segment: Segment) -> None:
        """Load a segment register with its hidden part."""

    def get_gpr(self, index: int) -> int:
        """Give general register ``index`` (0..15, instruction encoding order: rax rcx rdx rbx rsp ...)."""

    def set_gpr(self, index: int, value: int) -> None:
        """Set general register ``index`` to a 64-bit value."""

    def read(self, linear: int, size: int, *, user: bool = False) -> int:
        """Read ``size`` (1..16) bytes as one little-endian number; a supervisor access unless ``user``."""

    def write(self, linear: int, size: int, value: int, *, user: bool = False) -> None:
        """Write ``value`` little-endian over ``size`` (1..64) bytes; a whole stack frame is one write."""

    def read_bytes(self, linear: int, size: int) -> bytes:
        """Read ``size`` bytes as a supervisor."""


def read_table(core: Core, linear: int, size: int, what: str) -> int:
    """Read a system structure; a fault is told as "``what`` at ... is not mapped"."""
    try:
        return core.read(linear, size)
    except CpuFault as fault:
        fault.met(what, linear)
        raise


def write_table(core: Core, linear: int, size: int, value: int, what: str) -> None:
    """Write to a system structure; a fault is told as ``read_table`` tells it."""
    try:
        core.write(linear, size, value)
    except CpuFault as fault:
        fault.met(what, linear)
        raise
