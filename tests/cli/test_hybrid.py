"""`vlab hybrid`: the table, the file and the exit status; the readings are made up."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from vlab.cli.hybrid import hybrid as command
from vlab.compare import hybrid
from vlab.compare.hybrid import Reading, Way

READINGS = [
    Reading(Way("full", "none", "direct"), 100, {}, 0.1, True, "wren: hello\n"),
    Reading(Way("hybrid", "none", "direct"), 100, {}, 0.01, True, "wren: hello\n"),
    Reading(Way("full", "hardware", "nested"), 100, {"IOIO": 25_800, "INTR": 3}, 0.2, True, "wren: hello\n"),
    Reading(Way("hybrid", "hardware", "nested"), 100, {"IOIO": 65}, 0.02, True, "wren: hello\n"),
    Reading(Way("para", "paravirtual", "shadow"), 100, {"VMMCALL": 13}, 0.005, True, "wren: hello\n"),
]


def run(monkeypatch: pytest.MonkeyPatch, readings: list[Reading], *arguments: str) -> tuple[int, str]:
    monkeypatch.setattr(hybrid, "measure", lambda say: (say("full: wren"), readings)[1])
    result = CliRunner().invoke(command, list(arguments), standalone_mode=False)
    assert result.exception is None, result.output
    return result.return_value, result.output


def test_the_table_shows_exits_and_times_and_what_a_driver_saves(monkeypatch: pytest.MonkeyPatch) -> None:
    status, output = run(monkeypatch, READINGS)
    assert status == 0
    rows = [line.split() for line in output.splitlines() if "/" in line and "driver" not in line]
    assert rows[2] == ["full", "hardware/nested", "ata", "25,803", "258.03", "2,000", "2.0"]
    assert rows[4] == ["para", "paravirtual/shadow", "hypercall", "13", "0.13", "50", "0.5"]
    assert "…" not in output
    assert output.rstrip().endswith("one driver saves 397 exits of 398.")


def test_the_file_has_one_object_for_each_way(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    file = tmp_path / "hybrid.json"
    run(monkeypatch, READINGS, "--json", str(file))
    written = json.loads(file.read_text())
    assert len(written) == len(READINGS)
    assert written[3] == {
        "kind": "hybrid",
        "guest": "wren",
        "monitor": "hardware",
        "paging": "nested",
        "driver": "vlab",
        "sectors": 100,
        "exits": {"total": 65, "by_reason": {"IOIO": 65}},
        "exits_per_sector": 0.65,
        "wall_seconds": 0.02,
        "right": True,
        "console": "wren: hello\n",
    }


def test_a_way_that_reads_something_else_fails_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = [*READINGS[:4], replace(READINGS[4], right=False)]
    status, output = run(monkeypatch, wrong)
    assert status == 1
    assert "para: wren-paravirt under paravirtual/shadow did not read what is on the disk" in output
