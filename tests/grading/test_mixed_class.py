"""One worker marks lesson after lesson on its one machine: no submission feels what was marked before it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

import pytest

from tests.grading.classroom import notebook
from tests.labs.running import solution, unsolved
from vlab.grading.catalogue import find

pytestmark = pytest.mark.slow

ROOT: Final = Path(__file__).parents[2]
SOLVED: Final = {"04": True, "05": False, "06": True}
"""Whether the student solved the lesson; the others are as they were handed out."""


def hand_in(directory: Path, lesson: str) -> Path:
    cell = solution if SOLVED[lesson] else unsolved
    cells = {each.ident: cell(lesson, each.ident) for each in find(lesson).exercises()}
    place = directory / "ada" / f"{find(lesson).name}.ipynb"
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text(notebook(cells, lesson), encoding="utf-8")
    return directory


def grade(directory: Path) -> dict[str, Any]:
    """Grade with one worker; give each lesson's exercises with their marks and explanations."""
    (directory.parent / "secret").write_text("the secret of the course", encoding="utf-8")
    out = directory.parent / f"graded-{directory.name}"
    done = subprocess.run(
        [
            *(sys.executable, "-m", "vlab.cli", "grade", directory, "--workers", "1"),
            *("--secret", directory.parent / "secret", "--out", out, "--json", out.with_suffix(".json")),
        ],
        env={name: value for name, value in os.environ.items() if name != "VLAB_LABS"}
        | {"PYTHONPATH": str(ROOT)},
        cwd=directory.parent,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    results = json.loads(out.with_suffix(".json").read_text(encoding="utf-8"))
    assert [each["trouble"] + each["error"] for each in results] == [""] * len(results)
    return {each["lesson"]: each["exercises"] for each in results}


def test_a_class_of_several_lessons_gets_from_one_worker_what_each_lesson_gets_alone(tmp_path: Path) -> None:
    pytest.importorskip("jupytext", reason="jupytext is not here: pip install 'vlab[grade]'")
    for lesson in SOLVED:
        hand_in(tmp_path / "mixed", lesson)
    mixed = grade(tmp_path / "mixed")
    earned = {
        lesson: sum(one["earned"] for each in exercises for one in each["invariants"])
        for lesson, exercises in mixed.items()
    }
    full = {lesson: sum(each.points for each in find(lesson).exercises()) for lesson in SOLVED}
    assert earned == {lesson: pytest.approx(full[lesson] if SOLVED[lesson] else 0) for lesson in SOLVED}
    for lesson in SOLVED:
        assert mixed[lesson] == grade(hand_in(tmp_path / f"alone-{lesson}", lesson))[lesson]
