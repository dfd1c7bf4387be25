"""The loop that all monitors share: time, idling, stopping, attention."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

import vlab
from vlab.guests.programs import (
    CODE,
    SCRATCH,
    SPIN,
    STI_HALT,
    TICKS,
    count_down,
    guest,
    increment,
    leave,
    out,
    say,
    timer,
)
from vlab.session import StopKind
from vlab.vmm.bell import Bell
from vlab.vmm.monitor import FREE_IDLE_NS
from vlab.vmm.stop import Stop
from vlab.vmm.ticker import Ticker

BOTH = pytest.mark.parametrize("monitor", ["none", "hardware"])


def word(vm: vlab.VM, address: int) -> int:
    return int.from_bytes(vm.memory[address : address + 4], "little")


# --- time -------------------------------------------------------------------------------------------------


@BOTH
def test_a_halted_guests_time_jumps_to_the_next_alarm(tmp_path: Path, monitor: str) -> None:
    with vlab.VM(guest(tmp_path, timer(hertz=20)), memory="4M", monitor=monitor) as vm:
        started = time.monotonic()
        vm.run(until=lambda vm: word(vm, TICKS) >= 100, timeout=30)
        assert 4_900_000_000 < vm.virtual_time_ns < 5_100_000_000
        assert time.monotonic() - started < 4


def test_after_a_long_silence_idle_time_passes_no_faster_than_the_walls(tmp_path: Path) -> None:
    with vlab.VM(guest(tmp_path, timer(hertz=20)), memory="4M") as vm:
        vm.run(until=lambda vm: vm.virtual_time_ns >= FREE_IDLE_NS, timeout=30)
        before, started = vm.virtual_time_ns, time.monotonic()
        vm.run(timeout=0.5)
        assert vm.virtual_time_ns - before < 1.3e9 * (time.monotonic() - started)


def test_a_key_pressed_lets_idle_time_jump_again(tmp_path: Path) -> None:
    with vlab.VM(guest(tmp_path, timer(hertz=20)), memory="4M") as vm:
        vm.run(until=lambda vm: vm.virtual_time_ns >= FREE_IDLE_NS, timeout=30)
        vm.send("x")
        before, started = vm.virtual_time_ns, time.monotonic()
        vm.run(until=lambda vm: vm.virtual_time_ns - before > 9_000_000_000, timeout=30)
        assert time.monotonic() - started < 3


def test_a_guest_that_waits_for_input_alone_can_be_woken(tmp_path: Path) -> None:
    with vlab.VM(guest(tmp_path, STI_HALT), memory="4M") as vm:  # no timer: nothing will ever happen
        started = time.monotonic()
        assert vm.run(timeout=0.2).kind == StopKind.TIMEOUT
        threading.Timer(0.1, vm.pause).start()
        assert vm.run(timeout=20).kind == StopKind.PAUSED
        assert time.monotonic() - started < 5


@BOTH
@pytest.mark.parametrize("hertz", [100, pytest.param(1000, marks=pytest.mark.slow)])
def test_the_realtime_clock_follows_the_wall_however_busy_the_guest_is(
    tmp_path: Path, monitor: str, hertz: int
) -> None:
    for then in (SPIN, STI_HALT):
        code = timer(then=then, hertz=hertz)
        with vlab.VM(guest(tmp_path, code), memory="4M", clock="realtime", monitor=monitor) as vm:
            vm.run(timeout=0.1)
            rates = []
            for _ in range(4):
                ticks, started, had = word(vm, TICKS), time.monotonic(), time.process_time()
                vm.run(timeout=0.5)
                seconds, had = time.monotonic() - started, time.process_time() - had
                ticks = word(vm, TICKS) - ticks
                assert ticks < 1.15 * hertz * seconds + 2
                # A guest that is busy cannot tick while other programs have the processor.
                rates.append(ticks / (had if then == SPIN else seconds))
                if rates[-1] > 0.5 * hertz:
                    break
            assert rates[-1] > 0.5 * hertz, rates


def test_time_stands_still_while_the_guest_does_not_run(tmp_path: Path) -> None:
    for clock in ("deterministic", "realtime"):
        with vlab.VM(guest(tmp_path, timer()), memory="4M", clock=clock) as vm:
            vm.run(timeout=0.05)
            before = vm.virtual_time_ns
            time.sleep(0.1)
            assert vm.virtual_time_ns == before


@pytest.mark.parametrize("helper", ["compiled", "python"])
def test_both_ways_to_count_blocks_give_the_same_times(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, helper: str
) -> None:
    code = timer(then=count_down(60_000, increment(SCRATCH + 8)) + say("x") + leave(0), hertz=2000)

    def outcome() -> tuple[object, ...]:
        with vlab.VM(guest(tmp_path, code), memory="4M", trace="full") as vm:
            vm.run(timeout=60)
            return vm.state_hash(), vm.virtual_time_ns, vm.blocks, vm.exits.digest(), word(vm, TICKS)

    expected = outcome()
    assert expected[-1]
    if helper == "python":
        monkeypatch.setattr("vlab.machine.helper.load", lambda: None)
    assert outcome() == expected


# --- stopping ---------------------------------------------------------------------------------------------


def test_of_two_endings_the_first_counts(tmp_path: Path) -> None:
    code = b"\xb0\x05\xe6\xf4\xb0\x06\xe6\xf4" + SPIN  # two writes to the debug-exit port in one block
    with vlab.VM(guest(tmp_path, code), memory="4M") as vm:
        assert vm.run(timeout=20).exit_code == 5


def test_a_stop_that_was_asked_for_comes_before_any_block(tmp_path: Path) -> None:
    with vlab.VM(guest(tmp_path, say("x") + leave(0)), memory="4M") as vm:
        monitor = vm.vmm
        monitor.request_stop(Stop(StopKind.PAUSED, "first of all"))
        assert monitor.run() == Stop(StopKind.PAUSED, "first of all")
        assert vm.blocks == 0
        monitor.request_stop(Stop(StopKind.PAUSED, "void"))
        monitor.forget_request()
        assert monitor.run().kind == StopKind.EXIT


def test_what_is_posted_is_done_in_order_before_the_guest_goes_on(tmp_path: Path) -> None:
    with vlab.VM(guest(tmp_path, SPIN), memory="4M") as vm:
        done: list[int] = []
        for number in range(5):
            vm.vmm.post(lambda number=number: done.append(number))
        vm.run(until=lambda _vm: len(done) == 5, timeout=20)
        assert done == [0, 1, 2, 3, 4]


def test_a_problem_put_off_comes_out_of_the_next_run_once(tmp_path: Path) -> None:
    with vlab.VM(guest(tmp_path, SPIN), memory="4M") as vm:
        vm.vmm.raise_later(OSError("later"))
        with pytest.raises(OSError, match="later"):
            vm.run(timeout=20)
        assert vm.run(timeout=0.01).kind == StopKind.TIMEOUT


@BOTH
def test_setting_a_timer_in_mid_run_brings_its_interrupt_in_time(tmp_path: Path, monitor: str) -> None:
    """The alarm is set while the engine runs towards a later deadline."""
    once = out(0x43, 0x30) + out(0x40, 0x40) + out(0x40, 0)  # one shot after 64 pulses, 54 us
    code = timer(then=count_down(100_000) + once + count_down(20_000) + leave(0), hertz=19)
    with vlab.VM(guest(tmp_path, code), memory="4M", monitor=monitor) as vm:
        vm.run(timeout=60)
        assert word(vm, TICKS) == 1


def test_a_long_run_of_exits_is_left_in_time_for_the_timer(tmp_path: Path) -> None:
    loop = b"\x51\x0f\xa2\x59"  # push ecx; cpuid; pop ecx
    with vlab.VM(
        guest(tmp_path, timer(then=count_down(30_000, loop) + leave(0), hertz=2000)), memory="4M"
    ) as vm:
        vm.run(timeout=60)
        expected = vm.virtual_time_ns // 500_000
        assert abs(word(vm, TICKS) - expected) <= 2


# --- what wakes it ----------------------------------------------------------------------------------------


def test_a_bell_rung_before_is_heard_once_and_can_be_silenced() -> None:
    bell = Bell()
    for _ in range(3):
        bell.ring()
    started = time.monotonic()
    bell.wait(5)
    assert time.monotonic() - started < 1
    bell.ring()
    bell.silence()
    bell.wait(0.01)
    bell.wait(-1)


def test_a_bell_wakes_a_sleeping_thread() -> None:
    bell = Bell()
    threading.Timer(0.05, bell.ring).start()
    started = time.monotonic()
    bell.wait(10)
    assert time.monotonic() - started < 5


def test_a_ticker_rings_once_for_each_moment_set() -> None:
    rings: list[float] = []
    ticker = Ticker(lambda: rings.append(time.monotonic()))
    ticker.set(5)
    ticker.hasten(0.01)
    ticker.hasten(6)
    time.sleep(0.1)
    assert len(rings) == 1
    ticker.set(0.01)
    ticker.cancel()
    time.sleep(0.05)
    assert len(rings) == 1
    ticker.close()


def test_registers_can_be_read_before_the_first_run_and_after_the_last(tmp_path: Path) -> None:
    with vlab.VM(guest(tmp_path, leave(0)), memory="4M") as vm:
        assert vm.registers().rip == CODE - 5
        vm.run(timeout=20)
        assert vm.registers().rip == CODE + 4
