"""The comparison of monitors: the figures of `vlab demo` and `vlab nanobench`, and what follows from them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import fromstring

import pytest

from vlab.compare.nanobench_report import report
from vlab.compare.side_by_side import side_by_side
from vlab.costs.operations import NAMES
from vlab.costs.readings import Reading, Refused, Results, Way
from vlab.costs.table import load
from vlab.errors import UnusableInput
from vlab.widgets.comparison import Comparison
from vlab.widgets.comparison_data import OPERATION_COLUMNS, RUN_COLUMNS

WAYS = [("none", "direct"), ("trap-emulate", "shadow"), ("hardware", "nested"), ("hardware", "shadow")]


@pytest.fixture(scope="module")
def runs() -> list[Any]:
    return list(side_by_side("hello", ways=WAYS))


@pytest.fixture(scope="module")
def results() -> Results:
    bare, nested = Way("none", "direct"), Way("hardware", "nested")
    readings = {}
    for name in NAMES:
        readings[name, bare.name] = Reading({}, 0.0, 50.0, 2e-6)
        exits = {"IOIO": 1.0, "INTR": 0.03} if name == "in" else {}
        readings[name, nested.name] = Reading(exits, 126.0, 50.0, 3e-6)
    refused = Refused(Way("trap-emulate", "shadow"), "its interrupt flag is not its own")
    return Results(NAMES, [bare, nested], [refused], readings)


def cells(view: Comparison, key: str, group: int = 0) -> list[str]:
    return [row["cells"][key]["text"] for row in view.table["groups"][group]["rows"]]


def test_a_guest_under_each_monitor_is_a_row_with_the_figures_of_the_run(runs: list[Any]) -> None:
    view = Comparison(runs)
    assert [column["key"] for column in view.table["columns"]] == [each.key for each in RUN_COLUMNS]
    assert cells(view, "way") == [f"{monitor}/{paging}" for monitor, paging in WAYS]
    assert cells(view, "exits") == [f"{run['exits']['total']:,}" for run in runs]
    assert cells(view, "result") == [run["result_hash"][:6] for run in runs]
    assert cells(view, "alone") == [f"{run['share_without_monitor']:.1%}" for run in runs]
    assert cells(view, "agrees")[0] == "reference"
    assert [each == "✓ yes" for each in cells(view, "agrees")[1:]] == [run["agrees"] for run in runs[1:]]


def test_modelled_cycles_are_those_of_the_demo_and_others_can_be_chosen(runs: list[Any]) -> None:
    view = Comparison(runs)
    assert view.generation == load().default
    for row, run in zip(view.table["groups"][0]["rows"], runs, strict=True):
        expected = run["modelled_cycles"]["total"] / 1e6
        assert row["cycles"]["nehalem"]["value"] == pytest.approx(expected, abs=1e-5)
    nested = view.table["groups"][0]["rows"][2]["cycles"]
    assert nested["prescott"] == {"text": "-", "value": None, "note": "not possible there", "parts": ()}
    before = view.words()
    view.generation = "prescott"
    assert "Prescott" in view.words() != before


def test_what_disagrees_says_so_and_whether_it_was_to_be(runs: list[Any]) -> None:
    worse = [dict(run) for run in runs]
    worse[1] |= {"agrees": False, "expected_to_agree": False}
    worse[2] |= {"agrees": False}
    assert cells(Comparison(worse), "agrees") == ["reference", "≠ no, as expected", "✗ no", "✓ yes"]


def test_plain_records_are_compared_by_their_consoles(runs: list[Any]) -> None:
    plain = [
        {name: value for name, value in run.items() if name not in ("agrees", "result_hash")} for run in runs
    ]
    plain[3]["console"] = "something else"
    view = Comparison(plain)
    assert cells(view, "agrees") == ["reference", "✓ same console", "✓ same console", "✗ other console"]
    assert set(cells(view, "result")) == {"-"}


def test_the_paravirtual_image_stands_beside_the_guest_whose_source_it_shares(runs: list[Any]) -> None:
    renamed = [run | {"guest": name} for run, name in zip(runs, ["wren", "wren-paravirt"] * 2, strict=True)]
    view = Comparison(renamed)
    assert [group["name"] for group in view.table["groups"]] == ["wren"]
    assert view.table["groups"][0]["rows"][1]["cells"]["way"]["note"] == "runs wren-paravirt"


def test_operations_come_from_results_or_from_their_report(results: Results, tmp_path: Path) -> None:
    direct = Comparison(results)
    file = tmp_path / "nanobench.json"
    file.write_text(json.dumps(report(results)))
    for view in (Comparison(str(file)), Comparison(report(results))):
        assert [column["key"] for column in view.table["columns"]] == [each.key for each in OPERATION_COLUMNS]
        assert view.table["groups"] == direct.table["groups"]
    place = NAMES.index("in")
    assert cells(direct, "exits", place) == ["-", "1"]
    assert direct.table["groups"][place]["rows"][1]["cells"]["exits"]["note"] == "▼ IOIO 1"
    assert cells(direct, "over", place) == ["1", "1.5"]
    assert direct.table["groups"][place]["rows"][0]["cycles"]["prescott"]["text"] == "3,209"


def test_what_a_report_says_beside_its_figures_is_said(results: Results) -> None:
    words = Comparison(report(results)).words()
    assert "trap-emulate/shadow does not run the kernel: its interrupt flag is not its own" in words


def test_the_picture_and_the_words_have_all_rows(runs: list[Any]) -> None:
    data, _ = Comparison(runs)._repr_mimebundle_()
    text = " ".join(fromstring(data["image/svg+xml"]).itertext())
    for run in runs:
        for figure in (f"{run['monitor']}/{run['paging']}", f"{run['exits']['total']:,}"):
            assert figure in text
            assert figure in data["text/plain"]
    assert "hatched" in data["image/svg+xml"]


def test_nonsense_is_refused_with_what_to_give(tmp_path: Path, runs: list[Any]) -> None:
    with pytest.raises(UnusableInput, match=r"results: 5 are no results of a comparison; give what side_by_"):
        Comparison(5)
    with pytest.raises(UnusableInput, match=r"results: these are no results .*KeyError\('guest'\)"):
        Comparison([{"monitor": "none"}])
    with pytest.raises(UnusableInput, match="cannot be read: No such file or directory; check the path"):
        Comparison(str(tmp_path / "absent.json"))
    (tmp_path / "broken.json").write_text("{")
    with pytest.raises(UnusableInput, match=r"broken\.json' is no JSON"):
        Comparison(tmp_path / "broken.json")
    with pytest.raises(UnusableInput, match="generation: there is no 'z80'"):
        Comparison(runs, generation="z80")
