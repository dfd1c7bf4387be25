"""Delivery of exceptions and interrupts: the microcode that the emulator underneath does not have.

``deliver(core, event)`` enters the handler in real mode, virtual-8086 mode, protected mode and long mode,
and tells how it went as an ``Outcome``. Start reading in ``front``; there is one module per mode.
"""

from __future__ import annotations

from vlab.machine.delivery.core import Core
from vlab.machine.delivery.front import combine, deliver, record_fault
from vlab.machine.delivery.outcomes import (
    Delivered,
    FaultRecord,
    Intercepted,
    Outcome,
    Shutdown,
    TaskSwitch,
)
from vlab.machine.delivery.task import Cause, finish_task_switch, return_to_task, switch_task

__all__ = [
    "Cause",
    "Core",
    "Delivered",
    "FaultRecord",
    "Intercepted",
    "Outcome",
    "Shutdown",
    "TaskSwitch",
    "combine",
    "deliver",
    "finish_task_switch",
    "record_fault",
    "return_to_task",
    "switch_task",
]
