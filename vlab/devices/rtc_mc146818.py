"""The real-time clock and CMOS memory of a PC/AT, ports 70h and 71h. Motorola MC146818A data sheet (1984).

The clock is not stepped either: it remembers when its divider chain started and the time that the calendar
had at one of its seconds. The flags of register C are brought up to date when somebody looks; while the
interrupt line is already up nothing is scheduled, so a guest that ignores a fast periodic interrupt costs
nothing. Only the 32.768 kHz crystal is there: with another time base in register A the chain stands still.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated, ClassVar

from vlab.devices import rtc_registers as cmos
from vlab.devices.rtc_calendar import Formats, Moment, from_unix, moment_at, next_alarm, seconds_of
from vlab.devices.rtc_registers import IndexRegister, RegisterA, RegisterB, RegisterC, RegisterD
from vlab.devices.state import DeviceState
from vlab.devices.wiring import NS_PER_SECOND, Line, Now, Schedule

UPDATE_NS = 244_000 + 1_984_000
"""UIP rises 244 us before an update cycle, which takes 1984 us with this crystal (table 6)."""

AFTER_RESET_NS = NS_PER_SECOND // 2
"""The first update comes half a second after the divider is let go ("Divider Control")."""

DV_CRYSTAL = 2
ANY = 0xC0  # an alarm byte from C0h up matches everything ("Time of Day Alarm")
_CLOCK_BYTES = frozenset(
    (cmos.SECONDS, cmos.MINUTES, cmos.HOURS, cmos.WEEKDAY, cmos.DAY, cmos.MONTH, cmos.YEAR, cmos.CENTURY)
)
_PF, _AF, _UF = RegisterC.PF.mask, RegisterC.AF.mask, RegisterC.UF.mask
_FLAGS = _PF | _AF | _UF
_SET, _UIE = RegisterB.SET.mask, RegisterB.UIE.mask


@dataclass(frozen=True, slots=True)
class RtcState(DeviceState):
    """The clock. `memory` holds the time only while SET stops it.

    `chain` is when (ns) the divider started, None while it stands still. The calendar had `seconds` (see
    `rtc_calendar`) at second `at` of the chain and is `weekday_shift` days ahead in its weekday. `updates`
    and `periods` are the events of the chain that the flags already show.
    """

    VERSION: ClassVar[int] = 1

    index: Annotated[int, IndexRegister]
    a: Annotated[int, RegisterA]
    b: Annotated[int, RegisterB]
    c: Annotated[int, RegisterC]
    memory: bytes
    chain: int | None
    seconds: int
    at: int
    weekday_shift: int
    updates: int
    periods: int


class RtcMc146818:
    """The clock, a window of 2 ports. `irq` gets the level of IRQ 8.

    `epoch_seconds` is what the clock shows at time 0, in seconds since 1970-01-01 00:00:00, and runs on from
    there. `memory_bytes` is the size of RAM that the firmware has noted in the CMOS memory.
    """

    def __init__(
        self,
        *,
        now: Now,
        schedule: Schedule,
        irq: Line,
        epoch_seconds: int,
        memory_bytes: int = 16 << 20,
    ) -> None:
        self._now = now
        self._schedule = schedule
        self._irq = irq
        self._level = False
        self._index = 0
        self._a = 0x26
        self._b = RegisterB.HOURS_24.mask
        self._flags = 0
        self._memory = bytearray(cmos.cmos_of_pc(memory_bytes))
        self._chain: int | None = 0
        self._seconds = from_unix(epoch_seconds)
        self._at = self._updates = self._periods = 0
        self._weekday_shift = 0

    @property
    def nmi_masked(self) -> bool:
        """Whether the guest has disabled the non-maskable interrupt (port 70h, bit 7)."""
        return bool(IndexRegister(self._index).NMI_OFF)

    def moment(self) -> Moment:
        """Return the time that the clock shows, without side effects."""
        shown = moment_at(self._seconds_at(self._now()))
        return replace(shown, weekday=(shown.weekday - 1 + self._weekday_shift) % 7 + 1)

    # ---- the two ports

    def read(self, offset: int, size: int = 1) -> int:
        """Read port 71h, the byte chosen by the index; port 70h is write only and reads as an empty bus."""
        if not offset & 1:
            return 0xFF
        self._bring_up_to_date(self._now())
        self._rearm()
        match self._index & 0x7F:
            case cmos.REG_A:
                return self._a | self._update_in_progress() * RegisterA.UIP.mask
            case cmos.REG_B:
                return self._b
            case cmos.REG_C:
                return self._read_c()
            case cmos.REG_D:
                return RegisterD.VRT.mask
            case index if index in _CLOCK_BYTES and not self._b & _SET:
                return self._clock_bytes()[index]
            case index:
                return self._memory[index]

    def write(self, offset: int, value: int, size: int = 1) -> None:
        """Write the index (port 70h) or the chosen byte (port 71h); registers C and D ignore it."""
        value &= 0xFF
        if not offset & 1:
            self._index = value
            return
        now = self._now()
        self._bring_up_to_date(now)
        match self._index & 0x7F:
            case cmos.REG_A:
                self._write_a(value & 0x7F, now)
            case cmos.REG_B:
                self._write_b(value, now)
            case cmos.REG_C | cmos.REG_D:
                pass
            case index if index in _CLOCK_BYTES and not self._b & _SET:
                self._set_clock(self._clock_bytes() | {index: value}, now)
            case index:
                self._memory[index] = value
        self._drive()
        self._rearm()

    def expire(self) -> None:
        """Raise IRQ 8 if something is due, and ask for the next time."""
        self._bring_up_to_date(self._now())
        self._rearm()

    def _read_c(self) -> int:
        value = self._register_c()
        self._flags = 0
        self._drive()
        self._rearm()
        return value

    def _write_a(self, value: int, now: int) -> None:
        """Set rate and divider; stopping the divider stops the time, letting it go starts a new second."""
        runs = RegisterA.DV.extract(value) == DV_CRYSTAL
        if self._chain is not None and not runs:
            self._seconds = self._seconds_at(now)
            self._chain = None
        elif self._chain is None and runs:
            self._chain = now - AFTER_RESET_NS
            self._at = self._updates = 0
        self._a = value
        self._periods = self._period_at(now)

    def _write_b(self, value: int, now: int) -> None:
        rises, falls = value & ~self._b & _SET, self._b & ~value & _SET
        if rises:
            for index, byte in self._clock_bytes().items():
                self._memory[index] = byte
            self._seconds = self._seconds_at(now)
            value &= ~_UIE  # "UIE ... is cleared ... by the SET bit going high"
        self._b = value
        if falls:
            self._set_clock({index: self._memory[index] for index in _CLOCK_BYTES}, now)

    # ---- the calendar

    def _formats(self) -> Formats:
        return Formats(
            binary=bool(self._b & RegisterB.DM.mask), hours_24=bool(self._b & RegisterB.HOURS_24.mask)
        )

    def _clock_bytes(self) -> dict[int, int]:
        """Return the bytes of the running clock by their index, in the formats of register B."""
        formats, moment = self._formats(), self.moment()
        return {
            cmos.SECONDS: formats.byte(moment.second),
            cmos.MINUTES: formats.byte(moment.minute),
            cmos.HOURS: formats.hour_byte(moment.hour),
            cmos.WEEKDAY: formats.byte(moment.weekday),
            cmos.DAY: formats.byte(moment.day),
            cmos.MONTH: formats.byte(moment.month),
            cmos.YEAR: formats.byte(moment.year % 100),
            cmos.CENTURY: formats.byte(moment.year // 100),
        }

    def _set_clock(self, raw: dict[int, int], now: int) -> None:
        """Go on from the time in these bytes; the divider keeps its place within the second."""
        formats = self._formats()
        number = {index: formats.number(byte) for index, byte in raw.items()}
        self._seconds = seconds_of(
            Moment(
                second=number[cmos.SECONDS],
                minute=number[cmos.MINUTES],
                hour=formats.hour(raw[cmos.HOURS]),
                weekday=1,
                day=number[cmos.DAY],
                month=number[cmos.MONTH],
                year=number[cmos.CENTURY] * 100 + number[cmos.YEAR],
            )
        )
        self._weekday_shift = (number[cmos.WEEKDAY] - moment_at(self._seconds).weekday) % 7
        self._at = self._updates = self._update_at(now)

    def _seconds_at(self, now: int) -> int:
        if self._chain is None or self._b & _SET:
            return self._seconds
        return self._seconds + self._update_at(now) - self._at

    def _update_in_progress(self) -> bool:
        if self._chain is None or self._b & _SET:
            return False
        return (self._now() - self._chain) % NS_PER_SECOND >= NS_PER_SECOND - UPDATE_NS

    # ---- the divider chain

    def _update_at(self, now: int) -> int:
        """Return how many seconds of the chain have ended."""
        return 0 if self._chain is None else (now - self._chain) // NS_PER_SECOND

    def _period_64ths(self) -> int:
        """Return the periodic interval in 1/64 ns, in which it is whole; 0 for none (table 5)."""
        rate = RegisterA.RS.extract(self._a)
        if rate in (1, 2):
            rate += 7
        return (64 * NS_PER_SECOND >> 15) << rate - 1 if rate else 0

    def _period_at(self, now: int) -> int:
        """Return how many periodic intervals of the chain have ended."""
        interval = self._period_64ths()
        return 0 if self._chain is None or not interval else (now - self._chain) * 64 // interval

    def _bring_up_to_date(self, now: int) -> None:
        """Set the flags of what has happened since the last time."""
        updates, periods = self._update_at(now), self._period_at(now)
        if periods > self._periods:
            self._flags |= _PF
        if updates > self._updates and not self._b & _SET:
            self._flags |= _UF
            alarm = self._next_alarm()
            if alarm is not None and alarm <= updates:
                self._flags |= _AF
        self._updates, self._periods = updates, periods
        self._drive()

    def _next_alarm(self) -> int | None:
        """Return the update of the chain, after those already shown, at which the alarm comes."""
        formats = self._formats()
        hour, minute, second = (
            self._memory[index] for index in (cmos.HOURS_ALARM, cmos.MINUTES_ALARM, cmos.SECONDS_ALARM)
        )
        seconds = next_alarm(
            self._seconds + self._updates - self._at,
            None if hour >= ANY else formats.hour(hour),
            None if minute >= ANY else formats.number(minute),
            None if second >= ANY else formats.number(second),
        )
        return None if seconds is None else seconds - self._seconds + self._at

    # ---- the interrupt

    def _register_c(self) -> int:
        return self._flags | bool(self._flags & self._b) * RegisterC.IRQF.mask

    def _drive(self) -> None:
        level = bool(self._flags & self._b)  # flags and enables have the same places
        if level != self._level:
            self._level = level
            self._irq(level)

    def _rearm(self) -> None:
        """Ask for the next event that raises the line; a line that is up waits for a read of register C."""
        self._schedule(None if self._level or self._chain is None else self._next_event(self._chain))

    def _next_event(self, chain: int) -> int | None:
        times: list[int] = []
        interval = self._period_64ths()
        if self._b & RegisterB.PIE.mask and interval:
            times.append(chain - (-(self._periods + 1) * interval // 64))
        if not self._b & _SET:
            if self._b & _UIE:
                times.append(chain + (self._updates + 1) * NS_PER_SECOND)
            alarm = self._next_alarm() if self._b & RegisterB.AIE.mask else None
            if alarm is not None:
                times.append(chain + alarm * NS_PER_SECOND)
        return min(times, default=None)

    # ---- snapshots

    def save(self) -> RtcState:
        """Return the clock's state."""
        return RtcState(
            index=self._index,
            a=self._a,
            b=self._b,
            c=self._register_c(),
            memory=bytes(self._memory),
            chain=self._chain,
            seconds=self._seconds,
            at=self._at,
            weekday_shift=self._weekday_shift,
            updates=self._updates,
            periods=self._periods,
        )

    def restore(self, state: RtcState) -> None:
        """Become the saved clock, drive IRQ 8 and ask for the next event."""
        self._index, self._a, self._b = state.index, state.a, state.b
        self._flags = state.c & _FLAGS
        self._memory = bytearray(state.memory)
        self._chain, self._seconds, self._at = state.chain, state.seconds, state.at
        self._weekday_shift = state.weekday_shift
        self._updates, self._periods = state.updates, state.periods
        self._level = bool(self._flags & self._b)
        self._irq(self._level)
        self._rearm()
