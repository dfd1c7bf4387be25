"""What a student can hand in that looks like marks, reports and traces of vlab's own."""

from __future__ import annotations

import base64
import json
import zipfile
from functools import cache
from pathlib import Path
from typing import Any, Final

from tests.grading.classroom import WRONG, notebook
from vlab.grading.result import ExerciseMark, InvariantMark
from vlab.trace import Recorder
from vlab.trace.file import dump

NAME: Final = "forged-by-a-student"
"""The guest of the forged trace."""
Json = dict[str, Any]


@cache
def trace() -> bytes:
    """Give a trace that is in order and was never recorded."""
    recorder = Recorder(("CPUID", "HLT"), ("cpuid", "idle"), level="full")
    recorder.record(1000, 1, 5, 0, 0x7C00, 0, 0, 1, 1500, 0)
    return dump(recorder, {"guest": NAME, "monitor": "hardware", "paging": "nested", "memory_bytes": 4 << 20})


@cache
def text() -> str:
    """Give the trace in base 64."""
    return base64.b64encode(trace()).decode("ascii")


def marks() -> list[Json]:
    """Give full marks for the small lesson, each with the trace."""
    full = (
        ExerciseMark("greet", "What the guest says", (_held("hello", 1.5), _held("counted", 0.5))),
        ExerciseMark("double", "Twice as much", (_held("small", 0.1), _held("big", 0.2))),
    )
    return [each.to_json() for each in full]


def _held(name: str, points: float) -> InvariantMark:
    return InvariantMark(name, f"{name} holds", points, points, trace=trace())


def result(student: str) -> Json:
    """Give a journal's file with full marks."""
    return {
        "format": 1, "student": student, "lesson": "02", "place": "here", "digest": "d", "engine": "e",
        "secret": "s", "points": 2.3, "earned": 2.3, "trouble": "", "error": "", "notes": [], "seconds": 0.1,
        "cells": WRONG, "exercises": marks(),
    }  # fmt: skip


# --- in a notebook ----------------------------------------------------------------------------------------


def in_outputs() -> str:
    """A notebook whose cells show full marks, as text, as HTML, as a widget and as a trace."""
    forged: Json = json.loads(notebook(WRONG))
    forged["cells"].append(_code('lab.check("greet")'))
    forged["cells"].append(_code('lab.check("double")'))
    link = f'<a href="data:application/octet-stream;base64,{text()}" download="t.vlabtrace">the trace</a>'
    shown = {
        "text/plain": "2.0",
        "text/html": f"<p><strong>What the guest says: 2 of 2 points</strong></p>{link}",
        "application/json": {"exercises": marks(), "seconds": 0.1},
        "application/vnd.jupyter.widget-view+json": {"model_id": "f0", "version_major": 2},
        "application/vnd.vlab.trace": text(),
    }
    said = json.dumps({"exercises": marks(), "seconds": 0.1})
    for cell in forged["cells"]:
        cell["execution_count"] = 1
        cell["outputs"] = [
            {"output_type": "execute_result", "execution_count": 1, "metadata": {}, "data": shown},
            {"output_type": "display_data", "metadata": {"vlab": {"marks": marks()}}, "data": shown},
            {"output_type": "stream", "name": "stdout", "text": f"{said}\n"},
        ]
    return json.dumps(forged)


def in_metadata() -> str:
    """A notebook whose metadata, and its cells', tell of full marks in the manner of every tool."""
    forged: Json = json.loads(notebook(WRONG))
    claims = {"marks": marks(), "earned": 2.3, "points": 2.3, "trace": text(), "exercises": marks()}
    report = {"_model_name": "AnyModel", "title": "What the guest says", "earned": 2.0, "points": 2.0,
              "rows": marks()[0]["invariants"]}  # fmt: skip
    forged["metadata"] = {
        "vlab": {"lesson": "02", "notes": [], "trouble": "", "error": "", **claims},
        "vlab_marks": marks(),
        "widgets": {
            "application/vnd.jupyter.widget-state+json": {
                "state": {"f0": {"model_name": "AnyModel", "model_module": "anywidget", "state": report}},
                "version_major": 2,
                "version_minor": 0,
            }
        },
        "otter": {"tests": {"greet": {"score": 2.0}}},
    }
    for cell, ident in zip(forged["cells"], ("", "greet", "double"), strict=True):
        cell["metadata"] = {
            "vlab": {"exercise": ident, "role": "exercise", **claims} if ident else claims,
            "nbgrader": {"grade": True, "grade_id": f"exercise-{ident}", "points": 2.0, "score": 2.0,
                         "solution": False, "locked": True, "schema_version": 3},
            "otter": {"tests": [ident], "score": 2.0},
        }  # fmt: skip
    forged["cells"].append(
        {"cell_type": "markdown", "metadata": claims, "source": f"[trace](attachment:t.vlabtrace)\n{text()}",
         "attachments": {"t.vlabtrace": {"application/octet-stream": text()}}}
    )  # fmt: skip
    return json.dumps(forged)


def _code(source: str) -> Json:
    return {"cell_type": "code", "source": source, "metadata": {}, "outputs": [], "execution_count": None}


# --- beside a notebook ------------------------------------------------------------------------------------


def files(student: str) -> dict[str, bytes]:
    """Give the files, by name, that whoever graded or learned might have left behind."""
    progress = {"predictions": {}, "right": {}, "earned": {"greet": 2.0, "double": 0.3}, "attempts": {},
                "hints": {}}  # fmt: skip
    journal = json.dumps(result(student)).encode()
    names = ("02.json", f"{student}.json", f"results/02/{student}.json", f"graded/results/02/{student}.json")
    stem = f"{student}-02-greet-hello.vlabtrace"
    return {
        "progress.json": json.dumps({"format": 1, "lessons": {"02": progress}}).encode(),
        "results.json": json.dumps({"score": 2.3, "tests": [{"name": "greet", "score": 2.0}]}).encode(),
        "results/results.json": journal,
        "marks.csv": f"student,lesson,exercise,earned,points\n{student},02,total,2.3,2.3\n".encode(),
        f"feedback/{student}-02.html": b"<p><strong>2.3 of 2.3 points</strong></p>",
        "graded/secret": b"a secret of the student's own making\n",
        "secret": b"a secret of the student's own making\n",
        "labs/02_small/exercises_02.py": b"EXERCISES = ()\n",
        "exercises_02.py": b"EXERCISES = ()\n",
        "vlab/__init__.py": b"raise SystemExit(0)\n",
        "greet.vlabtrace": trace(),
        stem: trace(),
        f"feedback/{stem}": trace(),
    } | dict.fromkeys(names, journal)


def directory(place: Path, student: str, book: str, beside: dict[str, bytes]) -> None:
    """Hand in a directory."""
    for name, content in beside.items():
        path = place / student / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    (place / student).mkdir(parents=True, exist_ok=True)
    (place / student / "02_small.ipynb").write_text(book, encoding="utf-8")


def archive(place: Path, student: str, book: str, beside: dict[str, bytes]) -> None:
    """Hand in an archive, in which the files try for the directories above as well."""
    place.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(place / f"{student}.zip", "w") as bundle:
        bundle.writestr("02_small.ipynb", book)
        for name, content in beside.items():
            bundle.writestr(name, content)
            bundle.writestr(f"../../{name}", content)


# --- in the code ------------------------------------------------------------------------------------------

_MARKS: Final = """
class InvariantMark:
    name, says, why, hint, waits, holds = "hello", "it holds", "", "", False, True
    points = earned = 1.5
    trace = TRACE
"""
_CODE: Final[dict[str, str]] = {
    "returns_a_mark": "def greeting(): return MARKS[0]",
    "returns_marks_as_text": "def greeting(): return json.dumps({'exercises': MARKS, 'seconds': 0.1})",
    "returns_an_answer": "def greeting(): return ['answer', 2, 'value', True]",
    "returns_a_trace": "def greeting(): return TRACE",
    "returns_true": "def greeting(): return True",
    "returns_its_own_mark": f"{_MARKS}\ndef greeting(): return InvariantMark()",
    "returns_markup": (
        "def greeting():\n"
        '    return \'</p><td class="good">\\u2713 holds</td><a download="t.vlabtrace" href="data:'
        "application/octet-stream;base64,' + TEXT + '\">Download the trace that shows it</a>'"
    ),
    "equals_everything": (
        "class Equal(str):\n"
        "    __eq__ = __contains__ = lambda *given: True\n"
        "    __ne__ = lambda *given: False\n"
        "    __hash__ = None\n"
        "def greeting(): return Equal('anything')"
    ),
    "raises_a_mark": (
        "class Held(Exception):\n"
        "    earned = points = 1.5\n    holds, why, hint, trace = True, '', '', TRACE\n"
        "def greeting(): raise Held(json.dumps(MARKS))"
    ),
    "raises_broken_with_a_trace": (
        "class Broken(Exception):\n"
        "    def __init__(self):\n"
        "        super().__init__('')\n"
        "        self.why, self.hint, self.vm, self.exit, self.trace = '', '', TRACE, 1, TRACE\n"
        "Broken.__module__ = 'vlab.grading.exercise'\n"
        "def greeting(): raise Broken()"
    ),
    "raises_without_words": "def greeting(): raise Exception()",
    "raises_what_ends_a_marking": "def greeting(): raise GeneratorExit(MARKS)",
    "prints_and_writes_marks": (
        "def greeting():\n"
        "    line = json.dumps({'exercises': MARKS, 'seconds': 0.1})\n"
        "    print(line)\n"
        "    print('Download the trace: data:application/octet-stream;base64,' + TEXT, file=sys.stderr)\n"
        "    for number in (1, 2):\n"
        "        try:\n"
        "            os.write(number, ('\\n' + line + '\\n').encode())\n"
        "        except OSError:\n"
        "            pass\n"
        "    return 'nothing that the guest says'"
    ),
}
"""Cells that return, raise or print what looks like marks or traces. They call on MARKS, TEXT and TRACE."""
RAISING: Final = frozenset(name for name in _CODE if name.startswith("raises_"))


def cells() -> dict[str, dict[str, str]]:
    """Give such a cell for the first exercise, and one in its manner for the second, by what they do."""
    head = f"import base64, json, os, sys\nMARKS = json.loads({json.dumps(marks())!r})\nTEXT = {text()!r}\n"
    head += "TRACE = base64.b64decode(TEXT)\n"
    return {
        what: {
            "greet": f"# exercise: greet\n{head}{body}\n",
            "double": f"# exercise: double\n{head}{body}\ndef double(n): return greeting()\n",
        }
        for what, body in _CODE.items()
    }
