"""Gradescope: a ``results.json`` for each submission, as its autograder platform takes it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path

from vlab.grading.export.numbers import totals, write_text
from vlab.grading.journal import Graded
from vlab.grading.result import ExerciseMark, InvariantMark
from vlab.grading.submission import safe_name

__all__ = ["as_results", "write"]

IsHidden = Callable[[str, str, str], bool]
"""Tells by lesson, exercise and invariant whether students are to see it only once grades are published."""


def write(directory: Path, results: Iterable[Graded], is_hidden: IsHidden) -> None:
    """Write ``STUDENT/results.json``, or ``STUDENT/NN/results.json`` where several lessons were graded.

    A submission that we failed to grade gets none: Gradescope would take it for a mark.
    """
    several = len({each.lesson for each in results}) > 1
    for each in results:
        if not each.error:
            place = directory / safe_name(each.student) / (safe_name(each.lesson) if several else "")
            text = json.dumps(as_results(each, is_hidden), ensure_ascii=False, indent=2, allow_nan=False)
            write_text(place / "results.json", text + "\n")


def as_results(graded: Graded, is_hidden: IsHidden) -> dict[str, object]:
    """Give a submission's results as the object that Gradescope reads."""
    tests = [
        _test(graded.lesson, exercise, each, is_hidden)
        for exercise in graded.exercises
        for each in exercise.invariants
    ]
    said = [graded.trouble] if graded.trouble else []
    return {
        "score": totals(graded.exercises)[1],
        "output": "\n".join([*said, *graded.notes]),
        "output_format": "text",
        "visibility": "visible",
        "stdout_visibility": "hidden",
        "tests": tests,
    }


def _test(lesson: str, exercise: ExerciseMark, mark: InvariantMark, is_hidden: IsHidden) -> dict[str, object]:
    hidden = is_hidden(lesson, exercise.ident, mark.name)
    return {
        "name": f"{exercise.title}: {mark.says}",
        "name_format": "text",
        "number": f"{exercise.ident}.{mark.name}",
        "score": mark.earned,
        "max_score": mark.points,
        "status": "passed" if mark.holds else "failed",
        "output": "\n".join(filter(None, (mark.why, mark.hint))),
        "output_format": "text",
        "visibility": "after_published" if hidden else "visible",
    }
