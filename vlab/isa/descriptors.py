"""Selectors, segment descriptors and gates: the entries of the GDT, LDT and IDT.

Sections are those of AMD APM vol. 2, rev. 3.44 (APM2). Addresses are in bytes; the ``base``, ``limit`` and
``offset`` that the formats scatter over several fields are put together by properties of those names.
"""

from __future__ import annotations

from typing import Final

from vlab.isa.fields import Register, bit, bits
from vlab.isa.state import Segment

# System descriptor types (S = 0), APM2 4.7.4. Long mode gives the 32-bit numbers a 64-bit format.
TSS_16_AVAILABLE: Final = 0x1
LDT: Final = 0x2
TSS_16_BUSY: Final = 0x3
CALL_GATE_16: Final = 0x4
TASK_GATE: Final = 0x5
INTERRUPT_GATE_16: Final = 0x6
TRAP_GATE_16: Final = 0x7
TSS_32_AVAILABLE: Final = 0x9
TSS_32_BUSY: Final = 0xB
CALL_GATE_32: Final = 0xC
INTERRUPT_GATE_32: Final = 0xE
TRAP_GATE_32: Final = 0xF

# Bits of TYPE in code and data descriptors (S = 1), APM2 4.7.2 and 4.7.3.
TYPE_ACCESSED: Final = 0x1
TYPE_WRITABLE: Final = 0x2  # data: writable; code: readable
TYPE_READABLE: Final = 0x2
TYPE_EXPAND_DOWN: Final = 0x4  # data: expand down; code: conforming
TYPE_CONFORMING: Final = 0x4
TYPE_CODE: Final = 0x8

_SYSTEM_TYPES = {
    TSS_16_AVAILABLE: "available 16-bit TSS",
    LDT: "LDT",
    TSS_16_BUSY: "busy 16-bit TSS",
    CALL_GATE_16: "16-bit call gate",
    TASK_GATE: "task gate",
    INTERRUPT_GATE_16: "16-bit interrupt gate",
    TRAP_GATE_16: "16-bit trap gate",
    TSS_32_AVAILABLE: "available TSS",
    TSS_32_BUSY: "busy TSS",
    CALL_GATE_32: "call gate",
    INTERRUPT_GATE_32: "interrupt gate",
    TRAP_GATE_32: "trap gate",
}


class Selector(Register, width=16, reference="APM2 4.5.1"):
    """What a program loads into a segment register."""

    RPL = bits(0, 1, "requestor privilege level")
    TI = bit(2, "the index is into the LDT, not the GDT")
    INDEX = bits(3, 15, "descriptor index")

    @property
    def table_offset(self) -> int:
        """Where the descriptor starts in its table, in bytes."""
        return self & 0xFFF8


class SegmentAttributes(Register, width=16, reference="APM2 15.5.1"):
    """The attributes of a loaded segment as a VMCB holds them: bits 40-47 and 52-55 of the descriptor."""

    TYPE = bits(0, 3, "type: accessed, writable or readable, expand-down or conforming, code")
    S = bit(4, "code or data, not a system segment")
    DPL = bits(5, 6, "descriptor privilege level")
    P = bit(7, "present")
    AVL = bit(8, "free for software")
    L = bit(9, "64-bit code")
    DB = bit(10, "default operand size or stack size is 32 bits")
    G = bit(11, "the limit counts 4 KB units")


class SegmentDescriptor(Register, width=64, reference="APM2 4.7.1, 4.8.1"):
    """A code, data or legacy system descriptor: 8 bytes of the GDT or LDT."""

    LIMIT_LOW = bits(0, 15, "limit, bits 15:0")
    BASE_LOW = bits(16, 39, "base, bits 23:0")
    TYPE = bits(40, 43, "type")
    S = bit(44, "code or data, not a system segment")
    DPL = bits(45, 46, "descriptor privilege level")
    P = bit(47, "present")
    LIMIT_HIGH = bits(48, 51, "limit, bits 19:16")
    AVL = bit(52, "free for software")
    L = bit(53, "64-bit code")
    DB = bit(54, "default operand size or stack size is 32 bits")
    G = bit(55, "the limit counts 4 KB units")
    BASE_HIGH = bits(56, 63, "base, bits 31:24")

    @property
    def base(self) -> int:
        """The linear base address."""
        return base_of(self)

    @property
    def limit(self) -> int:
        """The offset of the last byte, granularity applied."""
        return limit_of(self)

    @property
    def attributes(self) -> SegmentAttributes:
        """The attributes in the form of a VMCB."""
        return SegmentAttributes(attributes_of(self))


class SystemDescriptor64(Register, width=128, reference="APM2 4.8.3"):
    """A TSS or LDT descriptor in long mode: 16 bytes of the GDT."""

    LIMIT_LOW = bits(0, 15, "limit, bits 15:0")
    BASE_LOW = bits(16, 39, "base, bits 23:0")
    TYPE = bits(40, 43, "type", _SYSTEM_TYPES)
    S = bit(44, "0: a system segment")
    DPL = bits(45, 46, "descriptor privilege level")
    P = bit(47, "present")
    LIMIT_HIGH = bits(48, 51, "limit, bits 19:16")
    AVL = bit(52, "free for software")
    G = bit(55, "the limit counts 4 KB units")
    BASE_MIDDLE = bits(56, 63, "base, bits 31:24")
    BASE_HIGH = bits(64, 95, "base, bits 63:32")

    @property
    def base(self) -> int:
        """The linear base address, 64 bits."""
        return base_of(self) | self.BASE_HIGH << 32

    @property
    def limit(self) -> int:
        """The offset of the last byte, granularity applied."""
        return limit_of(self)


class Gate(Register, width=64, reference="APM2 4.7.5"):
    """A 16-bit or 32-bit call, interrupt, trap or task gate: 8 bytes."""

    OFFSET_LOW = bits(0, 15, "offset of the handler, bits 15:0")
    SELECTOR = bits(16, 31, "code segment of the handler, or TSS of a task gate")
    COUNT = bits(32, 36, "call gates: parameters to copy to the new stack")
    TYPE = bits(40, 43, "type", _SYSTEM_TYPES)
    S = bit(44, "0: a system descriptor")
    DPL = bits(45, 46, "highest CPL that may use the gate with CALL, JMP or INT")
    P = bit(47, "present")
    OFFSET_HIGH = bits(48, 63, "offset of the handler, bits 31:16 (32-bit gates)")

    @property
    def offset(self) -> int:
        """The handler's offset: 32 bits, or 16 for a 16-bit gate."""
        wide = self.TYPE & 0x8
        return self.OFFSET_LOW | self.OFFSET_HIGH << 16 if wide else self.OFFSET_LOW

    @classmethod
    def make(cls, kind: int, selector: int, offset: int, dpl: int = 0, count: int = 0) -> Gate:
        """Give a present gate of type ``kind`` (a constant of this module) to ``selector:offset``."""
        return cls(0).replace(
            OFFSET_LOW=offset & 0xFFFF,
            OFFSET_HIGH=offset >> 16,
            SELECTOR=selector,
            COUNT=count,
            TYPE=kind,
            DPL=dpl,
            P=1,
        )


class Gate64(Register, width=128, reference="APM2 4.8.4"):
    """A call, interrupt or trap gate in long mode: 16 bytes."""

    OFFSET_LOW = bits(0, 15, "offset of the handler, bits 15:0")
    SELECTOR = bits(16, 31, "code segment of the handler")
    IST = bits(32, 34, "interrupt gates: entry of the interrupt-stack table, 0 for none")
    TYPE = bits(40, 43, "type", _SYSTEM_TYPES)
    S = bit(44, "0: a system descriptor")
    DPL = bits(45, 46, "highest CPL that may use the gate with CALL, JMP or INT")
    P = bit(47, "present")
    OFFSET_MIDDLE = bits(48, 63, "offset of the handler, bits 31:16")
    OFFSET_HIGH = bits(64, 95, "offset of the handler, bits 63:32")

    @property
    def offset(self) -> int:
        """The handler's offset, 64 bits."""
        return self.OFFSET_LOW | self.OFFSET_MIDDLE << 16 | self.OFFSET_HIGH << 32

    @classmethod
    def make(cls, kind: int, selector: int, offset: int, dpl: int = 0, ist: int = 0) -> Gate64:
        """Give a present gate of type ``kind`` (a constant of this module) to ``selector:offset``."""
        return cls(0).replace(
            OFFSET_LOW=offset & 0xFFFF,
            OFFSET_MIDDLE=offset >> 16 & 0xFFFF,
            OFFSET_HIGH=offset >> 32,
            SELECTOR=selector,
            IST=ist,
            TYPE=kind,
            DPL=dpl,
            P=1,
        )


def attributes_of(raw: int) -> int:
    """Give the attributes of a descriptor (its low 8 bytes) in the form of a VMCB."""
    return raw >> 40 & 0xFF | raw >> 44 & 0xF00


def base_of(raw: int) -> int:
    """Give the 32-bit base of a descriptor (its low 8 bytes)."""
    return raw >> 16 & 0xFFFFFF | raw >> 32 & 0xFF000000


def limit_of(raw: int) -> int:
    """Give the limit of a descriptor in bytes: the offset of the last byte, granularity applied."""
    limit = raw & 0xFFFF | raw >> 32 & 0xF0000
    return limit << 12 | 0xFFF if raw >> 55 & 1 else limit


def unpack_segment(raw: int, selector: int = 0) -> Segment:
    """Load a descriptor as the processor does: the hidden part of the segment register for ``selector``.

    ``raw`` is 8 bytes, or 16 for a system descriptor of long mode, whose base then has 64 bits.
    """
    base = base_of(raw) | (raw >> 64 & 0xFFFFFFFF) << 32
    return Segment(selector, base, limit_of(raw), attributes_of(raw))


def pack_segment(segment: Segment) -> SegmentDescriptor:
    """Give the 8-byte descriptor that loads as ``segment``.

    Raises ValueError when its base needs more than 32 bits or its limit cannot be written: over 20 bits
    without G, or low 12 bits not all ones with G.
    """
    limit, granular = segment.limit, segment.attributes & SegmentAttributes.G.mask
    if granular:
        if limit & 0xFFF != 0xFFF:
            raise ValueError(f"segment.limit: {limit:#x} with G set must end in 0xfff")
        limit >>= 12
    if not 0 <= segment.base < 1 << 32:
        raise ValueError(f"segment.base: {segment.base:#x} does not fit the 32 bits of an 8-byte descriptor")
    if not 0 <= limit < 1 << 20:
        raise ValueError(f"segment.limit: {segment.limit:#x} does not fit in 20 bits; set G to count pages")
    return SegmentDescriptor(
        limit & 0xFFFF
        | (segment.base & 0xFFFFFF) << 16
        | (segment.attributes & 0xFF) << 40
        | (limit >> 16) << 48
        | (segment.attributes >> 8 & 0xF) << 52
        | (segment.base >> 24) << 56
    )
