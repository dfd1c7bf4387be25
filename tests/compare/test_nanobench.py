"""The nanobenchmarks, run: what is counted under each monitor, and that the orderings hold of it."""

from __future__ import annotations

import sys
from functools import cache

import pytest

from tests.compare.results import BARE, NESTED, PARAVIRTUAL, SHADOW, TRANSLATION
from vlab.compare import nanobench
from vlab.compare.nanobench import measure
from vlab.compare.orderings import check
from vlab.compare.work import counting
from vlab.costs.operations import NAMES, OPERATIONS
from vlab.costs.readings import Results, Way
from vlab.costs.table import load

FEW = (4, 20)


@cache
def counted() -> Results:
    return measure(counts=FEW, instructions=False, repetitions=0)


def exits(name: str, way: Way) -> dict[str, float]:
    """Whole exits per operation; what is rarer is the timer's."""
    found = counted().of(name, way).exits
    return {reason: float(round(count)) for reason, count in found.items() if count > 0.5}


def test_every_monitor_runs_every_operation_but_trap_and_emulate_which_cannot_run_the_kernel() -> None:
    found = counted()
    (refused,) = [each for each in found.refused if each.way.monitor == "trap-emulate"]
    assert refused.why == "panic: interrupts enabled inside a critical section: IF is 1 in schedule"
    assert {BARE, PARAVIRTUAL, TRANSLATION, NESTED, SHADOW} <= set(found.ways)
    assert set(found.readings) == {(name, way.name) for name in NAMES for way in found.ways}


def test_the_orderings_hold() -> None:
    assert [(each.claim, each.detail) for each in check(counted(), load()) if not each.holds] == []


@pytest.mark.parametrize("name", ["syscall", "callret", "divzero"])
def test_with_hardware_assistance_they_never_leave_the_guest(name: str) -> None:
    assert exits(name, NESTED) == exits(name, SHADOW) == exits(name, BARE) == {}


def test_a_port_is_one_exit_under_both_pagings() -> None:
    assert exits("in", NESTED) == exits("in", SHADOW) == {"IOIO": 1}


def test_over_shadow_tables_the_guest_leaves_for_its_paging_and_over_nested_ones_never() -> None:
    assert exits("cr", SHADOW) == {"CR": 1}
    assert exits("pgfault", SHADOW)["PF"] == 2
    assert sum(exits("ptemod", SHADOW).values()) >= 1
    assert exits("forkwait", SHADOW)["CR"] == 4
    for name in ("cr", "pgfault", "ptemod", "forkwait"):
        assert exits(name, NESTED) == {}


def test_a_paravirtual_system_call_is_reflected_and_returned_from() -> None:
    assert exits("syscall", PARAVIRTUAL) == {"INT": 1, "VMMCALL": 1}
    assert exits("divzero", PARAVIRTUAL) == {"EXCEPTION": 1, "VMMCALL": 1}
    assert exits("callret", PARAVIRTUAL) == {}


def test_translated_code_returns_by_itself_and_calls_the_monitor_for_what_is_sensitive() -> None:
    assert exits("callret", TRANSLATION) == {}
    assert exits("syscall", TRANSLATION)["INT"] == 1
    assert exits("divzero", TRANSLATION)["EXCEPTION"] == 1
    for name in ("cr", "ptemod"):
        assert exits(name, TRANSLATION) == {"CALLOUT": 1}


def test_the_monitor_works_where_there_are_exits_and_nowhere_else() -> None:
    chosen = [operation for operation in OPERATIONS if operation.name in ("syscall", "in", "cr")]
    ways = [("none", "direct"), ("paravirtual", "direct"), ("hardware", "shadow")]
    found = measure(chosen, ways, counts=FEW, repetitions=0)
    work = {key: reading.instructions or 0.0 for key, reading in found.readings.items()}
    with_exits = {key for key, reading in found.readings.items() if reading.total > 0.5}
    assert with_exits == {key for key, instructions in work.items() if instructions > 80}
    assert {key for key in work if key not in with_exits} == {
        key for key, instructions in work.items() if instructions < 50
    }
    assert work["syscall", "paravirtual/direct"] > work["in", "paravirtual/direct"]
    assert work["cr", "hardware/shadow"] > work["in", "hardware/shadow"]


def test_the_guest_executes_the_same_blocks_under_hardware_assistance_as_alone() -> None:
    found = counted()
    for name in NAMES:
        blocks = {found.of(name, way).blocks for way in (BARE, NESTED, SHADOW)}
        assert len(blocks) == 1, name


def test_a_second_count_gives_the_same_exits() -> None:
    again = measure(OPERATIONS[:2], [("hardware", "shadow")], counts=FEW, instructions=False, repetitions=0)
    assert again.of("in", SHADOW).instructions is None
    for name in again.operations:
        assert again.of(name, SHADOW).exits == counted().of(name, SHADOW).exits


def test_time_is_taken_in_turns_and_compared_with_the_bare_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[tuple[str, int]] = []
    pace = {"none/direct": 1e-6, "hardware/shadow": 3e-6}

    def seconds(_operation: object, way: Way, count: int) -> float:
        order.append((way.name, count))
        return 0.01 + count * pace[way.name]  # what comes before and after takes a while, too

    monkeypatch.setattr(nanobench, "_seconds", seconds)
    said: list[str] = []
    ways = [("none", "direct"), ("hardware", "shadow")]
    found = measure(OPERATIONS[3:4], ways, counts=FEW, repetitions=2, say=said.append)
    assert found.of("callret", SHADOW).seconds == pytest.approx(3e-6)
    assert found.slowdown("callret", SHADOW) == pytest.approx(3.0)
    assert found.slowdown("callret", BARE) == 1.0
    assert said == ["counting under none/direct", "counting under hardware/shadow", "timing callret"]
    turns = [way for way, _ in order[-8:]]
    assert turns == ["none/direct", "none/direct", "hardware/shadow", "hardware/shadow"] * 2


def test_a_real_time_is_more_than_nothing() -> None:
    assert nanobench._seconds(OPERATIONS[0], SHADOW, 20) > 0


def test_without_times_there_is_no_slowdown() -> None:
    assert counted().slowdown("in", SHADOW) is None


# --- counting instructions ----------------------------------------------------------------------------------


def test_code_that_is_neither_the_monitor_nor_called_by_it_does_not_count() -> None:
    with counting() as work:
        sum(len(name) for name in NAMES)
        load()
    assert work.instructions == 0


def test_the_tracing_function_of_before_is_put_back() -> None:
    before = sys.gettrace()
    with pytest.raises(ValueError, match="on the way"), counting():
        raise ValueError("on the way")
    assert sys.gettrace() is before


def test_what_the_monitor_calls_is_the_monitors_and_what_the_machine_calls_is_not() -> None:
    shared: dict[str, object] = {"__name__": "vlab.isa.shared"}
    exec("def work():\n    return 1 + 2", shared)
    for caller, counts in (("vlab.vmm.hardware", True), ("vlab.machine.microcode", False)):
        module = {"__name__": caller, "work": shared["work"]}
        exec("def call():\n    return work()", module)
        with counting() as work:
            module["call"]()  # type: ignore[operator]
        assert (work.instructions > 3) == counts
        assert counts or work.instructions == 0
