"""The 8254 interval timer of a PC. Intel 8254 data sheet (order 231164-005, 1993).

Counter 0 drives IRQ 0, counter 1 once timed the memory refresh, counter 2 has its gate and its output at port
61h (IBM PC/AT Technical Reference, "System Timers"). The line `irq0` is brought low only just before it rises
again, for nothing on a PC acts on the fall: a request then waits in the interrupt controller until the
processor takes it, also in mode 3. Periods that pass while nobody calls `expire()` give one edge, not many.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from vlab.devices.pit_channel import Counter, CounterState, pulse_at, time_of
from vlab.devices.state import DeviceState
from vlab.devices.wiring import Line, Now, Schedule
from vlab.isa.fields import Register, bit, bits

CONTROL = 3
READ_BACK = 3


class ControlWord(Register, width=8, reference='8254 "Programming the 8254", Figure 7'):
    """What is written at offset 3 to program a counter, or with RW = 0 to latch its count."""

    BCD = bit(0, "count in four decimal digits")
    M = bits(1, 3, "mode")
    RW = bits(4, 5, "0 latch, 1 low byte, 2 high byte, 3 low byte then high byte")
    SC = bits(6, 7, "counter, or 3 for a read-back command")


class ReadBackCommand(Register, width=8, reference='8254 "Read-Back Command", Figure 10'):
    """The control word with SC = 3."""

    CNT = bits(1, 3, "the counters meant, one bit each")
    STATUS = bit(4, "0: latch their status")
    COUNT = bit(5, "0: latch their count")


@dataclass(frozen=True, slots=True)
class PitState(DeviceState):
    """The chip. `due` is the CLK pulse of the next edge of IRQ 0, or None."""

    VERSION: ClassVar[int] = 1

    counters: tuple[CounterState, ...]
    irq0: bool
    due: int | None


class Pit8254:
    """The timer, a window of 4 ports. `irq0` gets the level of counter 0's line."""

    def __init__(self, *, now: Now, schedule: Schedule, irq0: Line) -> None:
        self._now = now
        self._schedule = schedule
        self._irq0 = irq0
        self._counters = (Counter(gate=True), Counter(gate=True), Counter(gate=False))
        self._level = True
        self._due: int | None = None

    def read(self, offset: int, size: int = 1) -> int:
        """Read a counter; the control register gives 0."""
        offset &= 3
        return 0 if offset == CONTROL else self._counters[offset].read(self._pulse())

    def write(self, offset: int, value: int, size: int = 1) -> None:
        """Write a byte of a count, or a control word at offset 3."""
        offset &= 3
        value &= 0xFF
        pulse = self._pulse()
        if offset == CONTROL:
            self._write_control(value, pulse)
            return
        if offset == 0:
            self._catch_up(pulse)
        self._counters[offset].write(value, pulse)
        if offset == 0:
            self._follow_counter_0(pulse, drops_only=True)

    def expire(self) -> None:
        """Raise IRQ 0 if its edge is due, and ask for the next one."""
        pulse = self._pulse()
        self._catch_up(pulse)
        self._rearm(pulse)

    # ---- counter 2, for port 61h

    def set_gate2(self, level: bool) -> None:
        """Drive the gate of counter 2."""
        self._counters[2].set_gate(level, self._pulse())

    def out2(self) -> bool:
        """Return the output of counter 2."""
        return self._counters[2].output(self._pulse())

    def period(self, counter: int) -> int:
        """Return the period of a counter (0..2) in pulses of 1193182 Hz, 0 when it is not periodic."""
        return self._counters[counter].period()

    # ---- inside

    def _pulse(self) -> int:
        return pulse_at(self._now())

    def _write_control(self, value: int, pulse: int) -> None:
        word = ControlWord(value)
        if word.SC == READ_BACK:
            self._read_back(ReadBackCommand(value), pulse)
        elif word.RW == 0:
            self._counters[word.SC].latch_count(pulse)
        elif word.SC == 0:
            self._catch_up(pulse)
            self._counters[0].write_control(value)
            self._follow_counter_0(pulse, drops_only=False)
        else:
            self._counters[word.SC].write_control(value)

    def _read_back(self, command: ReadBackCommand, pulse: int) -> None:
        for n, counter in enumerate(self._counters):
            if command.CNT >> n & 1:
                if not command.COUNT:
                    counter.latch_count(pulse)
                if not command.STATUS:
                    counter.latch_status(pulse)

    def _catch_up(self, pulse: int) -> None:
        """Give the edge that is due, one for however many have passed."""
        if self._due is not None and pulse >= self._due:
            self._due = None
            if self._level:
                self._irq0(False)
            self._level = True
            self._irq0(True)

    def _follow_counter_0(self, pulse: int, *, drops_only: bool) -> None:
        """After programming: a control word puts OUT at its first level at once, a count in mode 0 at low."""
        level = self._counters[0].output(pulse)
        starts_low = not level and self._counters[0].period() == 0
        if level != self._level and (starts_low or not drops_only):
            self._level = level
            self._irq0(level)
        self._rearm(pulse)

    def _rearm(self, pulse: int) -> None:
        self._due = self._counters[0].next_rise(pulse)
        self._schedule(None if self._due is None else time_of(self._due))

    # ---- snapshots

    def save(self) -> PitState:
        """Return the timer's state."""
        counters = tuple(counter.save() for counter in self._counters)
        return PitState(counters=counters, irq0=self._level, due=self._due)

    def restore(self, state: PitState) -> None:
        """Become the saved timer, drive IRQ 0 and ask for its next edge."""
        for counter, saved in zip(self._counters, state.counters, strict=True):
            counter.restore(saved)
        self._level = state.irq0
        self._due = state.due
        self._irq0(self._level)
        self._schedule(None if self._due is None else time_of(self._due))
