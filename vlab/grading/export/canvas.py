"""Canvas: a file for "Import" in the gradebook, one assignment for each lesson.

Canvas finds a student by ID, SIS User ID or SIS Login ID, which a notebook's file name seldom is. The
gradebook that Canvas exports has all three, and serves as the roster.
"""

from __future__ import annotations

import csv
import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from vlab.errors import UnusableInput
from vlab.grading.export.numbers import cell, number, totals, write_rows
from vlab.grading.journal import Graded

__all__ = ["FIXED", "Roster", "write"]

FIXED: Final = ("Student", "ID", "SIS User ID", "SIS Login ID", "Section")
"""The columns before the assignments', as Canvas names them."""
_TEST_STUDENT: Final = "Student, Test"
_UPLOADED: Final = re.compile(r"[^_]+_(?:late_)?(\d+)_(\d+)_.*", re.IGNORECASE)
"""How Canvas names the files of "Download Submissions": name, LATE, the student's ID, the submission's, the
file's."""


@dataclass(slots=True)
class Roster:
    """The students of a course. columns: the header. rows: by column. An exported gradebook, read."""

    columns: Sequence[str]
    rows: Sequence[Mapping[str, str]]
    _known: dict[str, set[int]] = field(default_factory=dict)

    @classmethod
    def read(cls, path: Path) -> Roster:
        """Read one. Raises UnusableInput for a file that is no gradebook of Canvas's."""
        try:
            with path.open(encoding="utf-8-sig", newline="") as file:
                reader = csv.DictReader(file, restval="")
                rows = list(reader)
        except (OSError, UnicodeDecodeError, csv.Error) as error:
            raise UnusableInput(
                f"canvas-roster: '{path}' cannot be read as CSV ({error}); export the gradebook from Canvas"
            ) from error
        columns = list(reader.fieldnames or ())
        if "Student" not in columns or not {"ID", "SIS User ID", "SIS Login ID"} & set(columns):
            raise UnusableInput(
                f"canvas-roster: '{path}' has no columns Student and ID; export the gradebook from Canvas"
            )
        real = [each for each in rows if _is_student(each)]
        roster = cls(columns, real)
        for place, row in enumerate(real):
            for key in _keys_of(row):
                roster._known.setdefault(key, set()).add(place)
        return roster

    def find(self, student: str) -> int | None:
        """Give the place of a student's row; None for nobody, or for more than one."""
        uploaded = _UPLOADED.fullmatch(student)
        for key in (student, *([uploaded[1]] if uploaded else [])):
            places = self._known.get(_key(key), set())
            if len(places) == 1:
                return next(iter(places))
        return None

    def column(self, lesson: str) -> str:
        """Give an assignment's column as the roster has it, with its number in Canvas, or else the name."""
        pattern = re.compile(rf"{re.escape(lesson)} \(\d+\)")
        return next((each for each in self.columns if each == lesson or pattern.fullmatch(each)), lesson)


def write(
    path: Path, results: Iterable[Graded], roster: Roster | None, names: Mapping[str, str]
) -> tuple[str, ...]:
    """Write the file, and give the students who are not in the roster, who are not in the file either.

    names: the assignments' by lesson. Without a roster each student is a row with a name and no ID. A
    submission that we failed to grade has an empty cell, which changes nothing in Canvas.
    """
    points: dict[str, float] = {}
    scores: dict[tuple[str, ...], dict[str, str]] = {}
    unknown: list[str] = []
    for place, row in enumerate(roster.rows if roster else ()):
        scores[("roster", str(place))] = {name: row.get(name) or "" for name in FIXED}
    for each in results:
        key = _row_of(each, roster)
        if key is None or f"score {each.lesson}" in scores.get(key, {}):
            unknown.append(each.student)
            continue
        points[each.lesson], earned = totals(each.exercises)
        scores.setdefault(key, {"Student": each.student})[f"score {each.lesson}"] = (
            "" if each.error else number(earned)
        )
    lessons = sorted(lesson for lesson in points if lesson)
    titles = [names.get(lesson, lesson) for lesson in lessons]
    rows = [
        [*FIXED, *(roster.column(title) if roster else title for title in titles)],
        ["    Points Possible", "", "", "", "", *(number(points[lesson]) for lesson in lessons)],
    ]
    for row in scores.values():
        fixed = [cell(row.get(name, "")) for name in FIXED]
        rows.append([*fixed, *(row.get(f"score {lesson}", "") for lesson in lessons)])
    write_rows(path, rows)
    return tuple(unknown)


def _row_of(graded: Graded, roster: Roster | None) -> tuple[str, ...] | None:
    if roster is None:
        return ("name", graded.student)
    place = roster.find(graded.student)
    return None if place is None else ("roster", str(place))


def _is_student(row: Mapping[str, str]) -> bool:
    """Leave out the second line of the header, and the student that Canvas makes for trying things."""
    name = (row.get("Student") or "").strip()
    return bool(name) and name not in ("Points Possible", _TEST_STUDENT)


def _keys_of(row: Mapping[str, str]) -> set[str]:
    name = row.get("Student") or ""
    last, comma, first = name.partition(",")
    login = row.get("SIS Login ID") or ""
    keys = [name, row.get("ID") or "", row.get("SIS User ID") or "", login, login.partition("@")[0]]
    if comma:
        keys.append(f"{first} {last}")
    return {key for key in map(_key, keys) if key}


def _key(text: str) -> str:
    """Reduce a name to its letters and digits: ``Müller, Zoë`` is ``mullerzoe``."""
    plain = unicodedata.normalize("NFKD", text.casefold())
    return "".join(char for char in plain if char.isalnum())
