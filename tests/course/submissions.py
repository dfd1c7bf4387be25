"""What students hand in for the small lesson, from right to hostile, and the marks that each gets."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any, Final

from tests.course.sample import cell, edition

Json = dict[str, Any]

#: (points for page_number, points for set_bits) by student. An untouched set_bits keeps the other bits: 2.
MARKS: Final[dict[str, tuple[float, float]]] = {
    "correct": (5.0, 5.0),
    "half": (2.0, 5.0),
    "empty": (0.0, 2.0),
    "wrong": (0.0, 0.0),
    "tamper": (0.0, 5.0),
    "leave": (0.0, 5.0),
    "reach": (5.0, 5.0),
    "broken": (5.0, 5.0),
    "deleted": (0.0, 5.0),
}

_TAMPER: Final = """\
# exercise: page_number
import sys
import vlab.grading.marking

vlab.grading.marking.mark = lambda *given, **named: None
for module in list(sys.modules.values()):
    if hasattr(module, "must_hold"):
        module.must_hold = lambda *given: None


def page_number(linear):
    return linear >> 12
"""
_LEAVE: Final = "# exercise: page_number\nimport os\nos._exit(0)\n"


def hand_in(witness: str) -> dict[str, Json]:
    """Give each student's notebook. witness: a file that is written if a cell that is no exercise runs."""
    return {student: _of(student, witness) for student in MARKS}


def _of(student: str, witness: str) -> Json:
    notebook = edition("student")
    if student not in ("empty",):
        for name in ("page_number", "set_bits"):
            cell(notebook, f"exercise-{name}")["source"] = cell(edition("solution"), f"exercise-{name}")[
                "source"
            ]
    change = _CHANGES.get(student)
    if change is not None:
        change(notebook, witness)
    return notebook


def _half(notebook: Json, _: str) -> None:
    page = cell(notebook, "exercise-page_number")
    page["source"] = page["source"].replace("linear >> 12", "(linear & 0xFFFFFFFF) >> 12")


def _wrong(notebook: Json, _: str) -> None:
    page, bits = cell(notebook, "exercise-page_number"), cell(notebook, "exercise-set_bits")
    page["source"] = page["source"].replace("linear >> 12", "'page'")
    bits["source"] = "# exercise: set_bits\ndef set_bits(value, bits):\n    return None"


def _tamper(notebook: Json, _: str) -> None:
    cell(notebook, "exercise-page_number")["source"] = _TAMPER


def _leave(notebook: Json, _: str) -> None:
    cell(notebook, "exercise-page_number")["source"] = _LEAVE


def _reach(notebook: Json, witness: str) -> None:
    """Cells of the student's own try to mark, write a file, end the process, and be taken for check cells."""
    own = copy.deepcopy(cell(notebook, "setup"))
    own["id"], own["source"] = (
        "own",
        f"open({witness!r}, 'w').close()\nvlab_marks = {{}}\nimport os\nos._exit(0)",
    )
    own["metadata"] = {
        "otter": {"tests": ["page_number"]},
        "vlab": {"role": "check", "exercise": "page_number"},
    }
    notebook["cells"].insert(0, own)
    cell(notebook, "setup")["source"] = own["source"]
    cell(notebook, "check-page_number")["source"] = own["source"]


def _broken(notebook: Json, _: str) -> None:
    """A deleted check cell, an exercise cell in duplicate, the cells in another order, metadata gone."""
    cells = notebook["cells"]
    cells.remove(cell(notebook, "check-set_bits"))
    page = cell(notebook, "exercise-page_number")
    untouched = copy.deepcopy(cell(edition("student"), "exercise-page_number")) | {"id": "again"}
    cells.append(untouched)
    page["metadata"] = {}
    cells.reverse()
    notebook["metadata"] = {"vlab": {"lesson": "90"}}


def _deleted(notebook: Json, _: str) -> None:
    notebook["cells"].remove(cell(notebook, "exercise-page_number"))


_CHANGES: Final[dict[str, Callable[[Json, str], None]]] = {
    "half": _half, "wrong": _wrong, "tamper": _tamper, "leave": _leave, "reach": _reach, "broken": _broken,
    "deleted": _deleted,
}  # fmt: skip
