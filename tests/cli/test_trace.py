"""`vlab trace`: a recorded run in figures, and exported."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli.conftest import Result
from vlab.trace import Recorder, save


@pytest.fixture
def recorded(tmp_path: Path) -> Path:
    recorder = Recorder(["CPUID", "IOIO"], ["cpuid", "serial"], level="full")
    for number in range(10):
        recorder.record(number * 1_000_000, number % 5 != 0, 0, 0, 0x7C00 + number % 2, 1, 2, 1, 500, 0)
    save(tmp_path / "run.vlabtrace", recorder, {"guest": "hello", "monitor": "hardware"})
    return tmp_path / "run.vlabtrace"


def test_the_summary_names_the_run_its_reasons_and_its_places(
    recorded: Path, vlab_command: Callable[..., Result]
) -> None:
    result = vlab_command("trace", recorded)
    assert result.status == 0
    lines = [" ".join(line.replace("│", " ").split()) for line in result.out.splitlines()]
    assert "guest: hello" in lines
    assert "exits: 10 in 0.009000 s of virtual time" in lines
    assert "IOIO 8 80.0%" in lines
    assert "CPUID 2 20.0%" in lines
    assert "0x7c00 5 IOIO" in lines


def test_perfetto_gets_a_json_file(
    recorded: Path, tmp_path: Path, vlab_command: Callable[..., Result]
) -> None:
    out = tmp_path / "run.json"
    result = vlab_command("trace", recorded, "--perfetto", out)
    assert result.status == 0
    assert f"written to {out}" in result.out
    assert json.loads(out.read_text())["traceEvents"][0]["args"]["name"] == "hello"


def test_a_file_that_is_no_trace_is_one_line_and_status_2(
    tmp_path: Path, vlab_command: Callable[..., Result]
) -> None:
    other = tmp_path / "other"
    other.write_bytes(b"\x7fELF and more")
    result = vlab_command("trace", other)
    assert result.status == 2
    assert "this is no vlab trace" in result.err
    assert result.err.count("\n") == 1


def test_a_damaged_trace_is_one_line_and_status_2(
    recorded: Path, vlab_command: Callable[..., Result]
) -> None:
    recorded.write_bytes(recorded.read_bytes()[:-40])
    result = vlab_command("trace", recorded)
    assert result.status == 2
    assert "cut short" in result.err
    assert result.err.count("\n") == 1
