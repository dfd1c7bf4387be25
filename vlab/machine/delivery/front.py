"""Delivery of one event, with the faults that arise on the way.

Sections are those of AMD APM vol. 2, rev. 3.42 (APM2), and Intel SDM vol. 3A, order 253668-083 (SDM3).
"""

from __future__ import annotations

from collections.abc import Callable

from vlab.isa.vectors import Combination, Vector, double_fault
from vlab.machine.delivery.core import CR0_PE, EFER_LMA, Core
from vlab.machine.delivery.long import deliver_long
from vlab.machine.delivery.outcomes import Delivered, FaultRecord, Intercepted, Outcome, Shutdown, TaskSwitch
from vlab.machine.delivery.protected import TaskGateMet, deliver_protected
from vlab.machine.delivery.real import deliver_real
from vlab.machine.faults import CpuFault, Event, EventKind

_EXCEPTION = EventKind.EXCEPTION
_PF = int(Vector.PF)
_DF = int(Vector.DF)
_SMOOTH = Delivered()

# Two contributory faults or page faults end in #DF and the next in shutdown, but benign ones may follow each
# other without end (#AC for ever, on a stack that is never aligned). Nothing on the way can repair that.
_LONGEST_CHAIN = 8


def _nothing(vector: int) -> bool:
    return False


def deliver(
    core: Core,
    event: Event,
    *,
    intercepts: Callable[[int], bool] = _nothing,
    intercept_task_switch: bool = False,
) -> Outcome:
    """Deliver ``event``: enter its handler, or the handler of a fault met on the way (APM2 chapter 8).

    ``intercepts(vector)`` says whether a hypervisor intercepts an exception that delivery itself raises; the
    caller has decided about ``event``. With ``intercept_task_switch`` a task gate ends in ``TaskSwitch``.

    Registers change only for ``Delivered``, apart from CR2, which every page fault sets unless it is
    intercepted, and apart from a task switch whose new task has bad segments, or the T bit set in its TSS:
    that exception is the new task's. Memory may have been written in any case: pushes, accessed bits, the
    old task's TSS.
    """
    try:
        _attempt(core, event, intercept_task_switch)
    except CpuFault as fault:
        return _after(core, event, fault, intercepts, intercept_task_switch)
    except TaskGateMet as gate:
        return TaskSwitch(gate.selector, event)
    return _SMOOTH


def _attempt(core: Core, event: Event, stop_at_task_gate: bool) -> None:
    if event.vector == _PF and event.kind is _EXCEPTION and event.address is not None:
        core.cr2 = event.address
    if core.efer & EFER_LMA:
        deliver_long(core, event)
    elif core.cr0 & CR0_PE:
        deliver_protected(core, event, stop_at_task_gate=stop_at_task_gate)
    else:
        deliver_real(core, event)


def _after(
    core: Core, event: Event, fault: CpuFault, intercepts: Callable[[int], bool], stop_at_task_gate: bool
) -> Outcome:
    """Go on after ``fault`` stopped the delivery of ``event`` (APM2 8.2.9; SDM3 table 6-5)."""
    chain: list[FaultRecord] = []
    while True:
        raised = fault.event()
        combination = combine(event, raised)
        if len(chain) + 1 >= _LONGEST_CHAIN:
            combination = Combination.SHUTDOWN
        # The second exception's own intercept comes before the two are combined (APM2 15.12).
        intercepted = intercepts(raised.vector)
        if raised.vector == _PF and raised.address is not None and not intercepted:
            core.cr2 = raised.address  # even when #DF or shutdown follows: SDM3 6.15, "Interrupt 14"
        chain.append(record_fault(core, event, raised, combination, fault.why))
        if intercepted:
            return Intercepted(raised, event, tuple(chain))
        if combination is Combination.SHUTDOWN:
            return Shutdown(tuple(chain))
        if combination is Combination.DOUBLE:
            raised = Event(_EXCEPTION, _DF, 0)
            if intercepts(_DF):
                return Intercepted(raised, event, tuple(chain))
        event = raised
        try:
            _attempt(core, event, stop_at_task_gate)
        except CpuFault as another:
            fault = another
        except TaskGateMet as gate:
            return TaskSwitch(gate.selector, event, tuple(chain))
        else:
            return Delivered(tuple(chain))


def combine(first: Event, second: Event) -> Combination:
    """Say what becomes of two events, ``second`` raised while ``first`` was delivered.

    Only exceptions count as ``first``: interrupts of every kind are benign, whatever their vector
    (SDM3 table 6-4).
    """
    if first.kind is not _EXCEPTION:
        return Combination.SERIAL
    return double_fault(first.vector, second.vector)


def record_fault(core: Core, event: Event, fault: Event, combination: Combination, why: str) -> FaultRecord:
    """Keep what a story tells of ``fault``, met while ``event`` was delivered to the program on ``core``."""
    return FaultRecord(
        event=event,
        fault=fault,
        combination=combination,
        rip=core.rip,
        cs=core.segment("cs").selector,
        ss=core.segment("ss").selector,
        rsp=core.rsp,
        rflags=core.rflags,
        cr2=core.cr2,
        why=why or "memory that delivery needs cannot be accessed",
    )
