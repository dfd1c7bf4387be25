"""The MC146818A: calendar, formats, update cycle, interrupts, and the CMOS memory of a PC."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.devices.twins import Bench, check_twin, register_programs
from vlab.devices.rtc_calendar import DAY, from_unix, moment_at, next_alarm, seconds_of
from vlab.devices.rtc_mc146818 import UPDATE_NS, RtcMc146818
from vlab.devices.state import describe

SECOND = 1_000_000_000
EPOCH = int(datetime(2024, 2, 29, 13, 59, 58, tzinfo=UTC).timestamp())
A, B, C, D = 10, 11, 12, 13
SET, PIE, AIE, UIE, DM, H24 = 0x80, 0x40, 0x20, 0x10, 0x04, 0x02
PF, AF, UF, IRQF = 0x40, 0x20, 0x10, 0x80
TIME = (0, 2, 4, 6, 7, 8, 9, 0x32)


def build(bench: Bench) -> RtcMc146818:
    return RtcMc146818(now=bench.now, schedule=bench.schedule, irq=bench.pin("irq"), epoch_seconds=EPOCH)


class Clock(Bench):
    """A bench that reads and writes the CMOS memory through its two ports."""

    def __init__(self) -> None:
        super().__init__(build)

    def get(self, index: int) -> int:
        self.device.write(0, index)
        value: int = self.device.read(1)
        return value

    def put(self, index: int, value: int) -> None:
        self.device.write(0, index)
        self.device.write(1, value)

    def clock(self) -> list[int]:
        return [self.get(index) for index in TIME]

    @property
    def level(self) -> bool:
        return bool(self.log) and self.log[-1] == ("irq", True)


@pytest.fixture
def rtc() -> Clock:
    return Clock()


# ---- the calendar


@given(st.integers(-62_000_000_000, 250_000_000_000))
def test_the_calendar_agrees_with_the_datetime_module(unix: int) -> None:
    try:
        expected = datetime.fromtimestamp(unix, tz=UTC)
    except (ValueError, OverflowError):
        return
    moment = moment_at(from_unix(unix))
    assert (moment.year, moment.month, moment.day) == (expected.year, expected.month, expected.day)
    assert (moment.hour, moment.minute, moment.second) == (expected.hour, expected.minute, expected.second)
    assert moment.weekday == expected.isoweekday() % 7 + 1
    assert seconds_of(moment) == from_unix(unix)


def next_alarm_by_search(after: int, *wanted: int | None) -> int | None:
    for second in range(after + 1, after + 1 + DAY):
        fields = (second // 3600 % 24, second // 60 % 60, second % 60)
        if all(want is None or want == field for want, field in zip(wanted, fields, strict=True)):
            return second
    return None


@given(
    st.integers(0, 3 * DAY),
    st.none() | st.integers(0, 25),
    st.none() | st.integers(0, 61),
    st.none() | st.integers(0, 61),
)
def test_the_next_alarm_is_the_first_second_that_matches(
    after: int, hour: int | None, minute: int | None, second: int | None
) -> None:
    assert next_alarm(after, hour, minute, second) == next_alarm_by_search(after, hour, minute, second)


def test_the_clock_starts_at_the_epoch_it_was_given_and_runs(rtc: Clock) -> None:
    assert rtc.clock() == [0x58, 0x59, 0x13, 0x05, 0x29, 0x02, 0x24, 0x20]
    rtc.time = 2 * SECOND
    assert rtc.clock() == [0x00, 0x00, 0x14, 0x05, 0x29, 0x02, 0x24, 0x20]
    rtc.time = 12 * 3600 * SECOND
    assert rtc.clock() == [0x58, 0x59, 0x01, 0x06, 0x01, 0x03, 0x24, 0x20]


def test_the_time_reads_in_binary_and_in_12_hours(rtc: Clock) -> None:
    rtc.put(B, DM | H24)
    assert rtc.clock()[:3] == [58, 59, 13]
    rtc.put(B, DM)
    assert rtc.get(4) == 0x81
    rtc.put(B, 0)
    assert rtc.get(4) == 0x81
    rtc.time = 11 * 3600 * SECOND
    assert rtc.get(4) == 0x12  # 00:59 is 12 at night


@pytest.mark.parametrize(("byte", "hour"), [(0x12, 0), (0x01, 1), (0x92, 12), (0x91, 23)])
def test_hours_are_set_in_12_hour_format(rtc: Clock, byte: int, hour: int) -> None:
    rtc.put(B, SET)
    rtc.put(4, byte)
    rtc.put(B, 0)
    assert rtc.get(4) == byte
    assert rtc.device.moment().hour == hour


def test_setting_the_time_goes_on_from_there(rtc: Clock) -> None:
    rtc.time = 300_000_000
    rtc.put(B, SET | H24)
    frozen = rtc.clock()
    rtc.time += 5 * SECOND
    assert rtc.clock() == frozen
    for index, byte in zip(TIME, (0x59, 0x59, 0x23, 0x01, 0x31, 0x12, 0x99, 0x19), strict=True):
        rtc.put(index, byte)
    rtc.put(B, H24)
    assert rtc.clock() == [0x59, 0x59, 0x23, 0x01, 0x31, 0x12, 0x99, 0x19]
    rtc.time += 699_999_999
    assert rtc.get(0) == 0x59
    rtc.time += 1  # the divider has kept its place within the second
    assert rtc.clock() == [0x00, 0x00, 0x00, 0x02, 0x01, 0x01, 0x00, 0x20]


def test_a_single_field_can_be_set_while_the_clock_runs(rtc: Clock) -> None:
    rtc.put(4, 0x07)
    rtc.put(6, 0x01)
    assert rtc.clock() == [0x58, 0x59, 0x07, 0x01, 0x29, 0x02, 0x24, 0x20]


def test_letting_the_divider_go_starts_half_a_second_before_an_update(rtc: Clock) -> None:
    rtc.put(A, 0x76)
    rtc.time = 10 * SECOND
    assert rtc.get(0) == 0x58
    rtc.put(A, 0x26)
    rtc.time += SECOND // 2 - 1
    assert rtc.get(0) == 0x58
    rtc.time += 1
    assert rtc.get(0) == 0x59


def test_uip_announces_the_update(rtc: Clock) -> None:
    for phase, uip in ((0, 0), (SECOND - UPDATE_NS - 1, 0), (SECOND - UPDATE_NS, 1), (SECOND - 1, 1)):
        rtc.time = 3 * SECOND + phase
        assert rtc.get(A) == 0x26 | uip << 7
    rtc.put(B, SET)
    assert rtc.get(A) == 0x26


# ---- interrupts


def test_the_update_ended_interrupt_comes_each_second(rtc: Clock) -> None:
    rtc.put(A, 0x20)
    rtc.put(B, H24 | UIE)
    assert rtc.due == SECOND
    rtc.wait(SECOND)
    assert rtc.level
    assert rtc.get(C) == IRQF | UF
    assert not rtc.level
    assert rtc.get(C) == 0
    assert rtc.due == 2 * SECOND


@pytest.mark.parametrize(("rate", "hertz"), [(1, 256), (2, 128), (3, 8192), (6, 1024), (10, 64), (15, 2)])
def test_the_periodic_interrupt_has_the_rate_of_register_a(rtc: Clock, rate: int, hertz: int) -> None:
    rtc.put(A, 0x20 | rate)
    rtc.put(B, H24 | PIE)
    count = 0
    while rtc.due is not None and rtc.due <= SECOND:
        rtc.wait(rtc.due - rtc.time)
        assert rtc.get(C) & (IRQF | PF) == IRQF | PF
        count += 1
    assert count == hertz


def test_a_periodic_interrupt_that_is_not_acknowledged_costs_nothing(rtc: Clock) -> None:
    rtc.put(B, H24 | PIE)
    rtc.wait(10 * SECOND)
    assert rtc.due is None
    assert rtc.log == [("irq", True)]
    assert rtc.get(C) == IRQF | PF | UF
    assert rtc.due == 10 * SECOND + 976_563


def test_no_rate_gives_no_periodic_interrupt(rtc: Clock) -> None:
    rtc.put(A, 0x20)
    rtc.put(B, H24 | PIE)
    assert rtc.due is None


def test_flags_are_set_without_their_interrupt_and_polling_sees_them(rtc: Clock) -> None:
    rtc.time = SECOND
    assert rtc.get(C) == PF | UF
    assert rtc.log == []


def test_enabling_an_interrupt_whose_flag_is_set_raises_it(rtc: Clock) -> None:
    rtc.time = SECOND
    rtc.put(B, H24 | UIE)
    assert rtc.level


@pytest.mark.parametrize(
    ("alarm", "after"),
    [
        ((0x14, 0x00, 0x05), 7),
        ((0xFF, 0xFF, 0xFF), 1),
        ((0xFF, 0xC0, 0x30), 32),
        ((0xC5, 0x10, 0x00), 602),
        ((0x13, 0x59, 0x58), DAY),
    ],
)
def test_the_alarm_comes_at_its_time_of_day(rtc: Clock, alarm: tuple[int, int, int], after: int) -> None:
    for index, byte in zip((5, 3, 1), alarm, strict=True):
        rtc.put(index, byte)
    rtc.put(B, H24 | AIE)
    assert rtc.due == after * SECOND
    rtc.wait(after * SECOND)
    assert rtc.level
    assert rtc.get(C) & (IRQF | AF) == IRQF | AF


def test_an_alarm_at_an_impossible_time_never_comes(rtc: Clock) -> None:
    rtc.put(5, 0x7A)
    rtc.put(B, H24 | AIE)
    assert rtc.due is None
    rtc.time = 3 * DAY * SECOND
    assert rtc.get(C) & AF == 0


def test_set_stops_updates_and_clears_their_enable(rtc: Clock) -> None:
    rtc.put(B, H24 | UIE)
    rtc.put(B, SET | H24 | UIE)
    assert rtc.get(B) == SET | H24
    rtc.time = 5 * SECOND
    assert rtc.get(C) & UF == 0
    assert rtc.due is None


def test_registers_c_and_d_cannot_be_written(rtc: Clock) -> None:
    rtc.put(C, 0xFF)
    rtc.put(D, 0x00)
    assert (rtc.get(C), rtc.get(D)) == (0, 0x80)


# ---- the memory of a PC


@pytest.mark.parametrize(
    ("megabytes", "extended", "above_16"),
    [(1, 0, 0), (16, 15 * 1024, 0), (64, 63 * 1024, 48 * 16), (512, 0xFFFF, 496 * 16)],
)
def test_the_memory_sizes_are_where_kernels_look(megabytes: int, extended: int, above_16: int) -> None:
    bench = Bench(
        lambda bench: RtcMc146818(
            now=bench.now,
            schedule=bench.schedule,
            irq=bench.pin("irq"),
            epoch_seconds=0,
            memory_bytes=megabytes << 20,
        )
    )

    def word(index: int) -> int:
        value = 0
        for n in range(2):
            bench.device.write(0, index + n)
            value |= bench.device.read(1) << 8 * n
        return value

    assert word(0x15) == 640
    assert word(0x17) == word(0x30) == extended
    assert word(0x34) == above_16


def test_the_checksum_covers_10_to_2d(rtc: Clock) -> None:
    total = sum(rtc.get(index) for index in range(0x10, 0x2E))
    assert (rtc.get(0x2E), rtc.get(0x2F)) == (total >> 8, total & 0xFF)


def test_free_bytes_keep_what_is_written(rtc: Clock) -> None:
    rtc.put(0x0F, 0x0A)
    rtc.put(0x7F, 0x55)
    assert (rtc.get(0x0F), rtc.get(0x7F)) == (0x0A, 0x55)


def test_bit_7_of_the_index_masks_the_nmi(rtc: Clock) -> None:
    rtc.device.write(0, 0x80 | D)
    assert rtc.device.nmi_masked
    assert rtc.device.read(1) == 0x80
    assert rtc.device.read(0) == 0xFF
    rtc.device.write(0, D)
    assert not rtc.device.nmi_masked


def test_the_century_can_be_set(rtc: Clock) -> None:
    rtc.put(0x32, 0x19)
    assert rtc.device.moment().year == 1924


# ---- snapshots


def test_restoring_raises_the_pending_interrupt_and_asks_for_the_next(rtc: Clock) -> None:
    rtc.put(B, H24 | UIE)
    quiet = rtc.device.save()
    rtc.wait(SECOND)
    raised = rtc.device.save()
    other = Clock()
    other.device.restore(raised)
    assert other.level
    other.device.restore(quiet)
    assert not other.level
    assert other.due == SECOND


def test_the_display_decodes_the_control_registers(rtc: Clock) -> None:
    shown = {line.name: line for line in describe(rtc.device.save())}
    assert repr(shown["a"].register) == "RegisterA(0x26: DV=32.768 kHz RS=6)"
    assert repr(shown["b"].register) == "RegisterB(0x2: HOURS_24)"


PROGRAMS = register_programs(
    st.integers(-1, 2),
    st.tuples(st.just("write"), st.just(0), st.integers(0, 13)),
    st.tuples(st.just("write"), st.just(1), st.sampled_from([0x26, 0x76, 0x2F, 0x70, 0x12, 0xC0, 0xF2])),
    st.tuples(st.just("wait"), st.integers(0, 3 * SECOND)),
    st.tuples(st.just("wait"), st.integers(0, 200_000)),
)


@given(PROGRAMS, st.integers(0, 60))
def test_a_snapshot_is_invisible_to_any_program(program: list[Any], cut: int) -> None:
    check_twin(build, program, cut)


@given(PROGRAMS)
def test_any_program_leaves_bytes_to_read_and_a_line_that_matches_register_c(program: list[Any]) -> None:
    rtc = Clock()
    for step in program:
        result = rtc.do(step)
        assert result is None or 0 <= result <= 0xFF
        assert rtc.level == bool(rtc.device.save().c & IRQF)
    for index in range(128):
        assert 0 <= rtc.get(index) <= 0xFF
    assert rtc.due is None or rtc.due > rtc.time
