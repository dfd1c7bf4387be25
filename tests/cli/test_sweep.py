"""`vlab sweep`: the map, the crossovers, the conclusions, the JSON, and the status."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli.conftest import Result
from vlab.compare import ept_shape, sweep_report
from vlab.compare.ept_shape import Timing
from vlab.compare.sweep_report import Extent
from vlab.compare.walk_costs import BUILT_IN

Command = Callable[..., Result]


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A small extent, and an eye on the two processors whose reach it exceeds."""
    monkeypatch.setattr(sweep_report, "QUICK", Extent((64, 1024), (1, 256), 300.0, 512, Timing(500, 1)))
    monkeypatch.setattr(ept_shape, "BEYOND", 1024)
    monkeypatch.setattr(ept_shape, "IN_REACH", 64)
    monkeypatch.setenv("COLUMNS", "80")


@pytest.fixture
def walks(tmp_path: Path) -> Path:
    """The table without the Skylakes, whose TLB holds what is tried here."""
    file = tmp_path / "walks.toml"
    text = BUILT_IN.read_text(encoding="utf-8")
    file.write_text(text[: text.index("[skylake]")], encoding="utf-8")
    return file


def test_the_map_fits_80_columns_and_can_be_read_without_colour(
    vlab_command: Command, walks: Path, tmp_path: Path
) -> None:
    file = tmp_path / "sweep.json"
    result = vlab_command("sweep", "--quick", "--walks", walks, "--json", file)
    assert result.status == 0, result.err
    assert result.err == ""
    assert max(map(len, result.out.splitlines())) <= 80
    rows = [line.split() for line in result.out.splitlines()]
    inside = next(row for row in rows if row[:1] == ["64"])
    beyond = next(row for row in rows if row[:1] == ["1,024"])
    assert inside[1:4] == ["0.12", "x", "0%"]
    assert inside[4] == beyond[4] == "N", "an update for each touch"
    assert inside[-1] == "="
    assert beyond[1:3] == ["2", "x"]
    assert beyond[-2] == "S", "no updates"
    said = " ".join(result.out.split())
    assert "A walk reads 4 entries over shadow tables and 24 over nested ones" in said
    _the_json_has_it_all(json.loads(file.read_text()))


def _the_json_has_it_all(written: dict[str, object]) -> None:
    assert set(written) == {
        "processors", "grid", "crossovers", "microbenchmarks", "published_gains", "conclusions", "runs",
    }  # fmt: skip
    grid = written["grid"]
    assert isinstance(grid, list)
    assert [(each["pages"], each["updates_per_touch"]) for each in grid] == [
        (pages, rate) for pages in (64, 1024) for rate in (1, 1 / 256, 0)
    ]
    busy = grid[0]
    assert busy["exits"]["shadow"]["INVLPG"] == busy["touches"]
    assert set(busy["exits"]["nested"].values()) == {0}
    assert busy["references_per_walk"] == {"shadow": 4, "nested": 24}
    assert busy["gain"]["nehalem"] == pytest.approx(
        busy["cycles_per_touch"]["nehalem"]["shadow"] / busy["cycles_per_touch"]["nehalem"]["nested"]
    )
    micro = written["microbenchmarks"]
    assert isinstance(micro, list)
    assert [each["references_per_walk"]["nested"] for each in micro] == [19, 24, 19, 19, 15]
    processors = written["processors"]
    assert isinstance(processors, list)
    for each in processors:
        assert all(figure["source"] for figure in each["figures"].values())


def test_a_shape_that_does_not_come_out_is_told_and_status_1(
    vlab_command: Command, walks: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sweep_report, "FULL", Extent((64,), (1, 256), 300.0, 256, Timing(100, 1)))
    monkeypatch.setattr(ept_shape, "BEYOND", 64)
    result = vlab_command("sweep", "--walks", walks, "--processor", "sandy-bridge")
    assert result.status == 1
    assert "not so: Without updates, where the TLB misses, shadow tables win: never times" in result.err
    assert "Sandy Bridge" in result.out


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (
            ["--processor", "i486"],
            "processor: there is no 'i486'; choose one of nehalem, sandy-bridge, skylake, skylake-sp",
        ),
        (["--walks", "{missing}"], "there is no file"),
        (["--costs", "{bad}"], "costs: '{bad}' is no TOML"),
    ],
)
def test_what_cannot_be_used_is_refused_before_anything_runs(
    vlab_command: Command, tmp_path: Path, arguments: list[str], why: str
) -> None:
    names = {"missing": tmp_path / "missing.toml", "bad": tmp_path / "bad.toml"}
    names["bad"].write_text("[x")
    result = vlab_command("sweep", *(each.format(**names) for each in arguments))
    assert result.status == 2
    assert why.format(**names) in result.err
    assert result.out == ""


def test_the_help_explains_the_map(vlab_command: Command) -> None:
    text = vlab_command("sweep", "--help").out
    for word in ("N 2.5", "S 3.0", "no difference", "walk_costs.toml", "SHADOW_NESTED.md", "--quick"):
        assert word in text
