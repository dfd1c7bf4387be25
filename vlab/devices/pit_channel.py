"""One of the three counters of the 8254. Intel 8254 data sheet (order 231164-005, 1993), "Mode Definitions".

A counter is not stepped. It remembers the CLK pulse at which its counting element was loaded, and everything
else (count, output, the pulse at which the output next rises) is arithmetic on the number of the present
pulse. So a counter costs nothing while it runs and cannot drift. CLK is 1193182 Hz, pulse 0 at time 0.

Two simplifications, each of one pulse: between a load and the pulse that performs it the count reads as the
new one already, and a one-shot (mode 1) goes low when it is triggered.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

from vlab.devices.state import DeviceState
from vlab.devices.wiring import NS_PER_SECOND
from vlab.isa.fields import Register, bit, bits

PIT_HZ = 1_193_182

ACCESS = {0: "counter latch", 1: "low byte", 2: "high byte", 3: "low byte, then high byte"}
MODES = {
    0: "interrupt on terminal count",
    1: "hardware retriggerable one-shot",
    2: "rate generator",
    3: "square wave",
    4: "software triggered strobe",
    5: "hardware triggered strobe",
    6: "rate generator",
    7: "square wave",
}


def pulse_at(ns: int) -> int:
    """Return the number of the last CLK pulse at or before the time `ns`."""
    return ns * PIT_HZ // NS_PER_SECOND


def time_of(pulse: int) -> int:
    """Return the first nanosecond at which `pulse_at` gives `pulse`."""
    return -(-pulse * NS_PER_SECOND // PIT_HZ)


class CounterControl(Register, width=8, reference='8254 "Read-Back Command", Figure 12'):
    """How a counter was programmed, with the two bits that its status byte adds."""

    BCD = bit(0, "count in four decimal digits")
    MODE = bits(1, 3, "mode of operation", MODES)
    ACCESS = bits(4, 5, "bytes of a count that are written and read", ACCESS)
    NULL = bit(6, "the last count written is not in the counting element yet")
    OUT = bit(7, "level of the output pin")


@dataclass(frozen=True, slots=True)
class CounterState(DeviceState):
    """One counter. Times are numbers of CLK pulses.

    `written` is the count register (0: none since the control word), `count` the count that was loaded at
    the pulse `loaded` (None: not counting), `held` the pulses counted when the gate stopped it. `fresh`: the
    count register waits to be loaded, at the pulse `reload` if that is known. `low` is the first byte of two.
    """

    VERSION: ClassVar[int] = 1

    control: Annotated[int, CounterControl] = 0x36
    gate: bool = True
    written: int = 0
    count: int = 0
    loaded: int | None = None
    held: int | None = None
    fresh: bool = False
    reload: int | None = None
    count_latch: int | None = None
    status_latch: Annotated[int | None, CounterControl] = None
    read_high: bool = False
    low: int | None = None


class Counter:
    """A counter; every method gets the number of the present CLK pulse."""

    _control: int
    _gate: bool
    _written: int
    _count: int
    _loaded: int | None
    _held: int | None
    _fresh: bool
    _reload: int | None
    _count_latch: int | None
    _status_latch: int | None
    _read_high: bool
    _low: int | None

    def __init__(self, *, gate: bool) -> None:
        self.restore(CounterState(gate=gate))

    # ---- programming

    def write_control(self, control: int) -> None:
        """Program the counter with bits 5-0 of a control word; it stops until a count is written."""
        self.restore(CounterState(control=control & 0x3F, gate=self._gate, count=self._count))

    def write(self, value: int, pulse: int) -> None:
        """Write a byte of the count."""
        access = self._control >> 4
        if access == 3 and self._low is None:
            self._low = value
            if self._mode == 0:  # the first of two bytes stops the counting and the output goes low
                self._loaded = self._held = None
        elif access == 3:
            self._write_count((self._low or 0) | value << 8, pulse)
            self._low = None
        else:
            self._write_count(value << 8 * (access - 1), pulse)

    def _write_count(self, raw: int, pulse: int) -> None:
        self._settle(pulse)  # a reload that was due took the count before this one
        self._written = (_from_bcd(raw) if self._bcd else raw) or self._modulus
        if self._mode in (1, 5):
            self._fresh = True  # loaded by the next trigger
        elif self._mode in (0, 4) or self._loaded is None or pulse < self._loaded:
            self._load(pulse + 1)
            self._held = None if self._gate else 0
        else:
            self._fresh = True
            self._reload = None if self._held is not None else self._end_of_cycle(pulse)

    def set_gate(self, level: bool, pulse: int) -> None:
        """Drive the gate: it stops modes 0, 2, 3 and 4, and its rise triggers modes 1, 2, 3 and 5."""
        self._settle(pulse)
        rises = level and not self._gate
        falls = self._gate and not level
        self._gate = level
        if falls and self._mode not in (1, 5) and self._loaded is not None:
            self._held = max(pulse - self._loaded, 0)
            self._reload = None
        elif rises and self._mode in (0, 4):
            if self._held is not None and self._loaded is not None:
                self._loaded = max(pulse - self._held, self._loaded)
                self._held = None
        elif rises and self._written:
            self._load(pulse + 1)

    def _load(self, pulse: int) -> None:
        self._count = self._written
        self._loaded = pulse
        self._held = self._reload = None
        self._fresh = False

    def _end_of_cycle(self, pulse: int) -> int:
        """Return when a new count is taken: at the end of the cycle (mode 2) or half cycle (mode 3)."""
        phase = self._elapsed(pulse) % self._count
        high = _high_half(self._count)
        into = high if self._mode == 3 and phase < high else self._count
        return pulse - phase + into

    def _settle(self, pulse: int) -> None:
        """Perform the reload that has become due."""
        if self._reload is not None and pulse >= self._reload:
            self._loaded = self._loaded_by_reload(self._reload)
            self._count = self._written
            self._fresh, self._reload = False, None

    def _loaded_by_reload(self, reload: int) -> int:
        """Return the pulse of a load that makes the cycle go on with the right half at `reload`."""
        at_half = (reload - (self._loaded or 0)) % self._count != 0
        return reload - (_high_half(self._written) if at_half else 0)

    # ---- reading

    def read(self, pulse: int) -> int:
        """Read a byte: the latched status, else of the latched count, else of the running count."""
        if self._status_latch is not None:
            status, self._status_latch = self._status_latch, None
            return status
        value = self._digits(pulse) if self._count_latch is None else self._count_latch
        access = self._control >> 4
        high = self._read_high if access == 3 else access == 2
        if access == 3:
            self._read_high = not high
        if high or access != 3:
            self._count_latch = None
        return value >> 8 if high else value & 0xFF

    def latch_count(self, pulse: int) -> None:
        """Hold the present count for reading; a count already held stays."""
        if self._count_latch is None:
            self._count_latch = self._digits(pulse)

    def latch_status(self, pulse: int) -> None:
        """Hold the present status byte for reading; one already held stays."""
        if self._status_latch is None:
            self._status_latch = self._status(pulse)

    def _status(self, pulse: int) -> int:
        self._settle(pulse)
        null = self._fresh or self._loaded is None or pulse < self._loaded
        return self.output(pulse) << 7 | null << 6 | self._control

    def _digits(self, pulse: int) -> int:
        value = self.value(pulse)
        return _to_bcd(value) if self._bcd else value

    def value(self, pulse: int) -> int:
        """Return the count in the counting element, 0..65535 (0..9999 in BCD)."""
        elapsed = self._elapsed(pulse)
        if self._mode == 2:
            count = self._count - elapsed % max(self._count, 1)
        elif self._mode == 3 and self._count:
            phase = elapsed % self._count
            high = _high_half(self._count)
            even = self._count & ~1  # an odd count starts one lower and goes down by two (mode 3)
            count = even - 2 * (phase if phase < high else phase - high)
        else:
            count = self._count - elapsed
        return count % self._modulus

    # ---- the output pin

    def output(self, pulse: int) -> bool:
        """Return the level of OUT."""
        self._settle(pulse)
        if self._loaded is None:
            return self._mode != 0
        elapsed = self._elapsed(pulse)
        match self._mode:
            case 0 | 1:
                return elapsed >= self._count
            case 2:
                return not self._gate or elapsed % self._count != self._count - 1
            case 3:
                return not self._gate or elapsed % self._count < _high_half(self._count)
            case _:
                return elapsed != self._count or self._held is not None

    def next_rise(self, pulse: int) -> int | None:
        """Return the first pulse after this one at which OUT rises, None when it will not by itself."""
        self._settle(pulse)
        if self._loaded is None or self._held is not None:
            return None
        if self._mode in (2, 3):
            rise = _next_cycle(self._loaded, self._count, pulse)
            if self._reload is not None and (rise is None or rise > self._reload):
                return _next_cycle(self._loaded_by_reload(self._reload), self._written, self._reload)
            return rise
        rise = self._loaded + self._count + (self._mode in (4, 5))
        return rise if rise > pulse else None

    def period(self) -> int:
        """Return the CLK pulses from one output pulse to the next; 0 when the output is not periodic."""
        periodic = self._mode in (2, 3) and self._loaded is not None and self._held is None
        return self._count if periodic else 0

    def _elapsed(self, pulse: int) -> int:
        self._settle(pulse)
        if self._held is not None:
            return self._held
        return 0 if self._loaded is None else max(pulse - self._loaded, 0)

    @property
    def _mode(self) -> int:
        mode = self._control >> 1 & 7
        return mode & 3 if mode > 5 else mode

    @property
    def _bcd(self) -> bool:
        return bool(self._control & 1)

    @property
    def _modulus(self) -> int:
        return 10_000 if self._bcd else 0x1_0000

    # ---- snapshots

    def save(self) -> CounterState:
        """Return the counter's state."""
        return CounterState(
            control=self._control,
            gate=self._gate,
            written=self._written,
            count=self._count,
            loaded=self._loaded,
            held=self._held,
            fresh=self._fresh,
            reload=self._reload,
            count_latch=self._count_latch,
            status_latch=self._status_latch,
            read_high=self._read_high,
            low=self._low,
        )

    def restore(self, state: CounterState) -> None:
        """Become the saved counter."""
        self._control = state.control
        self._gate = state.gate
        self._written = state.written
        self._count = state.count
        self._loaded = state.loaded
        self._held = state.held
        self._fresh = state.fresh
        self._reload = state.reload
        self._count_latch = state.count_latch
        self._status_latch = state.status_latch
        self._read_high = state.read_high
        self._low = state.low


def _high_half(count: int) -> int:
    """Return for how many pulses of `count` a square wave is high (mode 3: (N + 1) / 2 for an odd count)."""
    return (count + 1) // 2


def _next_cycle(loaded: int, count: int, pulse: int) -> int | None:
    """Return the first end of a cycle after `pulse`; a count of 1 is illegal and gives no pulses (mode 2)."""
    return None if count == 1 else loaded + (max(pulse - loaded, 0) // count + 1) * count


def _from_bcd(raw: int) -> int:
    """Return the value of four decimal digits; digits above 9, which the chip does not define, carry."""
    thousands, hundreds, tens, units = (raw >> shift & 0xF for shift in (12, 8, 4, 0))
    return (thousands * 1000 + hundreds * 100 + tens * 10 + units) % 10_000


def _to_bcd(value: int) -> int:
    return int(f"{value:04}", 16)
