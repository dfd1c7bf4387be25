"""What is installed: lessons' notebooks and exercises, and never their sources, which hold the solutions."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from vlab.grading.catalogue import lessons

ROOT = Path(__file__).parents[2]
BUILD = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["hatch"]["build"]


def test_the_wheel_has_labs_below_vlab_without_their_sources() -> None:
    wheel = BUILD["targets"]["wheel"]
    assert set(wheel["only-include"]) == {"vlab", "labs"}
    assert wheel["sources"] == {"labs": "vlab/labs"}
    assert "/labs/**/lesson.md" in wheel["exclude"]


def test_the_source_archive_has_the_sources_of_lessons_too() -> None:
    assert "/labs" in BUILD["targets"]["sdist"]["include"]


def test_a_wheel_as_hatchling_makes_it_holds_no_source_of_a_lesson() -> None:
    wheel = pytest.importorskip("hatchling.builders.wheel", reason="hatchling is not here")
    inside = {each.distribution_path for each in wheel.WheelBuilder(str(ROOT)).recurse_included_files()}
    for lesson in lessons(ROOT / "labs"):
        for module in lesson.modules:
            assert f"vlab/labs/{lesson.name}/{module.name}" in inside
    assert not [path for path in inside if path.endswith("lesson.md") or "/mistakes_" in path]
