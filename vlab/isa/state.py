"""The architectural register file of one processor, as loaders, the processor and snapshots share it.

Segment attributes have the 12-bit form of the VMCB (type, S, DPL, P, AVL, L, D/B, G from bit 0), because
that is the form in which the hardware itself saves them. Sections are those of AMD APM vol. 2, rev. 3.44.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from enum import Enum
from operator import attrgetter

GENERAL_REGISTERS = (
    "rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi",
    "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15",
)  # fmt: skip
"""The sixteen general registers in the order of their numbers in an instruction."""

SEGMENT_REGISTERS = ("es", "cs", "ss", "ds", "fs", "gs")
"""The six segment registers in the order of their numbers in an instruction."""

_PE, _PG, _ET = 1 << 0, 1 << 31, 1 << 4
_PAE = 1 << 5
_VM = 1 << 17
_LME, _LMA = 1 << 8, 1 << 10
_LONG, _BIG = 1 << 9, 1 << 10  # in segment attributes

_CODE_16, _CODE_32, _CODE_64 = 0x09B, 0xC9B, 0xA9B
_DATA_16, _DATA_32 = 0x093, 0xC93
_LDT, _BUSY_TSS = 0x082, 0x08B


class Mode(Enum):
    """The operating mode of the processor (APM2 1.3); COMPAT and LONG64 are the two halves of long mode."""

    REAL = "real"
    V86 = "virtual-8086"
    PROTECTED16 = "protected 16-bit"
    PROTECTED32 = "protected 32-bit"
    COMPAT = "compatibility"
    LONG64 = "64-bit"


@dataclass(slots=True)
class Segment:
    """A segment register with its hidden part: ``base`` and ``limit`` in bytes, ``attributes`` as in VMCB."""

    selector: int = 0
    base: int = 0
    limit: int = 0xFFFF
    attributes: int = 0x93

    @property
    def dpl(self) -> int:
        """The descriptor privilege level, 0 to 3."""
        return (self.attributes >> 5) & 3

    def copy(self) -> Segment:
        """Give an independent copy."""
        return Segment(self.selector, self.base, self.limit, self.attributes)


@dataclass(slots=True)
class TableRegister:
    """GDTR or IDTR: linear ``base`` and ``limit`` (size in bytes minus 1)."""

    base: int = 0
    limit: int = 0xFFFF

    def copy(self) -> TableRegister:
        """Give an independent copy."""
        return TableRegister(self.base, self.limit)


def _ldt() -> Segment:
    return Segment(attributes=_LDT)


def _tss() -> Segment:
    return Segment(attributes=_BUSY_TSS)


@dataclass(slots=True)
class CpuState:
    """Every architectural register that a guest's execution depends on, x87 and SSE apart.

    All values are unsigned; addresses are linear except ``cr3``.
    """

    rax: int = 0
    rcx: int = 0
    rdx: int = 0
    rbx: int = 0
    rsp: int = 0
    rbp: int = 0
    rsi: int = 0
    rdi: int = 0
    r8: int = 0
    r9: int = 0
    r10: int = 0
    r11: int = 0
    r12: int = 0
    r13: int = 0
    r14: int = 0
    r15: int = 0
    rip: int = 0
    rflags: int = 2
    es: Segment = field(default_factory=Segment)
    cs: Segment = field(default_factory=Segment)
    ss: Segment = field(default_factory=Segment)
    ds: Segment = field(default_factory=Segment)
    fs: Segment = field(default_factory=Segment)
    gs: Segment = field(default_factory=Segment)
    ldtr: Segment = field(default_factory=_ldt)
    tr: Segment = field(default_factory=_tss)
    gdtr: TableRegister = field(default_factory=TableRegister)
    idtr: TableRegister = field(default_factory=TableRegister)
    cr0: int = 0
    cr2: int = 0
    cr3: int = 0
    cr4: int = 0
    efer: int = 0
    dr6: int = 0xFFFF0FF0
    dr7: int = 0x400
    star: int = 0
    lstar: int = 0
    cstar: int = 0
    sfmask: int = 0
    kernel_gs_base: int = 0
    sysenter_cs: int = 0
    sysenter_esp: int = 0
    sysenter_eip: int = 0
    pat: int = 0x0007040600070406

    @property
    def mode(self) -> Mode:
        """The operating mode that CR0, RFLAGS, EFER and CS say."""
        if not self.cr0 & _PE:
            return Mode.REAL
        if self.efer & _LMA:
            return Mode.LONG64 if self.cs.attributes & _LONG else Mode.COMPAT
        if self.rflags & _VM:
            return Mode.V86
        return Mode.PROTECTED32 if self.cs.attributes & _BIG else Mode.PROTECTED16

    @property
    def cpl(self) -> int:
        """The current privilege level: SS.DPL, 0 in real mode, 3 in virtual-8086 mode."""
        mode = self.mode
        if mode is Mode.REAL:
            return 0
        return 3 if mode is Mode.V86 else self.ss.dpl

    def copy(self) -> CpuState:
        """Give an independent copy, segments included."""
        twin = CpuState(*_IN_ORDER(self))
        for name in _NESTED:
            setattr(twin, name, getattr(self, name).copy())
        return twin

    @classmethod
    def reset(cls) -> CpuState:
        """Give the state after RESET# (APM2 14.1.3): 16 bytes below 4 GB, in real mode.

        RDX, which holds the processor's signature after a reset, is left 0 for the machine to fill.
        """
        state = cls(rip=0xFFF0, cr0=0x60000010)
        state.cs = Segment(0xF000, 0xFFFF0000, 0xFFFF, 0x9A)
        for name in ("es", "ss", "ds", "fs", "gs"):
            setattr(state, name, Segment(attributes=0x92))
        state.tr = Segment(attributes=0x83)
        return state

    @classmethod
    def real_mode(cls, segment: int, ip: int) -> CpuState:
        """Give real mode about to run ``segment:ip``, other segments 0, the interrupt table at 0.

        Raises ValueError unless both are 16-bit numbers.
        """
        if not (0 <= segment <= 0xFFFF and 0 <= ip <= 0xFFFF):
            raise ValueError(f"real_mode({segment:#x}, {ip:#x}): segment and ip are 16-bit numbers")
        state = cls(rip=ip, cr0=_ET)
        state.cs = Segment(segment, segment << 4, 0xFFFF, _CODE_16)
        state.idtr = TableRegister(0, 0x3FF)
        return state

    @classmethod
    def flat32(cls, entry: int) -> CpuState:
        """Give 32-bit protected mode without paging at ``entry``, flat 4 GB segments, interrupts off.

        CS is selector 0x08 and the data segments 0x10, with no GDT behind them: the program loads its own.
        """
        if not 0 <= entry < 1 << 32:
            raise ValueError(f"flat32({entry:#x}): the entry point must be below 4 GB")
        state = cls(rip=entry, cr0=_PE | _ET)
        state._flat(_CODE_32)
        return state

    @classmethod
    def long64(cls, entry: int, cr3: int) -> CpuState:
        """Give 64-bit mode at ``entry`` over the 4-level tables at ``cr3``, interrupts off.

        Selectors as in ``flat32``.
        """
        state = cls(rip=entry, cr0=_PE | _ET | _PG, cr3=cr3, cr4=_PAE, efer=_LME | _LMA)
        state._flat(_CODE_64)
        return state

    def _flat(self, code: int) -> None:
        self.cs = Segment(0x08, 0, 0xFFFFFFFF, code)
        for name in ("es", "ss", "ds", "fs", "gs"):
            setattr(self, name, Segment(0x10, 0, 0xFFFFFFFF, _DATA_32))
        self.gdtr = TableRegister(0, 0)
        self.idtr = TableRegister(0, 0)


_NESTED = (*SEGMENT_REGISTERS, "ldtr", "tr", "gdtr", "idtr")
_IN_ORDER = attrgetter(*(part.name for part in fields(CpuState)))
