"""Shadow against nested: exits are the difference of runs, cycles are arithmetic, and the shapes come out."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

import pytest

from vlab.compare import ept_shape, sweep_report
from vlab.compare import sweep as sweeping
from vlab.compare.crossover import find_crossover, workload_at
from vlab.compare.ept_shape import Timing
from vlab.compare.sweep import NESTED, SHADOW, Counted, Disagreement, Point, Sweep, cycles_a_touch
from vlab.compare.sweep_report import Extent, Report
from vlab.compare.tlb import Lookups, Picks, Workload
from vlab.compare.walk_costs import Processor, read_processors
from vlab.compare.walk_counts import WalkCount
from vlab.costs.table import Figure, Sure

PROCESSORS = read_processors()[:2]
NEHALEM = PROCESSORS[0]
FREE = replace(
    NEHALEM,
    name="free",
    cycles=NEHALEM.cycles
    | dict.fromkeys(("last_reference", "upper_reference"), Figure(0, Sure.ESTIMATED, "")),
)
"""A processor on which walks cost nothing."""
EXTENT = Extent((64, 1024), (1, 16, 256), 20.0, 1024, Timing(2_000, 1))
"""Small, and beyond the reach of the first two processors: seconds in place of minutes."""


@pytest.fixture(scope="module")
def report() -> Report:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ept_shape, "BEYOND", 1024)
        patch.setattr(ept_shape, "IN_REACH", 64)
        return sweep_report.measure((*PROCESSORS, FREE), EXTENT)


# --- what is counted --------------------------------------------------------------------------------------


def test_the_start_of_the_guest_cancels() -> None:
    point = Sweep(PROCESSORS, touches=256).point(workload_at(64, 0))
    nothing = {"PF": 0, "INVLPG": 0, "CR": 0, "NPF": 0}
    assert point.shadow.exits == point.nested.exits == nothing
    assert point.gain("nehalem") == pytest.approx(1.0)


def test_an_update_is_an_invlpg_and_a_fill_over_shadow_tables_and_nothing_over_nested_ones() -> None:
    sweep = Sweep(PROCESSORS, touches=1024)
    point = sweep.point(workload_at(16, 64))
    _, rounds = sweep.rounds(point.workload)
    assert rounds == point.rounds == 16
    assert point.shadow.exits["INVLPG"] == rounds
    assert point.shadow.exits["PF"] == point.shadow.fills + point.shadow.writes
    assert rounds - 1 <= point.shadow.fills <= rounds + 1, "64 touches of 16 pages come to each of them"
    assert not any(point.nested.exits.values())


def test_a_protected_page_table_is_written_to_once_and_is_free_from_then_on() -> None:
    sweep = Sweep(PROCESSORS, touches=16)
    assert (
        sweep._run(Workload(64, 4, 1), SHADOW, 1).writes
        == sweep._run(Workload(64, 4, 0), SHADOW, 1).writes + 1
    )
    assert sweep.point(Workload(64, 4, 1)).shadow.writes == 0


def test_rounds_are_many_enough_for_updates_to_count_and_few_enough_to_run() -> None:
    sweep = Sweep(PROCESSORS, touches=8192)
    assert sweep.rounds(workload_at(64, 0)) == (4, 8)
    assert sweep.rounds(workload_at(64, 100_000)) == (2, sweeping.FEWEST)
    assert sweep.rounds(workload_at(64, 1)) == (512, sweeping.MOST)


def test_a_workload_is_run_once(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []
    sweep = Sweep(PROCESSORS, 256, told.append)
    first = sweep.point(workload_at(64, 64))
    assert sweep.point(workload_at(64, 64)) is first
    assert sweep.runs == len(told) == 4
    assert told[0] == "pages=64 rounds=2 touches=64 updates=1 large=0, shadow"
    sweep.point(workload_at(64, 64), NESTED)
    assert sweep.runs == 6, "the shadow is known already"


def test_a_model_that_does_not_follow_the_guest_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    class Wrong(Picks):
        def __init__(self, workload: Workload) -> None:
            super().__init__(workload)
            self._state = 2

    monkeypatch.setattr(sweeping, "Picks", Wrong)
    with pytest.raises(Disagreement, match="the model picked other pages than the guest did"):
        Sweep(PROCESSORS, touches=64).point(workload_at(64, 0))


def test_pages_that_differ_between_the_ways_are_refused() -> None:
    sweep = Sweep(PROCESSORS, touches=64)
    sweep._contents[workload_at(64, 0)] = 0
    with pytest.raises(Disagreement, match="the pages are not the same over shadow tables"):
        sweep.point(workload_at(64, 0))


def test_a_guest_that_does_not_finish_is_refused() -> None:
    with pytest.raises(Disagreement, match=r"the guest did not finish: the guest ended with status 2"):
        Sweep(PROCESSORS, touches=64).point(workload_at(9000, 0))


# --- what is modelled -------------------------------------------------------------------------------------


def test_cycles_are_the_sum_of_the_counts_times_their_costs() -> None:
    counted = Counted({"PF": 3, "INVLPG": 5}, fills=2, writes=1, walk=WalkCount(24, 3, 4096))
    cost = {name: figure.cycles for name, figure in NEHALEM.cycles.items()}
    walk = 3 * cost["last_reference"] + 21 * cost["upper_reference"]
    total = (
        40 * cost["touch"]
        + 10 * cost["update"]
        + 7 * NEHALEM.small[1].hit
        + (11 + 2) * walk
        + 3 * NEHALEM.exit_cycles("PF")
        + 5 * NEHALEM.exit_cycles("INVLPG")
    )
    modelled = cycles_a_touch(NEHALEM, Workload(64, 8, 2), 5, counted, Lookups((22, 7), 11))
    assert modelled == pytest.approx(total / 40)


class Straight:
    """A sweep whose cycles are straight lines: shadow 20 + 1000 a update, nested 70 + 100 a update."""

    def __init__(self) -> None:
        self.asked: list[int] = []

    def point(self, workload: Workload, nested: str) -> Point:
        self.asked.append(workload.touches if workload.updates else 0)
        nobody = Counted({}, 0, 0, WalkCount(4, 1, 4096))
        cycles: Mapping[str, tuple[float, float]] = {
            "it": (20 + 1000 * workload.rate, 70 + 100 * workload.rate)
        }
        return Point(workload, 1, nobody, nobody, {}, cycles)


def find() -> tuple[Straight, sweeping.Sweep]:
    straight = Straight()
    return straight, straight  # type: ignore[return-value]


def test_the_crossover_of_straight_lines_is_found_exactly_by_interpolation() -> None:
    straight, sweep = find()
    found = find_crossover(sweep, 64, "it", scan=(1, 16, 256))
    assert found.rate == pytest.approx(50 / 900)
    assert found.touches == pytest.approx(18)
    assert (found.least, found.most) == (1 / 256, 1 / 16)
    assert set(straight.asked) == {0, 1, 16, 256}


def test_bisection_runs_further_workloads_until_the_crossover_is_closely_enclosed() -> None:
    found = find_crossover(find()[1], 64, "it", scan=(1, 16, 256), closer=1.2)
    assert found.most / found.least <= 1.2
    assert 1 / found.most <= 18 <= 1 / found.least
    assert found.rate == pytest.approx(50 / 900)


def test_a_crossover_below_the_slowest_rate_is_between_it_and_none() -> None:
    found = find_crossover(find()[1], 64, "it", scan=(1, 4), closer=1.2)
    assert (found.least, found.most) == (0, 1 / 4)
    assert found.rate == pytest.approx(50 / 900)


def test_a_gain_can_be_there_at_every_rate_or_at_none() -> None:
    always = find_crossover(find()[1], 64, "it", scan=(1, 4), gain=0.25)
    assert (always.rate, always.touches) == (0.0, math.inf)
    assert find_crossover(find()[1], 64, "it", scan=(1, 4), gain=7.0).rate is None


# --- what must come out -----------------------------------------------------------------------------------


def test_the_expected_shapes_come_out(report: Report) -> None:
    report = replace(report, processors=PROCESSORS)
    assert [each.text for each in report.conclusions() if not each.holds] == []
    assert report.holds
    first = report.conclusions()[0].text
    assert first.startswith("A walk reads 4 entries over shadow tables and 24 over nested ones")
    assert "in the nested tables 19, in the guest 19, in both 15 (shadow 3)" in first


def test_the_shadow_wins_where_the_tlb_misses_until_updates_come(report: Report) -> None:
    inside, beyond = report.grid
    assert [point.gain("nehalem") > 1 for point in beyond] == [True, True, False, False]
    assert [point.gain("nehalem") > 1.01 for point in inside] == [True, True, True, False]
    rates = {(each.pages, each.processor): each.rate for each in report.crossovers}
    assert rates[64, "nehalem"] == 0.0
    assert 1 / 256 < (rates[1024, "nehalem"] or 0) < 1 / 16


def test_cheaper_exits_leave_the_shadow_more_of_the_field(report: Report) -> None:
    rates = {each.processor: each.rate for each in report.crossovers if each.pages == 1024}
    nehalem, sandy_bridge = rates["nehalem"], rates["sandy-bridge"]
    assert nehalem is not None
    assert sandy_bridge is not None
    assert sandy_bridge > nehalem


def test_where_walks_cost_nothing_the_shadow_never_wins(report: Report) -> None:
    free = replace(report, processors=(FREE,))
    assert not free.holds
    failed = [each.text for each in free.conclusions() if not each.holds]
    assert failed[0] == "Without updates, where the TLB misses, shadow tables win: 1.00 times faster."
    assert any(text.startswith("Large pages take the cost of nested tables away") for text in failed)


def test_a_shape_that_is_missing_is_told(report: Report) -> None:
    small, *others = report.shape.missing
    nested = replace(small.point.nested, walk=WalkCount(23, 3, 4096))
    wrong = replace(small, point=replace(small.point, nested=nested))
    told = replace(report, shape=replace(report.shape, missing=(wrong, *others)))
    assert not told.holds
    assert [each.holds for each in told.conclusions()].index(False) == 0

    flat = replace(report, grid=tuple(row[1:] + row[-1:] for row in report.grid[1:]))
    failed = [each.text for each in flat.conclusions() if not each.holds]
    assert "Without updates, where the TLB holds the working set, there is no difference." in failed


def test_the_working_sets_of_the_document_are_within_and_beyond_every_reach() -> None:
    processors: tuple[Processor, ...] = read_processors()
    assert all(ept_shape.IN_REACH < each.reach < ept_shape.BEYOND for each in processors)
