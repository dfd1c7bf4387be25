"""One lesson in a notebook: what to predict, what came out, and whether an exercise is solved."""

from __future__ import annotations

import os
import random
import re
from collections.abc import Callable, Sequence
from typing import Final

from vlab.errors import UnusableInput
from vlab.grading import catalogue
from vlab.grading.exercise import Exercise
from vlab.grading.first_line import marker
from vlab.grading.local import LocalStudent
from vlab.grading.marking import mark
from vlab.grading.variant import chance, seed_of, student_name
from vlab.lessons.cells import latest
from vlab.lessons.overview import Overview
from vlab.lessons.progress import Progress
from vlab.lessons.question import Question
from vlab.lessons.report import Report
from vlab.session import Machine

_NAME: Final = re.compile(r"[a-z0-9][a-z0-9-]*")
_MEMORY: Final = "64M"
_NOT_OURS: Final = (
    "lab.check: nbgrader runs this notebook by itself, without the settings that keep marks and student code "
    "apart; use the nbgrader_config.py that `vlab course build` writes"
)


class Lesson:
    """A lesson. ``ident``: its two digits. ``student``: whose variant it is. ``seed``: of that variant."""

    def __init__(
        self,
        files: catalogue.LessonFiles,
        student: str,
        progress: Progress,
        source_of: Callable[[str], str | None] = latest,
    ) -> None:
        self.ident, self.title, self.student = files.id, files.title, student
        self.seed = seed_of(student, files.id)
        self._exercises = {each.ident: each for each in files.exercises()}
        self._progress = progress
        self._questions: dict[str, tuple[str, tuple[str, ...]]] = {}
        self._source_of = source_of

    # --- predictions ------------------------------------------------------------------------------------

    def predict(self, name: str, question: str, choices: Sequence[str]) -> Question:
        """Ask what will come out of the next run. Raises UnusableInput for a question without two choices."""
        self._check_name(name)
        if isinstance(choices, str) or len(set(choices)) < 2 or len(set(choices)) != len(choices):
            raise UnusableInput(f"choices: {choices!r} is no choice; give two different answers or more")
        self._questions[name] = question, tuple(choices)
        return Question(question, choices, chosen=self._predicted(name), picked=self._note_prediction(name))

    def reveal(self, name: str, answer: object, why: str = "") -> Question:
        """Show what came out, beside what was predicted. Raises UnusableInput for what was never asked."""
        if name not in self._questions:
            raise UnusableInput(
                f"name: {name!r} was not asked yet; run the cell with lab.predict({name!r}, ...) first"
            )
        question, choices = self._questions[name]
        chosen, found = self._predicted(name), str(answer)
        if chosen:
            with self._progress.change(self.ident) as done:
                done.right[name] = chosen == found
        return Question(question, choices, chosen=chosen, answer=found, why=why)

    def _predicted(self, name: str) -> str:
        return self._progress.of(self.ident).predictions.get(name, "")

    def _note_prediction(self, name: str) -> Callable[[str], None]:
        def note(choice: str) -> None:
            with self._progress.change(self.ident) as done:
                done.predictions[name] = choice

        return note

    @staticmethod
    def _check_name(name: str) -> None:
        if not _NAME.fullmatch(name):
            raise UnusableInput(f"name: {name!r} is not possible; use small letters, digits and '-'")

    # --- exercises --------------------------------------------------------------------------------------

    @property
    def exercises(self) -> tuple[Exercise, ...]:
        """The lesson's exercises."""
        return tuple(self._exercises.values())

    def chance(self, *names: str) -> random.Random:
        """Give chance that is this student's: the same numbers each time, other ones for other students."""
        return chance(self.seed, *names)

    def check(self, exercise: str) -> Report:
        """Try the exercise's cell as it was last run, on real guests, by itself.

        Raises UnusableInput for an exercise that there is not, or whose cell was not run; and while nbgrader
        runs the notebook for marks, which it would take from a process that the student's code shares.
        """
        found = self._exercise(exercise)
        if os.environ.get("NBGRADER_EXECUTION") == "autograde":
            raise UnusableInput(_NOT_OURS)
        source = self._source_of(exercise)
        if source is None:
            raise UnusableInput(
                f"exercise: the cell that begins with `{marker(exercise)}` was not run yet; run it first"
            )
        machine = Machine(_MEMORY)
        try:
            made = mark(found, lambda: LocalStudent.of_source(source), self.seed, machine=machine)
        finally:
            machine.close()
        with self._progress.change(self.ident) as done:
            done.earned[exercise] = max(made.earned, done.earned.get(exercise, 0.0))
            if any(not each.holds and not each.waits for each in made.invariants):
                done.attempts[exercise] = done.attempts.get(exercise, 0) + 1
        return Report(made)

    def hint(self, exercise: str) -> str:
        """Give the next hint; one more is unlocked by each check that fails."""
        hints = self._exercise(exercise).hints
        done = self._progress.of(self.ident)
        shown, unlocked = done.hints.get(exercise, 0), done.attempts.get(exercise, 0)
        if not hints:
            return "This exercise has no hints."
        if shown >= len(hints):
            return "\n".join(("These are all the hints:", *_numbered(hints)))
        if shown >= unlocked:
            told = "\n".join(_numbered(hints[:shown]))
            return f"{told}\nThe next hint is unlocked by trying: lab.check({exercise!r})".lstrip()
        with self._progress.change(self.ident) as changed:
            changed.hints[exercise] = shown + 1
        return "\n".join(_numbered(hints[: shown + 1]))

    def _exercise(self, ident: str) -> Exercise:
        if ident not in self._exercises:
            known = ", ".join(self._exercises) or "it has none"
            raise UnusableInput(f"exercise: lesson {self.ident} has no {ident!r}; choose from {known}")
        return self._exercises[ident]

    # --- how far ----------------------------------------------------------------------------------------

    @property
    def progress(self) -> Overview:
        """What was done so far, of this lesson and of all others; it is on this computer and nowhere else."""
        return Overview(self._progress.all())

    def __repr__(self) -> str:
        return f"<lesson {self.ident}: {self.title}, for {self.student}>"


def _numbered(hints: Sequence[str]) -> list[str]:
    return [f"Hint {number}: {hint}" for number, hint in enumerate(hints, 1)]


def lesson(ident: str, *, student: str | None = None, progress: Progress | None = None) -> Lesson:
    """Open a lesson by its two digits.

    student: whose variant it is; None for the name that `variant.student_name` finds. Raises UnusableInput
    for a lesson that there is not.
    """
    return Lesson(
        catalogue.find(ident), student_name() if student is None else student, progress or Progress()
    )
