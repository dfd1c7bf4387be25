"""An assignment for otter: the student's notebook, and an autograder whose tests show vlab's own marks.

There is a test for each exercise, with a case for each invariant and its points: partial credit is the same.
"""

from __future__ import annotations

import json
import re
import zipfile
from collections.abc import Iterator
from contextlib import chdir
from pathlib import Path
from typing import Final

from vlab.course.editions import build, to_text
from vlab.course.extra import needed
from vlab.course.source import Lesson
from vlab.grading.exercise import Exercise

__all__ = ["files", "make_zip", "test_of"]

PLUGIN: Final = "vlab.course.otter_plugin.VlabPlugin"
_EPOCH: Final = (1980, 1, 1, 0, 0, 0)
"""The first date that a zip archive can hold; all files have it, so that equal lessons give equal bytes."""


def files(lesson: Lesson, requirement: str | None, secret: str | None = None) -> Iterator[tuple[str, str]]:
    """Give the files of a lesson's assignment: path and text.

    requirement: where the autograder's image gets vlab from, as pip takes it; None leaves that to you.
    secret: the course's, that the hidden guests depend on.
    """
    name = lesson.files.name
    notebook = to_text(build(lesson, "student"))
    yield f"student/{name}.ipynb", notebook
    yield "autograder/otter_config.json", json.dumps(_config(lesson), indent=2) + "\n"
    yield f"autograder/labs/{name}/{name}.ipynb", notebook
    for module in lesson.files.modules:
        yield f"autograder/labs/{name}/{module.name}", module.read_text(encoding="utf-8")
    for exercise in lesson.exercises:
        yield f"autograder/tests/{exercise.ident}.py", test_of(exercise)
    if requirement is not None:
        yield "autograder/requirements.txt", f"{requirement}\n"
    if secret is not None:
        yield "autograder/secret", f"{secret}\n"


def _config(lesson: Lesson) -> dict[str, object]:
    return {
        "plugins": [{PLUGIN: {"lesson": lesson.files.name}}],
        "points_possible": sum(each.points for each in lesson.exercises),
        "show_hidden": True,
    }


def test_of(exercise: Exercise) -> str:
    """Write an exercise's test file, in otter's format for tests that raise."""
    lines = [
        "OK_FORMAT = False",
        "",
        "from otter.test_files import test_case",
        "",
        "from vlab.course.otter_marks import must_hold",
        "",
        f"name = {exercise.ident!r}",
        "points = None",
    ]
    for number, each in enumerate(exercise.invariants, 1):
        function = f"test_{number}_{re.sub(r'[^a-z0-9_]+', '_', each.name.lower())}"
        lines += [
            "",
            "",
            f"@test_case(name={each.says!r}, points={float(each.points)!r}, hidden={each.hidden!r})",
            f"def {function}(vlab_marks):",
            f"    must_hold(vlab_marks, {exercise.ident!r}, {each.name!r})",
        ]
    return "\n".join(lines) + "\n"


def make_zip(directory: Path) -> Path:
    """Make ``autograder.zip`` of a written assignment as ``otter generate`` does; give its path.

    Raises VlabError when otter is not installed.
    """
    generate = needed("otter.generate", "otter-grader")
    inside = directory.absolute() / "autograder"
    target = directory.absolute() / "autograder.zip"
    with chdir(inside):
        beside = ["labs", *(["secret"] if Path("secret").exists() else [])]
        generate.main(tests_dir="tests", output_path=str(target), files=beside)
    _level(target)
    return target


def _level(path: Path) -> None:
    """Write an archive anew with its members sorted and without their times."""
    with zipfile.ZipFile(path) as archive:
        members = {each.filename: archive.read(each) for each in archive.infolist() if not each.is_dir()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in sorted(members):
            info = zipfile.ZipInfo(name, _EPOCH)
            info.compress_type = zipfile.ZIP_DEFLATED
            info.external_attr = (0o755 if name in ("run_autograder", "setup.sh") else 0o644) << 16
            archive.writestr(info, members[name])
