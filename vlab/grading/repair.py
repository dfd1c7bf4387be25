"""Repair a submitted notebook: the released edition again, with the student's answers in it.

What was handed in is read as JSON (the notebook format 4, without its library) and believed in nothing but
the text of its answers: the exercise cells, and cells that nbgrader's metadata calls solutions. All else is
as it was released, in its order, so that cells which were deleted, duplicated, moved or altered are sound
again. Whatever is found wrong is told in sentences and never raises.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from vlab.grading.first_line import marker, marker_in, marker_of

__all__ = ["MOST_BYTES", "MOST_TEXT", "Repaired", "answer_key", "repair", "source_of", "within"]

MOST_BYTES: Final = 16 << 20
"""Bytes of a notebook that are read at most."""
MOST_TEXT: Final = 1 << 20
"""Characters of an answer that are taken at most."""

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Repaired:
    """A notebook that is sound again.

    notebook: the released edition's JSON with the student's answers, each cell's text in one piece. answers:
    the exercise cells' text by exercise, also of those that were left untouched. notes: what was repaired, a
    sentence each. missing: the exercises without a cell in a notebook that can be read. readable: whether
    what was handed in is a notebook at all.
    """

    notebook: Json
    answers: Mapping[str, str]
    notes: tuple[str, ...]
    missing: frozenset[str] = frozenset()
    readable: bool = True


@dataclass(slots=True)
class _Found:
    """What a submission has: texts by answer, the order of the answers, and all cells' texts.

    readable: whether there are cells at all.
    """

    texts: dict[str, list[str]] = field(default_factory=dict)
    order: list[str] = field(default_factory=list)
    sources: set[str] = field(default_factory=set)
    readable: bool = True
    notes: list[str] = field(default_factory=list)


def repair(submitted: bytes | str | Mapping[str, object], released: Mapping[str, object]) -> Repaired:
    """Put a submission's answers into the released edition.

    submitted: a notebook's file, or its JSON. released: the JSON of the edition that students were given.
    Raises ValueError when the *released* edition is no notebook.
    """
    notebook = copy.deepcopy(dict(released))
    cells = notebook.get("cells")
    if not isinstance(cells, list):
        raise ValueError(f"released: a notebook with a list of cells is needed, not {cells!r:.40}")
    for cell in cells:
        cell["source"] = source_of(cell)
    keys = {key: cell for cell in cells if (key := answer_key(cell)) is not None}
    found = _find(submitted, set(keys))
    notes = found.notes
    for key, cell in keys.items() if found.readable else ():
        text = _choose(key, found.texts.get(key), source_of(cell), notes)
        if text is not None:
            cell["source"] = text if ":" in key or marker_of(text) else f"{marker(key)}\n{text}"
    if list(dict.fromkeys(found.order)) != [key for key in keys if key in found.texts]:
        notes.append("Exercise cells were moved; they are back in their order.")
    notes.extend(_checks(cells, found.sources) if found.readable else ())
    answers = {key: source_of(cell) for key, cell in keys.items() if _exercise(cell) is not None}
    missing = frozenset(answers.keys() - found.texts.keys() if found.readable else ())
    return Repaired(notebook, answers, tuple(notes), missing, found.readable)


def answer_key(cell: object) -> str | None:
    """Tell which answer a released cell is for: an exercise's ident, ``nbgrader:ID``, or None."""
    exercise = _exercise(cell)
    if exercise is not None:
        return exercise
    graded = within(cell, "metadata", "nbgrader", "grade_id")
    if isinstance(graded, str) and within(cell, "metadata", "nbgrader", "solution") is True:
        return f"nbgrader:{graded}"
    return None


def _checks(cells: Sequence[object], sources: set[str]) -> Iterator[str]:
    """Tell of the check cells that the submission has not."""
    for cell in cells:
        exercise = within(cell, "metadata", "vlab", "exercise")
        if within(cell, "metadata", "vlab", "role") == "check" and source_of(cell).strip() not in sources:
            yield f"The check cell of {exercise} was missing or altered; it is back."


def _exercise(cell: object) -> str | None:
    """Tell which exercise a released cell is the cell of, if any."""
    if within(cell, "cell_type") != "code":
        return None
    return marker_of(source_of(cell))


# --- the released edition's answer, or the student's --------------------------------------------------------


def _choose(key: str, texts: Sequence[str] | None, released: str, notes: list[str]) -> str | None:
    """Choose among the texts of one answer; None leaves the cell as it was released."""
    name = key.removeprefix("nbgrader:")
    if not texts:
        notes.append(f"The cell of {name} was missing; it is marked as it was handed out.")
        return None
    written = [each for each in texts if not _empty(each) and each.strip() != released.strip()]
    if len(texts) > 1:
        which = "the last that is not empty" if written else "none holds an answer; the cell as handed out"
        notes.append(f"There were {len(texts)} cells of {name}; {which} is marked.")
    if not written:
        return None
    text = written[-1]
    if len(text) > MOST_TEXT:
        notes.append(
            f"The cell of {name} has {len(text):,} characters, more than {MOST_TEXT:,}; "
            "it is marked as it was handed out."
        )
        return None
    return text


def _empty(text: str) -> bool:
    """Whether a cell holds nothing but its marker, comments and blank lines."""
    return all(not line.strip() or line.lstrip().startswith("#") for line in text.split("\n"))


# --- what was handed in -------------------------------------------------------------------------------------


def _find(submitted: bytes | str | Mapping[str, object], keys: set[str]) -> _Found:
    """Find the texts of the answers that are wanted."""
    found = _Found()
    notebook = _read(submitted, found.notes)
    cells = None if notebook is None else _cells(notebook, found.notes)
    found.readable = cells is not None
    for cell in cells or ():
        text = source_of(cell)
        found.sources.add(text.strip())
        parts = list(_parts(text, keys)) or [(key, text) for key in _claimed(cell) if key in keys][:1]
        for key, part in parts:
            found.texts.setdefault(key, []).append(part)
            found.order.append(key)
        names = " and ".join(dict.fromkeys(key for key, _ in parts))
        if len({key for key, _ in parts}) > 1:
            found.notes.append(f"The cells of {names} had been merged; they were taken apart.")
        if parts and not parts[0][0].startswith("nbgrader:") and within(cell, "cell_type") != "code":
            found.notes.append(f"The cell of {names} was no code cell any more; it is marked as one.")
    return found


def _read(submitted: bytes | str | Mapping[str, object], notes: list[str]) -> Mapping[str, object] | None:
    if isinstance(submitted, Mapping):
        return submitted
    if len(submitted) > MOST_BYTES:
        notes.append(
            f"The notebook has {len(submitted) / 1e6:,.0f} MB, and no more than {MOST_BYTES / 1e6:,.0f} MB "
            "are read; clear its outputs and hand it in again. Nothing in it was marked."
        )
        return None
    try:
        notebook = json.loads(submitted)
    except (ValueError, RecursionError):
        notebook = None
    if not isinstance(notebook, dict):
        notes.append("The file is no notebook: it cannot be read as one. Nothing in it was marked.")
        return None
    return notebook


def _cells(notebook: Mapping[str, object], notes: list[str]) -> list[object] | None:
    """Give the cells, also those of the notebook format 3, which has them in worksheets."""
    cells = notebook.get("cells")
    if cells is None and isinstance(sheets := notebook.get("worksheets"), list):
        cells = [cell for each in sheets for cell in _list(within(each, "cells"))]
    if not isinstance(cells, list):
        notes.append("The notebook has no cells. Nothing in it was marked.")
        return None
    return cells


def _list(value: object) -> list[object]:
    return value if isinstance(value, list) else []


def _claimed(cell: object) -> Iterator[str]:
    """Give what a cell's metadata says that it is, for one whose first line was lost."""
    vlab = within(cell, "metadata", "vlab", "exercise")
    role = within(cell, "metadata", "vlab", "role")
    if isinstance(vlab, str) and role != "check":
        yield vlab
    graded = within(cell, "metadata", "nbgrader", "grade_id")
    if isinstance(graded, str):
        yield graded.removeprefix("exercise-") if graded.startswith("exercise-") else f"nbgrader:{graded}"


def _parts(text: str, keys: set[str]) -> Iterator[tuple[str, str]]:
    """Take a cell apart at the markers of known exercises; yield nothing for one that does not begin so."""
    if marker_of(text) not in keys:
        return
    parts: list[tuple[str, list[str]]] = []
    for line in text.split("\n"):
        exercise = marker_in(line)
        if exercise in keys and (not parts or exercise != parts[-1][0]):
            parts.append((exercise, []))
        if parts:
            parts[-1][1].append(line)
    yield from ((key, "\n".join(lines).rstrip()) for key, lines in parts)


def source_of(cell: object) -> str:
    """Give a cell's text as UTF-8 can hold it; empty for what is no text."""
    source = within(cell, "source")
    if source is None:
        source = within(cell, "input")
    if isinstance(source, list):
        source = "".join(each for each in source if isinstance(each, str))
    if not isinstance(source, str):
        return ""
    return source.encode("utf-8", "replace").decode("utf-8").replace("\r\n", "\n").replace("\r", "\n")


def within(value: object, *keys: str) -> object:
    """Follow keys through mappings; None where they lead nowhere."""
    for key in keys:
        value = value.get(key) if isinstance(value, Mapping) else None
    return value
