"""Port instructions on their way to the pins: IOPL and the I/O permission bitmap are asked first."""

from __future__ import annotations

from typing import Final

from vlab.machine import port_permission
from vlab.machine import registers as reg
from vlab.machine.core import LiveCore
from vlab.machine.delivery.core import Core
from vlab.machine.engine import Engine
from vlab.machine.faults import CpuFault

PORT_FAULT: Final = -5
"""What ``Engine.run`` gives for a port access that was refused; ``PortGate.take_fault`` has the fault."""

_VM: Final = 1 << 17


class PortGate:
    """Checks the port accesses of one processor, in the middle of the instruction.

    ``program``: whose privilege counts; a monitor of a deprivileged guest puts its virtual processor there.
    """

    def __init__(self, engine: Engine, core: LiveCore) -> None:
        self._engine = engine
        self.program: Core = core
        self._fault: CpuFault | None = None

    def closes(self, port: int, size: int) -> bool:
        """Say whether an access to ``size`` bytes at ``port`` is refused; it is undone then and faults."""
        engine = self._engine
        flags = engine.words[reg.EFLAGS]
        if engine.words32[reg.HFLAGS] & 3 <= flags >> 12 & 3 and not flags & _VM:
            return False
        fault = port_permission.check(self.program, port, size)
        if fault is None:
            return False
        self._fault = fault
        engine.refuse(PORT_FAULT)
        return True

    def take_fault(self) -> CpuFault:
        """Give the fault of the access that was just refused."""
        fault, self._fault = self._fault, None
        assert fault is not None
        return fault
