"""Exception vectors, their error codes, and how two faults combine into a double fault.

Sections are those of AMD APM vol. 2, rev. 3.44 (APM2), and Intel SDM vol. 3A, order 253668-083 (SDM3).
"""

from __future__ import annotations

from enum import Enum, IntEnum

from vlab.isa.fields import Register, bit, bits


class Vector(IntEnum):
    """Interrupt vectors 0 to 31 that the architecture gives a meaning (APM2 8.2, table 8-1)."""

    DE = 0
    DB = 1
    NMI = 2
    BP = 3
    OF = 4
    BR = 5
    UD = 6
    NM = 7
    DF = 8
    TS = 10
    NP = 11
    SS = 12
    GP = 13
    PF = 14
    MF = 16
    AC = 17
    MC = 18
    XF = 19

    @property
    def meaning(self) -> str:
        """The manual's name of the exception."""
        return _MEANINGS[self]

    def __str__(self) -> str:
        return self.name if self is Vector.NMI else f"#{self.name}"


_MEANINGS = {
    Vector.DE: "divide error",
    Vector.DB: "debug",
    Vector.NMI: "non-maskable interrupt",
    Vector.BP: "breakpoint",
    Vector.OF: "overflow",
    Vector.BR: "bound range",
    Vector.UD: "invalid opcode",
    Vector.NM: "device not available",
    Vector.DF: "double fault",
    Vector.TS: "invalid TSS",
    Vector.NP: "segment not present",
    Vector.SS: "stack fault",
    Vector.GP: "general protection",
    Vector.PF: "page fault",
    Vector.MF: "x87 floating-point exception pending",
    Vector.AC: "alignment check",
    Vector.MC: "machine check",
    Vector.XF: "SIMD floating-point exception",
}

# APM2 table 8-1, column "error code": vectors whose handler finds an error code on its stack.
_WITH_ERROR_CODE = frozenset({8, 10, 11, 12, 13, 14, 17})


class FaultClass(Enum):
    """How an exception takes part in a double fault (APM2 8.2.9; SDM3 table 6-4)."""

    BENIGN = "benign"
    CONTRIBUTORY = "contributory"
    PAGE_FAULT = "page fault"
    DOUBLE_FAULT = "double fault"


class Combination(Enum):
    """What the processor does when a second exception arises while it delivers the first."""

    SERIAL = "deliver the second"
    DOUBLE = "deliver #DF"
    SHUTDOWN = "triple fault"


class PageFaultError(Register, width=32, reference="APM2 8.4.2"):
    """The error code that a page fault pushes."""

    P = bit(0, "the page was present: a protection violation, not a missing page")
    W = bit(1, "the access was a write")
    U = bit(2, "the access was made at CPL 3")
    RSVD = bit(3, "a reserved bit was set in a page-table entry")
    I = bit(4, "the access was an instruction fetch")  # noqa: E741  the manual's name
    PK = bit(5, "a protection key forbade the access")
    SS = bit(6, "the access was to a shadow stack")


class SelectorError(Register, width=32, reference="APM2 8.4.1"):
    """The error code of #TS, #NP, #SS and #GP: the selector that was at fault, or 0."""

    EXT = bit(0, "the event came from outside the program")
    IDT = bit(1, "the index is into the IDT")
    TI = bit(2, "the index is into the LDT, not the GDT")
    INDEX = bits(3, 15, "descriptor index")


def name(vector: int) -> str:
    """Name a vector: ``#PF`` for the architecture's own, ``vector 0x30`` for the others."""
    try:
        return str(Vector(vector))
    except ValueError:
        return f"vector {vector:#04x}"


def has_error_code(vector: int) -> bool:
    """Say whether the processor pushes an error code when it delivers ``vector`` as an exception."""
    return vector in _WITH_ERROR_CODE


def class_of(vector: int) -> FaultClass:
    """Give the double-fault class of a vector; interrupts and NMI count as benign."""
    if vector == Vector.PF:
        return FaultClass.PAGE_FAULT
    if vector == Vector.DF:
        return FaultClass.DOUBLE_FAULT
    if vector in (Vector.DE, Vector.TS, Vector.NP, Vector.SS, Vector.GP):
        return FaultClass.CONTRIBUTORY
    return FaultClass.BENIGN


def double_fault(first: int, second: int) -> Combination:
    """Combine two exceptions, the second met while the first was being delivered (SDM3 table 6-5).

    Both are vectors. A benign exception on either side is delivered in its turn, except that any
    contributory exception or page fault while #DF is delivered shuts the processor down.
    """
    one, two = class_of(first), class_of(second)
    if two is FaultClass.BENIGN or one is FaultClass.BENIGN:
        return Combination.SERIAL
    if one is FaultClass.DOUBLE_FAULT:
        return Combination.SHUTDOWN
    if one is FaultClass.CONTRIBUTORY and two is FaultClass.PAGE_FAULT:
        return Combination.SERIAL
    return Combination.DOUBLE
