"""What things cost, as the student's functions are told, and the cycles that they return.

Figures are those of the package times chance, so that no number of theirs can be written into an answer.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from random import Random
from typing import Final

from vlab.compare.walk_costs import FIGURES, Processor
from vlab.costs.table import BLOCK, OTHER, TRANSITION, Costs, Figure, Generation, load
from vlab.grading.exercise import Broken
from vlab.grading.facade import Facade, Value
from vlab.vmm.exits import REASONS

_CLOSE: Final = 1e-6


def shuffled(rng: Random) -> tuple[Costs, Generation]:
    """Give the table with the figures of one generation times chance, each by itself."""
    costs = load()
    old = costs.generations[rng.choice(list(costs.generations))]

    def other(figures: Mapping[str, Figure]) -> dict[str, Figure]:
        return {
            name: replace(figure, cycles=round(figure.cycles * rng.uniform(0.5, 2)) + 1)
            for name, figure in figures.items()
        }

    new = replace(
        old,
        nested=True,
        guest=other(old.guest),
        hardware=other(old.hardware),
        software=other(old.software),
        translated=other(old.translated),
    )
    return costs, new


class Table(Facade):
    """What things cost on one processor, for one monitor: cycles."""

    read_only = ("transition", "block")
    offers = ("exit", "inside", "native", "translated")

    def __init__(self, costs: Costs, generation: Generation, monitor: str) -> None:
        self._generation, self._technique = generation, costs.techniques.get(monitor)
        self._figures = generation.exits("hardware" if self._technique is None else self._technique.exits)

    @property
    def transition(self) -> float:
        """The way from the guest to the monitor and back."""
        return self._figures[TRANSITION].cycles

    @property
    def block(self) -> float:
        """A basic block of the guest's."""
        return self._generation.guest[BLOCK].cycles

    def exit(self, reason: str) -> float:
        """What the monitor does for an exit of that reason, without the way there."""
        return self._figures.get(exit_reason(reason), self._figures[OTHER]).cycles

    def inside(self, reason: str) -> bool:
        """Whether translated code serves that reason by itself, without the way to the monitor."""
        return self._technique is not None and exit_reason(reason) in self._technique.inside

    def native(self, operation: str) -> float | None:
        """What the operation takes by itself, None where nobody measured it."""
        found = self._generation.guest.get(operation)
        return None if found is None else found.cycles

    def translated(self, operation: str) -> float:
        """What the operation takes more as translated code; 0 under the other monitors."""
        if self._technique is None or not self._technique.translated:
            return 0
        found = self._generation.translated.get(operation)
        return 0 if found is None else found.cycles


class Prices(Facade):
    """What a processor takes, in cycles."""

    read_only = ("touch", "update", "hit", "last_reference", "upper_reference")
    offers = ("exit",)

    def __init__(self, processor: Processor) -> None:
        self._processor = processor

    def __getattr__(self, name: str) -> float:
        if name == "hit":
            return self._processor.small[-1].hit
        if name not in FIGURES:
            raise AttributeError(name)
        return self._processor.cycles[name].cycles

    def exit(self, reason: str) -> float:
        """What one exit takes: there, the work, and back."""
        return self._processor.exit_cycles(exit_reason(reason))


def exit_reason(reason: object) -> str:
    """Take a reason that the student's function asks for."""
    if not isinstance(reason, str) or reason not in REASONS:
        raise ValueError(f"reason: {reason!r} is no exit reason, such as 'PF' or 'IOIO'")
    return reason


def amount(name: str, value: Value) -> float:
    """Take a number that the student's function returned."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise Broken(f"{name} returned {value!r}; it has to return a number of cycles")
    return float(value)


def near(one: float, other: float) -> bool:
    """Whether two amounts are the same but for rounding."""
    return abs(one - other) <= _CLOSE * max(1.0, abs(other))
