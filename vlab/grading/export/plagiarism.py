"""Sources for tools that look for copies: Dolos, JPlag, MOSS.

``submissions/STUDENT/NN_EXERCISE.py`` holds an answer, ``released/NN_EXERCISE.py`` what all were given, and
``info.csv`` names the files as Dolos reads them. Answers that are still as they were given are left out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from vlab.grading.export.numbers import cell, write_rows, write_text
from vlab.grading.journal import Graded
from vlab.grading.submission import safe_name

__all__ = ["write"]

Released = Callable[[str], Mapping[str, str]]
"""Gives the cells of a lesson as all students were given them, by exercise."""


def write(directory: Path, results: Iterable[Graded], released: Released) -> None:
    """Write the files below a directory. Raises UnusableInput when it cannot be written."""
    rows: list[tuple[str, ...]] = [("filename", "full_name", "label")]
    given: dict[str, Mapping[str, str]] = {}
    for each in results:
        if not each.cells:
            continue
        if each.lesson not in given:
            given[each.lesson] = released(each.lesson)
            for ident, text in given[each.lesson].items():
                write_text(directory / "released" / _name(each.lesson, ident), text.rstrip() + "\n")
        for ident, text in each.cells.items():
            if text.strip() == given[each.lesson].get(ident, "").strip():
                continue
            name = f"submissions/{safe_name(each.student)}/{_name(each.lesson, ident)}"
            write_text(directory / name, text.rstrip() + "\n")
            rows.append((cell(name), cell(each.student), cell(f"{each.lesson} {ident}")))
    write_rows(directory / "info.csv", rows)


def _name(lesson: str, ident: str) -> str:
    return f"{safe_name(lesson)}_{safe_name(ident)}.py"
