"""The registry of benchmarks and `vlab bench`."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli.conftest import Result
from vlab.bench import registry
from vlab.bench.registry import Measurement, NotMeasured, Say, at_least, at_most, bench, measure


@pytest.fixture
def known(monkeypatch: pytest.MonkeyPatch) -> dict[str, registry.Bench]:
    """An empty registry in place of the real one."""
    table: dict[str, registry.Bench] = {}
    monkeypatch.setattr(registry, "_BENCHES", table)
    monkeypatch.setattr(registry, "benches", lambda: table)
    return table


def silent(words: str) -> None:
    pass


def test_a_bar_holds_up_to_and_at_its_limit() -> None:
    assert at_most(1.2).holds(1.2)
    assert not at_most(1.2).holds(1.21)
    assert at_least(0.9).holds(0.9)
    assert not at_least(0.9).holds(0.89)
    assert (str(at_most(2.0)), str(at_least(0.85))) == ("at most 2", "at least 0.85")


def test_a_registered_function_becomes_a_result(known: dict[str, registry.Bench]) -> None:
    @bench("round-trip", unit="ratio", bar=at_most(2))
    def round_trip(say: Say) -> Measurement:
        """An exit over a stop.

        More words.
        """
        return Measurement(1.5, "3 us over 2 us")

    entry = known["round-trip"]
    assert entry.about == "An exit over a stop."
    assert measure(entry, silent).as_json() == {
        "name": "round-trip",
        "value": 1.5,
        "unit": "ratio",
        "bar": "at most 2",
        "holds": True,
        "note": "3 us over 2 us",
    }


def test_what_cannot_be_measured_says_what_is_missing(known: dict[str, registry.Bench]) -> None:
    @bench("boot", unit="ratio", bar=at_most(1.2))
    def boot(say: Say) -> float:
        raise NotMeasured("qemu is not installed")

    result = measure(known["boot"], silent)
    assert (result.value, result.holds, result.note) == (None, None, "qemu is not installed")


@pytest.mark.usefixtures("known")
def test_two_benchmarks_cannot_share_a_name() -> None:
    bench("twin", unit="s")(lambda say: 1.0)
    with pytest.raises(ValueError, match="there is already a benchmark 'twin'"):
        bench("twin", unit="s")(lambda say: 1.0)


def test_every_bench_module_can_be_discovered() -> None:
    assert all(entry.unit and entry.about for entry in registry.benches().values())


def test_the_command_fails_when_a_bar_does_not_hold(
    known: dict[str, registry.Bench], vlab_command: Callable[..., Result], tmp_path: Path
) -> None:
    bench("fast", unit="ratio", bar=at_least(0.9))(lambda say: 1.0)
    bench("slow", unit="ratio", bar=at_most(2))(lambda say: 3.0)
    bench("plain", unit="s")(lambda say: 4.25)
    file = tmp_path / "bench.json"
    result = vlab_command("bench", "--json", file)
    assert result.status == 1
    assert "fast: 1 ratio, at least 0.9: holds\n" in result.out
    assert "slow: 3 ratio, at most 2: DOES NOT HOLD\n" in result.out
    assert "plain: 4.25 s\n" in result.out
    assert [(each["name"], each["value"], each["holds"]) for each in json.loads(file.read_text())] == [
        ("fast", 1.0, True),
        ("slow", 3.0, False),
        ("plain", 4.25, None),
    ]


def test_only_measures_one(known: dict[str, registry.Bench], vlab_command: Callable[..., Result]) -> None:
    bench("one", unit="s")(lambda say: 1.0)
    bench("two", unit="s")(lambda say: 2.0)
    result = vlab_command("bench", "--only", "two")
    assert (result.status, result.out) == (0, "two: 2 s\n")


def test_only_with_an_unknown_name_lists_the_known(
    known: dict[str, registry.Bench], vlab_command: Callable[..., Result]
) -> None:
    bench("one", unit="s")(lambda say: 1.0)
    result = vlab_command("bench", "--only", "three")
    assert result.status == 2
    assert "there is no benchmark 'three'; there are: one" in result.err
