"""Marking one exercise: each invariant is tried by itself, and what fails says why."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Final

from vlab.grading.exercise import Broken, Exercise, Invariant
from vlab.grading.result import ExerciseMark, InvariantMark
from vlab.grading.student import NotWritten, Stopped, Student, StudentError
from vlab.grading.trial import Trial
from vlab.grading.variant import chance
from vlab.session import VM, Machine
from vlab.trace.file import dump

WAITS: Final = "not tried here: this one is tried on other guests when the exercise is handed in"

NewStudent = Callable[[], Student]
"""Makes the student of one exercise's cell anew. Raises StudentError for a cell that does not run."""


def mark(
    exercise: Exercise,
    new_student: NewStudent,
    seed: str,
    *,
    hidden: bool = False,
    machine: Machine | None = None,
) -> ExerciseMark:
    """Mark an exercise.

    seed: of the student's variant; the same seed gives the same guests. hidden: try the hidden invariants
    too; they count in ``points`` either way. machine: for all guests. No failing of the student's gets out
    of here as an exception, only our own.
    """
    students = _Students(new_student, exercise.defines)
    try:
        marks = [
            _mark(each, exercise, students, seed, hidden=hidden, machine=machine)
            for each in exercise.invariants
        ]
    finally:
        students.close()
    return ExerciseMark(exercise.ident, exercise.title, tuple(marks))


class _Students:
    """The student at hand: made when it is first wanted, and once more after it was stopped."""

    def __init__(self, make: NewStudent, defines: tuple[str, ...]) -> None:
        self._make = make
        self._defines = defines
        self._student: Student | None = None
        self._failed: StudentError | None = None

    def take(self) -> Student:
        """Give one whose cell ran. Raises what the cell did, each time."""
        if self._failed is not None:
            raise self._failed
        if self._student is None:
            try:
                self._student = self._make()
            except StudentError as error:
                self._failed = error
                raise
        missing = [name for name in self._defines if not self._student.defines(name)]
        if missing:
            raise NotWritten(f"the cell does not define {' nor '.join(missing)}")
        return self._student

    def close(self) -> None:
        """Let the student go; the next one starts anew."""
        if self._student is not None:
            self._student.close()
            self._student = None


def _mark(
    invariant: Invariant,
    exercise: Exercise,
    students: _Students,
    seed: str,
    *,
    hidden: bool,
    machine: Machine | None,
) -> InvariantMark:
    nothing = InvariantMark(invariant.name, invariant.says, invariant.points, 0.0)
    if invariant.hidden and not hidden:
        return replace(nothing, why=WAITS, waits=True)
    trial: Trial | None = None
    try:
        trial = Trial(students.take(), chance(seed, exercise.ident, invariant.name), hidden, machine)
        invariant.holds(trial)
    except Broken as broken:
        return replace(nothing, why=broken.why, hint=broken.hint, trace=_evidence(broken.vm, broken.exit))
    except Stopped as stopped:
        students.close()
        return replace(nothing, why=str(stopped), trace=_evidence(_last(trial), None))
    except StudentError as error:
        return replace(nothing, why=str(error), trace=_evidence(_last(trial), None))
    finally:
        if trial is not None:
            trial.close()
    return replace(nothing, earned=invariant.points)


def _last(trial: Trial | None) -> VM | None:
    return trial.vms[-1] if trial is not None and trial.vms else None


def _evidence(vm: VM | None, exit_number: int | None) -> bytes | None:
    """Give the trace up to an exit, the last one for None."""
    if vm is None or not len(vm.exits):
        return None
    shown = vm.exits if exit_number is None else vm.exits[:exit_number]
    described = {"guest": vm.guest.name, "monitor": vm.monitor, "paging": vm.paging}
    return dump(shown, described | {"memory_bytes": vm.memory_bytes, "clock": vm.clock}, compression=1)
