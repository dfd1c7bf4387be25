"""What is typed into a guest, and when the guest's serial port gets it.

A key is pressed at a moment of wall time, which no other run shares. Under the deterministic clock the serial
port therefore gets it at a moment of virtual time a little later, and the log keeps that: whoever goes back
to an earlier moment and runs on has the same bytes arrive between the same two instructions.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from vlab.machine.clock import DeterministicClock
from vlab.vmm.monitor import Monitor

LATENCY_NS: Final = 16_000
"""Virtual time between the key and the serial port: long against the steps in which time is looked at, so
that no run has been beyond the moment of arrival before the key was pressed."""


class Input(NamedTuple):
    """Bytes that the serial port gets at a virtual time in ns."""

    time: int
    data: bytes


class Inputs:
    """The typing of one virtual machine.

    ``log``: all inputs in the order of their times. ``taken``: how many of them the guest has got. The others
    are on their way, or were typed in a past that lies ahead again, since the guest was taken back.
    """

    def __init__(self, monitor: Monitor) -> None:
        self._monitor = monitor
        self._alarm = monitor.board.alarms.alarm(self._arrive)
        self.log: list[Input] = []
        self.taken = 0
        self._typed = 0

    def type(self, data: bytes) -> None:
        """Type; the guest stands still. What was typed in a past that lay ahead is given up."""
        monitor = self._monitor
        if not isinstance(monitor.clock, DeterministicClock):
            self._give(data)
            return
        soon, log = monitor.clock.now() + LATENCY_NS, self.log
        del log[max(self._typed, self.taken) :]
        log.append(Input(max(soon, log[-1].time if log else 0), data))
        self._typed = len(log)
        self._set_alarm()

    def on_their_way(self) -> tuple[Input, ...]:
        """Give what was typed and has not arrived yet."""
        return tuple(self.log[self.taken : self._typed])

    def restore(self, log: list[Input], taken: int, waiting: int) -> None:
        """Go to another moment, at which so many of the log were taken, and so many more on their way.

        The clock and the board are there already.
        """
        self.log, self.taken, self._typed = log, taken, taken + waiting
        self._set_alarm()

    def _arrive(self) -> None:
        now, log = self._monitor.clock.now(), self.log
        while self.taken < len(log) and log[self.taken].time <= now:
            self.taken += 1
            self._give(log[self.taken - 1].data)
        self._set_alarm()

    def _give(self, data: bytes) -> None:
        self._monitor.note_activity()
        self._monitor.board.serial.receive(data)

    def _set_alarm(self) -> None:
        self._alarm.schedule(self.log[self.taken].time if self.taken < len(self.log) else None)
