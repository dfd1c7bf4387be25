"""What a worker does: mark one submission's cells on its one machine, with its one zygote. JSON in, JSON out.

The process is trusted; student code runs in the jail that the zygote makes for each student.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Self

from vlab.grading.catalogue import find
from vlab.grading.exercise import Exercise
from vlab.grading.jail.launch import Zygote
from vlab.grading.jail.student import JailedStudent
from vlab.grading.marking import mark
from vlab.grading.result import ExerciseMark, InvariantMark
from vlab.session import Machine

__all__ = ["Job", "Marker", "exercises_of", "mark_here", "marks_of", "nothing_for", "prepare"]

MEMORY: Final = "512M"
"""Of the machine that all guests of a worker share; only what they touch takes room."""
NO_CELL: Final = "there is no cell for this exercise: it begins with the line `# exercise: {}`; put it back"


@dataclass(frozen=True, slots=True)
class Job:
    """A submission to mark. number: the caller's own. seed: of the student's variant."""

    number: int
    lesson: str
    cells: Mapping[str, str]
    seed: str

    def to_text(self) -> str:
        """Give it as JSON."""
        return json.dumps([self.number, self.lesson, dict(self.cells), self.seed])

    @classmethod
    def from_text(cls, text: str) -> Self:
        """Take that back."""
        return cls(*json.loads(text))


def nothing_for(exercise: Exercise, why: str) -> ExerciseMark:
    """Give no marks, all for one reason."""
    return ExerciseMark(
        exercise.ident,
        exercise.title,
        tuple(InvariantMark(each.name, each.says, each.points, 0.0, why) for each in exercise.invariants),
    )


def exercises_of(lesson: str) -> tuple[Exercise, ...]:
    """Give a lesson's exercises. Raises UnusableInput when there is no such lesson."""
    return find(lesson).exercises()


class Marker:
    """Marks one submission after the other."""

    def __init__(self) -> None:
        self._zygote = Zygote()
        self._machine = Machine(MEMORY)

    def mark(self, job: Job) -> tuple[ExerciseMark, ...]:
        """Mark the cells of a job, with the hidden invariants."""
        return tuple(self._mark(each, job) for each in exercises_of(job.lesson))

    def _mark(self, exercise: Exercise, job: Job) -> ExerciseMark:
        source = job.cells.get(exercise.ident)
        if source is None:
            return nothing_for(exercise, NO_CELL.format(exercise.ident))

        def new_student() -> JailedStudent:
            return JailedStudent(self._zygote, source, seconds=exercise.seconds)

        return mark(exercise, new_student, job.seed, hidden=True, machine=self._machine)

    def close(self) -> None:
        """Let the zygote and the machine go."""
        self._zygote.close()
        self._machine.close()


_turn = threading.Lock()
_marker: list[Marker] = []


def mark_here(text: str) -> str:
    """Mark the job that ``text`` holds, and give the marks as JSON: the function that every worker runs.

    The process keeps its marker for the next job. One at a time; other threads wait.
    """
    with _turn:
        marker = _prepared()
        began = time.perf_counter()
        exercises = marker.mark(Job.from_text(text))
        seconds = time.perf_counter() - began
    return json.dumps({"exercises": [each.to_json() for each in exercises], "seconds": round(seconds, 3)})


def prepare() -> None:
    """Make this process's marker before the first job comes: what forks off it then knows no job."""
    with _turn:
        _prepared()


def _prepared() -> Marker:
    if not _marker:
        _marker.append(Marker())
    return _marker[0]


def marks_of(answer: str) -> tuple[tuple[ExerciseMark, ...], float]:
    """Take a worker's answer apart: the marks, and the seconds that they took."""
    data: dict[str, Any] = json.loads(answer)
    return tuple(ExerciseMark.from_json(each) for each in data["exercises"]), float(data["seconds"])
