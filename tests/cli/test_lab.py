"""`vlab lab`: JupyterLab on the Python that runs vlab, or how to get it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable

import pytest

from tests.cli.conftest import Result
from vlab.cli import lab


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """Command lines that would have replaced this process."""
    lines: list[list[str]] = []
    monkeypatch.setattr(lab, "find_spec", lambda name: object())
    monkeypatch.setattr(os, "execv", lambda program, line: lines.append(line))
    monkeypatch.setattr(subprocess, "call", lambda line: 0)
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
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
