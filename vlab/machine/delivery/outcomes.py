"""How a delivery ends: the closed union that callers match on.

Sections are those of AMD APM vol. 2, rev. 3.42 (APM2).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from vlab.isa.vectors import Combination
from vlab.machine.faults import Event


@dataclass(frozen=True, slots=True)
class FaultRecord:
    """One fault met on the way: delivering ``event`` raised ``fault``.

    ``combination`` says what the processor made of the two. The registers (selectors for ``cs`` and ``ss``)
    are those of the interrupted program; ``cr2`` is what the fault left there. ``why`` names the cause.
    """

    event: Event
    fault: Event
    combination: Combination
    rip: int
    cs: int
    ss: int
    rsp: int
    rflags: int
    cr2: int
    why: str

    @property
    def error_code(self) -> int | None:
        """The error code of the fault that was raised."""
        return self.fault.error_code

    def describe(self) -> str:
        """Tell the record in one line."""
        return (
            f"delivering {self.event.describe()} raised {self.fault.describe()} because {self.why}"
            f" (cs:rip {self.cs:04x}:{self.rip:x}, ss:rsp {self.ss:04x}:{self.rsp:x})"
            f" -> {self.combination.value}"
        )


Chain: TypeAlias = tuple[FaultRecord, ...]


@dataclass(frozen=True, slots=True)
class Delivered:
    """A handler is about to run; ``chain`` holds the faults met on the way, in order, mostly none."""

    chain: Chain = ()


@dataclass(frozen=True, slots=True)
class Intercepted:
    """A fault that the hypervisor intercepts arose while ``during`` was being delivered (APM2 15.7.2).

    ``fault`` is the exit's reason and ``during`` belongs in EXITINTINFO. CR2 does not hold ``fault``'s
    address.
    """

    fault: Event
    during: Event
    chain: Chain = ()


@dataclass(frozen=True, slots=True)
class TaskSwitch:
    """``during`` met a task gate for TSS ``selector``, and task switches are intercepted (APM2 15.14.1)."""

    selector: int
    during: Event
    chain: Chain = ()


@dataclass(frozen=True, slots=True)
class Shutdown:
    """A triple fault (APM2 8.2.9): ``chain`` tells how it came about; the last record is the fatal one."""

    chain: Chain


Outcome: TypeAlias = Delivered | Intercepted | TaskSwitch | Shutdown
