"""From counts to cycles: what is added, what is left out, and how sure the sum is."""

from __future__ import annotations

import pytest

from tests.compare.results import BARE, NESTED, PARAVIRTUAL, SHADOW, TRANSLATION
from vlab.costs import model
from vlab.costs.operations import NAMES
from vlab.costs.readings import Reading, Way
from vlab.costs.table import Sure, load

COSTS = load()
OLDEST, NEWEST = COSTS.generation("prescott"), COSTS.generation("skylake-sp")


def cycles(name: str, way: Way, blocks: float | None = None, **exits: float) -> model.Cycles | None:
    return model.of_operation(COSTS, OLDEST, name, way, Reading(exits, 0.0, blocks))


def test_an_operation_without_exits_takes_what_it_takes_on_the_bare_machine() -> None:
    for name in NAMES:
        assert cycles(name, SHADOW, 10.0) == cycles(name, BARE, 10.0)
    assert cycles("callret", SHADOW) == model.Cycles(11, 0, Sure.RECALLED)


def test_each_exit_adds_its_transition_and_what_the_monitor_does() -> None:
    assert cycles("pgfault", SHADOW, PF=2, INVLPG=1) == model.Cycles(1093, 3 * (3963 + 1111), Sure.ESTIMATED)
    assert cycles("pgfault", SHADOW, PF=2) == model.Cycles(1093, 2 * (3963 + 1111), Sure.RECALLED)


def test_a_reason_without_a_figure_costs_as_others_do() -> None:
    found = cycles("syscall", PARAVIRTUAL, HLT=1)
    assert found is not None
    assert found.exits == 889 + 800


def test_what_the_monitor_carries_out_is_no_work_of_the_processor() -> None:
    assert cycles("in", SHADOW, IOIO=1) == model.Cycles(0, 15_826, Sure.RECALLED)
    assert cycles("cr", NESTED) is None  # of that time is no nested paging
    assert model.of_operation(COSTS, NEWEST, "cr", NESTED, Reading({}, 0, None)) is not None


def test_what_translated_code_serves_inside_needs_no_transition() -> None:
    assert cycles("cr", TRANSLATION, CALLOUT=1) == model.Cycles(0, 216, Sure.ESTIMATED)
    assert cycles("in", TRANSLATION, IOIO=1) == model.Cycles(0, 216 + 889, Sure.ESTIMATED)  # IN is copied
    assert cycles("callret", TRANSLATION) == model.Cycles(40, 0, Sure.RECALLED)


def test_forkwait_is_modelled_by_the_blocks_that_the_guest_executes() -> None:
    assert cycles("forkwait", SHADOW, 100.0, CR=1) == model.Cycles(600, 3963 + 1500, Sure.ESTIMATED)
    assert cycles("forkwait", SHADOW, None, CR=1) is None


def test_a_monitor_that_the_table_does_not_know_is_not_modelled() -> None:
    assert cycles("syscall", Way("mine", "shadow"), 10.0) is None


def test_a_run_is_its_blocks_and_its_exits() -> None:
    found = model.of_run(COSTS, OLDEST, SHADOW, {"IOIO": 2}, 1000)
    assert found == model.Cycles(6000, 2 * 15_826, Sure.ESTIMATED)
    assert model.of_run(COSTS, OLDEST, BARE, {}, 1000) == model.Cycles(6000, 0, Sure.ESTIMATED)
    assert model.of_run(COSTS, OLDEST, NESTED, {}, 1000) is None
    assert model.of_run(COSTS, OLDEST, SHADOW, {}, None) is None


@pytest.mark.parametrize("name", ["syscall", "pgfault", "divzero"])
def test_the_same_counts_cost_less_on_every_newer_generation_until_a_monitor_is_in_the_exits(
    name: str,
) -> None:
    reading = Reading({"PF": 1}, 0.0, 10.0)
    totals = [
        found.total
        for each in COSTS.generations.values()
        if (found := model.of_operation(COSTS, each, name, SHADOW, reading)) is not None
    ]
    *bare, kvm = totals
    assert bare == sorted(bare, reverse=True)
    assert len(bare) == 4
    assert kvm - bare[-1] == pytest.approx(775, abs=1)


def test_one_exit_takes_its_handler_and_the_way_there_and_back() -> None:
    costs = load()
    prescott = costs.generation("prescott")
    one = model.per_exit(costs, prescott, "hardware", "IOIO")
    assert one is not None
    assert one.cycles == 11_863 + 3_963
    inside = model.per_exit(costs, prescott, "binary-translation", "CALLOUT")
    assert inside is not None
    assert inside.cycles == prescott.software["CALLOUT"].cycles
    assert model.per_exit(costs, prescott, "none", "IOIO") is None
