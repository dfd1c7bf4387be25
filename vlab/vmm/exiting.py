"""What monitors that serve exits have in common: the records of them, and ports served in mid-instruction."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import Final, assert_never

from vlab.machine.core import LiveCore
from vlab.machine.faults import Event
from vlab.vmm import exit_origins, exits
from vlab.vmm.exits import CODE, Exit
from vlab.vmm.monitor import Monitor
from vlab.vmm.verdicts import End, Idle, Inject, Resume, Verdict

_PORT: Final = CODE[exits.PortAccess]


class ExitingMonitor(Monitor):
    """A monitor whose guest comes back with exits, each kind of which has a handler with a name."""

    def _name_handlers(self, names: Mapping[type[Exit], str], core: LiveCore) -> None:
        """Say what to call the handlers in records. core: the processor as records are to show it."""
        recorder = self.recorder
        self._handlers = {kind: recorder.handler_code(name) for kind, name in names.items()}
        self._port_handler = self._handlers[exits.PortAccess]
        self._kinds = exit_origins.kinds(self._handlers, core, recorder)
        self._shown = core

    def _recorded_core(self) -> LiveCore:
        return self._shown

    def _count(self, exit_: Exit) -> None:
        """Note an exit that needed no handler."""
        core, kind, recorder = self._shown, type(exit_), self.recorder
        if recorder.full:
            (info1, info2), handler = exits.qualification(exit_), self._handlers[kind]
            place = core.mode_code, core.cpl, core.rip
            recorder.record(self.clock.now(), CODE[kind], *place, info1, info2, handler, 0)
        elif recorder.counting:
            recorder.counts[CODE[kind]] += 1

    # --- verdicts ---------------------------------------------------------------------------------------

    def _follow(self, verdict: Verdict) -> None:
        """Do what a handler decided."""
        match verdict:
            case Resume():
                pass
            case Inject(event):
                self._deliver(event)
            case Idle():
                self.halted = True
            case End(stop):
                self.end(stop)
            case _:
                assert_never(verdict)

    @abstractmethod
    def _deliver(self, event: Event) -> None:
        """Have the guest's handler for ``event`` run next."""

    # --- ports ------------------------------------------------------------------------------------------

    def _port_in(self, port: int, size: int) -> int:
        value = self.board.ports.read(port, size)
        self._note_port(port | size << 16, value)
        return value

    def _port_out(self, port: int, size: int, value: int) -> None:
        self.board.ports.write(port, size, value)
        self._note_port(port | size << 16 | 1 << 24, value)

    def _note_port(self, info: int, value: int) -> None:
        recorder = self.recorder
        if recorder.full:
            core, handler = self._shown, self._port_handler
            now = self.clock.now()
            recorder.record(now, _PORT, core.mode_code, core.cpl, core.rip, info, value, handler, 0)
        elif recorder.counting:
            recorder.counts[_PORT] += 1
        if self.exit_goal is not None and recorder.total >= self.exit_goal:
            self.processor.engine.stops.request()
