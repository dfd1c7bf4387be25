"""Exits: the closed union of reasons for which a guest stops and the monitor takes over.

Every monitor, every view and every trace speaks this vocabulary. One frozen dataclass a reason; ``Exit`` is
their union, and a ``match`` over it ends in ``assert_never``. The fields of a class, in order, are the two
qualification numbers of a trace record. Sections are those of AMD APM vol. 2, rev. 3.42.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from operator import attrgetter
from typing import Final, TypeAlias, get_args

from vlab.isa.sensitive import mnemonic
from vlab.isa.vectors import name as vector_name
from vlab.vmm.paravirtual.interface import call_name


@dataclass(frozen=True, slots=True)
class Cpuid:
    """CPUID with EAX and ECX (APM2 15.9)."""

    leaf: int
    subleaf: int


@dataclass(frozen=True, slots=True)
class Halt:
    """HLT: the guest waits for an interrupt."""


@dataclass(frozen=True, slots=True)
class PhysicalInterrupt:
    """A physical interrupt: the monitor's timer, for virtual devices that are due (APM2 15.13.1)."""


@dataclass(frozen=True, slots=True)
class InterruptWindow:
    """The guest can take an interrupt again (APM2 15.21.4)."""


@dataclass(frozen=True, slots=True)
class PortAccess:
    """IN, OUT, INS or OUTS. info: port in bits 15:0, size in 23:16, bit 24 set for output; value moved."""

    info: int
    value: int

    @property
    def port(self) -> int:
        """The port's number."""
        return self.info & 0xFFFF

    @property
    def size(self) -> int:
        """Bytes moved."""
        return self.info >> 16 & 0xFF

    @property
    def output(self) -> bool:
        """Whether the guest wrote."""
        return bool(self.info >> 24)


@dataclass(frozen=True, slots=True)
class MsrAccess:
    """RDMSR or WRMSR of an MSR that is intercepted (APM2 15.11)."""

    number: int
    write: int


@dataclass(frozen=True, slots=True)
class NestedPageFault:
    """The nested tables do not map the address, or not so (APM2 15.25.6)."""

    gpa: int
    code: int


@dataclass(frozen=True, slots=True)
class PageFault:
    """#PF, intercepted because the monitor keeps shadow tables (APM2 15.12.15)."""

    address: int
    code: int


@dataclass(frozen=True, slots=True)
class ExceptionExit:
    """Another exception that the monitor intercepts (APM2 15.12)."""

    vector: int
    code: int


@dataclass(frozen=True, slots=True)
class ControlRegisterAccess:
    """MOV to or from CRn, CLTS, LMSW, SMSW (APM2 15.8.1). write: 1 for a write."""

    register: int
    write: int


@dataclass(frozen=True, slots=True)
class InvalidatePage:
    """INVLPG."""

    address: int


@dataclass(frozen=True, slots=True)
class TimeStampRead:
    """RDTSC or RDTSCP."""

    with_aux: int


@dataclass(frozen=True, slots=True)
class Hypercall:
    """A call of the monitor with the number in EAX. vector: of the INT that made it, 0 for VMMCALL."""

    number: int
    vector: int = 0


@dataclass(frozen=True, slots=True)
class PrivilegedInstruction:
    """An instruction that this virtual processor does not have. code: the SVM exit code."""

    code: int


@dataclass(frozen=True, slots=True)
class SensitiveInstruction:
    """A sensitive instruction that trapped outside ring 0. family: as in ``isa.sensitive``."""

    family: int


@dataclass(frozen=True, slots=True)
class SoftwareInterrupt:
    """INT n, INT3 or INTO: on a processor without extensions all lead to the monitor's IDT."""

    vector: int


@dataclass(frozen=True, slots=True)
class CallOut:
    """Translated code calls the monitor to carry an instruction out. family: as in ``isa.sensitive``."""

    family: int


@dataclass(frozen=True, slots=True)
class CacheMiss:
    """Translated code leads to where no translation is. rip: the guest's. lookup: 1 when it was indirect."""

    rip: int
    lookup: int


@dataclass(frozen=True, slots=True)
class TripleFault:
    """Shutdown: a fault while a double fault was delivered (APM2 15.14.3)."""


HardwareExit: TypeAlias = (
    Cpuid
    | Halt
    | PhysicalInterrupt
    | InterruptWindow
    | PortAccess
    | MsrAccess
    | NestedPageFault
    | PageFault
    | ExceptionExit
    | ControlRegisterAccess
    | InvalidatePage
    | TimeStampRead
    | Hypercall
    | PrivilegedInstruction
    | TripleFault
)
"""The exits of a processor with AMD-V."""

Exit: TypeAlias = HardwareExit | SensitiveInstruction | SoftwareInterrupt | CallOut | CacheMiss

EXIT_TYPES: Final[tuple[type[Exit], ...]] = get_args(Exit)
REASONS: Final = (
    "CPUID",
    "HLT",
    "INTR",
    "VINTR",
    "IOIO",
    "MSR",
    "NPF",
    "PF",
    "EXCEPTION",
    "CR",
    "INVLPG",
    "RDTSC",
    "VMMCALL",
    "PRIVILEGED",
    "SHUTDOWN",
    "TRAP",
    "INT",
    "CALLOUT",
    "MISS",
)
"""The name of each reason, in the order of ``EXIT_TYPES``: what traces and tables show."""

Qualifier: TypeAlias = Callable[[Exit], tuple[int, int]]
"""Reads an exit's two numbers for a trace record."""

CODE: Final[dict[type[Exit], int]] = {kind: code for code, kind in enumerate(EXIT_TYPES)}


def describe(reason: str, info1: int, info2: int) -> dict[str, str | int]:
    """Decode a trace record's qualification into named values."""
    kind = EXIT_TYPES[REASONS.index(reason)]
    if kind is PortAccess:
        access = PortAccess(info1, info2)
        return {
            "port": f"{access.port:#x}",
            "size": access.size,
            "direction": "out" if access.output else "in",
            "value": f"{info2:#x}",
        }
    if kind in (SensitiveInstruction, CallOut):
        return {"instruction": mnemonic(info1)}
    if kind is ExceptionExit:
        return {"vector": vector_name(info1), "error_code": f"{info2:#x}"}
    if kind is Hypercall:
        call: dict[str, str | int] = {"call": call_name(info1)} if info2 else {}
        return {"number": f"{info1:#x}"} | call
    names = tuple(kind.__dataclass_fields__)
    return {name: f"{value:#x}" for name, value in zip(names, (info1, info2), strict=False)}


def qualification(exit_: Exit) -> tuple[int, int]:
    """Give an exit's two numbers for a trace record."""
    return QUALIFIERS[type(exit_)](exit_)


def _reader(kind: type[Exit]) -> Qualifier:
    """Give the function that reads the two numbers of an exit of this kind."""
    match tuple(kind.__dataclass_fields__):
        case ():
            return lambda _exit: (0, 0)
        case (name,):
            only = attrgetter(name)
            return lambda exit_: (only(exit_), 0)
        case names:
            return attrgetter(*names)


QUALIFIERS: Final = {kind: _reader(kind) for kind in EXIT_TYPES}
"""For each kind of exit, the function that reads its two numbers."""
