"""The TLB model against a naive one, and its accesses against those of the guest."""

from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st

import vlab
from vlab.compare.tlb import Lookups, Picks, Tlb, Workload, simulate
from vlab.compare.walk_costs import TlbLevel
from vlab.machine.memory import LARGE_PAGE, PAGE

SMALL = TlbLevel(4, 4)


class NaiveTlb:
    """One set-associative TLB as a list of pages for each set, the least recently used one first."""

    def __init__(self, level: TlbLevel) -> None:
        self.level = level
        self.sets: list[list[int]] = [[] for _ in range(level.entries // level.ways)]

    def load(self, page: int) -> bool:
        entries = self.sets[page % len(self.sets)]
        hit = page in entries
        if hit:
            entries.remove(page)
        entries.append(page)
        del entries[: -self.level.ways]
        return hit

    def forget(self, page: int) -> None:
        entries = self.sets[page % len(self.sets)]
        if page in entries:
            entries.remove(page)


@given(
    st.sampled_from([TlbLevel(8, 1), TlbLevel(8, 2), TlbLevel(8, 8), TlbLevel(6, 3)]),
    st.lists(st.tuples(st.integers(0, 20), st.booleans()), max_size=200),
)
def test_one_level_does_what_a_naive_model_does(level: TlbLevel, accesses: list[tuple[int, bool]]) -> None:
    tlb, naive = Tlb((level,)), NaiveTlb(level)
    for page, forget in accesses:
        if forget:
            tlb.invalidate(page)
            naive.forget(page)
        else:
            assert (tlb.look_up(page) == 0) == naive.load(page)


def test_a_page_that_the_first_level_lost_is_found_in_the_second_and_comes_back() -> None:
    tlb = Tlb((TlbLevel(2, 2), SMALL))
    assert [tlb.look_up(page) for page in (1, 2, 3)] == [2, 2, 2]
    assert tlb.look_up(1) == 1, "the second level has it"
    assert tlb.look_up(1) == 0, "and the first one again"
    tlb.invalidate(1)
    assert tlb.look_up(1) == 2, "INVLPG takes it out of both"


def test_pages_that_meet_in_a_set_push_each_other_out() -> None:
    tlb = Tlb((TlbLevel(4, 1),))
    assert [tlb.look_up(page) for page in (0, 4, 0, 1, 0)] == [1, 1, 1, 1, 0]


def test_a_working_set_within_reach_does_not_miss_and_twice_the_reach_misses_half_of_the_time() -> None:
    levels = (TlbLevel(64, 4), TlbLevel(512, 4))
    inside = simulate(Workload(512, 1024, 0), 4, 4, levels, PAGE)
    assert inside.misses == 0
    assert sum(inside.hits) == 4096
    beyond = simulate(Workload(1024, 1024, 0), 4, 4, levels, PAGE)
    assert 0.45 < beyond.misses / 4096 < 0.55


def test_an_update_costs_a_miss_when_its_page_is_touched_again() -> None:
    quiet = simulate(Workload(1, 4, 0), 1, 2, (SMALL,), PAGE)
    assert quiet == Lookups((8,), 0)
    assert simulate(Workload(1, 4, 1), 1, 2, (SMALL,), PAGE) == Lookups((6,), 2)


def test_a_large_page_is_one_entry() -> None:
    assert simulate(Workload(2048, 64, 0), 1, 1, (SMALL,), LARGE_PAGE) == Lookups((64,), 0)
    assert simulate(Workload(2048, 64, 0), 1, 1, (SMALL,), PAGE).misses > 60


def test_the_model_picks_the_pages_that_the_guest_picks() -> None:
    workload = Workload(777, 50, 3)
    with vlab.VM("sweep", append=workload.command_line(9)) as vm:
        assert vm.run(timeout=30).exit_code == 0
        printed = re.search(r"picked ([0-9a-f]{16})", vm.console.text)
    assert printed is not None
    picks = Picks(workload)
    kinds = [update for _, update in picks.rounds(4)] + [update for _, update in picks.rounds(5)]
    assert kinds == ([False] * 50 + [True] * 3) * 9
    assert picks.digest == int(printed[1], 16)


def test_the_command_line_and_the_rate() -> None:
    workload = Workload(512, 16, 4, large=True)
    assert workload.command_line(7) == "pages=512 rounds=7 touches=16 updates=4 large=1"
    assert workload.rate == 0.25
