"""What an exit costs: beside the processor's cheapest stop, as a trap, with a full trace, after a million."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from vlab.bench.loops import MARK, Loop, cli_loop, cpuid_loop
from vlab.bench.raw import RawStop
from vlab.bench.registry import Measurement, Say, at_most, bench
from vlab.bench.timing import Timed, alternate, quiet, quiet_ratio, seconds
from vlab.session import VM
from vlab.trace.events import RECORD_SIZE
from vlab.trace.recorder import Level, Recorder

REPETITIONS = 100
ROUND = 8_000
"""Exits a round, some 20 ms: so short that many rounds are undisturbed, but long beside a run's start."""

YOUNG, OLD = 1_000, 1_000_000
BIRTHS = 30
"""New virtual machines that the flatness measurement takes its early exits from."""
CAPACITY = 100_000
"""Records that the trace of the flatness measurement keeps: it overwrites itself ten times."""


@bench("exit-roundtrip", unit="ratio", bar=at_most(2.0))
def exit_roundtrip(say: Say) -> Measurement:
    """A CPUID exit with counters, over the cheapest stop and restart of the same processor."""
    with rounds("counters", ROUND) as ours:
        python, native = RawStop(in_python=True), RawStop(in_python=False)
        exits, in_python, in_c = alternate(
            say,
            REPETITIONS,
            ("exits", ours),
            ("a stop from Python", lambda: seconds(lambda: python.stops(ROUND))),
            ("a stop from C", lambda: seconds(lambda: native.stops(ROUND))),
        )
    cheapest = in_c if quiet(in_c) <= quiet(in_python) else in_python
    shown = f"{_us(exits)} us an exit; a stop {_us(in_c)} us from C, {_us(in_python)} us from Python"
    return Measurement(
        quiet_ratio(exits, cheapest), f"{shown}; {1e6 / float(_us(exits)):,.0f} exits a second"
    )


@bench("trap-roundtrip", unit="ratio", bar=at_most(4.0))
def trap_roundtrip(say: Say) -> Measurement:
    """A CLI that traps and is emulated, over the machine's cheapest exit: CPUID with hardware assistance."""
    with (
        rounds("counters", ROUND, cli_loop(ROUND), "trap-emulate") as ours,
        rounds("counters", ROUND) as cheapest,
    ):
        traps, exits = alternate(say, REPETITIONS, ("traps", ours), ("exits", cheapest))
    return Measurement(quiet_ratio(traps, exits), f"{_us(traps)} us a trap over {_us(exits)} us an exit")


@bench("trap-cli", unit="us", bar=at_most(15))
def trap_cli(say: Say) -> Measurement:
    """A CLI that traps and is emulated at CPL 1, with its loop's two instructions."""
    with rounds("counters", ROUND, cli_loop(ROUND), "trap-emulate") as ours:
        (traps,) = alternate(say, REPETITIONS, ("traps", ours))
    value = float(_us(traps))
    return Measurement(value, f"{1e6 / value:,.0f} traps a second")


@bench("exit-trace", unit="ratio", bar=at_most(1.5))
def exit_trace(say: Say) -> Measurement:
    """A CPUID exit with a full trace, over one with counters."""
    with rounds("full", ROUND) as full, rounds("counters", ROUND) as counters:
        traced, counted = alternate(say, REPETITIONS, ("full", full), ("counters", counters))
    return Measurement(quiet_ratio(traced, counted), f"{_us(traced)} us over {_us(counted)} us an exit")


@bench("exit-flat", unit="ratio", bar=at_most(1.25))
def exit_flat(say: Say) -> Measurement:
    """The cost of a traced exit after a million of them, over that after a thousand."""
    with aged(say, OLD) as old:
        late, early = alternate(
            say,
            BIRTHS,
            (f"after {OLD:,}", lambda: seconds(lambda: old.run(until=MARK))),
            (f"after {YOUNG:,}", _young_round),
        )
    return Measurement(quiet_ratio(late, early), f"{_us(late)} us over {_us(early)} us an exit")


@bench("trace-memory", unit="ratio", bar=at_most(1.0))
def trace_memory(say: Say) -> Measurement:
    """The memory of a trace that has seen a million exits, over what its capacity allows."""
    with aged(say, OLD) as old:
        used, allowed = trace_bytes(old), (CAPACITY + 1) * RECORD_SIZE
    return Measurement(used / allowed, f"{used / 1e6:.2f} MB for {CAPACITY:,} records")


@contextmanager
def aged(say: Say, exits: int) -> Iterator[VM]:
    """Make a virtual machine with so many exits behind it, or a few more."""
    with machine(ROUND) as vm:
        say(f"{exits:,} exits to begin with")
        while vm.exits.total < exits:
            vm.run(until=MARK)
        yield vm


def _young_round() -> float:
    """Time a round of a new virtual machine, in thousands of exits from the second thousand on."""
    with machine(YOUNG) as vm:
        vm.run(until=MARK)
        return seconds(lambda: [vm.run(until=MARK) for _ in range(ROUND // YOUNG)])


def trace_bytes(vm: VM) -> int:
    """Give the bytes that a virtual machine's trace takes."""
    recorder = vm.exits.source
    assert isinstance(recorder, Recorder), "the exits of a live machine are its recorder's"
    return recorder.nbytes


@contextmanager
def machine(
    exits: int, level: Level = "full", loop: Loop | None = None, monitor: str = "hardware"
) -> Iterator[VM]:
    """Make a virtual machine whose guest does so many CPUIDs a round, or another loop."""
    with (
        (loop or cpuid_loop(exits)).file() as path,
        VM(path, monitor=monitor, memory="16M", trace=level, trace_capacity=CAPACITY) as vm,
    ):
        yield vm


@contextmanager
def rounds(level: Level, exits: int, loop: Loop | None = None, monitor: str = "hardware") -> Iterator[Timed]:
    """Give what runs one round of exits at a trace level and gives its time; see ``machine``."""
    with machine(exits, level, loop, monitor) as vm:
        vm.run(until=MARK)
        yield lambda: seconds(lambda: vm.run(until=MARK))


def _us(times: list[float]) -> str:
    return f"{quiet(times) / ROUND * 1e6:.2f}"
