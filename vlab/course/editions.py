"""Editions: the notebooks that are made from one lesson's source, the same to the byte each time.

student: solutions are stubs. solution: solutions in place, and cells tagged ``solution-only``. instructor:
those, cells tagged ``instructor``, and below each exercise its marks and typical mistakes. nbgrader: what
``nbgrader generate_assignment`` takes, with solutions between their marks.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from typing import Any, Final, Literal

from vlab import __version__
from vlab.course.solutions import solved, unsolved
from vlab.course.source import Cell, Lesson
from vlab.grading.exercise import Exercise

__all__ = ["EDITIONS", "Edition", "build", "to_text"]

Edition = Literal["student", "solution", "instructor", "nbgrader"]
EDITIONS: Final[tuple[Edition, ...]] = ("student", "solution", "instructor")

Json = dict[str, Any]
_ONLY: Final = {
    "solution-only": ("solution", "instructor"),
    "instructor": ("instructor",),
}
_KERNEL: Final = {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"}
_LANGUAGE: Final = {"file_extension": ".py", "mimetype": "text/x-python", "name": "python"}
_LONGEST_ID: Final = 64
"""Characters of a cell's id at most (nbformat 4.5)."""


def build(lesson: Lesson, edition: Edition) -> Json:
    """Build an edition: a notebook of format 4.5 as JSON, with no outputs."""
    ids = _Ids(lesson.files.id)
    cells: list[Json] = []
    for cell in lesson.cells:
        if any(edition not in _ONLY[tag] for tag in cell.tags if tag in _ONLY):
            continue
        cells.append(_cell(lesson, cell, edition, ids))
        if edition == "instructor" and cell.role == "check":
            exercise = next(each for each in lesson.exercises if each.ident == cell.name)
            cells.append(_new("markdown", f"{lesson.files.id}-marks-{cell.name}", _marks(exercise), {}))
    about = {
        "lesson": lesson.files.id,
        "edition": "student" if edition == "nbgrader" else edition,
        "version": __version__,
        "title": lesson.title,
    }
    metadata = {"kernelspec": _KERNEL, "language_info": _LANGUAGE, "vlab": about}
    return {"cells": cells, "metadata": metadata, "nbformat": 4, "nbformat_minor": 5}


def to_text(notebook: Json) -> str:
    """Give a notebook as the text of its file, as Jupyter itself writes it: keys sorted, texts by line."""
    cells = [cell | {"source": cell["source"].splitlines(keepends=True)} for cell in notebook["cells"]]
    return json.dumps(notebook | {"cells": cells}, indent=1, sort_keys=True, ensure_ascii=False) + "\n"


def _cell(lesson: Lesson, cell: Cell, edition: Edition, ids: _Ids) -> Json:
    metadata: Json = {}
    tags = [tag for tag in cell.tags if tag not in _ONLY]
    if tags:
        metadata["tags"] = tags
    text = cell.text
    if cell.role == "exercise":
        metadata["vlab"] = {"exercise": cell.name, "role": "exercise"}
        if edition != "nbgrader":
            text = (unsolved if edition == "student" else solved)(text, cell.name)
    elif cell.role == "check":
        metadata["vlab"] = {"exercise": cell.name, "role": "check"}
    if cell.role in ("exercise", "check") and edition == "nbgrader":
        points = next(each.points for each in lesson.exercises if each.ident == cell.name)
        metadata["nbgrader"] = _nbgrader(cell, points)
    if cell.role in ("exercise", "check") and edition == "student":
        metadata["deletable"] = False
        if cell.role == "check":
            metadata["editable"] = False
    return _new(cell.kind, ids.of(cell), text, metadata)


def _new(kind: str, ident: str, text: str, metadata: Json) -> Json:
    cell: Json = {"cell_type": kind, "id": ident, "metadata": metadata, "source": text}
    return cell | {"execution_count": None, "outputs": []} if kind == "code" else cell


def _nbgrader(cell: Cell, points: float) -> Json:
    """Give nbgrader's metadata (its schema 3) for an exercise or check cell."""
    check = cell.role == "check"
    about: Json = {
        "schema_version": 3,
        "grade_id": cell.name if check else f"exercise-{cell.name}",
        "cell_type": "code",
        "grade": check,
        "locked": check,
        "solution": not check,
        "task": False,
    }
    return about | {"points": points} if check else about


class _Ids:
    """Ids of cells: by what a cell is for, so that they stay when cells around it come and go."""

    def __init__(self, lesson: str) -> None:
        self._lesson = lesson
        self._taken: set[str] = set()

    def of(self, cell: Cell) -> str:
        """Give a cell its id."""
        about = cell.name or _heading(cell.text) or hashlib.sha256(cell.text.encode("utf-8")).hexdigest()[:8]
        slug = re.sub(r"[^a-z0-9_]+", "-", about.lower()).strip("-") or "cell"
        stem = "-".join((self._lesson, cell.role, *(() if cell.role == "setup" else (slug,))))
        ident = next(each for each in _numbered(stem) if each not in self._taken)
        self._taken.add(ident)
        return ident


def _numbered(stem: str) -> Iterator[str]:
    yield stem[:_LONGEST_ID].rstrip("-")
    number = 2
    while True:
        ending = f"-{number}"
        yield stem[: _LONGEST_ID - len(ending)].rstrip("-") + ending
        number += 1


def _heading(text: str) -> str:
    match = re.match(r"#+\s+(.+)", text)
    return match[1] if match else ""


def _marks(exercise: Exercise) -> str:
    """Tell the instructor how an exercise is marked."""
    lines = [
        f"**For instructors: {exercise.title}**, {exercise.points:g} points",
        "",
        "| points | invariant | what must hold |",
        "|---|---|---|",
    ]
    for each in exercise.invariants:
        hidden = " (tried on hidden guests only)" if each.hidden else ""
        lines.append(f"| {each.points:g} | `{each.name}` | {each.says}{hidden} |")
    if exercise.mistakes:
        lines += ["", "Typical mistakes:", ""]
    for mistake in exercise.mistakes:
        broken = ", ".join(f"`{name}`" for name in mistake.broken)
        lines.append(f"- {mistake.name}: breaks {broken}; students read *{mistake.hint}*")
    if exercise.hints:
        lines += ["", "Hints, in their order:", ""]
        lines += [f"{number}. {hint}" for number, hint in enumerate(exercise.hints, 1)]
    return "\n".join(lines)
