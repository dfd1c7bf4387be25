"""A plain table: one row for each student and exercise, and one for the student's total."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

from vlab.grading.export.numbers import cell, number, totals, write_rows
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
            points, earned = totals([mark])
            shown = "" if each.error else number(earned)
            yield (*who, cell(mark.ident), cell(mark.title), number(points), shown, status, "")
        points, earned = totals(each.exercises)
        shown = "" if each.error else number(earned)
        yield (*who, "total", "", number(points), shown, status, cell(each.error or each.trouble))
