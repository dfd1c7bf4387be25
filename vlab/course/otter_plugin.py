"""The plugin that marks for otter; ``otter_config.json`` names it in an assignment of `vlab course build`.

Before otter executes a submission, everything but the notebook and the tests is deleted from its directory,
for otter would unpickle a log there and the kernel would import modules from there. The notebook is repaired
and marked by vlab's engine, in another process and there in a jail. What otter executes in the end is one
cell of ours with the marks; the student's cells are raw cells below it.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from otter.plugins import AbstractOtterPlugin

from vlab.course.marks import as_text, labs_in, mark_answers
from vlab.grading.batch import Secret
from vlab.grading.repair import repair
from vlab.grading.result import ExerciseMark

__all__ = ["VlabPlugin"]


class VlabPlugin(AbstractOtterPlugin):  # type: ignore[misc]  # otter has no types
    """Marks one submission. Its settings: ``{"lesson": NAME}``."""

    def __init__(self, submission_path: str | None, submission_metadata: Any, plugin_config: Any) -> None:
        super().__init__(submission_path, submission_metadata, plugin_config)
        self._notes: tuple[str, ...] = ()
        self._marks: tuple[ExerciseMark, ...] = ()

    def before_grading(self, config: object) -> None:
        """Leave nothing in the submission's directory but the notebook and the tests."""
        notebook = Path(self.submission_path)
        for each in notebook.parent.iterdir():
            if each.name == "tests" or each == notebook:
                continue
            if each.is_dir() and not each.is_symlink():
                shutil.rmtree(each)
            else:
                each.unlink()

    def before_execution(self, submission: Any) -> Any:
        """Give otter a notebook with the marks, and none of the student's code to run."""
        files = Path(self.submission_path).parents[1] / "source" / "files"
        labs, secret = files / "labs", files / "secret"
        name = self.plugin_config["lesson"]
        released = json.loads((labs / name / f"{name}.ipynb").read_bytes())
        repaired = repair(submission, released)
        with labs_in(labs):
            self._marks = mark_answers(
                released["metadata"]["vlab"]["lesson"],
                repaired.answers,
                self._student(),
                Secret.read(secret).text if secret.exists() else "",
            )
        self._notes = repaired.notes
        return _inert(repaired.notebook, self._marks)

    def after_grading(self, results: Any) -> None:
        """Have the explanations shown above the tests."""
        told = [f"The notebook was repaired: {note}" for note in self._notes]
        results.set_output("\n".join([*told, *(as_text(each) for each in self._marks)]))

    def _student(self) -> str:
        """Name the student as Gradescope does, by the first address; nobody where otter knows none."""
        users = self.submission_metadata.get("users") or [{}]
        return str(users[0].get("email", ""))


def _inert(notebook: Mapping[str, Any], marks: tuple[ExerciseMark, ...]) -> Any:
    from nbformat import from_dict
    from nbformat.v4 import new_code_cell, new_notebook, new_raw_cell

    told = {each.ident: _without_traces(each).to_json() for each in marks}
    cell = new_code_cell(f"import json\n\nvlab_marks = json.loads({json.dumps(told)!r})", id="vlab-marks")
    shown = [
        new_raw_cell(each["source"], id=each["id"]) if each["cell_type"] == "code" else from_dict(each)
        for each in notebook["cells"]
    ]
    return new_notebook(cells=[cell, *shown], metadata=from_dict(notebook["metadata"]))


def _without_traces(mark: ExerciseMark) -> ExerciseMark:
    return replace(mark, invariants=tuple(replace(each, trace=None) for each in mark.invariants))
