"""Which function of a monitor, or of its paging strategy, serves an exit: for readers who want to see it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Final

from vlab.errors import UnusableInput
from vlab.isa.sensitive import Sensitive
from vlab.vmm import exits
from vlab.vmm.bare import BareMachine
from vlab.vmm.deprivileged.monitor import DeprivilegedMonitor
from vlab.vmm.exits import EXIT_TYPES, REASONS, Exit
from vlab.vmm.hardware import HardwareMonitor
from vlab.vmm.monitor import Monitor
from vlab.vmm.paravirtual.interface import Call
from vlab.vmm.paravirtual.monitor import ParavirtualMonitor

Handler = Callable[..., object]
_Paths = Mapping[type[Exit], str]

_EVERYWHERE: Final[_Paths] = {
    exits.PhysicalInterrupt: "_alarm",
    exits.InterruptWindow: "_offer_interrupt",
}
_HARDWARE: Final[_Paths] = {
    exits.Cpuid: "_cpuid", exits.MsrAccess: "_msr", exits.NestedPageFault: "paging.handle",
    exits.PageFault: "paging.handle", exits.ControlRegisterAccess: "paging.handle",
    exits.InvalidatePage: "paging.handle", exits.TimeStampRead: "_time_stamp",
    exits.ExceptionExit: "_reflect",
}  # fmt: skip
_DEPRIVILEGED: Final[_Paths] = {
    exits.PageFault: "paging.handle",
    exits.CacheMiss: "_miss",
}
_PARAVIRTUAL: Final[_Paths] = {
    exits.PageFault: "tables.page_fault",
    exits.SoftwareInterrupt: "_software_interrupt",
    exits.PrivilegedInstruction: "traps.iret",
    exits.Hypercall: "_hypercall",
}


def serving(monitor: Monitor, reason: str, info1: int, info2: int) -> Handler:
    """Give the function that serves exits like this one, with the qualification info1 and info2.

    Raises UnusableInput for a reason that there is not, and for the bare machine, which serves none.
    """
    if reason not in REASONS:
        raise UnusableInput(f"reason: there is no exit {reason!r}; choose one of {', '.join(REASONS)}")
    if isinstance(monitor, BareMachine):
        raise UnusableInput("handler_of: the bare machine has no monitor to serve exits")
    kind = EXIT_TYPES[REASONS.index(reason)]
    if kind is exits.PortAccess:
        return _found(monitor, "_port_out" if exits.PortAccess(info1, info2).output else "_port_in")
    if kind in (exits.SensitiveInstruction, exits.CallOut) and isinstance(monitor, DeprivilegedMonitor):
        action = monitor.emulator.action(Sensitive(info1))
        return _found(monitor, "_access_slowly") if action is None else _plain(action)
    if kind is exits.Hypercall and isinstance(monitor, ParavirtualMonitor):
        if info1 == Call.IRET:
            return monitor.traps.leave
        if info1 in monitor.hypercalls:
            return monitor.hypercalls[info1]
    return _found(monitor, _EVERYWHERE.get(kind) or _own(monitor).get(kind, "handle"))


def _own(monitor: Monitor) -> _Paths:
    match monitor:
        case HardwareMonitor():
            return _HARDWARE
        case ParavirtualMonitor():
            return _PARAVIRTUAL
        case _:
            return _DEPRIVILEGED


def _found(monitor: Monitor, path: str) -> Handler:
    """Follow a path of attributes; where this monitor has other ones, its ``handle`` serves everything."""
    found: object = monitor
    for name in path.split("."):
        found = getattr(found, name, None)
    if not callable(found):
        found = getattr(monitor, "handle")  # noqa: B009  only some monitors have it
    assert callable(found)
    return _plain(found)


def _plain(handler: Handler) -> Handler:
    """A partial's function has the source."""
    while isinstance(handler, partial):
        handler = handler.args[0] if handler.args and callable(handler.args[0]) else handler.func
    return handler
