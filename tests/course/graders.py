"""nbgrader and otter as they are run: their programs, and the marks that come out of them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

NEEDS_GRADERS = pytest.mark.skipif(
    find_spec("nbgrader") is None or find_spec("otter") is None,
    reason="nbgrader and otter are not both here: pip install 'vlab[grade]'",
)

OTTER = """
import json, os, sys
from otter.run import main
autograder, out, *notebooks = sys.argv[1:]
found = {}
for path in notebooks:
    results = main(path, autograder=autograder, output_dir=out, no_logo=True)
    with open(os.path.join(out, "results.json")) as file:
        found[path] = json.load(file)
json.dump(found, open(os.path.join(out, "all.json"), "w"))
"""
"""`otter run` for many notebooks, without loading its libraries anew for each. As a file of its own, like the
program `otter`: with ``python -c`` the directory at hand would be searched for modules."""


def run(*command: str | Path, cwd: Path, **environment: str) -> str:
    root = str(Path(__file__).parents[2])
    # nbgrader starts `alembic` by its name, and this environment may not be active.
    programs = os.pathsep.join((sysconfig.get_path("scripts"), os.environ.get("PATH", os.defpath)))
    done = subprocess.run(
        [sys.executable, *map(str, command)],
        cwd=cwd,
        env=os.environ | {"PYTHONPATH": root, "PATH": programs} | environment,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def run_otter(course: Path, name: str, out: Path, *handed_in: Path) -> dict[str, Any]:
    """Mark the lesson of that name with otter; give its results by what was handed in."""
    program = out / "programs" / "run_many.py"
    program.parent.mkdir()
    program.write_text(OTTER, encoding="utf-8")
    run(program, course / "otter" / name / "autograder.zip", out, *handed_in, cwd=out)
    found: dict[str, Any] = json.loads((out / "all.json").read_text())
    return found


def grades(directory: Path, name: str) -> Iterator[tuple[str, dict[str, float | None], bool]]:
    """Give each student's scores in nbgrader's gradebook, and whether one is to be marked by hand."""
    from nbgrader.api import Gradebook

    with Gradebook(f"sqlite:///{directory / 'gradebook.db'}") as gradebook:
        for each in gradebook.assignment_submissions(name):
            (notebook,) = each.notebooks
            yield (
                each.student.id,
                {grade.name: grade.auto_score for grade in notebook.grades},
                any(grade.needs_manual_grade for grade in notebook.grades),
            )


def otter_scores(results: dict[str, Any]) -> dict[str, float]:
    """Give a submission's scores by exercise."""
    return {test["name"]: test["score"] for test in results["tests"] if "score" in test}


def vlab_scores(file: Path) -> dict[str, dict[str, float]]:
    """Give the scores that ``vlab grade --json`` wrote, by student and exercise."""
    return {
        each["student"]: {
            one["ident"]: sum(invariant["earned"] for invariant in one["invariants"])
            for one in each["exercises"]
        }
        for each in json.loads(file.read_text(encoding="utf-8"))
    }
