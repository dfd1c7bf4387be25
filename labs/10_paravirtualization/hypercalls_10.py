"""What must hold of the student's hypercalls, with guests that ask and guests that lie."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

from guests_10 import (
    DATA,
    END,
    PAGES,
    PAT,
    PCD,
    PWT,
    RW,
    US,
    G,
    P,
    Place,
    Program,
    linear,
    open_guest,
    run_program,
)
from machine_10 import MOST_UPDATES, yours

from vlab.grading.exercise import Broken
from vlab.grading.trial import Trial
from vlab.machine.memory import PAGE
from vlab.vmm.paravirtual.interface import MONITOR_BASE, Call


def prints_what_is_there(trial: Trial) -> None:
    """Text that the guest has, and text that it has not."""
    rng = trial.rng
    vm, _ = open_guest(trial, yours(trial, Call.CONSOLE_WRITE))
    program = Program()
    text = "".join(rng.choice("abcdefgh \n") for _ in range(rng.randrange(20, 60))).encode()
    program.data = text
    start = rng.randrange(8)
    calls = [
        (linear(DATA) + start, len(text) - start),
        (linear(END) - rng.randrange(1, 9), rng.randrange(9, 30)),  # it ends where there is no memory
        (rng.randrange(1, 0x1000), 8),
        (MONITOR_BASE + 4 * rng.randrange(64), 4),
        (linear(DATA), rng.randrange(1, len(text))),
    ]
    rng.shuffle(calls)
    for address, length in calls:
        program.call(Call.CONSOLE_WRITE, address, length)
    run_program(trial, vm, program)


Updates = list[tuple[int, int]]
Make = Callable[[Random, Place], Updates]


def _served(trial: Trial, make: Make) -> None:
    """Run a guest that asks for each of these updates, one by one, in this order."""
    vm, place = open_guest(trial, yours(trial, Call.MMU_UPDATE))
    program = Program()
    for update in make(trial.rng, place):
        program.update(update)
    run_program(trial, vm, program)


def _page(rng: Random) -> int:
    return rng.randrange(PAGES, END, PAGE)


def _honest(rng: Random, place: Place) -> tuple[int, int]:
    return place.entry(_page(rng)), place.base + _page(rng) | P | rng.choice((0, RW)) | rng.choice((0, 0xE60))


def foreign_frames(rng: Random, place: Place) -> Updates:
    """Map frames that are not the guest's, and write where it has no tables."""
    frames = [
        rng.choice((0, place.base - PAGE)),
        place.base + END,
        place.base + END + rng.randrange(0, 1 << 24, PAGE),
        0xFFFFF000,
    ]
    found = [(place.entry(_page(rng)), frame | P | rng.choice((0, RW))) for frame in frames]
    found += [(place.entry(_page(rng)), rng.choice(frames) | RW)]  # not present: in order
    found += [(address, P) for address in (place.base - 4, place.base + END, place.entry(_page(rng)) + 2)]
    found += [(place.base + _page(rng) + 4 * rng.randrange(1024), 0)]  # no table
    found += [_honest(rng, place) for _ in range(3)]
    rng.shuffle(found)
    return found


def uses_of_tables(rng: Random, place: Place) -> Updates:
    """Map tables, make a frame a table, map it, and make it plain again."""
    table, page, other = rng.sample(range(PAGES, END, PAGE), 3)
    window, slot = place.entry(table), place.slot(rng.randrange(1, 700))
    found = [
        (place.entry(page), place.base + place.layout.directory | P | RW),
        (place.entry(page), place.base + place.layout.tables | P | RW),
        (place.entry(page), place.base + place.layout.tables | P),
    ]
    rng.shuffle(found)
    found += [(slot, place.base + table | P | RW | US)]  # still mapped writable: not fit
    found += [(window, place.base + table | P), (slot, place.base + table | P | RW | US)]
    found += [(window, place.base + table | P | RW)]  # a table now
    found += [(place.base + table + 4 * rng.randrange(1024), place.base + other | P | RW | US)]
    found += [(place.base + table + 4 * rng.randrange(1024), place.base + table | P | RW | US)]  # itself
    found += [(place.slot(768 + rng.randrange(256)), 0)]
    found += [(slot, 0), (window, place.base + table | P | RW)]  # plain again
    return found


def forbidden_flags(rng: Random, place: Place) -> Updates:
    """Set each flag that no guest may set."""
    entry = place.entry(_page(rng))
    found = [(entry, place.base + _page(rng) | P | flag) for flag in (PWT, PCD, PAT, G, US, RW | US)]
    found += [
        (place.slot(rng.randrange(700)), place.base + _page(rng) | P | flag) for flag in (PWT, PCD, PAT)
    ]
    found += [(entry, place.base + _page(rng) | US | PAT), _honest(rng, place), _honest(rng, place)]
    rng.shuffle(found)
    return found


def done_in_order(trial: Trial) -> None:
    """Batches with one lie somewhere, or none, and arguments that are nowhere."""
    rng = trial.rng
    vm, place = open_guest(trial, yours(trial, Call.MMU_UPDATE))
    program = Program()
    for where in (0, rng.randrange(1, 9), None):
        updates = [_honest(rng, place) for _ in range(10)]
        if where is not None:
            updates[where] = updates[where][0], place.base + END | P
        program.update(*updates)
    program.update()
    for address, count in (
        (linear(END) - 8 * rng.randrange(1, 5), rng.randrange(5, 9)),
        (MONITOR_BASE + 8 * rng.randrange(99), 1),
        (linear(DATA), MOST_UPDATES + rng.randrange(1, 99)),
        (8 * rng.randrange(99), 2),
    ):
        program.call(Call.MMU_UPDATE, address, count)
    run_program(trial, vm, program)


def forks_as_ours(trial: Trial) -> None:
    """The kernel `wren-paravirt` forks under the student's monitor and under ours."""
    options = {"append": f"forkwait={trial.rng.randrange(1, 4)}", "memory": "8M"}
    vm = trial.vm("wren-paravirt", monitor=yours(trial, Call.MMU_UPDATE, Call.CONSOLE_WRITE), **options)
    ours = trial.vm("wren-paravirt", monitor="paravirtual", **options)
    stop, expected = trial.run(vm), trial.run_ours(ours)
    if (stop.exit_code, vm.console.data) != (expected.exit_code, ours.console.data):
        raise Broken(
            f"wren-paravirt wrote {vm.console.text[-60:]!r} and ended with {stop.exit_code}; "
            f"on the reference monitor {ours.console.text[-60:]!r} and {expected.exit_code}",
            vm=vm,
        )


def all_at_once(trial: Trial) -> None:
    """The three kinds of lies in one guest."""

    def make(rng: Random, place: Place) -> Updates:
        return [*foreign_frames(rng, place), *forbidden_flags(rng, place), *uses_of_tables(rng, place)]

    _served(trial, make)


def serves(make: Make) -> Callable[[Trial], None]:
    """Make the check of a guest that asks for these updates."""
    return lambda trial: _served(trial, make)
