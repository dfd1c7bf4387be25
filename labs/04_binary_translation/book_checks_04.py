"""What is tried of a student's book: what guests then do, and how often they come to the monitor."""

from __future__ import annotations

from book_04 import Booked
from guests_04 import calls, changing_guest, contexts_guest, stack_guest
from running_04 import run_both, with_parts, wren

from vlab.grading.exercise import Broken
from vlab.grading.trial import Trial
from vlab.guests.programs import rings
from vlab.session import VM
from vlab.vmm.translation.translator import Translator


def _booked(trial: Trial, guest: bytes, hint: str) -> tuple[VM, VM]:
    return run_both(trial, guest, with_parts(trial, Translator, Booked), hint)


def _counts(vm: VM) -> tuple[int, int]:
    """Give blocks translated, and exits for want of a link or a target."""
    statistics = vm.translation
    assert statistics is not None
    return statistics.counts.blocks, statistics.counts.unlinked + statistics.counts.misses


def _found_again(yours: VM, ours: VM) -> None:
    mine, right = _counts(yours)[0], _counts(ours)[0]
    if mine > right:
        raise Broken(
            f"{mine} blocks were translated, and there are {right}",
            hint="what was added is found again: find gives its number", vm=yours,
        )  # fmt: skip


def _thrifty(trial: Trial, guest: bytes) -> None:
    yours, ours = _booked(trial, guest, "find gives what add has entered")
    _found_again(yours, ours)
    misses, enough = _counts(yours)[1], _counts(ours)[1]
    if misses > enough:
        raise Broken(
            f"{misses} times a block ended at the monitor, and {enough} are enough",
            hint="chain and expect say True as long as nothing speaks against it", vm=yours,
        )  # fmt: skip


def found_again(trial: Trial) -> None:
    """Run calls in a loop, and count what was translated."""
    rng = trial.rng
    _found_again(*_booked(trial, rings(calls(rng, rng.randrange(4, 9)), {}), "find gives what was added"))


def contexts_kept(trial: Trial) -> None:
    """Run the same code with interrupts on and with interrupts off."""
    _booked(trial, contexts_guest(trial.rng), "the context is part of what a translation is found by")


def changes_seen(trial: Trial) -> None:
    """Run code that is written over."""
    _booked(
        trial, changing_guest(trial.rng), "what was dropped is gone: it is not found, and nothing is chained"
    )


def once_kept(trial: Trial) -> None:
    """Run code on the page of its stack."""
    _booked(
        trial, stack_guest(trial.rng), "a translation for once is not found again, and nothing is chained"
    )


def chained(trial: Trial) -> None:
    """Run calls in a longer loop, and count how often a block ended at the monitor."""
    rng = trial.rng
    _thrifty(trial, rings(calls(rng, rng.randrange(20, 30)), {}))


def kernel_booked(trial: Trial) -> None:
    """Boot the kernel `wren`."""
    wren(trial, with_parts(trial, Translator, Booked))


def hidden_book(trial: Trial) -> None:
    """Try changes and contexts."""
    _booked(trial, changing_guest(trial.rng), "what was dropped is gone")
    contexts_kept(trial)
