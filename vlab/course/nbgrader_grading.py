"""What nbgrader's commands call in a course that `vlab course build` made; ``nbgrader_config.py`` names it.

``nbgrader autograde`` reads a submission through an exporter that repairs it: what comes in is the released
edition with the student's answers as text. No cell of it is ever executed. In the place of nbgrader's own
execution, the answers are marked by vlab's engine, in another process and there in a jail, and each check
cell gets what nbgrader takes for partial credit: a float as its result, with an explanation in HTML.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO, TextIO

from nbconvert.exporters import NotebookExporter

from vlab.course.marks import as_html, labs_in, mark_answers
from vlab.course.solutions import unsolved
from vlab.errors import UnusableInput
from vlab.grading.batch import Secret
from vlab.grading.first_line import marker_of
from vlab.grading.repair import MOST_BYTES, answer_key, repair

__all__ = ["RepairingExporter", "clear_solutions", "mark_exercises"]

REPAIRED = "repaired"
"""Where in the notebook's ``metadata.vlab`` it is told what was repaired."""
UNREADABLE = "unreadable"
"""There, whether what was handed in was no notebook: then there are no answers to mark."""


class RepairingExporter(NotebookExporter):
    """Reads submissions repaired, and anything else as it is."""

    def from_file(self, file_stream: Any, resources: Any = None, **options: Any) -> tuple[Any, Any]:
        """Read a notebook, as nbconvert's exporters do."""
        import nbformat

        converter: Any = self.parent
        course, about = converter.coursedir, resources["nbgrader"]
        path = Path(file_stream.name)
        labs = Path(course.root) / "labs"
        resources["vlab_labs"] = labs if labs.is_dir() else None
        resources["vlab_secret"] = Secret.of(Path(course.root)).text
        handed_in = course.format_path(course.submitted_directory, about["student"], about["assignment"])
        if path.absolute().parent != Path(handed_in).absolute():
            given: tuple[Any, Any] = super().from_file(file_stream, resources, **options)
            return given
        release = Path(course.format_path(course.release_directory, ".", about["assignment"])) / path.name
        sound = _repaired(file_stream, release)
        convert: Callable[..., tuple[Any, Any]] = self.from_notebook_node
        return convert(nbformat.from_dict(sound), resources, **options)


def _repaired(file: TextIO, release: Path) -> dict[str, Any]:
    """Repair a submission. Raises UnusableInput when the edition that was released is gone."""
    try:
        released = json.loads(release.read_bytes())
    except (OSError, ValueError) as error:
        raise UnusableInput(
            f"release: '{release}' cannot be read; `nbgrader generate_assignment` makes it"
        ) from error
    raw: BinaryIO = file.buffer
    repaired = repair(raw.read(MOST_BYTES + 1), released)
    notebook = repaired.notebook
    about = notebook["metadata"].setdefault("vlab", {})
    about[REPAIRED], about[UNREADABLE] = list(repaired.notes), not repaired.readable
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code":
            cell["outputs"], cell["execution_count"] = [], None
    return notebook


def mark_exercises(notebook: Any, resources: Any) -> tuple[Any, Any]:
    """Mark the answers, and give each check cell its marks as a result. Nothing of the notebook is executed.

    Raises VlabError when grading itself failed; nbgrader then reports the submission and goes on.
    """
    about = notebook.metadata["vlab"]
    answers = {key: cell.source for cell in notebook.cells if (key := answer_key(cell)) and ":" not in key}
    if about.get(UNREADABLE):
        answers = {}
    with labs_in(resources.get("vlab_labs")):
        student, secret = resources["nbgrader"]["student"], resources["vlab_secret"]
        marks = mark_answers(about["lesson"], answers, student, secret)
    by_exercise = {each.ident: each for each in marks}
    notes = tuple(about.get(REPAIRED, ()))
    number = 0
    for cell in notebook.cells:
        mine = cell.metadata.get("vlab", {})
        if mine.get("role") != "check":
            continue
        number += 1
        mark = by_exercise[mine["exercise"]]
        cell.execution_count = number
        cell.outputs = [_result(number, mark.earned, as_html(mark, notes if number == 1 else ()))]
    return notebook, resources


def _result(number: int, earned: float, html: str) -> Any:
    from nbformat.v4 import new_output

    data = {"text/plain": repr(float(earned)), "text/html": html}
    return new_output("execute_result", data, execution_count=number)


def clear_solutions(notebook: Any, resources: Any) -> tuple[Any, Any]:
    """Put the stubs of the student edition in the place of solutions; cells of your own go nbgrader's way."""
    from nbgrader.preprocessors import ClearSolutions

    theirs = ClearSolutions()
    resources["language"] = "python"
    for number, cell in enumerate(notebook.cells):
        ident = marker_of(cell.source) if cell.cell_type == "code" else None
        if ident is None:
            theirs.preprocess_cell(cell, resources, number)
        else:
            cell.source = unsolved(cell.source, ident)
    return notebook, resources
