"""The nanobenchmarks: one operation of the teaching kernel at a time, under every monitor that there is.

Exits are counted, and the same in each run; so, but for a few, are the monitor's instructions. Time is not:
it is taken in turns, so that a disturbance hits all monitors alike, and the fastest counts.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import nullcontext
from dataclasses import replace
from typing import Final

from vlab.compare.work import counting
from vlab.costs.operations import OPERATIONS, Operation
from vlab.costs.readings import Reading, Refused, Results, Way
from vlab.session import VM, Stop, StopKind
from vlab.vmm import monitors

Say = Callable[[str], None]

COUNTS: Final = (8, 40)
"""How often an operation is done in the two runs that are counted."""
REPETITIONS: Final = 3
_LONG: Final = 0.05
"""Seconds that the larger of two timed runs takes at least."""
_BEGIN, _MOST, _STEP, _PART = 20, 2_000_000, 25, 10
"""The first count tried and the last, by how much it grows at most, and what part the smaller one is."""
_PATIENCE: Final = 60.0


class _Failed(Exception):
    """The kernel did not do what it was asked for; the text says what it did."""


def measure(
    operations: Sequence[Operation] = OPERATIONS,
    ways: Iterable[tuple[str, str]] | None = None,
    *,
    counts: tuple[int, int] = COUNTS,
    instructions: bool = True,
    repetitions: int = REPETITIONS,
    say: Say = lambda _text: None,
) -> Results:
    """Count and time the operations; ways: (monitor, paging), all that there are for None.

    counts: how often in the two counted runs, both even. instructions: whether to count the monitor's, which
    slows these runs down. repetitions: of the timed runs; 0 leaves them out.
    """
    results = Results(tuple(operation.name for operation in operations))
    for way in (Way(*each) for each in (monitors.available() if ways is None else ways)):
        say(f"counting under {way.name}")
        try:
            found = {(each.name, way.name): _counted(each, way, counts, instructions) for each in operations}
        except _Failed as failure:
            results.refused.append(Refused(way, str(failure)))
        else:
            results.ways.append(way)
            results.readings |= found
    if repetitions:
        _time(operations, results, repetitions, say)
    return results


def _counted(operation: Operation, way: Way, counts: tuple[int, int], instructions: bool) -> Reading:
    few, many = (_count(operation, way, count, instructions) for count in counts)
    more = counts[1] - counts[0]
    reasons = dict.fromkeys((*few.exits, *many.exits))
    per = {reason: (many.exits.get(reason, 0) - few.exits.get(reason, 0)) / more for reason in reasons}
    blocks = None if few.blocks is None or many.blocks is None else (many.blocks - few.blocks) / more
    exits = {reason: exits for reason, exits in per.items() if exits}
    work = None
    if few.instructions is not None and many.instructions is not None:
        work = max(0.0, (many.instructions - few.instructions) / more)
    return Reading(exits, work, blocks)


def _count(operation: Operation, way: Way, count: int, instructions: bool) -> Reading:
    """Run the kernel from its power-on to its end, and count from where the operation begins."""
    with VM(way.kernel, monitor=way.monitor, paging=way.paging, append=operation.line % count) as vm:
        _expect(vm, vm.run(until=operation.begins, timeout=_PATIENCE), StopKind.EXPECTED)
        before, blocks = vm.exits.by_reason().to_dict(), vm.blocks
        with counting() if instructions else nullcontext() as work:
            stop = vm.run(timeout=_PATIENCE)
        _expect(vm, stop, StopKind.EXIT)
        exits = {
            str(reason): float(number) - before.get(reason, 0)
            for reason, number in vm.exits.by_reason().items()
        }
        executed = None if blocks is None or vm.blocks is None else float(vm.blocks - blocks)
        return Reading(exits, None if work is None else work.instructions, executed)


def _expect(vm: VM, stop: Stop, kind: StopKind) -> None:
    if stop.kind is not kind or stop.exit_code:
        last = vm.console.text.strip().splitlines()
        raise _Failed(last[-1] if last and stop.kind is StopKind.EXIT else stop.headline)


# --- time ---------------------------------------------------------------------------------------------------


def _time(operations: Sequence[Operation], results: Results, repetitions: int, say: Say) -> None:
    """Take the fastest of some times of each run, all ways in turn."""
    for operation in operations:
        say(f"timing {operation.name}")
        counts = {way.name: _enough(operation, way) for way in results.ways}
        fastest: dict[tuple[str, int], float] = {}
        for _ in range(repetitions):
            for way in results.ways:
                for count in counts[way.name]:
                    key, taken = (way.name, count), _seconds(operation, way, count)
                    fastest[key] = min(taken, fastest.get(key, taken))
        for way in results.ways:
            few, many = counts[way.name]
            seconds = max(0.0, (fastest[way.name, many] - fastest[way.name, few]) / (many - few))
            counted = results.of(operation.name, way)
            results.readings[operation.name, way.name] = replace(counted, seconds=seconds)


def _enough(operation: Operation, way: Way) -> tuple[int, int]:
    """Find out how often it takes to take long enough, and a part of that."""
    count = _BEGIN
    while count < _MOST:
        taken = _seconds(operation, way, count)
        if taken >= _LONG:
            break
        count = min(_MOST, count * min(_STEP, 2 + int(_LONG / max(taken, 1e-6))))
    return count // _PART & ~1, count & ~1


def _seconds(operation: Operation, way: Way, count: int) -> float:
    """Give the processor time from where the operation begins to the kernel's end."""
    with VM(way.kernel, monitor=way.monitor, paging=way.paging, append=operation.line % count) as vm:
        _expect(vm, vm.run(until=operation.begins, timeout=_PATIENCE), StopKind.EXPECTED)
        began = time.process_time()
        stop = vm.run(timeout=_PATIENCE)
        taken = time.process_time() - began
        _expect(vm, stop, StopKind.EXIT)
        return taken
