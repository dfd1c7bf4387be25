"""A course directory for nbgrader: sources with solutions, its settings, and the lessons for marking."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from vlab.course.editions import build, to_text
from vlab.course.source import Lesson

__all__ = ["CONFIG", "files"]

CONFIG: Final = '''\
"""nbgrader's settings for the lessons of vlab, written by `vlab course build`.

Work in this directory: nbgrader generate_assignment LESSON, nbgrader autograde LESSON, and so on. What
students hand in is repaired and marked by vlab's own engine; their code never runs in nbgrader's processes.
"""

c = get_config()  # noqa: F821

c.CourseDirectory.course_id = "vlab"

# Solutions become the stubs of vlab's student edition.
c.GenerateAssignment.preprocessors = [
    "nbgrader.preprocessors.IncludeHeaderFooter",
    "nbgrader.preprocessors.LockCells",
    "vlab.course.nbgrader_grading.clear_solutions",
    "nbgrader.preprocessors.ClearOutput",
    "nbgrader.preprocessors.CheckCellMetadata",
    "nbgrader.preprocessors.ComputeChecksums",
    "nbgrader.preprocessors.SaveCells",
    "nbgrader.preprocessors.CheckCellMetadata",
]

# Submissions are read repaired, and marked instead of being executed.
c.Autograde.exporter_class = "vlab.course.nbgrader_grading.RepairingExporter"
c.Autograde.autograde_preprocessors = [
    "vlab.course.nbgrader_grading.mark_exercises",
    "nbgrader.preprocessors.LimitOutput",
    "nbgrader.preprocessors.SaveAutoGrades",
    "nbgrader.preprocessors.AssignLatePenalties",
    "nbgrader.preprocessors.CheckCellMetadata",
]
'''


def files(lessons: Sequence[Lesson]) -> Iterator[tuple[str, str]]:
    """Give the course directory's files: path and text."""
    yield "nbgrader_config.py", CONFIG
    for lesson in lessons:
        name = lesson.files.name
        yield f"source/{name}/{name}.ipynb", to_text(build(lesson, "nbgrader"))
        yield f"labs/{name}/{name}.ipynb", to_text(build(lesson, "student"))
        for module in lesson.files.modules:
            yield f"labs/{name}/{module.name}", module.read_text(encoding="utf-8")
