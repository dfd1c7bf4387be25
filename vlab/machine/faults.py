"""Events that enter the processor's delivery microcode, and the fault that stops it half way.

An Event is what waits for delivery: an interrupt, an exception, a software interrupt. A CpuFault is control
flow inside ``vlab.machine``: a microcode routine raises it where hardware would fault, and the routine that
called it turns it into an exception for the guest. It never leaves the machine.

Sections are those of AMD APM vol. 2, rev. 3.42 (APM2).
"""

from __future__ import annotations

from enum import Enum
from typing import NamedTuple

from vlab.isa.vectors import PageFaultError, Vector
from vlab.isa.vectors import name as vector_name


class EventKind(Enum):
    """Where an event comes from; it decides on privilege checks, EXT and RF (APM2 8.2, 15.20)."""

    EXTERNAL = "external interrupt"
    NMI = "NMI"
    EXCEPTION = "exception"
    SOFTWARE_INT = "INT n"
    INT3 = "INT3"
    INTO = "INTO"
    ICEBP = "ICEBP"


class Event(NamedTuple):
    """One event to deliver.

    ``vector``: 0..255. ``error_code``: what an exception pushes, None when it pushes nothing; ignored for
    every other kind, as in EVENTINJ (APM2 15.20). ``address``: the linear address of a page fault, which
    goes to CR2. ``instruction_length``: bytes from RIP to the return address, for the software kinds.
    """

    kind: EventKind
    vector: int
    error_code: int | None = None
    address: int | None = None
    instruction_length: int = 0

    def describe(self) -> str:
        """Say what the event is in one phrase: ``#PF with error code 0x2 for address 0x1000``."""
        if self.kind is not EventKind.EXCEPTION:
            return f"{self.kind.value} (vector {self.vector:#04x})"
        code = "" if self.error_code is None else f" with error code {self.error_code:#x}"
        address = "" if self.address is None else f" for address {self.address:#x}"
        return f"{vector_name(self.vector)}{code}{address}"


class CpuFault(Exception):
    """The processor faults: ``vector``, ``error_code`` (None: none), ``address`` (of #PF, for CR2).

    ``why`` is a clause for people that names the cause: "IDT entry 14 at 0x70 is not present".
    """

    def __init__(
        self, vector: int, error_code: int | None = None, address: int | None = None, why: str = ""
    ) -> None:
        super().__init__(vector, error_code, address, why)
        self.vector = vector
        self.error_code = error_code
        self.address = address
        self.why = why

    def event(self) -> Event:
        """Give the exception that this fault becomes."""
        return Event(EventKind.EXCEPTION, self.vector, self.error_code, self.address)

    def met(self, what: str, linear: int) -> CpuFault:
        """Say in ``why`` what the microcode was touching at ``linear``, unless it is known; give itself."""
        if not self.why:
            where = linear if self.address is None else self.address
            self.why = f"{what} at {where:#x} {self._reason()}"
        return self

    def _reason(self) -> str:
        if self.vector != Vector.PF:
            return f"raised {vector_name(self.vector)}"
        if self.error_code is not None and self.error_code & PageFaultError.P.mask:
            return "is on a page that does not allow the access"
        return "is not mapped"

    def __str__(self) -> str:
        return f"{self.event().describe()}{': ' if self.why else ''}{self.why}"
