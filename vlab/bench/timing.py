"""How times are taken on computers that are not quiet: alternately, in processor time, and robustly compared.

Processor time leaves out the moments in which another process had the processor, but not what a neighbour on
the same core, in the caches or on the memory bus costs, nor a change of clock rate. Two ways to compare:

- ``quiet_ratio``, for work that can be done in many short rounds. A disturbance can only add time, so the
  fastest rounds of each run are those that nothing disturbed, and of many rounds that alternate, each run
  gets its share of quiet moments. A median of the same rounds would measure the neighbours: with four busy
  processes on two cores it is off by a quarter, the fastest rounds by a twentieth. Each run is judged by its
  own fastest rounds, by one rule for all, so neither side is favoured.
- ``ratio``, for a few long runs, none of which is quiet from end to end: the median of the ratios of
  neighbours, which were disturbed alike.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from statistics import fmean, median
from typing import Final

from vlab.bench.registry import Say

Timed = Callable[[], float]
"""Does the work once and gives what it took."""

FASTEST: Final = 0.1
"""The part of the rounds that counts as quiet."""
_REPORTS: Final = 10
"""How often ``alternate`` says where it is, at most."""


def seconds(work: Callable[[], object]) -> float:
    """Give the processor time of this process that ``work`` takes; what other processes do does not count."""
    began = time.process_time()
    work()
    return time.process_time() - began


def alternate(say: Say, repetitions: int, *runs: tuple[str, Timed]) -> list[list[float]]:
    """Do the named runs in turn, so often; give the times of each.

    Every other time they go in reverse order: what slows the computer down for a while hits all alike.
    """
    times: list[list[float]] = [[] for _ in runs]
    step = -(-repetitions // _REPORTS)
    for repetition in range(repetitions):
        if repetition % step == 0:
            say(f"repetition {repetition + 1} of {repetitions}: {', '.join(name for name, _ in runs)}")
        order = range(len(runs)) if repetition % 2 == 0 else range(len(runs) - 1, -1, -1)
        for place in order:
            times[place].append(runs[place][1]())
    return times


def quiet(times: Sequence[float]) -> float:
    """Give the time of an undisturbed round: the mean of the fastest tenth."""
    return fmean(sorted(times)[: max(1, round(len(times) * FASTEST))])


def quiet_ratio(above: Sequence[float], below: Sequence[float]) -> float:
    """Give the ratio of the times of undisturbed rounds, of two runs that took turns in many short ones."""
    return quiet(above) / quiet(below)


def ratio(above: Sequence[float], below: Sequence[float]) -> float:
    """Give the median of the ratios of times that were taken side by side."""
    return median(one / other for one, other in zip(above, below, strict=True))
