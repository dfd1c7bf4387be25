"""Events whose delivery an exit interrupted: EXITINTINFO (AMD APM vol. 2, rev. 3.42, 15.7.2).

The processor was entering a handler, and something on the way (a stack, a gate, a descriptor) was not mapped
in the monitor's tables. When the monitor has put that right, the event is delivered again. When it was the
guest's own fault, the two combine as on bare hardware (APM2 8.2.9).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import assert_never

from vlab.isa.state import CpuState
from vlab.isa.vectors import Combination, Vector
from vlab.machine.delivery import FaultRecord, combine, record_fault
from vlab.machine.faults import Event, EventKind
from vlab.machine.processor import Processor
from vlab.vmm.story import shutdown_story
from vlab.vmm.verdicts import End, Inject, Resume, Verdict


class Redelivery:
    """What becomes of interrupted deliveries on ``processor``. It remembers the faults, for the story.

    guest_state: gives the registers as the guest sees them.
    """

    def __init__(self, processor: Processor, guest_state: Callable[[], CpuState]) -> None:
        self._processor = processor
        self._guest_state = guest_state
        self._chain: list[FaultRecord] = []
        self._next: Event | None = None

    def after(self, during: Event, verdict: Verdict) -> Verdict:
        """Give the verdict on an exit during the delivery of ``during`` that was handled by ``verdict``."""
        if during != self._next:
            self._chain.clear()
        match verdict:
            case Resume():
                self._next = during
                return Inject(during)
            case Inject(fault):
                return self._combined(during, fault)
            case _:
                return verdict

    def _combined(self, during: Event, fault: Event) -> Verdict:
        """A fault of the guest's own in the middle of a delivery."""
        core, combination = self._processor.core, combine(during, fault)
        if fault.address is not None:
            core.cr2 = fault.address  # even when #DF or shutdown follows: SDM3 6.15, "Interrupt 14"
        why = "the guest's tables do not allow the access"
        self._chain.append(record_fault(core, during, fault, combination, why))
        match combination:
            case Combination.SERIAL:
                self._next = fault
            case Combination.DOUBLE:
                self._next = Event(EventKind.EXCEPTION, Vector.DF, 0)
            case Combination.SHUTDOWN:
                return End(shutdown_story(self._processor, tuple(self._chain), "", self._guest_state()))
            case _:
                assert_never(combination)
        return Inject(self._next)
