"""Virtual time and alarms."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vlab.machine.clock import FOREVER, NS_PER_BLOCK, Alarms, DeterministicClock, RealtimeClock


class Counter:
    """The engine's control words, of which the clock reads the first."""

    def __init__(self) -> None:
        self.words = memoryview(bytearray(24)).cast("Q")

    def execute(self, blocks: int) -> None:
        self.words[0] += blocks


def test_time_is_executed_blocks_while_the_machine_runs() -> None:
    counter = Counter()
    clock = DeterministicClock(counter.words)
    counter.execute(5)  # another virtual machine's
    clock.enter()
    counter.execute(10)
    assert clock.now() == 10 * NS_PER_BLOCK
    clock.leave()
    counter.execute(1000)
    assert clock.now() == 10 * NS_PER_BLOCK
    clock.enter()
    counter.execute(1)
    assert clock.now() == 11 * NS_PER_BLOCK


def test_idle_time_passes_without_blocks_and_is_remembered() -> None:
    counter = Counter()
    clock = DeterministicClock(counter.words)
    clock.enter()
    clock.skip(1_000_000)
    counter.execute(1)
    assert (clock.now(), clock.skipped) == (1_000_000 + NS_PER_BLOCK, 1_000_000)


def test_a_restored_snapshot_sets_the_time_running_or_not() -> None:
    counter = Counter()
    clock = DeterministicClock(counter.words)
    clock.set(500)
    assert clock.now() == 500
    clock.enter()
    counter.execute(3)
    clock.set(7000)
    counter.execute(2)
    assert clock.now() == 7000 + 2 * NS_PER_BLOCK


@given(st.integers(0, 1 << 40), st.integers(0, 1 << 20), st.integers(0, 1 << 30))
def test_blocks_until_is_the_first_block_count_at_which_the_time_is_reached(
    base: int, executed: int, ahead: int
) -> None:
    counter = Counter()
    clock = DeterministicClock(counter.words)
    clock.set(base)
    clock.enter()
    counter.execute(executed)
    when = clock.now() + ahead
    counter.words[0] = clock.blocks_until(when)
    assert when <= clock.now() < when + NS_PER_BLOCK


def test_a_time_in_the_past_is_due_now() -> None:
    counter = Counter()
    clock = DeterministicClock(counter.words)
    clock.enter()
    counter.execute(10)
    assert clock.blocks_until(0) == 10


def test_the_realtime_clock_follows_the_wall_only_while_entered(monkeypatch: pytest.MonkeyPatch) -> None:
    wall = 1000
    monkeypatch.setattr(time, "monotonic_ns", lambda: wall)
    clock = RealtimeClock()
    clock.enter()
    wall += 50
    assert clock.now() == 50
    clock.leave()
    wall += 1000
    assert clock.now() == 50
    clock.enter()
    clock.skip(10**9)  # the wall moves by itself
    wall += 5
    assert clock.now() == 55
    clock.set(7)
    wall += 1
    assert clock.now() == 8


class Bell:
    """Alarms on a clock that stands where the test puts it, and a list of what rang."""

    def __init__(self) -> None:
        self.time = DeterministicClock(Counter().words)
        self.alarms = Alarms(self.time)
        self.rung: list[str] = []

    def alarm(self, name: str):  # type: ignore[no-untyped-def]
        return self.alarms.alarm(lambda: self.rung.append(name))

    def at(self, now: int) -> list[str]:
        self.time.set(now)
        self.alarms.run_due()
        return self.rung


def test_alarms_ring_in_the_order_of_their_times() -> None:
    bell = Bell()
    for name, when in (("late", 30), ("early", 10), ("middle", 20)):
        bell.alarm(name).schedule(when)
    assert bell.alarms.next == 10
    assert bell.at(9) == []
    assert bell.at(20) == ["early", "middle"]
    assert bell.alarms.next == 30
    assert bell.at(99) == ["early", "middle", "late"]
    assert bell.alarms.next == FOREVER


def test_alarms_at_one_time_ring_in_the_order_they_were_made() -> None:
    bell = Bell()
    first, second = bell.alarm("first"), bell.alarm("second")
    second.schedule(10)
    first.schedule(10)
    assert bell.at(10) == ["first", "second"]


def test_a_later_call_replaces_and_none_cancels() -> None:
    bell = Bell()
    moved, cancelled = bell.alarm("moved"), bell.alarm("cancelled")
    moved.schedule(10)
    cancelled.schedule(15)
    moved.schedule(50)
    cancelled.schedule(None)
    assert bell.alarms.next == 50
    assert bell.at(20) == []
    assert bell.at(50) == ["moved"]


def test_an_alarm_may_set_itself_again_while_it_rings() -> None:
    bell = Bell()
    ticks: list[int] = []

    def tick() -> None:
        ticks.append(bell.time.now())
        if len(ticks) < 3:
            alarm.schedule(5 * (len(ticks) + 1))

    alarm = bell.alarms.alarm(tick)
    alarm.schedule(5)
    bell.at(100)
    assert ticks == [100, 100, 100]
    assert bell.alarms.next == FOREVER


def test_the_owner_is_told_when_the_earliest_time_moves_up() -> None:
    bell, told = Bell(), []
    bell.alarms.on_earlier = lambda: told.append(bell.alarms.next)
    bell.alarm("a").schedule(50)
    bell.alarm("b").schedule(70)
    bell.alarm("c").schedule(20)
    assert told == [50, 20]


def test_an_alarm_that_raises_is_asked_again() -> None:
    bell = Bell()
    calls = 0

    def expire() -> None:
        nonlocal calls
        calls += 1
        if calls == 1:
            raise RuntimeError("a student's mistake")

    alarm = bell.alarms.alarm(expire)
    alarm.schedule(10)
    with pytest.raises(RuntimeError):
        bell.at(10)
    assert alarm.when == 10
    bell.at(10)
    assert (calls, alarm.when) == (2, None)


def test_reset_cancels_everything() -> None:
    bell = Bell()
    alarm = bell.alarm("a")
    alarm.schedule(10)
    bell.alarms.reset()
    assert (alarm.when, bell.alarms.next) == (None, FOREVER)
    assert bell.at(100) == []
