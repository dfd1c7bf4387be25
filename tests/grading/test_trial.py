"""Guests to compare with: what happens to them is never the student's fault."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest

from vlab.grading.exercise import Broken
from vlab.grading.local import LocalStudent
from vlab.grading.trial import Trial
from vlab.guests.programs import SPIN, image, leave, say
from vlab.session import StopKind


@pytest.fixture
def trial() -> Iterator[Trial]:
    made = Trial(LocalStudent.of_source(""), random.Random(1))
    yield made
    made.close()


def test_it_runs_to_its_end_or_to_what_is_waited_for(trial: Trial) -> None:
    vm = trial.vm("wren", memory="16M")
    assert trial.run_ours(vm, "$ ").kind is StopKind.EXPECTED
    vm.send("exit\n")
    assert trial.run_ours(vm).exit_code == 0


def test_another_status_is_told_as_a_fault_of_ours(trial: Trial) -> None:
    code = image(leave(6))
    with pytest.raises(RuntimeError, match=r"^the guest to compare with stopped with 'the guest ended"):
        trial.run_ours(trial.vm(code, memory="2M"))
    assert trial.run_ours(trial.vm(code, memory="2M"), status=6).exit_code == 6
    assert trial.run_ours(trial.vm(code, memory="2M"), status=None).exit_code == 6


def test_an_end_before_what_was_waited_for_is_a_fault_of_ours(trial: Trial) -> None:
    with pytest.raises(RuntimeError, match=r"^the guest to compare with stopped with 'the guest ended"):
        trial.run_ours(trial.vm(image(leave(0)), memory="2M"), "never said")


def test_a_guest_that_never_ends_is_a_fault_of_ours_too_and_else_the_students(trial: Trial) -> None:
    code = image(say("x") * 20 + SPIN)
    with pytest.raises(RuntimeError, match=r"^the guest to compare with: after 10 exits the guest was"):
        trial.run_ours(trial.vm(code, memory="2M"), exits=10)
    with pytest.raises(Broken, match=r"^after 10 exits the guest was still running"):
        trial.run(trial.vm(code, memory="2M"), exits=10)


def test_a_guest_that_sleeps_for_good_is_given_up_at_once(trial: Trial) -> None:
    sleeping = trial.vm(image(bytes.fromhex("FB F4") + leave(0)), memory="2M")  # sti; hlt
    with pytest.raises(Broken, match=r"^the guest sleeps, and nothing is left to wake it; it was to end$"):
        trial.run(sleeping)
    assert not sleeping.ended


def test_a_guest_that_sleeps_until_a_timer_goes_off_is_waited_for(trial: Trial) -> None:
    vm = trial.vm("wren", memory="16M")
    trial.run(vm, "$ ")
    vm.send("sleep 3\necho awake\n")
    trial.run(vm, "\nawake", time_ns=10_000_000_000)
