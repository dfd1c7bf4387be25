"""The benchmark of grading, on a class of ten. None of these tests looks at a time."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from vlab.bench import grading
from vlab.bench.checks import LABS, check_times, solved_cells
from vlab.bench.registry import NotMeasured, benches, measure


def silent(_words: str) -> None:
    pass


def test_the_cells_are_those_of_the_lessons_source() -> None:
    cells = dict(list(solved_cells(LABS, "02").items())[:2])
    assert len(cells) == 2
    for ident, text in cells.items():
        assert text.startswith(f"# exercise: {ident}\n")
        compile(text, ident, "exec")
        assert grading._answer(text, 0) != grading._answer(text, 1)
        assert grading._answer(text, 6) != f"{text}\n# 6\n"
        assert "raise NotImplementedError" in grading._answer(text, 8)
        with pytest.raises(SyntaxError):
            compile(grading._answer(text, 9), ident, "exec")


def test_without_the_lessons_sources_it_is_not_measured(tmp_path: Path) -> None:
    with pytest.raises(NotMeasured, match="the lessons' sources are in a checkout only"):
        solved_cells(tmp_path, "02")


@pytest.mark.slow
def test_the_checks_of_a_lesson_are_timed_in_a_notebook() -> None:
    times = check_times("00")
    assert set(times) == set(solved_cells(LABS, "00"))
    assert all(seconds > 0 for seconds in times.values())


@pytest.mark.slow
def test_a_class_is_graded_and_its_workers_memory_watched(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(grading, "STUDENTS", 10)
    time = measure(benches()["grade-1000"], silent)
    assert time.value is not None, time.note
    assert time.value > 0
    memory = measure(benches()["grade-memory"], silent)
    if sys.platform.startswith("linux"):
        assert memory.value is not None, memory.note
        assert memory.value >= 0
        assert "MiB after the first hundred" in memory.note


def test_what_was_not_graded_is_no_measurement(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(grading, "_write_lesson", lambda labs: labs.mkdir())
    monkeypatch.setattr(grading, "STUDENTS", 2)
    monkeypatch.setattr(grading, "_done", {})
    found = measure(benches()["grade-1000"], silent)
    assert found.value is None
    assert found.note.startswith("student0000 was not graded: ")


def test_the_class_is_graded_as_it_is_meant(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from vlab.grading.submission import collect

    grading._write_lesson(tmp_path / "labs")
    grading._write_class(tmp_path / "in", dict(list(solved_cells(LABS, "02").items())[:2]), 3)
    monkeypatch.setenv("VLAB_LABS", str(tmp_path / "labs"))
    found = collect([tmp_path / "in"])
    assert [(each.lesson, each.trouble, len(each.cells)) for each in found] == [("98", "", 2)] * 3
    assert len({json.dumps(dict(each.cells)) for each in found}) == 3
