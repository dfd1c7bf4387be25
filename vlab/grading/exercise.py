"""What an exercise is: what the cell must define, what must hold of it, and the mistakes that are typical."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vlab.grading.trial import Trial
    from vlab.session import VM


class Broken(Exception):
    """An invariant does not hold.

    why: a sentence for the student, with the values that were seen and expected. hint: what to look at.
    vm: the guest that shows it, traced; exit: the number of the exit where it shows (1 is the first), None
    for the last.
    """

    def __init__(self, why: str, *, hint: str = "", vm: VM | None = None, exit: int | None = None) -> None:  # noqa: A002
        super().__init__(why)
        self.why, self.hint, self.vm, self.exit = why, hint, vm, exit


@dataclass(frozen=True, slots=True)
class Invariant:
    """Something that must hold.

    says: the sentence shown beside its marks. holds: returns when it does and raises Broken when it does not.
    hidden: tried only when marks are at stake, on guests that the student has not seen; the sentence is shown
    all the same.
    """

    name: str
    points: float
    says: str
    holds: Callable[[Trial], None]
    hidden: bool = False


@dataclass(frozen=True, slots=True)
class Mistake:
    """A typical wrong answer, and what must come of it.

    edits: what to put in place of what in the solution's cell, which makes the wrong cell; or source: the
    whole wrong cell, where it has little in common with the solution. broken: names of the invariants that it
    breaks; it gets the points of the others. hint: text that one of the explanations or hints must hold.
    """

    name: str
    source: str = ""
    broken: tuple[str, ...] = ()
    hint: str = ""
    edits: tuple[tuple[str, str], ...] = ()

    def cell(self, solution: str) -> str:
        """Make the wrong cell from the solution's. Raises ValueError for an edit that finds nothing."""
        if self.source:
            return self.source
        for old, new in self.edits:
            if old not in solution:
                raise ValueError(f"the mistake {self.name!r} edits {old!r}, which the solution does not have")
            solution = solution.replace(old, new)
        return solution


@dataclass(frozen=True, slots=True)
class Exercise:
    """One exercise of a lesson.

    ident: as in the first line of its cell, ``# exercise: IDENT``. defines: what the cell must define.
    hints: shown one by one on request, the gentlest first. seconds: time that all student code of one
    marking may take, in wall time of its own.
    """

    ident: str
    title: str
    defines: tuple[str, ...]
    invariants: tuple[Invariant, ...]
    hints: tuple[str, ...] = ()
    mistakes: tuple[Mistake, ...] = ()
    seconds: float = 10.0

    @property
    def points(self) -> float:
        """What a full solution gets."""
        return sum(each.points for each in self.invariants)
