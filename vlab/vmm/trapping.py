"""What monitors on a processor without virtualization extensions share: they own ring 0, and every trap."""

from __future__ import annotations

from abc import abstractmethod
from time import perf_counter_ns
from typing import Final

from vlab.machine.exit_loop import nobody
from vlab.machine.processor import STOPPED
from vlab.vmm import exits
from vlab.vmm.exiting import ExitingMonitor
from vlab.vmm.exits import CODE, Exit
from vlab.vmm.verdicts import RESUME, Verdict

PHYSICAL_INTERRUPT: Final = exits.PhysicalInterrupt()


class TrappingMonitor(ExitingMonitor):
    """A monitor whose guest runs in the outer rings, and comes back by faults and software interrupts."""

    @abstractmethod
    def _serve(self, code: int) -> bool:
        """Handle the trap with SVM exit code ``code``; True to run the guest on at once."""

    @abstractmethod
    def handle(self, exit_: Exit) -> Verdict:
        """Serve one exit and say how to go on. Override it to serve some differently."""

    def _execute(self) -> None:
        loop = self.processor.exits
        loop.owner = self._serve
        try:
            code = self.processor.run()
        finally:
            loop.owner = nobody
        if code == STOPPED and self.clock.now() >= self.board.alarms.next:
            self._count(PHYSICAL_INTERRUPT)

    def _perform(self, exit_: Exit) -> None:
        """Handle an exit, do what its handler decided, and note it as the trace's level has it."""
        recorder = self.recorder
        if recorder.full:
            self._perform_recorded(exit_)
            return
        verdict = self.handle(exit_)
        if verdict is not RESUME:
            self._follow(verdict)
        if recorder.counting:
            recorder.counts[CODE[type(exit_)]] += 1

    def _perform_recorded(self, exit_: Exit) -> None:
        core = self._shown
        qualify, origins = self._kinds[type(exit_)]
        info1, info2 = qualify(exit_)
        rip, now, origin = core.rip, self.clock.now(), origins[core.mode_code << 2 | core.cpl]
        started = perf_counter_ns()
        verdict = self.handle(exit_)
        if verdict is not RESUME:
            self._follow(verdict)
        self.recorder.record_from(origin, now, rip, info1, info2, perf_counter_ns() - started)

    def _short_of_goal(self) -> bool:
        """Whether the exit that someone waits for, if any, is still to come."""
        if self.exit_goal is not None:
            self.at_exit = self.recorder.total >= self.exit_goal
            return not self.at_exit
        return True
