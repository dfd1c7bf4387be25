"""The small lesson of these tests: where it is, what is in it, and copies of it with something changed."""

from __future__ import annotations

import shutil
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

import pytest

from vlab.course.editions import build
from vlab.course.source import Lesson, read
from vlab.grading.catalogue import find

LABS: Final = Path(__file__).parent / "sample_lesson"
NAME: Final = "90_pages_and_bits"
SECRETS: Final = ("linear >> 12", "secret of lesson 90", "1 << each", "page_number(0x7000)", "BEGIN SOLUTION")
"""What is in solutions alone."""

NEEDS_JUPYTEXT: Final = pytest.mark.skipif(
    find_spec("jupytext") is None, reason="jupytext is not here: pip install 'vlab[grade]'"
)


def lesson() -> Lesson:
    return read(find("90", LABS))


def changed(directory: Path, *changes: tuple[str, str], file: str = "lesson.md") -> Path:
    """Copy the labs into a directory with a file of the lesson changed; give the copy."""
    labs = directory / "labs"
    shutil.copytree(LABS, labs, ignore=shutil.ignore_patterns("__pycache__"))
    path = labs / NAME / file
    text = path.read_text(encoding="utf-8")
    for old, new in changes:
        assert old in text, old
        text = text.replace(old, new, 1)
    path.write_text(text, encoding="utf-8")
    return labs


def edition(which: str) -> dict[str, Any]:
    return build(lesson(), which)  # type: ignore[arg-type]


def cell(notebook: dict[str, Any], ending: str) -> dict[str, Any]:
    """Give the cell whose id ends so."""
    (found,) = [each for each in notebook["cells"] if each["id"].endswith(ending)]
    return found
