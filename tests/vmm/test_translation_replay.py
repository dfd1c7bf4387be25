"""A translated guest does the same every time, wherever it is stopped on its way."""

from __future__ import annotations

import pytest

import vlab
from tests.vmm.replay_lab import finish, outcome, run_for

TRANSLATION = "binary-translation"


@pytest.mark.parametrize("name", ["rings", "longmode"])
def test_stopping_often_changes_nothing(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    results = set()
    for blocks in (500_000, 97, 11, 3, 1):
        monkeypatch.setattr("vlab.vmm.monitor.CHUNK_BLOCKS", blocks)
        with vlab.VM(name, monitor=TRANSLATION, trace="full") as vm:
            finish(vm)
            results.add((*outcome(vm), vm.exits.digest()))
    assert len(results) == 1


def test_stopping_often_does_not_change_a_kernel_with_interrupts(monkeypatch: pytest.MonkeyPatch) -> None:
    results = set()
    for blocks in (500_000, 61):
        monkeypatch.setattr("vlab.vmm.monitor.CHUNK_BLOCKS", blocks)
        with vlab.VM("wren", monitor=TRANSLATION, trace="full", append="selftest") as vm:
            finish(vm)
            results.add((*outcome(vm), vm.exits.digest()))
    assert len(results) == 1


def test_looking_on_the_way_does_not_change_when_a_guest_ends() -> None:
    times = []
    for looks in (False, True):
        with vlab.VM("longmode", monitor=TRANSLATION) as vm:
            if looks:
                run_for(vm, 2_600_000)
            finish(vm)
            times.append(vm.virtual_time_ns)
    assert times[0] == times[1]


def test_snapshots_in_the_middle_of_lookups_can_be_gone_on_from() -> None:
    with vlab.VM("rings", monitor=TRANSLATION) as vm:
        finish(vm)
        expected = vm.console.text
    with vlab.VM("rings", monitor=TRANSLATION) as vm:
        for _ in range(400):
            run_for(vm, 997)
            vm.restore(vm.snapshot())
        finish(vm)
        assert vm.console.text == expected


def test_a_guest_goes_on_from_a_snapshot_as_it_did_when_that_was_taken() -> None:
    with vlab.VM("longmode", monitor=TRANSLATION, trace="full") as vm:
        run_for(vm, 2_600_000)
        moment = vm.snapshot()
        finish(vm)
        end = outcome(vm)
        vm.restore(moment)
        finish(vm)
        assert outcome(vm) == end


def test_step_back_finds_the_state_that_was_there() -> None:
    with vlab.VM("longmode", monitor=TRANSLATION, trace="full", history=True) as vm:
        states = []
        for _ in range(12):
            vm.run(exits=97)
            states.append((len(vm.exits), vm.state_hash()))
        for count, state in reversed(states[:-1]):
            while len(vm.exits) > count:
                vm.step_back()
            assert (len(vm.exits), vm.state_hash()) == (count, state)
