"""What is tried of a student's walk in two dimensions, beside a guest that reads through the same tables.

Sections are those of the AMD64 Architecture Programmer's Manual, vol. 2, rev. 3.42.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from guests_08 import RESULTS, Layout, absents, larges, nowheres, smalls
from machine_08 import Host
from neighbour_08 import neighbour

from vlab.compare.walk_counts import SmallNestedPaging
from vlab.grading.exercise import Broken
from vlab.grading.facade import Value
from vlab.grading.trial import Trial
from vlab.isa.paging import Access, Fault, translate, walk_whole
from vlab.session import VM
from vlab.vmm.paging.nested import NestedPaging

_MEMORY: Final = "8M"


class _Missing(Exception):
    def __init__(self, gpa: int) -> None:
        super().__init__(gpa)
        self.gpa = gpa


def _right_walk(host: Host, linear: int) -> tuple[list[int], tuple[str, int]]:
    """Walk as the processor does: the host-physical addresses that it reads, and what it comes to."""
    reads: list[int] = []
    memory = host.memory

    def nested(gpa: int) -> int:
        steps, found = walk_whole(gpa, host.nested, Access(user=True), memory.read)
        reads.extend(step.entry_address for step in steps)
        if isinstance(found, Fault):
            raise _Missing(gpa)
        return found.physical

    def read(gpa: int, size: int) -> int:
        hpa = nested(gpa)
        reads.append(hpa)
        return memory.read(hpa, size)

    try:
        found = translate(linear, host.guest, Access(), read)
        if isinstance(found, Fault):
            return reads, ("guest", 0)
        return reads, ("host", nested(found.physical))
    except _Missing as missing:
        return reads, ("nested", missing.gpa)


def _walks(trial: Trial, small: bool, lay_out: Callable[[Layout], list[int]], *, order: bool = False) -> None:
    """Run the guest, and have the student walk for the addresses that ``lay_out`` gives.

    small: nested tables of 4 KiB pages. order: the entries have to be read in the processor's order.
    """
    layout = Layout(trial.rng)
    tried = lay_out(layout)
    with neighbour(trial):
        paging = SmallNestedPaging() if small else NestedPaging()
        vm = trial.vm(layout.guest(), memory=_MEMORY, paging=paging)
        layout.write(vm.memory)
        trial.run(vm, exits=100)
        for linear in tried:
            _judge(trial, vm, layout, linear, order=order)


def _judge(trial: Trial, vm: VM, layout: Layout, linear: int, *, order: bool) -> None:
    host = Host(vm)
    answer = trial.student.call("walk", host, linear)
    mine, (reads, right) = _ending(answer, host), _right_walk(host, linear)
    if mine != right:
        raise Broken(
            f"the walk of {linear:#x}: yours ended with {_told(mine)}, and the processor's with "
            f"{_told(right)}",
            hint=_hint(mine, right),
            vm=vm,
        )
    if linear in layout.reads:
        place = RESULTS + 8 * layout.reads.index(linear)
        value, seen = (int.from_bytes(each, "little") for each in (
            vm.machine.memory.bytes[right[1] : right[1] + 8], vm.memory[place : place + 8]
        ))  # fmt: skip
        assert value == seen, "the guest reads what the walk leads to"
    if order and host.reads != reads:
        first = next((n for n, pair in enumerate(zip(host.reads, reads, strict=False)) if pair[0] != pair[1]),
                     min(len(host.reads), len(reads)))  # fmt: skip
        yours, theirs = (each[first] if first < len(each) else None for each in (host.reads, reads))
        raise Broken(
            f"the walk of {linear:#x} takes {len(reads)} references, and yours took {len(host.reads)}; "
            f"reference "
            f"{first + 1} is {_address(theirs)}, and yours {_address(yours)}",
            hint=(
                "each address that the guest's tables hold is walked anew: nothing is remembered (APM2 15.25)"
            ),
            vm=vm,
        )


def _address(address: int | None) -> str:
    return "none" if address is None else f"at {address:#x}"


def _ending(answer: Value, host: Host) -> tuple[str, int]:
    if host.ending is not None:
        return host.ending
    if isinstance(answer, bool) or not isinstance(answer, int):
        raise Broken(
            f"your walk returned {answer!r}; it has to return the host-physical address, a number, or to "
            f"call "
            "host.guest_fault() or host.nested_fault(gpa)"
        )
    return "host", int(answer)


def _told(ending: tuple[str, int]) -> str:
    kind, value = ending
    if kind == "guest":
        return "a page fault of the guest's"
    return f"a nested page fault at {value:#x}" if kind == "nested" else f"host-physical address {value:#x}"


def _hint(mine: tuple[str, int], right: tuple[str, int]) -> str:
    if right[0] == "nested":
        return "a nested entry without P is the monitor's affair: it gets the address (APM2 15.25.6)"
    if right[0] == "guest":
        return "an entry of the guest's tables without P is the guest's affair, as without a monitor"
    if mine[0] == "host":
        return (
            "what the guest's last entry says is a guest-physical address; and a large page has more offset"
        )
    return (
        "every entry of the guest's is at a guest-physical address: walk the nested tables before you read it"
    )


def arrives(trial: Trial) -> None:
    """Compare where walks arrive."""
    _walks(trial, True, smalls)


def references(trial: Trial) -> None:
    """Compare what walks read, too."""
    _walks(trial, True, smalls, order=True)


def large(trial: Trial) -> None:
    """Use pages of 2 MiB in either dimension."""
    _walks(trial, True, larges, order=True)
    _walks(trial, False, lambda layout: smalls(layout) + larges(layout), order=True)


def guest_faults(trial: Trial) -> None:
    """Take entries out of the guest's tables."""
    _walks(trial, True, absents)


def nested_faults(trial: Trial) -> None:
    """Lead out of the guest's memory."""
    _walks(trial, True, nowheres)


def hidden(trial: Trial) -> None:
    """Try all of the walk."""
    for small in (True, False):
        _walks(trial, small, lambda layout: smalls(layout) + larges(layout) + nowheres(layout), order=True)
    _walks(trial, True, absents)
