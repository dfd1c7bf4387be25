"""A plain table: one row for each student and exercise, and one for the student's total."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

from vlab.grading.export.numbers import cell, number, total, write_rows
from vlab.grading.journal import Graded

__all__ = ["COLUMNS", "write"]

COLUMNS: Final = ("student", "lesson", "exercise", "title", "points", "earned", "status", "remark")


def write(path: Path, results: Iterable[Graded]) -> None:
    """Write the table. ``status`` is ``graded``, ``unusable`` or ``error``; only the latter has no marks."""
    write_rows(path, _rows(results))


def _rows(results: Iterable[Graded]) -> Iterator[tuple[str, ...]]:
    yield COLUMNS
    for each in results:
        status = "error" if each.error else "unusable" if each.trouble else "graded"
        who = (cell(each.student), each.lesson)
        for mark in each.exercises:
            points, earned = (
                total(one.points for one in mark.invariants),
                total(one.earned for one in mark.invariants),
            )
            shown = "" if each.error else number(earned)
            yield (*who, cell(mark.ident), cell(mark.title), number(points), shown, status, "")
        points = total(one.points for mark in each.exercises for one in mark.invariants)
        earned = total(one.earned for mark in each.exercises for one in mark.invariants)
        shown = "" if each.error else number(earned)
        yield (*who, "total", "", number(points), shown, status, cell(each.error or each.trouble))
