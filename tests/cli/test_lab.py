"""`vlab lab`: JupyterLab on the Python that runs vlab, or how to get it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli.conftest import Result
from vlab.cli import lab
from vlab.errors import UnusableInput
from vlab.grading.catalogue import lessons
from vlab.lessons.folder import bring


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """Command lines that would have replaced this process."""
    lines: list[list[str]] = []
    monkeypatch.setattr(lab, "find_spec", lambda name: object())
    monkeypatch.setattr(os, "execv", lambda program, line: lines.append(line))
    monkeypatch.setattr(subprocess, "call", lambda line: 0)
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr(lab, "bring", lambda place: None)
    return lines


def test_jupyterlab_runs_on_this_python_with_the_arguments_given(
    started: list[list[str]], vlab_command: Callable[..., Result]
) -> None:
    vlab_command("lab", "--no-browser", "--port", "8899")
    assert started == [[sys.executable, "-m", "jupyterlab", "--no-browser", "--port", "8899"]]


def test_root_is_let_in_and_told_so(
    started: list[list[str]], vlab_command: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    result = vlab_command("lab")
    assert started == [[sys.executable, "-m", "jupyterlab", "--allow-root"]]
    assert result.err == "vlab: you are root, so JupyterLab gets --allow-root\n"


def test_without_jupyterlab_the_line_says_how_to_get_it(
    vlab_command: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lab, "find_spec", lambda name: None)
    result = vlab_command("lab")
    assert result.status == 1
    assert (
        result.err == "vlab: JupyterLab is not installed here: run `make lab`, or `pip install 'vlab[lab]'`\n"
    )


def test_the_lessons_are_copied_once_and_the_first_one_opens(
    started: list[list[str]],
    vlab_command: Callable[..., Result],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.setattr(lab, "bring", bring)
    monkeypatch.chdir(tmp_path)
    result = vlab_command("lab")
    folder = tmp_path / "vlab-labs"
    there = sorted(path.name for path in folder.iterdir())
    assert there == sorted(each.notebook.name for each in lessons() if each.notebook.exists())
    assert started[-1][-1] == f"--LabApp.default_url=/lab/tree/vlab-labs/{there[0]}"
    assert result.err == f"vlab: the lessons are in {folder}; what you write there stays yours\n"
    (folder / there[0]).write_text("mine")
    (folder / there[1]).unlink()
    vlab_command("lab", "--LabApp.default_url=/tree")
    assert (folder / there[0]).read_text() == "mine"
    assert (folder / there[1]).exists()
    assert started[-1][-1] == "--LabApp.default_url=/tree"


def test_a_folder_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    (tmp_path / "vlab-labs").write_text("in the way")
    with pytest.raises(UnusableInput, match=r"lab: the lessons cannot be copied to .*; start it in"):
        bring(tmp_path)
