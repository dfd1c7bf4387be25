"""Marks as text, exactly, and text as cells of a table that no spreadsheet takes for a formula."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Final

from vlab.errors import UnusableInput
from vlab.grading.result import ExerciseMark

__all__ = ["cell", "number", "total", "totals", "write_bytes", "write_rows", "write_text"]

_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r", "\uff1d", "\uff0b", "\uff0d", "\uff20")
"""What begins a formula in some spreadsheet, the full-width forms too."""


def number(value: float) -> str:
    """Write a mark: ``3``, ``2.5``, ``0.3``; what a sum of tenths leaves at the far end is no part of it."""
    return f"{round(value, 6):.6f}".rstrip("0").rstrip(".")


def total(values: Iterable[float]) -> float:
    """Add marks up as they are written, so that a total is the sum of what stands above it."""
    return float(sum((Fraction(number(each)) for each in values), Fraction(0)))


def totals(marks: Iterable[ExerciseMark]) -> tuple[float, float]:
    """Add up what there is to earn in exercises, and what was earned."""
    invariants = [each for mark in marks for each in mark.invariants]
    return total(each.points for each in invariants), total(each.earned for each in invariants)


def cell(text: str) -> str:
    """Give a text as a cell: what a spreadsheet would calculate gets an apostrophe before it."""
    return f"'{text}" if text.startswith(_FORMULA) else text


def write_rows(path: Path, rows: Iterable[Sequence[str]]) -> None:
    """Write a table as CSV (RFC 4180, UTF-8). Raises UnusableInput when the file cannot be written."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\r\n").writerows(rows)
    write_text(path, text.getvalue())


def write_text(path: Path, text: str) -> None:
    """Write a text as UTF-8, as `write_bytes` does."""
    write_bytes(path, text.encode("utf-8"))


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file and the directories it is in. Raises UnusableInput when it cannot be written."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    except OSError as error:
        raise UnusableInput(f"'{path}' cannot be written: {error.strerror}; name another place") from error
