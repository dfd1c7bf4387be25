"""Equivalence, exit by exit: the guest under the student's monitor beside the same guest under ours.

Popek and Goldberg (CACM 17, 1974) ask that a guest cannot tell that it is not alone. Here both guests do the
same step and are compared after it; the first difference names the exit that brought it about.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields
from typing import Final

from vlab.grading.exercise import Broken
from vlab.isa.control import EFlags
from vlab.isa.state import CpuState, Segment, TableRegister
from vlab.session import VM, Stop, StopKind

MOST_EXITS: Final = 2_000
PATIENCE: Final = 5.0
"""Seconds of wall time from one exit to the next after which a guest is given up."""
_MOST_NAMED: Final = 2
_TAIL: Final = 60


def follow(yours: VM, ours: VM, *, exits: int = MOST_EXITS, status: int | None = 0, hint: str = "") -> None:
    """Step both to the end of ``ours`` and raise Broken at the first difference.

    exits: the most that the guest may take, for one that does not end. status: what it ends with, None for
    any; that the reference monitor does not get there is a fault of ours, and ValueError.
    """
    expected = list(_steps(ours, exits))
    last = expected[-1][0]
    if not last.final:
        raise ValueError(f"ours: the guest does not end within {exits} exits on the reference monitor")
    if status not in (None, last.exit_code):
        raise ValueError(f"ours: the guest stopped with '{last.headline}' on the reference monitor")
    for number, (stop, state) in enumerate(expected, 1):
        mine = yours.run(exits=1, timeout=PATIENCE)
        if mine.kind is StopKind.TIMEOUT:
            why = f"{_at(yours)}: after it the guest came to no other exit for {PATIENCE:g} s"
            raise Broken(why, hint=hint, vm=yours)
        found = differences(yours.registers(), state)
        if found:
            raise Broken(f"{_at(yours)}: afterwards {_listed(found)}", hint=hint, vm=yours, exit=number)
        if (mine.kind, mine.exit_code) != (stop.kind, stop.exit_code):
            raise Broken(
                f"{_at(yours)}: the guest stopped with '{mine.headline}', "
                f"and on the reference monitor with '{stop.headline}'",
                hint=hint,
                vm=yours,
                exit=number,
            )
    if yours.console.data != ours.console.data:
        wrote, other = yours.console.text[-_TAIL:], ours.console.text[-_TAIL:]
        raise Broken(
            f"the guest wrote {wrote!r}, and {other!r} on the reference monitor", hint=hint, vm=yours
        )
    if yours.state_hash() != ours.state_hash():
        raise Broken("the guest's memory differs in the end from that on the reference monitor", vm=yours)


def _steps(vm: VM, most: int) -> Iterator[tuple[Stop, CpuState]]:
    """Step a guest to its end, or so many times, and give each stop with the registers there."""
    for _ in range(most):
        stop = vm.step()
        yield stop, vm.registers()
        if stop.final:
            return


def differences(yours: CpuState, ours: CpuState) -> list[str]:
    """Say where two states differ, a clause for each register: "RIP is 0x25 instead of 0x26"."""
    found = []
    for field in fields(CpuState):
        mine, other = getattr(yours, field.name), getattr(ours, field.name)
        if mine == other:
            continue
        if field.name == "rflags":
            found += _flags(mine, other)
        else:
            found.append(f"{field.name.upper()} is {_told(mine, other)}")
    return found


def _flags(mine: int, other: int) -> list[str]:
    names = [each for each in EFlags.fields() if (mine ^ other) & each.mask]
    return [f"RFLAGS.{each.name} is {each.extract(mine)} instead of {each.extract(other)}" for each in names]


def _told(mine: object, other: object) -> str:
    match mine, other:
        case Segment(), Segment() if mine.selector != other.selector:
            return f"{mine.selector:#06x} instead of {other.selector:#06x}"
        case _:
            return f"{_plain(mine)} instead of {_plain(other)}"


def _plain(value: object) -> str:
    match value:
        case Segment(_, base, limit, attributes):
            return f"base {base:#x}, limit {limit:#x}, attributes {attributes:#x}"
        case TableRegister(base, limit):
            return f"base {base:#x}, limit {limit:#x}"
        case int():
            return hex(value)
        case _:
            return str(value)


def _listed(found: list[str]) -> str:
    more = len(found) - _MOST_NAMED
    return ", ".join(found[:_MOST_NAMED]) + (f" and {more} more" if more > 0 else "")


def _at(vm: VM) -> str:
    """Say which exit the last one was, with the instruction where it happened."""
    if not len(vm.exits):
        return "before the first exit"
    event = vm.exits[-1]
    there = vm.disassemble(1, at=event.rip)[0].partition(" ")[2].strip()
    return f"exit {vm.exits.total}, {event.reason} at {event.rip:#x} (`{there}`)"
