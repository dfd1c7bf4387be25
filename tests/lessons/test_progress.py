"""Progress is kept in one file, survives what happens to it, and is forgotten on request."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from vlab.errors import UnusableInput
from vlab.lessons.progress import Done, Progress


def test_what_was_done_is_there_the_next_time(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "progress.json"
    with Progress(path).change("02") as done:
        done.predictions["who"] = "ring 0"
        done.right["who"] = True
        done.earned["cli"] = 1.5
        done.attempts["cli"] = 2
        done.hints["cli"] = 1
    assert Progress(path).of("02") == done
    assert Progress(path).of("03") == Done()
    assert list(Progress(path).all()) == ["02"]


def test_a_change_that_fails_changes_nothing(tmp_path: Path) -> None:
    progress = Progress(tmp_path / "progress.json")
    with progress.change("02") as done:
        done.earned["cli"] = 1
    with pytest.raises(RuntimeError, match="no"), progress.change("02") as done:
        done.earned["cli"] = 7
        raise RuntimeError("no")
    assert progress.of("02").earned == {"cli": 1}


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"format": 1}', '{"format": 1, "lessons": {"02": 5}}', "\x00"]
)
def test_a_damaged_file_is_named_with_what_to_do(tmp_path: Path, text: str) -> None:
    path = tmp_path / "progress.json"
    path.write_text(text)
    with pytest.raises(UnusableInput) as refusal:
        Progress(path).of("02")
    assert str(refusal.value) == (
        f"progress: {path} is damaged; remove it to begin anew, or bring it back from a copy"
    )


def test_a_file_of_a_newer_vlab_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "progress.json"
    path.write_text(json.dumps({"format": 2, "lessons": {}}))
    with pytest.raises(UnusableInput, match="has format 2, and this vlab reads 1; use a newer vlab"):
        Progress(path).all()
    assert json.loads(path.read_text())["format"] == 2


def test_a_place_that_cannot_be_written_to_costs_the_memory_of_it_alone(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    progress = Progress(tmp_path / "file" / "progress.json")
    with progress.change("02") as done:
        done.earned["cli"] = 1
    assert progress.of("02") == Done()


def test_progress_is_forgotten_on_request(tmp_path: Path) -> None:
    progress = Progress(tmp_path / "progress.json")
    with progress.change("02") as done:
        done.earned["cli"] = 1
    progress.forget()
    assert progress.all() == {}
    progress.forget()
