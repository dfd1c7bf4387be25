"""Checking: exercises fail unsolved, get full marks solved, and each typical mistake costs what it should."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Literal

from vlab.course.solutions import blocks, solved, unsolved, without
from vlab.course.source import Lesson
from vlab.errors import VlabError
from vlab.grading.exercise import Exercise, Mistake
from vlab.grading.result import ExerciseMark

__all__ = ["Attempt", "Finding", "Marking", "attempts", "check", "jailed", "local"]

SEED = "vlab course check"
_STUB = re.compile(r"""^\s*raise NotImplemented[E]rror\((["'])(.*)\1\)\s*$""", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Attempt:
    """One cell to mark.

    kind: "part" is solved but for one of several parts. stubs: the texts of what unsolved parts raise.
    stubs_raise: whether all of them do.
    """

    lesson: str
    exercise: Exercise
    kind: Literal["unsolved", "part", "solved", "mistake"]
    source: str
    mistake: Mistake | None = None
    stubs: tuple[str, ...] = ()
    stubs_raise: bool = False

    @property
    def name(self) -> str:
        """What is tried, for people."""
        if self.kind == "part":
            return f"all but: {' and '.join(self.stubs)}"
        return self.kind if self.mistake is None else f"mistake: {self.mistake.name}"


@dataclass(frozen=True, slots=True)
class Finding:
    """What came of an attempt. troubles: what is not as it should be, a sentence each."""

    attempt: Attempt
    mark: ExerciseMark | None
    troubles: tuple[str, ...]


Marking = Callable[[Sequence[Attempt]], Iterator[tuple[Attempt, ExerciseMark | None, str]]]
"""Marks attempts, in any order; no mark comes with what went wrong."""


def attempts(lesson: Lesson) -> list[Attempt]:
    """Give what is to be tried of a lesson. Raises VlabError for a mistake that edits what is not there."""
    found = []
    for exercise in lesson.exercises:
        ident = exercise.ident
        text = lesson.exercise_cell(ident).text
        parts = blocks(text, ident)
        raised = [tuple(said for _, said in _STUB.findall("\n".join(part.stub))) for part in parts]
        stubs = tuple(said for each in raised for said in each)
        number = lesson.files.id
        found.append(
            Attempt(number, exercise, "unsolved", unsolved(text, ident), stubs=stubs, stubs_raise=all(raised))
        )
        for part, said in zip(parts, raised, strict=True):
            if said and len(parts) > 1:
                source = without(text, part, ident)
                found.append(Attempt(number, exercise, "part", source, stubs=said, stubs_raise=True))
        found.append(Attempt(number, exercise, "solved", solved(text, ident)))
        for mistake in exercise.mistakes:
            try:
                source = mistake.cell(solved(text, ident))
            except ValueError as error:
                raise VlabError(f"{lesson.files.exercises_module}: {ident}: {error}") from error
            found.append(Attempt(number, exercise, "mistake", source, mistake))
    return found


def check(wanted: Sequence[Attempt], marking: Marking) -> Iterator[Finding]:
    """Mark the attempts and judge them, as they come."""
    for attempt, mark, error in marking(wanted):
        troubles = (f"grading failed: {error}",) if mark is None else tuple(_judge(attempt, mark))
        yield Finding(attempt, mark, troubles)


def jailed(wanted: Sequence[Attempt]) -> Iterator[tuple[Attempt, ExerciseMark | None, str]]:
    """Mark as submissions are marked: side by side, each in a jail."""
    from vlab.grading.marker import Job, marks_of
    from vlab.grading.pool import cores, mark_all

    jobs = [
        Job(number, each.lesson, {each.exercise.ident: each.source}, SEED)
        for number, each in enumerate(wanted)
    ]
    for outcome in mark_all(jobs, min(cores(), len(jobs)) or 1):
        attempt = wanted[outcome.job.number]
        if outcome.answer is None:
            yield attempt, None, outcome.error
        else:
            marks = marks_of(outcome.answer)[0]
            yield attempt, next(each for each in marks if each.ident == attempt.exercise.ident), ""


def local(wanted: Sequence[Attempt]) -> Iterator[tuple[Attempt, ExerciseMark | None, str]]:
    """Mark in this process, where there is no jail: the code is the author's."""
    from vlab.grading.local import LocalStudent
    from vlab.grading.marking import mark
    from vlab.session import Machine

    with closing(Machine("128M")) as machine:
        for each in wanted:
            source = each.source
            yield each, mark(
                each.exercise, lambda source=source: LocalStudent.of_source(source), SEED,  # type: ignore[misc]
                hidden=True, machine=machine,
            ), ""  # fmt: skip


# --- judging ------------------------------------------------------------------------------------------------


def _judge(attempt: Attempt, mark: ExerciseMark) -> Iterator[str]:
    if attempt.mistake is not None:
        yield from _judge_mistake(attempt.mistake, attempt.exercise, mark)
    elif attempt.kind == "solved":
        for each in mark.invariants:
            if not each.holds:
                yield f"the solution breaks {each.name}: {each.why}"
    else:
        yield from _judge_unsolved(attempt, mark)


def _judge_unsolved(attempt: Attempt, mark: ExerciseMark) -> Iterator[str]:
    """What is not written earns nothing, and is said to be not written.

    Where nothing is, by each invariant; of several parts it meets one first. So each part that is missing
    alone has to be met by some invariant.
    """
    from vlab.grading.student import NotWritten

    if mark.earned >= mark.points:
        yield f"without its solution it gets all {mark.points:g} points"
    expected = {str(NotWritten(each)) for each in attempt.stubs}
    if attempt.kind == "unsolved" and attempt.stubs_raise:
        for each in mark.invariants:
            if each.why not in expected:
                said = f"says {each.why!r}" if each.why else "holds"
                yield (
                    f"without the solution {each.name} {said}, not {' or '.join(map(repr, sorted(expected)))}"
                )
    if expected and not expected & {each.why for each in mark.invariants}:
        yield f"no invariant comes to what is not written, {' or '.join(map(repr, sorted(expected)))}"


def _judge_mistake(mistake: Mistake, exercise: Exercise, mark: ExerciseMark) -> Iterator[str]:
    broken = {each.name for each in mark.invariants if not each.holds}
    expected = set(mistake.broken)
    unknown = expected - {each.name for each in exercise.invariants}
    if unknown:
        yield f"there is no invariant {', '.join(sorted(unknown))}"
    for each in mark.invariants:
        if each.name in broken - expected:
            yield f"it also breaks {each.name}: {each.why}"
        elif each.name in expected - broken:
            yield f"it does not break {each.name}"
    if not expected:
        yield "it is to break nothing; then it is no mistake"
    told = [text for each in mark.invariants for text in (each.why, each.hint) if not each.holds]
    if broken and not any(mistake.hint in text for text in (*told, *exercise.hints)):
        yield f"students do not read {mistake.hint!r}, but: {' / '.join(text for text in told if text)}"
