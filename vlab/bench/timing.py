"""How times are taken: alternating repetitions, processor time where one process does the work, medians."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from statistics import median

from vlab.bench.registry import Say

Timed = Callable[[], float]
"""Does the work once and gives what it took."""


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
    for repetition in range(repetitions):
        say(f"repetition {repetition + 1} of {repetitions}: {', '.join(name for name, _ in runs)}")
        order = range(len(runs)) if repetition % 2 == 0 else range(len(runs) - 1, -1, -1)
        for place in order:
            times[place].append(runs[place][1]())
    return times


def ratio(above: Sequence[float], below: Sequence[float]) -> float:
    """Give the median of the ratios of times that were taken side by side."""
    return median(one / other for one, other in zip(above, below, strict=True))
