"""What is tried of a student's page walk: accesses through page tables that were laid out by chance."""

from __future__ import annotations

from collections.abc import Callable

from machine_05 import StudentWalk

from vlab.grading.exercise import Broken
from vlab.grading.probing import Pair
from vlab.grading.trial import Trial
from vlab.guests.probes import ALL, LEGACY, NX, PAE, RW, US, P, Plan, Tables
from vlab.isa.paging import PagingMode


def _run(trial: Trial, plan: Plan, function: str, *, entries: bool = False) -> None:
    """Run the guest on the bare machine and with the student's walk; both must see the same."""
    paging = StudentWalk(trial.student, function, entries=entries)
    pair = Pair(trial, plan, paging)
    paging.vm = pair.yours
    for each, mine, right in pair.run():
        raise Broken(f"{each}: the guest saw {mine}, and on the bare machine {right}", vm=pair.yours)


def _plan(trial: Trial, mode: PagingMode, *, wp: bool = True) -> Plan:
    return Plan(Tables(trial.rng, mode), wp=wp)


def small(mode: PagingMode, function: str) -> Callable[[Trial], None]:
    """Give the invariant of small pages for a mode and the student's ``function``."""

    def holds(trial: Trial) -> None:
        plan = _plan(trial, mode)
        for _ in range(3):
            plan.some(plan.tables.pages(ALL, ALL, ALL), "read", "write")
        plan.shuffle()
        _run(trial, plan, function)

    return holds


def large(mode: PagingMode, function: str) -> Callable[[Trial], None]:
    """Give the invariant of large pages for a mode and the student's ``function``."""

    def holds(trial: Trial) -> None:
        plan = _plan(trial, mode)
        _add_large(plan)
        plan.shuffle()
        _run(trial, plan, function)

    return holds


def _add_large(plan: Plan) -> None:
    tables = plan.tables
    for _ in range(2):
        base = tables.large()
        pages = [base + 0x1000 * tables.rng.randrange(1 << tables.shift - 12) for _ in range(3)]
        plan.some(pages, "read", "write")


def _add_absent(plan: Plan) -> None:
    tables, rng = plan.tables, plan.tables.rng
    hidden = tables.pages(ALL, ALL, upper=rng.choice((RW | US, RW, US, 0x60)))  # the table is fine
    absent = tables.pages(RW | US, RW, 0x20, 0)
    for pages in (hidden, absent, [tables.slot()]):
        plan.some(pages, "read", "write")


def absent(trial: Trial) -> None:
    """Leave entries out at both levels."""
    plan = _plan(trial, LEGACY)
    _add_absent(plan)
    plan.shuffle()
    _run(trial, plan, "walk")


def _add_rights(plan: Plan) -> None:
    for upper in (ALL, P | RW, P | US, P):
        flags = [ALL, P | RW, P | US, P]
        plan.tables.rng.shuffle(flags)
        plan.some(plan.tables.pages(*flags, upper=upper), "read", "write")


def rights(mode: PagingMode, function: str) -> Callable[[Trial], None]:
    """Give the invariant of rights, with CR0.WP and without, for a mode and the student's ``function``."""

    def holds(trial: Trial) -> None:
        for wp in (True, False):
            plan = _plan(trial, mode, wp=wp)
            _add_rights(plan)
            plan.shuffle()
            _run(trial, plan, function)

    return holds


def entries(trial: Trial) -> None:
    """Compare the entries that are read, too."""
    plan = _plan(trial, LEGACY)
    plan.some(plan.tables.pages(ALL, RW), "read")
    plan.some(plan.tables.pages(ALL, ALL, upper=RW | US), "write")
    plan.shuffle()
    _run(trial, plan, "walk", entries=True)


def hidden(trial: Trial) -> None:
    """Try all of the 32-bit walk."""
    for wp in (True, False):
        plan = _plan(trial, LEGACY, wp=wp)
        for add in (_add_large, _add_absent, _add_rights):
            add(plan)
        plan.shuffle()
        _run(trial, plan, "walk")


def _add_no_execute(plan: Plan) -> None:
    tables = plan.tables
    for upper in (ALL, ALL | NX):
        plan.some(tables.pages(ALL, ALL | NX, ALL, upper=upper), "call", "read")
    plan.some(tables.pages(RW | US), "call")


def no_execute(trial: Trial) -> None:
    """Set NX at both levels."""
    plan = _plan(trial, PAE)
    _add_no_execute(plan)
    plan.shuffle()
    _run(trial, plan, "walk_pae")


def _add_reserved(plan: Plan) -> None:
    tables, rng = plan.tables, plan.tables.rng
    bits = [1 << each for each in rng.sample(range(40, 63), 4)]
    plan.some(tables.pages(ALL | bits[0], P | bits[1], ALL), "read", "write")
    plan.some(tables.pages(ALL, ALL, upper=ALL | bits[2]), "read", "write")
    plan.some(tables.pages(RW | US | bits[3]), "read")


def reserved(trial: Trial) -> None:
    """Set reserved bits at both levels."""
    plan = _plan(trial, PAE)
    _add_reserved(plan)
    plan.shuffle()
    _run(trial, plan, "walk_pae")


def hidden_pae(trial: Trial) -> None:
    """Try all of the PAE walk."""
    plan = _plan(trial, PAE)
    for add in (_add_large, _add_rights, _add_no_execute, _add_reserved):
        add(plan)
    plan.shuffle()
    _run(trial, plan, "walk_pae")
