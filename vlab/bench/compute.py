"""How fast guest code runs when nothing stops it: under the hardware monitor, beside the emulator alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from vlab.bench.loops import MARK, Loop, call_loop, tight_loop
from vlab.bench.raw import RawLoop
from vlab.bench.registry import Measurement, NotMeasured, Say, at_least, bench
from vlab.bench.timing import Timed, alternate, quiet, quiet_ratio, seconds
from vlab.machine import helper
from vlab.session import VM

REPETITIONS = 70
TIGHT, CALLS = 10_000_000, 250
"""Iterations a round, some 45 ms: short enough that many rounds are undisturbed, long beside a start."""
CLOCKS = ("deterministic", "realtime")


@bench("compute-tight", unit="ratio", bar=at_least(0.9))
def compute_tight(say: Say) -> Measurement:
    """A tight loop under the hardware monitor, over the emulator alone."""
    return over_raw(say, tight_loop(TIGHT), REPETITIONS)


@bench("compute-calls", unit="ratio", bar=at_least(0.85))
def compute_calls(say: Say) -> Measurement:
    """Calls and returns under the hardware monitor, over the emulator alone; with the compiled helper."""
    need_helper()
    return over_raw(say, call_loop(CALLS), REPETITIONS)


@bench("clock-deterministic", unit="ratio", bar=at_least(0.8))
def clock_deterministic(say: Say) -> Measurement:
    """The speed of calls under the deterministic clock over that under the realtime clock."""
    need_helper()
    with guests(call_loop(CALLS)) as timed:
        counted, walled = alternate(say, REPETITIONS, *zip(CLOCKS, timed, strict=True))
    return Measurement(quiet_ratio(walled, counted), f"{_ms(walled)} against {_ms(counted)} ms a round")


def need_helper() -> None:
    """Raise NotMeasured unless the compiled helper is there: these bars are its."""
    if helper.load() is None:
        raise NotMeasured(f"the compiled helper is {helper.status()}")


def over_raw(say: Say, loop: Loop, repetitions: int) -> Measurement:
    """Measure a loop's speed under both clocks over the raw emulator's; the value is the slower clock's.

    Without the compiled helper the deterministic clock, which then counts in Python, is left out.
    """
    clocks = CLOCKS if helper.load() is not None else CLOCKS[1:]
    with guests(loop, clocks) as timed:
        raw = RawLoop(loop)
        raw.round()
        base, *times = alternate(
            say, repetitions, ("raw", lambda: seconds(raw.round)), *zip(clocks, timed, strict=True)
        )
    speeds = [quiet_ratio(base, each) for each in times]
    shown = ", ".join(
        f"{clock} {speed:.2f} ({_ms(each)} ms)"
        for clock, speed, each in zip(clocks, speeds, times, strict=True)
    )
    return Measurement(min(speeds), f"raw {_ms(base)} ms a round; {shown}")


@contextmanager
def guests(loop: Loop, clocks: Sequence[str] = CLOCKS) -> Iterator[list[Timed]]:
    """Give, for each clock, what runs one round of the loop in a virtual machine and gives its time."""
    with ExitStack() as stack:
        path = stack.enter_context(loop.file())
        yield [_timed(stack.enter_context(machine(path, clock))) for clock in clocks]


def machine(path: Path, clock: str) -> VM:
    """Make a virtual machine for the loop and run its first round."""
    vm = VM(path, monitor="hardware", memory="16M", clock=clock)
    vm.run(until=MARK)
    return vm


def _timed(vm: VM) -> Timed:
    return lambda: seconds(lambda: vm.run(until=MARK))


def _ms(times: list[float]) -> str:
    return f"{quiet(times) * 1e3:.1f}"
