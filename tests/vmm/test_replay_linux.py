"""The proof on Linux itself: two runs are one, and going back and forth in a boot leads to the same state.

Each boot takes seconds, so the tests share one guest and leave it where they found it.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

import vlab
from tests.vmm.replay_lab import Outcome, outcome
from vlab.session import VM

pytestmark = [pytest.mark.linux, pytest.mark.slow]

COMMAND = "uname -sm; cat /proc/interrupts\n"
PROMPT = "# "


class Booted(NamedTuple):
    """A Linux at its second prompt, what it is like there, and the digest of its trace file."""

    vm: vlab.VM
    there: Outcome
    trace: str


def digest_of_file(vm: vlab.VM, path: Path) -> str:
    vm.save_trace(path)
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture(scope="module")
def booted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Booted]:
    with vlab.VM("linux", memory="96M", trace="full", history=True) as vm:
        vm.run(until=PROMPT, timeout=300)
        vm.send(COMMAND)
        vm.run(until="Linux x86_64", timeout=60)
        vm.run(until=PROMPT, timeout=60)
        path = tmp_path_factory.mktemp("linux") / "linux.vlabtrace"
        yield Booted(vm, outcome(vm), digest_of_file(vm, path))


def to_the_end(vm: vlab.VM, there: Outcome) -> None:
    """Run to where ``there`` was noted: the keys are typed again by themselves."""
    vm.run(lambda vm: vm.console.text == there.console, timeout=300)


def test_a_second_linux_in_the_background_is_the_same_byte_for_byte(booted: Booted, tmp_path: Path) -> None:
    """And it has no history: that checkpoints were taken shows nowhere."""
    with vlab.VM("linux", memory="96M", trace="full") as vm:
        vm.start(until=PROMPT, timeout=300)
        for _ in range(5):
            time.sleep(0.05)
            assert vm.wait(0.01) is None
            vm.registers()
        vm.wait()
        vm.send(COMMAND)
        vm.start(until="Linux x86_64", timeout=60)
        vm.wait()
        vm.start(until=PROMPT, timeout=60)
        vm.wait()
        assert outcome(vm) == booted.there
        assert digest_of_file(vm, tmp_path / "again.vlabtrace") == booted.trace


def test_stepping_back_and_forth_arrives_at_the_same_state(booted: Booted) -> None:
    vm, there, _ = booted
    end = vm.exits.total
    states = []
    for _ in range(3):
        vm.step_back()
        states.append(outcome(vm))
    assert [sum(state.exits) for state in states] == sorted((sum(s.exits) for s in states), reverse=True)
    assert sum(states[0].exits) <= end
    for state in reversed(states[:-1]):
        while outcome(vm) != state:
            assert vm.exits.total <= end
            vm.step()
    to_the_end(vm, there)
    assert outcome(vm) == there


def test_running_back_to_a_predicate_and_forth_again(booted: Booted, tmp_path: Path) -> None:
    vm, there, trace = booted
    exits = vm.run_back(lambda event: event.reason == "CPUID" and event.ring == 0)
    assert exits is not None
    assert vm.exits[-1].rip == exits.rip
    assert vm.exits[-1].reason == "CPUID"
    assert vm.virtual_time_ns < there.time_ns
    to_the_end(vm, there)
    assert outcome(vm) == there
    assert digest_of_file(vm, tmp_path / "again.vlabtrace") == trace


def test_a_boot_goes_on_from_its_middle_here_and_from_a_file(booted: Booted, tmp_path: Path) -> None:
    vm, there, trace = booted
    checkpoints = [each.snapshot for each in vm._history.checkpoints]
    assert len(checkpoints) > 4
    vm.restore(checkpoints[len(checkpoints) // 2])
    assert len(vm.console.data) < len(there.console)
    vm.save(tmp_path / "middle")
    with VM.load(tmp_path / "middle") as other:
        assert other.state_hash() == vm.state_hash()
        for each in (other, vm):
            each.run(until=PROMPT, timeout=300)
        assert outcome(other) == outcome(vm)
    to_the_end(vm, there)
    assert outcome(vm) == there
    assert digest_of_file(vm, tmp_path / "again.vlabtrace") == trace
