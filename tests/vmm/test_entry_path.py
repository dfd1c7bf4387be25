"""At each instruction boundary of the teaching kernel's way in and out, something happens: the guest goes on.

The boundaries are those of ``entry.S``: every entry, what all of them share, the way back, the change of
stacks, and the copy between kernel and program. What happens is a stop of the guest, the loss of all that the
monitor and the TLB know of its page tables, and the timer's interrupt.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest

import vlab
from tests.vmm.boundary_lab import ACTS, Boundaries, disturbed, instructions, moved_code, symbols
from vlab.guests.programs import TICKS, count_down, guest, increment, leave, timer
from vlab.guests.recipes import IMAGES
from vlab.vmm import monitors
from vlab.vmm.stop import StopKind

TYPED = "echo one two | cat | wc\necho kept > note\ncat note nothing\nforkwait 5\nexit 3\n"
WAYS = [(name, *way) for name in ("wren", "wren-paravirt") for way in monitors.ways_for(name)]
TRAPS = (14, 32, 36, 48)
"""The entries that this conversation takes: page faults, the timer, the serial port, system calls."""
MOST = 4
APART = {"stop": 0, "evict": 0, "timer": 12, "timer and evict": 0}
"""Boundaries that pass between two disturbances: interrupts must be apart to arrive one by one."""


class Outcome(NamedTuple):
    """How a run ended: status, console, virtual time, registers and memory."""

    status: int | None
    console: str
    time_ns: int
    state: str


class Run(NamedTuple):
    """A run, the boundaries that the guest passed, and how often something was done at each."""

    outcome: Outcome
    passed: frozenset[int]
    done: dict[int, int]
    interrupts: int


def image(name: str) -> Path:
    return IMAGES / f"{name}.elf"


def entry_path(name: str) -> dict[int, str]:
    """Give the instructions of entry.S that this conversation executes."""
    places = symbols(image(name))
    first, last = places["trap_entries"], places["divide_by_zero"] - 1
    common = first + 16 * 48 + 9  # behind the entry for system calls, which pushes two words and jumps
    parts = [(first + 16 * vector, 9 if vector != 14 else 7) for vector in TRAPS]
    parts += [
        (common, places["copy_bytes"] - common),
        (places["copy_bytes"], last + 1 - places["copy_bytes"]),
    ]
    found: dict[int, str] = {}
    for start, length in parts:
        found |= instructions(image(name), start, start + length - 1)
    failed = next(place for place, text in found.items() if text.startswith("mov eax, 0xfffffffe"))
    return {place: text for place, text in found.items() if place < failed}


@cache
def run(name: str, monitor: str, paging: str, act: str = "stop", most: int = 0) -> Run:
    """Have the conversation with the shell; do something at each boundary, so many times."""
    places = symbols(image(name))
    with vlab.VM(name, monitor=monitor, paging=paging) as vm:
        boundaries = Boundaries(
            vm, places["trap_entries"], places["divide_by_zero"] - 1, ACTS[act], most=most, apart=APART[act]
        )
        vm.send(TYPED)
        with boundaries.watched():
            stop = vm.run(timeout=30)
        assert stop.kind is StopKind.EXIT, f"{stop.story}\n{vm.console.text}"
        outcome = Outcome(stop.exit_code, vm.console.text, vm.virtual_time_ns, vm.state_hash())
        return Run(outcome, frozenset(boundaries.passed), dict(boundaries.done), vm.interrupts_delivered)


def is_taken(name: str, monitor: str, paging: str) -> bool:
    """Whether the kernel comes so far that it takes traps, and takes them where it lies."""
    return set(entry_path(name)) <= run(name, monitor, paging).passed | last_minute(name)


def last_minute(name: str) -> set[int]:
    """Give the entry of the timer, which has not yet ticked when an undisturbed conversation is over."""
    first = symbols(image(name))["trap_entries"] + 16 * 32
    return {place for place in entry_path(name) if first <= place < first + 16}


@pytest.mark.parametrize("act", ACTS)
@pytest.mark.parametrize(("name", "monitor", "paging"), WAYS)
def test_at_each_boundary_of_the_entry_path_the_guest_can_be_disturbed(
    name: str, monitor: str, paging: str, act: str
) -> None:
    usual, seen = run(name, monitor, paging), run(name, monitor, paging, act, MOST)
    assert (seen.outcome.status, seen.outcome.console) == (usual.outcome.status, usual.outcome.console)
    if is_taken(name, monitor, paging):
        expected = set(entry_path(name)) - (set() if "timer" in act else last_minute(name))
        assert expected <= set(seen.done), [entry_path(name)[n] for n in expected - set(seen.done)]
        assert sum(seen.done.values()) >= 3 * len(expected)
        assert act != "timer" or seen.interrupts > 50
    if "timer" not in act and usual.outcome == run(name, *monitors.ways_for(name)[0]).outcome:
        assert seen.outcome == usual.outcome, "to the block, register and byte"


@pytest.mark.parametrize("act", ["timer", "timer and evict"])
@pytest.mark.parametrize(("monitor", "paging"), monitors.ways_for("wren")[1:])
def test_disturbed_runs_too_are_the_same_on_the_bare_machine(monitor: str, paging: str, act: str) -> None:
    """Where undisturbed ones are: which boundaries come up depends on virtual time."""
    bare = monitors.ways_for("wren")[0]
    if run("wren", monitor, paging).outcome != run("wren", *bare).outcome:
        pytest.skip("under this monitor the guest's time is another")
    assert run("wren", monitor, paging, act, MOST).outcome == run("wren", *bare, act, MOST).outcome


def test_most_ways_take_the_entry_path_where_it_lies() -> None:
    """What the tests above rest on: else they would assert little."""
    taken = [way for way in WAYS if is_taken(*way)]
    assert len(taken) >= 4, taken
    assert {monitor for _, monitor, _ in taken} >= {"none", "hardware", "paravirtual"}


@pytest.mark.parametrize(("monitor", "paging"), monitors.ways_for("wren"))
def test_a_kernel_that_is_executed_elsewhere_is_disturbed_there(monitor: str, paging: str) -> None:
    """Between any two instructions that stand for the kernel's, its pages are lost and its timer is due."""
    usual = run("wren", monitor, paging).outcome
    with vlab.VM("wren", monitor=monitor, paging=paging) as vm:
        vm.send(TYPED)
        place = moved_code(vm)
        if place is None:
            pytest.skip("it is executed where it lies")
        act = ACTS["timer and evict"]
        boundaries = Boundaries(vm, *place, act, most=1, exact=False, total=400)
        with boundaries.watched():
            vm.run(lambda _: boundaries.done.total() >= boundaries.total, timeout=60)
        stop = vm.run(timeout=60)
        assert (stop.exit_code, vm.console.text) == (usual.status, usual.console), stop.story
    assert boundaries.done.total() == boundaries.total


# --- kernels that every monitor runs ------------------------------------------------------------------------


@pytest.mark.parametrize("act", ["stop", "evict"])
@pytest.mark.parametrize(("monitor", "paging"), monitors.ways_for("rings"))
def test_at_each_boundary_of_a_kernel_without_interrupts_it_can_be_disturbed(
    monitor: str, paging: str, act: str
) -> None:
    places = symbols(image("rings"))
    first, last = places["text_start"], max(places.values())
    with vlab.VM("rings", monitor=monitor, paging=paging) as usual:
        passed = disturbed(usual, first, last, "stop", 0).passed
        with vlab.VM("rings", monitor=monitor, paging=paging) as vm:
            boundaries = disturbed(vm, first, last, act, 1)
            assert vm.console.text == usual.console.text
            assert vm.memory == usual.memory
    assert len(boundaries.done) > 300
    if boundaries.exact:  # but those that follow its last OUT in the same block
        assert len(set(passed) - set(boundaries.done)) <= 2


WORK = timer(then=count_down(6000, increment(TICKS + 8) + b"\x50\x58") + b"\xfa" + leave(0), hertz=1000)
"""A loop that adds to a word and uses the stack, which a timer interrupts."""


@pytest.mark.parametrize("act", ["timer", "timer and evict"])
@pytest.mark.parametrize(("monitor", "paging"), monitors.ways_for("rings"))
def test_an_interrupt_at_any_boundary_of_kernel_and_handler_loses_nothing(
    tmp_path: Path, monitor: str, paging: str, act: str
) -> None:
    with vlab.VM(guest(tmp_path, WORK), memory="4M", monitor=monitor, paging=paging) as vm:
        done = disturbed(vm, 0x100000, 0x101000, act, 20).done
        words = [int.from_bytes(vm.memory[place : place + 4], "little") for place in (TICKS, TICKS + 8)]
        assert words == [vm.interrupts_delivered, 6000]
        assert words[0] > 30
    assert len(done) > 12
