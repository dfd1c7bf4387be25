"""A guest does the same again: the same exits, the same keys, the same end, however it is watched."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

import vlab
from tests.vmm.replay_lab import echo, finish, outcome, run_for
from vlab.guests.programs import CPUID, SCRATCH, count_down, guest, increment, leave, timer
from vlab.machine.clock import FOREVER, Alarms, DeterministicClock
from vlab.vmm.inputs import LATENCY_NS

FIVE_EXITS = b"".join(increment(SCRATCH) + CPUID for _ in range(5)) + leave(0)
"""Counts its exits, which are no ports', in memory."""


def counted(vm: vlab.VM) -> int:
    return vm.memory[SCRATCH]


# --- nothing that watches changes what happens ------------------------------------------------------------


@pytest.mark.parametrize("name", ["hello", "rings", "longmode"])
@pytest.mark.parametrize("monitor", ["none", "hardware"])
def test_stopping_often_changes_nothing(name: str, monitor: str, monkeypatch: pytest.MonkeyPatch) -> None:
    results = set()
    for blocks in (500_000, 97, 1):
        monkeypatch.setattr("vlab.vmm.monitor.CHUNK_BLOCKS", blocks)
        with vlab.VM(name, monitor=monitor, trace="full") as vm:
            finish(vm)
            results.add((*outcome(vm), vm.exits.digest()))
    assert len(results) == 1


def test_stepping_through_a_guest_changes_nothing(tmp_path: Path) -> None:
    with echo(tmp_path) as plain, echo(tmp_path) as vm:
        for each in (plain, vm):
            each.send("abq")
        finish(plain)
        while not vm.step().final:
            pass
        assert outcome(vm) == outcome(plain)
        assert vm.exits.digest() == plain.exits.digest()


def test_a_background_run_leaves_the_same_trace(tmp_path: Path) -> None:
    with echo(tmp_path) as plain, echo(tmp_path) as vm:
        for each in (plain, vm):
            each.send("abq")
        finish(plain)
        vm.start()
        while vm.running:
            vm.pause()
            vm.registers()
            vm.resume()
            time.sleep(0.001)
        assert outcome(vm) == outcome(plain)
        for number, each in enumerate((plain, vm)):
            each.save_trace(tmp_path / f"{number}.vlabtrace")
        assert (tmp_path / "0.vlabtrace").read_bytes() == (tmp_path / "1.vlabtrace").read_bytes()


def test_without_the_compiled_helper_the_trace_is_the_same(tmp_path: Path) -> None:
    program = textwrap.dedent("""
        import json, sys, vlab
        results = []
        for guest in sys.argv[1:]:
            for monitor in ("none", "hardware"):
                with vlab.VM(guest, monitor=monitor, trace="full", memory="16M") as vm:
                    vm.send("q")
                    stop = vm.run(timeout=100)
                    results.append([stop.kind, vm.exits.digest(), vm.virtual_time_ns, vm.state_hash()])
        print(json.dumps(results))
    """)
    with echo(tmp_path):
        guests = [str(tmp_path / "echo.bin"), "hello", "rings", "longmode"]
    results = []
    for helper in ("on", "off"):
        environment = os.environ | {"VLAB_HELPER": helper}
        done = subprocess.run(
            [sys.executable, "-c", program, *guests],
            env=environment, capture_output=True, text=True, check=True, timeout=300,
        )  # fmt: skip
        results.append(json.loads(done.stdout))
    assert results[0] == results[1]
    assert all(kind == "exit" for kind, *_ in results[0])


@pytest.mark.parametrize("monitor", ["none", "hardware"])
def test_an_interrupt_comes_in_behind_sti_and_ret(
    tmp_path: Path, monitor: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between RET and CLI the interrupt that waits must come in, whether the block there was translated
    before or not. The emulator by itself loses it when it was.
    """
    inner = b"\x51" + count_down(3000) + b"\x59"  # push ecx; ...; pop ecx
    body = (
        inner + b"\xe8\x03\x00\x00\x00" + b"\xfa" + b"\xeb\x02" + b"\xfb\xc3"
    )  # call f; cli; jmp; f: sti; ret
    program = b"\xfa" + count_down(200, body) + leave(0)
    path = guest(tmp_path, timer(program, hertz=500))
    results = set()
    for blocks in (500_000, 11):
        monkeypatch.setattr("vlab.vmm.monitor.CHUNK_BLOCKS", blocks)
        with vlab.VM(path, memory="4M", monitor=monitor, trace="full") as vm:
            finish(vm)
            assert vm.interrupts_delivered >= 3
            results.add((*outcome(vm), vm.exits.digest()))
    assert len(results) == 1


# --- keys -------------------------------------------------------------------------------------------------


def test_keys_arrive_again_when_the_guest_goes_the_same_way(tmp_path: Path) -> None:
    with echo(tmp_path) as vm:
        run_for(vm, 500_000)
        start = vm.snapshot()
        vm.start()
        for key in "wall clock":
            vm.send(key)
            time.sleep(0.002)
        vm.send("q")
        vm.wait(60)
        first, trace = outcome(vm), vm.exits.digest()
        assert vm.console.text == "wall clock"
        for _ in range(2):
            vm.restore(start)
            assert vm.console.text == ""
            finish(vm)
            assert outcome(vm) == first
            assert vm.exits.digest() == trace


def test_a_new_key_gives_up_those_that_lie_ahead(tmp_path: Path) -> None:
    with echo(tmp_path) as vm:
        start = vm.snapshot()
        vm.send("old")
        vm.run(until="old", timeout=20)
        vm.restore(start)
        vm.send("new")
        vm.send("!")
        vm.run(until="new!", timeout=20)
        run_for(vm, 3_000_000)
        assert vm.console.text == "new!"
        vm.restore(start)
        vm.run(until="!", timeout=20)
        assert vm.console.text == "new!"


def test_a_key_takes_its_time_to_arrive(tmp_path: Path) -> None:
    with echo(tmp_path) as vm:
        run_for(vm, 100_000)
        typed = vm.virtual_time_ns
        vm.send("x")
        serial = vm.vmm.board.serial
        before = serial.save()
        vm.run(lambda vm: serial.save() != before, timeout=20)
        assert typed + LATENCY_NS <= vm.virtual_time_ns < typed + LATENCY_NS + 5_000


def test_a_snapshot_of_another_vm_brings_its_keys_and_no_others(tmp_path: Path) -> None:
    with echo(tmp_path) as vm, echo(tmp_path) as other:
        moment = other.snapshot()
        vm.send("mine")
        vm.run(until="mine", timeout=20)
        vm.restore(moment)
        run_for(vm, 5_000_000)
        assert vm.console.text == ""


# --- alarms, whose order is no memory of the past ---------------------------------------------------------


def test_alarms_for_one_time_go_off_in_the_order_in_which_they_were_made() -> None:
    clock = DeterministicClock(memoryview(bytearray(8)).cast("Q"))
    alarms, rung = Alarms(clock), []
    first, second = (alarms.alarm(lambda n=n: rung.append(n)) for n in (1, 2))  # type: ignore[misc]
    second.schedule(100)
    first.schedule(100)
    clock.skip(100)
    alarms.run_due()
    assert rung == [1, 2]
    assert alarms.next == FOREVER


def test_an_alarm_that_was_put_off_leaves_no_earlier_time_behind() -> None:
    clock = DeterministicClock(memoryview(bytearray(8)).cast("Q"))
    alarms = Alarms(clock)
    one, other = alarms.alarm(lambda: None), alarms.alarm(lambda: None)
    one.schedule(50)
    other.schedule(80)
    one.schedule(200)
    assert alarms.next == 80
    other.schedule(None)
    assert alarms.next == 200
    one.schedule(50)
    assert alarms.next == 50
    alarms.reset()
    assert alarms.next == FOREVER
