"""The calendar of the real-time clock: its ten bytes and a number of seconds, each from the other.

Seconds count from the start of the year 0 of the Gregorian calendar taken backwards, years run from 0 to 9999
and start again: the clock knows nothing of eras, and any ten bytes that a guest writes mean some moment.
Formats: Motorola MC146818A data sheet (1984), table 3 "Time, Calendar, and Alarm Data Modes".
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date

DAY = 86_400
_CYCLE_DAYS = 146_097  # in 400 years, a whole number of weeks
_CYCLE_START = date(2000, 1, 1).toordinal()
_WRAP = 25 * _CYCLE_DAYS * DAY
_UNIX_DAYS = 4 * _CYCLE_DAYS + (date(1970, 1, 1).toordinal() - date(1600, 1, 1).toordinal())
_PM = 0x80


@dataclass(frozen=True, slots=True)
class Formats:
    """How the bytes are written: `binary` (DM) or in decimal digits, `hours_24` or 1-12 with PM in bit 7."""

    binary: bool
    hours_24: bool

    def byte(self, value: int) -> int:
        """Return a number 0..99 as its byte."""
        return value if self.binary else value // 10 << 4 | value % 10

    def number(self, byte: int) -> int:
        """Return the number in a byte; a digit above 9 carries."""
        return byte if self.binary else (byte >> 4) * 10 + (byte & 0xF)

    def hour_byte(self, hour: int) -> int:
        """Return an hour 0..23 as its byte."""
        if self.hours_24:
            return self.byte(hour)
        return self.byte((hour - 1) % 12 + 1) | (_PM if hour >= 12 else 0)

    def hour(self, byte: int) -> int:
        """Return the hour in a byte, above 23 when the byte is not an hour."""
        if self.hours_24:
            return self.number(byte)
        hour = self.number(byte & ~_PM)
        return hour % 12 + (12 if byte & _PM else 0) if 1 <= hour <= 12 else 24 + hour


@dataclass(frozen=True, slots=True)
class Moment:
    """A time of day and a date: second, minute, hour, weekday 1 (Sunday) to 7, day, month, year 0..9999."""

    second: int
    minute: int
    hour: int
    weekday: int
    day: int
    month: int
    year: int


def from_unix(seconds: int) -> int:
    """Return calendar seconds for seconds since 1970-01-01 00:00:00."""
    return (seconds + _UNIX_DAYS * DAY) % _WRAP


def moment_at(seconds: int) -> Moment:
    """Return the moment of calendar seconds, of any size and sign."""
    days, rest = divmod(seconds % _WRAP, DAY)
    cycle, within = divmod(days, _CYCLE_DAYS)
    day = date.fromordinal(_CYCLE_START + within)
    return Moment(
        second=rest % 60,
        minute=rest // 60 % 60,
        hour=rest // 3600,
        weekday=day.isoweekday() % 7 + 1,
        day=day.day,
        month=day.month,
        year=day.year - 2000 + 400 * cycle,
    )


def seconds_of(moment: Moment) -> int:
    """Return calendar seconds; a field out of range runs over into the next, the month into its year."""
    years, month = divmod(moment.month - 1, 12)
    cycle, year = divmod(moment.year + years, 400)
    first = date(2000 + year, month + 1, 1).toordinal() - _CYCLE_START
    days = cycle * _CYCLE_DAYS + first + moment.day - 1
    return (days * DAY + moment.hour * 3600 + moment.minute * 60 + moment.second) % _WRAP


def next_alarm(after: int, hour: int | None, minute: int | None, second: int | None) -> int | None:
    """Return the first second after `after` whose time of day matches; None stands for any.

    Returns None when no time of day matches (an alarm at 25:00 never comes).
    """
    for candidate, limit in ((hour, 24), (minute, 60), (second, 60)):
        if candidate is not None and not 0 <= candidate < limit:
            return None
    start = after + 1
    base = start - start % DAY
    for day in (base, base + DAY):
        for at_hour in range(24) if hour is None else (hour,):
            if day + at_hour * 3600 + 3599 < start:
                continue
            for at_minute in range(60) if minute is None else (minute,):
                begin = day + at_hour * 3600 + at_minute * 60
                found = max(begin, start) if second is None else begin + second
                if start <= found < begin + 60:
                    return found
    return None
