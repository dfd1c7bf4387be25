"""The registry of benchmarks: each is a function with a name, a unit and, mostly, a bar that it must clear.

A module of `vlab.bench` registers its benchmarks when it is imported::

    @bench("exit-round-trip", unit="ratio", bar=at_most(2.0))
    def exit_round_trip(say: Say) -> float:
        "A CPUID exit and its handling, over the cheapest stop and restart of the same processor."
        ...

Ratios of two measurements taken in one run mean the same on a fast and on a slow computer; seconds do not. So
a bar is on a ratio or on memory. Two bars are on microseconds all the same, of a trap and of a shadow fill:
whoever waits for a guest with a hundred thousand of them waits for seconds, not for ratios.
"""

from __future__ import annotations

import pkgutil
from collections.abc import Callable
from dataclasses import asdict, dataclass
from importlib import import_module

import vlab.bench
from vlab.errors import VlabError

__all__ = [
    "Bar",
    "Bench",
    "Function",
    "Measurement",
    "NotMeasured",
    "Result",
    "Say",
    "at_least",
    "at_most",
    "bench",
    "benches",
    "measure",
]

#: Where a benchmark tells what it is doing, a few words at a time.
Say = Callable[[str], None]


class NotMeasured(VlabError):
    """What a benchmark needs is not on this computer; the message names it and how to get it."""


@dataclass(frozen=True, slots=True)
class Bar:
    """A limit that a value must keep, from above or from below; the limit itself is within."""

    limit: float
    upper: bool

    def holds(self, value: float) -> bool:
        """Whether `value` keeps the limit."""
        return value <= self.limit if self.upper else value >= self.limit

    def __str__(self) -> str:
        return f"at {'most' if self.upper else 'least'} {self.limit:g}"


def at_most(limit: float) -> Bar:
    """Return the bar that values up to `limit` clear."""
    return Bar(limit, upper=True)


def at_least(limit: float) -> Bar:
    """Return the bar that values from `limit` on clear."""
    return Bar(limit, upper=False)


@dataclass(frozen=True, slots=True)
class Measurement:
    """A value in the benchmark's unit, with a note on how it came about: the two times of a ratio, say."""

    value: float
    note: str = ""


#: A benchmark: it takes the place to report progress to, and returns its value.
Function = Callable[[Say], float | Measurement]


@dataclass(frozen=True, slots=True)
class Bench:
    """A registered benchmark. `about` is the first line of its function's docstring."""

    name: str
    unit: str
    bar: Bar | None
    about: str
    function: Function


@dataclass(frozen=True, slots=True)
class Result:
    """What came out. `value` and `holds` are None where it cannot be measured, `holds` also without a bar."""

    name: str
    value: float | None
    unit: str
    bar: str | None
    holds: bool | None
    note: str = ""

    def as_json(self) -> dict[str, object]:
        """Return the fields as the object that `vlab bench --json` writes."""
        return asdict(self)


_BENCHES: dict[str, Bench] = {}


def bench(name: str, *, unit: str, bar: Bar | None = None) -> Callable[[Function], Function]:
    """Register the decorated function under `name`, in words joined by hyphens."""

    def register(function: Function) -> Function:
        if name in _BENCHES:
            raise ValueError(f"name: there is already a benchmark {name!r}; names are unique")
        about = (function.__doc__ or "").strip().partition("\n")[0]
        _BENCHES[name] = Bench(name, unit, bar, about, function)
        return function

    return register


def benches() -> dict[str, Bench]:
    """Return all benchmarks by name, in the order in which their modules define them."""
    for module in pkgutil.iter_modules(vlab.bench.__path__, "vlab.bench."):
        import_module(module.name)
    return dict(_BENCHES)


def measure(entry: Bench, say: Say) -> Result:
    """Run one benchmark; what this computer lacks becomes the result's note."""
    bar = None if entry.bar is None else str(entry.bar)
    try:
        outcome = entry.function(say)
    except NotMeasured as missing:
        return Result(entry.name, None, entry.unit, bar, None, str(missing))
    measured = outcome if isinstance(outcome, Measurement) else Measurement(outcome)
    holds = None if entry.bar is None else entry.bar.holds(measured.value)
    return Result(entry.name, measured.value, entry.unit, bar, holds, measured.note)
