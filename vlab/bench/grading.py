"""Grading a class: a thousand submissions of a lesson with two exercises, and what the workers' memory does.

The lesson is the first two exercises of lesson 02, whose checks boot guests under the monitor with the
student's functions in it. Of each ten students six have solved it, two have made a typical mistake, one has
left it as it was, and one has handed in a cell that does not even parse. `vlab grade` is run as anybody runs
it, with two workers.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from vlab.bench.checks import LABS, solved_cells
from vlab.bench.registry import Measurement, NotMeasured, Say, at_most, bench

STUDENTS = 1000
WORKERS: Final = 2
EARLY: Final = 0.1
"""The part of the class after which a worker's memory should be what it stays."""
LESSON: Final = "98"
_MISTAKE: Final = ("cpu.eip += insn", "cpu.eip += 0 * insn")
"""What two of ten students have written: the guest does not get on."""
_STUB: Final = "raise NotImplementedError"
_STATUS: Final = re.compile(r"^VmRSS:\s+(\d+) kB$", re.M)
MIB: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class Grading:
    """What a run took. seconds: by the wall. early, most: bytes of the largest worker, then and later on."""

    seconds: float
    early: int
    most: int


@bench("grade-1000", unit="s", bar=at_most(180))
def grade_class(say: Say) -> Measurement:
    """A thousand submissions of a lesson with two exercises, graded by two workers."""
    found = _graded(STUDENTS, say)
    return Measurement(
        found.seconds, f"{found.seconds / STUDENTS * 1e3:.0f} ms a submission, {WORKERS} workers"
    )


@bench("grade-memory", unit="MiB", bar=at_most(16))
def grade_memory(say: Say) -> Measurement:
    """How much a worker's memory grows between the hundredth and the thousandth submission."""
    if not sys.platform.startswith("linux"):
        raise NotMeasured("only Linux tells what another process has in memory")
    found = _graded(STUDENTS, say)
    return Measurement(
        (found.most - found.early) / MIB, f"{found.early / MIB:.0f} MiB after the first hundred"
    )


_done: dict[int, Grading] = {}


def _graded(students: int, say: Say) -> Grading:
    """Grade a class, once for both measurements."""
    if students not in _done:
        _done[students] = _grade(students, say)
    return _done[students]


def _grade(students: int, say: Say) -> Grading:
    cells = dict(list(solved_cells(LABS, "02").items())[:2])
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        _write_lesson(folder / "labs")
        _write_class(folder / "submitted", cells, students)
        say(f"{students:,} submissions of {' and '.join(cells)}")
        return _run(folder, students)


def _write_lesson(labs: Path) -> None:
    lesson = labs / f"{LESSON}_two"
    lesson.mkdir(parents=True)
    (lesson / f"exercises_{LESSON}.py").write_text(
        "from pathlib import Path\n\nfrom vlab.grading.catalogue import find\n\n"
        f"EXERCISES = find('02', Path({str(LABS)!r})).exercises()[:2]\n",
        encoding="utf-8",
    )
    (lesson / "lesson.md").write_text("The benchmark's lesson.\n", encoding="utf-8")


def _write_class(folder: Path, cells: Mapping[str, str], students: int) -> None:
    for number in range(students):
        place = folder / f"student{number:04}" / f"{LESSON}_two.ipynb"
        place.parent.mkdir(parents=True)
        texts = [_answer(text, number) for text in cells.values()]
        listed = [{"cell_type": "code", "source": text, "metadata": {}, "outputs": []} for text in texts]
        notebook = {"cells": listed, "metadata": {"vlab": {"lesson": LESSON}}, "nbformat": 4}
        place.write_text(json.dumps(notebook), encoding="utf-8")


def _answer(solved: str, number: int) -> str:
    """Give the cell of a student: no two are the same text."""
    own = f"{solved}\n# {number}\n"
    match number % 10:
        case 6 | 7:
            return own.replace(*_MISTAKE)
        case 8:
            return re.sub(r"# BEGIN SOLUTION\n.*?# END SOLUTION", _STUB, own, flags=re.S)
        case 9:
            return own + "def broken(:\n"
    return own


def _run(folder: Path, students: int) -> Grading:
    command = [
        sys.executable,
        "-m",
        "vlab.cli",
        "grade",
        str(folder / "submitted"),
        "--out",
        str(folder / "out"),
    ]
    began = time.perf_counter()
    with subprocess.Popen(
        [*command, "--workers", str(WORKERS)],
        env=os.environ | {"VLAB_LABS": str(folder / "labs")},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        early, most = _watch(process, folder / "out" / "results" / LESSON, round(students * EARLY))
        said = process.stderr.read() if process.stderr else ""
    seconds = time.perf_counter() - began
    if process.returncode:
        raise NotMeasured(f"vlab grade ended with status {process.returncode}: {said.strip()[-300:]}")
    _look_at_marks(folder / "out" / "results" / LESSON, students)
    return Grading(seconds, early, most)


def _look_at_marks(results: Path, students: int) -> None:
    """See that everybody got about what the answer is worth. Raises NotMeasured: it was no grading then."""
    parts = {}
    for path in sorted(results.glob("*.json")):
        graded = json.loads(path.read_bytes())
        marks = [each for exercise in graded["exercises"] for each in exercise["invariants"]]
        points = sum(each["points"] for each in marks)
        if not points:
            raise NotMeasured(f"{graded['student']} was not graded: {graded['trouble']}")
        parts[int(graded["student"][-4:])] = sum(each["earned"] for each in marks) / points
    if len(parts) != students:
        raise NotMeasured(f"{len(parts):,} of {students:,} submissions were graded")
    for number, part in parts.items():
        kind = number % 10
        fits = part == 1 if kind < 6 else 0 < part < 1 if kind < 8 else part == 0
        if not fits:
            raise NotMeasured(f"student{number:04} got {part:.0%} of the marks for an answer of kind {kind}")


def _watch(process: subprocess.Popen[str], results: Path, after: int) -> tuple[int, int]:
    """Look at the workers until the process ends: the memory after so many results, and the most later on."""
    early = most = 0
    while process.poll() is None:
        time.sleep(0.25)
        if sum(1 for _ in results.glob("*.json")) < after:
            continue
        now = max(map(_resident, _workers(process.pid)), default=0)
        early, most = early or now, max(most, now)
    return early, most


def _workers(parent: int) -> list[int]:
    children = Path(f"/proc/{parent}/task/{parent}/children")
    try:
        return [int(each) for each in children.read_text().split()]
    except OSError:
        return []


def _resident(process: int) -> int:
    try:
        match = _STATUS.search(Path(f"/proc/{process}/status").read_text())
    except OSError:
        return 0
    return int(match[1]) * 1024 if match else 0
