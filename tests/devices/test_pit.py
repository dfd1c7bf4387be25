"""The 8254: its modes against a counter that is really stepped, its commands, and the edges of IRQ 0."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from tests.devices.stepped_counter import SteppedCounter
from tests.devices.twins import Bench, check_twin, register_programs
from vlab.devices.pit8254 import Pit8254
from vlab.devices.pit_channel import PIT_HZ, Counter, pulse_at, time_of
from vlab.devices.state import describe

CONTROL = 3
SECOND = 1_000_000_000


def build(bench: Bench) -> Pit8254:
    return Pit8254(now=bench.now, schedule=bench.schedule, irq0=bench.pin("irq0"))


class Timer(Bench):
    """A bench whose time is given in CLK pulses."""

    def __init__(self) -> None:
        super().__init__(build)

    def at(self, pulse: int) -> None:
        self.time = time_of(pulse)

    def program(self, counter: int, mode: int, count: int, *, bcd: bool = False) -> None:
        self.device.write(CONTROL, counter << 6 | 0x30 | mode << 1 | bcd)
        self.write_count(counter, count)

    def write_count(self, counter: int, count: int) -> None:
        self.device.write(counter, count & 0xFF)
        self.device.write(counter, count >> 8)

    def read_count(self, counter: int) -> int:
        low = self.device.read(counter)
        return low | self.device.read(counter) << 8

    def status(self, counter: int) -> int:
        self.device.write(CONTROL, 0xE0 | 2 << counter)
        return self.device.read(counter)

    def edges(self) -> int:
        """Return the rises of IRQ 0 since the last call."""
        rises = self.log.count(("irq0", True))
        self.log.clear()
        return rises


@pytest.fixture
def timer() -> Timer:
    return Timer()


# ---- time


@given(st.integers(0, 10**18))
def test_a_pulse_begins_exactly_at_its_time(pulse: int) -> None:
    assert pulse_at(time_of(pulse)) == pulse
    assert pulse == 0 or pulse_at(time_of(pulse) - 1) == pulse - 1


def test_a_day_has_no_drift(timer: Timer) -> None:
    timer.program(0, 2, 11932)
    timer.time = 86_400 * SECOND
    timer.device.expire()
    cycles = (86_400 * PIT_HZ - 1) // 11932 + 1
    late = Fraction(timer.due) * PIT_HZ / SECOND - (1 + 11932 * cycles)
    assert 0 <= late < Fraction(PIT_HZ, SECOND)  # less than a nanosecond


# ---- the modes


@given(
    mode=st.integers(0, 5),
    bcd=st.booleans(),
    gate=st.booleans(),
    program=st.lists(
        st.one_of(
            st.tuples(st.just("count"), st.integers(2, 9)),
            st.tuples(st.just("gate"), st.booleans()),
            st.tuples(st.just("run"), st.integers(1, 25)),
        ),
        min_size=1,
        max_size=25,
    ),
)
def test_every_mode_does_what_a_stepped_counter_does(
    mode: int, bcd: bool, gate: bool, program: list[tuple[str, int]]
) -> None:
    stepped = SteppedCounter(mode, bcd, gate)
    counter = Counter(gate=gate)
    counter.write_control(0x30 | mode << 1 | bcd)
    now = 1000
    for action, value in program:
        if action == "count":
            stepped.write_count(value)
            counter.write(value, now)
            counter.write(0, now)
        elif action == "gate":
            assume(mode != 4 or stepped.out)  # a strobe that the gate cuts short
            stepped.set_gate(bool(value))
            counter.set_gate(bool(value), now)
        else:
            for _ in range(value):
                before = stepped.out
                predicted = counter.next_rise(now)
                stepped.pulse()
                now += 1
                assert counter.output(now) == stepped.out
                if stepped.count is not None:
                    assert counter.value(now) == stepped.count % stepped.modulus
                if predicted is not None:
                    assert (stepped.out and not before) == (predicted == now)


@pytest.mark.parametrize("mode", [2, 3])
@given(count=st.integers(2, 0x10000), start=st.integers(0, 10**9), ran=st.integers(0, 10**7))
def test_the_next_rise_is_where_the_output_rises(mode: int, count: int, start: int, ran: int) -> None:
    counter = Counter(gate=True)
    counter.write_control(0x30 | mode << 1)
    counter.write(count & 0xFF, start)
    counter.write(count >> 8 & 0xFF, start)
    rise = counter.next_rise(start + ran)
    assert rise is not None
    assert start + ran < rise <= start + ran + count + 1
    assert counter.output(rise)
    assert not counter.output(rise - 1)


def test_a_count_of_one_in_a_periodic_mode_gives_no_pulses(timer: Timer) -> None:
    timer.program(0, 2, 1)
    assert timer.due is None


def test_a_count_of_zero_means_the_largest(timer: Timer) -> None:
    for bcd, largest in ((False, 0x10000), (True, 10_000)):
        timer.program(0, 2, 0, bcd=bcd)
        assert timer.device.period(0) == largest


def test_counting_goes_on_below_zero(timer: Timer) -> None:
    timer.device.write(CONTROL, 0x30)
    timer.write_count(0, 3)
    timer.at(1 + 5)
    assert timer.read_count(0) == 0xFFFE
    timer.program(0, 0, 0x0003, bcd=True)
    timer.at(6 + 1 + 5)
    assert timer.read_count(0) == 0x9998


def test_bcd_counts_in_decimal(timer: Timer) -> None:
    timer.program(0, 2, 0x1000, bcd=True)
    assert timer.device.period(0) == 1000
    timer.at(2)
    assert timer.read_count(0) == 0x0999


def test_the_first_byte_of_a_count_stops_mode_0(timer: Timer) -> None:
    timer.program(0, 0, 0x105)
    timer.device.write(0, 0x05)
    assert timer.due is None
    timer.at(5000)
    assert timer.status(0) & 0x80 == 0
    timer.device.write(0, 0x00)
    assert timer.due == time_of(5001 + 5)


def test_a_new_count_waits_for_the_end_of_the_cycle(timer: Timer) -> None:
    timer.program(0, 2, 100)
    timer.at(31)
    timer.write_count(0, 50)
    assert timer.status(0) & 0x40
    assert timer.device.period(0) == 100
    timer.at(101)
    assert timer.status(0) & 0x40 == 0
    assert timer.device.period(0) == 50


# ---- reading


def test_a_latched_count_stays_until_both_bytes_are_read(timer: Timer) -> None:
    timer.program(2, 2, 0x1234)
    timer.device.set_gate2(True)
    timer.at(1)
    timer.device.write(CONTROL, 0x80)
    timer.at(500)
    timer.device.write(CONTROL, 0x80)  # ignored, one is held
    assert timer.device.read(2) == 0x34
    timer.at(900)
    assert timer.device.read(2) == 0x12
    assert timer.read_count(2) == 0x1234 - 899


@pytest.mark.parametrize(("access", "byte"), [(1, 0x34), (2, 0x12)])
def test_single_byte_access_reads_that_byte_only(timer: Timer, access: int, byte: int) -> None:
    timer.device.write(CONTROL, access << 4 | 0x04)
    timer.device.write(0, 0x34 if access == 1 else 0x12)
    assert timer.device.period(0) == (0x34 if access == 1 else 0x1200)
    assert [timer.device.read(0), timer.device.read(0)] == [byte, byte]


def test_read_back_latches_status_and_count_of_several_counters(timer: Timer) -> None:
    timer.program(0, 2, 0x1000)
    timer.program(1, 3, 0x2000)
    timer.at(10)
    timer.device.write(CONTROL, 0xC6)
    timer.at(100)
    assert timer.device.read(0) == 0x80 | 0x34
    assert timer.read_count(0) == 0x1000 - 9
    assert timer.device.read(1) == 0x80 | 0x36
    assert timer.read_count(1) == 0x2000 - 18
    assert timer.read_count(0) == 0x1000 - 99


def test_the_null_bit_says_that_the_count_is_not_loaded(timer: Timer) -> None:
    timer.device.write(CONTROL, 0x34)
    assert timer.status(0) & 0x40
    timer.write_count(0, 100)
    assert timer.status(0) & 0x40
    timer.at(1)
    assert timer.status(0) & 0x40 == 0


def test_the_control_register_does_not_read(timer: Timer) -> None:
    assert timer.device.read(CONTROL) == 0


def test_a_calibration_loop_sees_the_high_byte_count_down(timer: Timer) -> None:
    """Linux's quick calibration: counter 2, mode 0, count FFFFh, reading both bytes without latching."""
    timer.device.set_gate2(True)
    timer.program(2, 0, 0xFFFF)
    seen = []
    for pulse in range(1, 2000, 50):
        timer.at(pulse)
        seen.append(timer.read_count(2) >> 8)
    assert seen[0] == 0xFF
    assert seen == sorted(seen, reverse=True)
    assert {0xFF, 0xFE, 0xFD} <= set(seen)


def test_counter_2_stops_while_its_gate_is_low(timer: Timer) -> None:
    timer.program(2, 0, 100)
    timer.at(1000)
    assert not timer.device.out2()
    timer.device.set_gate2(True)
    timer.at(1099)
    assert not timer.device.out2()
    timer.at(1100)
    assert timer.device.out2()


# ---- IRQ 0


def test_a_rate_generator_gives_an_edge_per_period(timer: Timer) -> None:
    timer.program(0, 2, 11932)
    timer.log.clear()
    for n in range(1, 50):
        timer.at(1 + 11932 * n)
        assert timer.due == timer.time
        timer.device.expire()
        assert timer.edges() == 1


@pytest.mark.parametrize(("mode", "pulses"), [(0, 101), (4, 102)])
def test_a_one_shot_gives_one_edge(timer: Timer, mode: int, pulses: int) -> None:
    timer.program(0, mode, 100)
    assert timer.due == time_of(pulses)
    timer.log.clear()
    timer.wait(SECOND)
    assert timer.edges() == 1
    assert timer.due is None
    timer.write_count(0, 200)
    assert timer.due is not None


def test_missed_periods_give_one_edge_and_the_next_is_on_the_grid(timer: Timer) -> None:
    timer.program(0, 3, 1000)
    timer.at(1 + 1_000_000_500)
    timer.log.clear()
    timer.device.expire()
    assert timer.edges() == 1
    assert timer.due == time_of(1 + 1_000_001_000)


def test_an_early_expire_gives_no_edge(timer: Timer) -> None:
    timer.program(0, 2, 1000)
    timer.log.clear()
    timer.at(500)
    timer.device.expire()
    assert timer.edges() == 0
    assert timer.due == time_of(1001)


def test_an_edge_that_is_due_is_not_lost_by_programming(timer: Timer) -> None:
    timer.program(0, 2, 1000)
    timer.log.clear()
    timer.at(1001)
    timer.program(0, 2, 500)
    assert timer.edges() == 1
    assert timer.due == time_of(1001 + 501)


def test_programming_mode_0_lowers_the_line(timer: Timer) -> None:
    timer.device.write(CONTROL, 0x30)
    assert timer.log == [("irq0", False)]
    timer.device.write(CONTROL, 0x34)
    assert timer.log == [("irq0", False), ("irq0", True)]


def test_restoring_drives_the_line_and_asks_for_the_next_edge(timer: Timer) -> None:
    timer.program(0, 2, 1000)
    timer.at(300)
    twin = Timer()
    twin.time = timer.time
    twin.device.restore(timer.device.save())
    assert twin.log == [("irq0", True)]
    assert twin.due == timer.due


def test_the_display_decodes_each_counter(timer: Timer) -> None:
    timer.program(2, 3, 1193)
    shown = {line.name: line for line in describe(timer.device.save())}
    register = shown["counters[2].control"].register
    assert repr(register) == "CounterControl(0x36: ACCESS=low byte, then high byte MODE=square wave)"
    assert shown["counters[2].written"].value == 1193


PROGRAMS = register_programs(
    st.integers(-1, 4),
    st.tuples(st.just("write"), st.just(CONTROL), st.integers(0, 255)),
    st.tuples(st.just("write"), st.integers(0, 2), st.integers(0, 9)),
    st.tuples(st.just("wait"), st.integers(0, 100_000)),
    st.tuples(st.just("set_gate2"), st.booleans()),
    st.just(("out2",)),
)


@given(PROGRAMS, st.integers(0, 60))
def test_a_snapshot_is_invisible_to_any_program(program: list[Any], cut: int) -> None:
    check_twin(build, program, cut)


@given(PROGRAMS)
def test_any_program_leaves_bytes_to_read_and_an_edge_in_the_future(program: list[Any]) -> None:
    timer = Timer()
    for step in program:
        result = timer.do(step)
        assert result is None or 0 <= result <= 0xFF
        for counter in timer.device.save().counters:
            assert 0 <= counter.count <= 0x10000
    timer.device.expire()
    assert timer.due is None or timer.due > timer.time
