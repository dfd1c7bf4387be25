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

    source: the cell, or a replacement for the solution inside it (see ``vlab.course``). broken: names of the
    invariants that it breaks; it gets the points of the others. hint: text that one of the explanations or
    hints must hold.
    """

    name: str
    source: str
    broken: tuple[str, ...]
    hint: str


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
