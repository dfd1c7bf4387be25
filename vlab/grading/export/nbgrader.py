"""nbgrader: the marks in a ``gradebook.db``, through nbgrader's own interface to it.

An assignment for each lesson, under the lesson's directory name, with one notebook of that name and a grade
cell for each exercise. A gradebook that is there already is added to; manual marks and comments in it stay.
"""

from __future__ import annotations

import importlib
import os
import subprocess
import sysconfig
import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

from vlab.errors import UnusableInput
from vlab.grading.export.numbers import totals
from vlab.grading.journal import Graded

__all__ = ["require", "write"]


def write(path: Path, results: Iterable[Graded], names: Mapping[str, str]) -> None:
    """Write the marks. names: the assignments' by lesson.

    Submissions that we failed to grade are left out. Raises UnusableInput without nbgrader, or when the file
    is no gradebook.
    """
    api = _api()
    sound = [each for each in results if not each.error and each.exercises]
    try:
        with _tools_found(), api.Gradebook(f"sqlite:///{path.absolute()}") as gradebook:
            for each in sound:
                _keep(api, gradebook, each, names.get(each.lesson, each.lesson))
    except (
        api.InvalidEntry,
        importlib.import_module("sqlalchemy.exc").SQLAlchemyError,
        subprocess.CalledProcessError,
        OSError,
    ) as error:
        said = " ".join(str(error).split())[:200]
        raise UnusableInput(f"nbgrader-db: '{path}' cannot be used as a gradebook: {said}") from error


def require() -> None:
    """Raise UnusableInput without nbgrader, before any work is done."""
    _api()


@contextmanager
def _tools_found() -> Iterator[None]:
    """Let nbgrader find ``alembic``, which it starts by name, also from an environment that is not active."""
    before = os.environ.get("PATH", os.defpath)
    os.environ["PATH"] = os.pathsep.join((sysconfig.get_path("scripts"), before))
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Object of type", category=Warning)  # SQLAlchemy, of nbgrader
            yield
    finally:
        os.environ["PATH"] = before


def _api() -> ModuleType:
    try:
        return importlib.import_module("nbgrader.api")
    except ImportError as error:
        raise UnusableInput("nbgrader-db: nbgrader is not installed; pip install 'vlab[grade]'") from error


def _keep(api: ModuleType, gradebook: Any, graded: Graded, name: str) -> None:
    gradebook.update_or_create_assignment(name)
    gradebook.update_or_create_notebook(name, name)
    for each in graded.exercises:
        points, _ = totals([each])
        gradebook.update_or_create_grade_cell(each.ident, name, name, max_score=points, cell_type="code")
    gradebook.update_or_create_student(graded.student)
    gradebook.update_or_create_submission(name, graded.student)
    for each in graded.exercises:
        grade = _grade(api, gradebook, each.ident, name, graded.student)
        _, grade.auto_score = totals([each])
        grade.needs_manual_grade = False
    gradebook.db.commit()


def _grade(api: ModuleType, gradebook: Any, cell: str, name: str, student: str) -> Any:
    """Find the place of a mark; a submission from before the exercise was there gets one."""
    try:
        return gradebook.find_grade(cell, name, name, student)
    except api.MissingEntry:
        grade = api.Grade(
            cell_id=gradebook.find_grade_cell(cell, name, name).id,
            notebook=gradebook.find_submission_notebook(name, name, student),
        )
        gradebook.db.add(grade)
        return grade
