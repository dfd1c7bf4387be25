"""The command line as a whole: help for students, one line for mistakes, and what becomes of bugs."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.cli.conftest import FakeVM, Lab, Result, Step
from vlab import __version__
from vlab.cli import cli
from vlab.errors import VlabError

COMMANDS = [
    "bench", "course", "demo", "doctor", "grade", "guests", "hybrid", "lab", "matrix", "nanobench", "run",
    "sweep", "trace",
]  # fmt: skip


def test_there_are_exactly_the_commands_of_this_release() -> None:
    assert sorted(cli.commands) == COMMANDS


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_explains_itself_within_80_columns(
    vlab_command: Callable[..., Result], command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    result = vlab_command(command, "--help")
    assert (result.status, result.err) == (0, "")
    assert result.out.startswith(f"Usage: vlab {command}")
    assert max(map(len, result.out.splitlines())) <= 80


def test_help_names_the_way_to_start(vlab_command: Callable[..., Result]) -> None:
    result = vlab_command("--help")
    assert result.status == 0
    assert "  vlab demo  " in result.out
    assert "  vlab doctor  " in result.out


def test_without_a_command_the_help_is_shown_as_it_is_written(vlab_command: Callable[..., Result]) -> None:
    result = vlab_command()
    assert (result.status, result.err) == (0, "")
    assert result.out == vlab_command("--help").out


def test_the_version_is_the_packages(vlab_command: Callable[..., Result]) -> None:
    assert vlab_command("--version").out == f"vlab, version {__version__}\n"


def test_an_unknown_command_is_one_line_and_status_2(vlab_command: Callable[..., Result]) -> None:
    result = vlab_command("matrixx")
    assert result.status == 2
    assert "matrixx" in result.err
    assert result.err.count("\n") == 1


def test_an_error_of_vlab_is_one_line_with_its_own_status(lab: Lab) -> None:
    class Strange(VlabError):
        exit_status = 2

    def fails(vm: FakeVM) -> Iterator[Step]:
        yield "x"
        raise Strange("memory: 0 is too small;\n  use at least 1M")

    lab.guests["guest"] = fails
    result = lab.command("run", "guest")
    assert (result.status, result.err) == (2, "vlab: memory: 0 is too small; use at least 1M\n")


def test_a_bug_is_owned_up_to_without_a_traceback(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(vm: FakeVM) -> Iterator[Step]:
        yield "x"
        raise LookupError("page 7")

    lab.guests["guest"] = broken
    monkeypatch.delenv("VLAB_DEBUG", raising=False)
    result = lab.command("run", "guest")
    assert result.status == 70
    assert result.err.startswith("vlab: LookupError: page 7\nThis is a bug in vlab")
    monkeypatch.setenv("VLAB_DEBUG", "1")
    with pytest.raises(LookupError, match="page 7"):
        lab.command("run", "guest")


PROGRAM = "import sys; from vlab.cli import main; sys.exit(main(sys.argv[1:]))"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
@pytest.mark.parametrize("arguments", [["--help"], ["guests"], ["run", "hello"]])
def test_output_that_has_no_room_is_one_line_and_status_2(arguments: list[str]) -> None:
    with Path("/dev/full").open("wb") as full:
        run = subprocess.run(
            [sys.executable, "-c", PROGRAM, *arguments],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert run.returncode == 2
    assert run.stderr == (
        "vlab: the output cannot be written: No space left on device; make room, or send it elsewhere\n"
    )


@pytest.mark.skipif(sys.platform == "win32", reason="there is no shell that closes it")
def test_a_command_without_a_standard_output_runs_all_the_same() -> None:
    line = f'exec {shlex.quote(sys.executable)} -c "$0" run hello >&-'
    run = subprocess.run(["/bin/sh", "-c", line, PROGRAM], stderr=subprocess.PIPE, text=True, check=False)
    assert (run.returncode, run.stderr) == (0, "vlab: the guest ended with status 0 (success)\n")


def test_a_reader_that_goes_away_ends_the_command_silently() -> None:
    program = "import sys; from vlab.cli import main; sys.exit(main(['run', '--help']))"
    read, write = os.pipe()
    os.close(read)
    run = subprocess.run(
        [sys.executable, "-c", program], stdout=write, stderr=subprocess.PIPE, text=True, check=False
    )
    os.close(write)
    assert (run.returncode, run.stderr) == (1, "")
