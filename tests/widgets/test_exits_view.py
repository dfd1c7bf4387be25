"""The view of exits: its figures are those of the trace, whatever part of it is looked at."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import fromstring

import numpy as np
import pytest
from ipywidgets.widgets.widget import _instances, _remove_buffers

import vlab
from tests.widgets.test_view import wait_for
from vlab.errors import UnusableInput
from vlab.trace.exits import Exits
from vlab.trace.file import load
from vlab.trace.storage import StoredTrace
from vlab.vmm.exits import REASONS
from vlab.widgets import marks
from vlab.widgets.exits_charts import BINS, ticks
from vlab.widgets.exits_data import LANES, OTHERS, Kept, Span, heights
from vlab.widgets.exits_moves import moved
from vlab.widgets.exits_view import ExitsView
from vlab.widgets.showing import view_of


@pytest.fixture(scope="module")
def vm() -> Iterator[vlab.VM]:
    with vlab.VM("longmode", trace="full") as vm:
        vm.run(timeout=60)
        yield vm


@pytest.fixture
def view(vm: vlab.VM) -> ExitsView:
    return ExitsView(vm)


def many(vm: vlab.VM, count: int = 1_000_000) -> Exits:
    source, rows = vm.exits.source, vm.exits.source.rows()
    table = np.tile(rows, count // len(rows) + 1)[:count]
    table["kind"], table["time"] = 0, np.arange(count, dtype=np.uint64) * 1_000
    counts = np.bincount(table["reason"], minlength=len(source.reasons)).tolist()
    return Exits(
        StoredTrace("full", tuple(source.reasons), tuple(source.handlers), tuple(counts), (0,) * 4, 0, table)
    )


def counts_of(frame: Any) -> dict[str, int]:
    return {name: count for name, count in frame.reason.value_counts().items() if count}


def told(view: ExitsView, **message: Any) -> None:
    view._told(None, message, [])


def sent(view: Any, seen: set[str] | None = None) -> int:
    """Bytes of a widget's state and of those within it."""
    seen = set() if seen is None else seen
    if view.model_id in seen:
        return 0
    seen.add(view.model_id)
    state, _, buffers = _remove_buffers(view.get_state())
    inner = [_instances[name[10:]] for name in _references(state)]
    return (
        len(repr(state))
        + sum(len(memoryview(each).cast("B")) for each in buffers)
        + sum(sent(each, seen) for each in inner)
    )


def _references(value: Any) -> Iterator[str]:
    if isinstance(value, str) and value.startswith("IPY_MODEL_"):
        yield value
    elif isinstance(value, dict):
        for each in value.values():
            yield from _references(each)
    elif isinstance(value, list | tuple):
        for each in value:
            yield from _references(each)


# --- figures ------------------------------------------------------------------------------------------------


def test_a_timeline_counts_each_exit_once_in_the_lane_of_its_reason(vm: vlab.VM) -> None:
    kept = Kept.of(vm.exits.source)
    lanes = kept.lanes()
    counts = kept.timeline(kept.span, lanes, 500)
    assert counts.shape == (len(lanes), 500)
    assert dict(zip(lanes, counts.sum(axis=1).tolist(), strict=True)) == vm.exits.by_reason().to_dict()


def test_a_part_of_the_time_counts_its_own_exits_alone(vm: vlab.VM) -> None:
    kept, frame = Kept.of(vm.exits.source), vm.exits.frame()
    third = kept.span.length // 3
    span = Span(kept.span.start + third, kept.span.start + 2 * third)
    inside = frame[(frame.time_ns >= span.start) & (frame.time_ns < span.end)]
    assert kept.timeline(span, kept.lanes(), 100).sum() == len(inside)
    assert {each.reason: each.count for each in kept.tallies(span)} == counts_of(inside)


def test_rare_reasons_share_a_lane(vm: vlab.VM) -> None:
    exits = many(vm, 300)
    table = exits.source.rows()
    table["reason"] = np.minimum(np.arange(300) % 30, len(REASONS) - 1)
    kept = Kept.of(exits.source)
    lanes = kept.lanes()
    assert (len(lanes), lanes[-1]) == (LANES, OTHERS)
    assert kept.timeline(kept.span, lanes, 10).sum() == 300


def test_a_lone_exit_can_be_seen_beside_a_thousand() -> None:
    found = heights(np.array([[0, 1, 1000]]))
    assert found[0, 0] == 0
    assert 0.05 < found[0, 1] < found[0, 2] == 1


def test_two_reasons_never_share_both_sign_and_colour() -> None:
    assert len({(marks.sign(name), marks.colour(name)) for name in REASONS}) == len(REASONS)


def test_ticks_are_round_and_within_sight() -> None:
    places, digits = ticks(Span(284_176, 840_264_000))
    assert places.tolist() == [200, 400, 600, 800]
    assert digits == 0
    places, digits = ticks(Span(1_000_000, 1_000_600))
    assert digits == 4
    assert 1.0 <= places.min() <= places.max() <= 1.0006


def test_a_record_that_nobody_can_decode_is_shown_in_figures(vm: vlab.VM) -> None:
    exits = many(vm, 3)
    table = exits.source.rows()
    table["reason"], table["info1"], table["info2"] = REASONS.index("TRAP"), 300, 5
    assert Kept.of(exits.source).page(0, 1)[0][3] == "0x12c, 0x5"


# --- moving -------------------------------------------------------------------------------------------------


def test_each_action_stays_within_the_trace() -> None:
    whole = Span(1_000, 1_001_000)
    sight, selection = whole, None
    for action in ["closer", "earlier", "earlier", "earlier", "select", "select_later", "broader", "zoom"]:
        sight, selection = moved(action, sight, selection, whole)
        assert whole.start <= sight.start < sight.end <= whole.end, action
        assert selection is None or whole.start <= selection.start < selection.end <= whole.end, action
    assert sight == selection
    assert moved("clear", sight, selection, whole) == (sight, None)
    assert moved("all", sight, selection, whole) == (whole, selection)
    assert moved("dance", sight, selection, whole) == (sight, selection)


def test_zooming_counts_anew_and_sends_no_more_bins(view: ExitsView) -> None:
    chart = view._timeline
    whole = view.visible
    told(view, do="closer")
    assert view.visible[1] - view.visible[0] == pytest.approx((whole[1] - whole[0]) / 2, abs=2)
    assert chart._exits.x.shape == (2 * BINS + 2,)
    assert chart.time.min == view.visible[0] / 1e6
    told(view, do="all")
    assert view.visible == whole


def test_what_is_dragged_into_sight_is_counted_when_the_hand_rests(view: ExitsView) -> None:
    start, end = view.visible
    view._timeline.time.min = (start + (end - start) // 2) / 1e6
    assert view.visible == (start, end)
    view._settled.now()
    assert view.visible[0] == pytest.approx(start + (end - start) // 2, abs=2)
    view._timeline.time.min, view._timeline.time.max = -1e9, 1e9
    view._settled.now()
    assert view.visible == (start, end)


def test_a_brushed_time_selects_bars_and_rows(view: ExitsView, vm: vlab.VM) -> None:
    frame = vm.exits.frame()
    middle = int(frame.time_ns.iloc[len(frame) // 2])
    view._timeline.brush.selected = np.array([0.0, middle / 1e6])
    view._brushed.now()
    expected = frame[frame.time_ns < middle]
    assert view._table.total == len(view.selected) == len(expected)
    assert view.selected.by_reason().to_dict() == counts_of(expected)
    assert "Selected: 0.000 ms to" in view._bar.shown
    told(view, do="clear")
    assert view.selection is None
    assert view._table.total == len(frame)


def test_the_table_has_pages(view: ExitsView) -> None:
    table = view._table
    assert (table.first, len(table.rows)) == (0, 12)
    told(view, page=12)
    assert table.rows[0][0] == "13"
    told(view, page=10**9)
    assert table.first + len(table.rows) == table.total
    assert {row[2] for row in table.rows} <= set(REASONS)


def test_dragging_selects_or_moves(view: ExitsView) -> None:
    told(view, do="drag")
    assert view._timeline.figure.interaction is view._timeline.brush
    told(view, do="drag")
    assert view._timeline.figure.interaction is view._timeline.drag


# --- cost ---------------------------------------------------------------------------------------------------


def test_cost_is_modelled_with_the_chosen_processor_or_measured(view: ExitsView, vm: vlab.VM) -> None:
    assert view._bar.choice == "nehalem"
    assert "Mcycles modelled on nehalem (estimated)" in view.words()
    view._bar.choice = "handler time"
    assert "Wall time in handlers" in view.words()
    names = [name for name, _ in view._bar.choices]
    assert "prescott" not in names  # it has no nested paging
    shadow = ExitsView(vm.exits[-50:], monitor="hardware", paging="shadow", generation="prescott")
    assert "on prescott" in shadow.words()


def test_without_a_known_monitor_nothing_is_modelled(vm: vlab.VM) -> None:
    view = ExitsView(vm.exits[-50:])
    assert [name for name, _ in view._bar.choices] == ["handler time"]


# --- subjects -----------------------------------------------------------------------------------------------


def test_a_trace_file_knows_its_monitor(vm: vlab.VM, tmp_path: Path) -> None:
    vm.save_trace(tmp_path / "t.vlabtrace")
    view = ExitsView(load(tmp_path / "t.vlabtrace"))
    assert "on nehalem" in view.words()


def test_exits_of_a_vm_are_followed() -> None:
    with vlab.VM("hello", trace="full") as vm:
        view = view_of(vm.exits)
        assert "0 exits" in view.words()
        vm.run(timeout=20)
        wait_for(lambda: view._table.total == len(vm.exits))
        assert f"{vm.exits.total:,} exits" in view._bar.summary
    wait_for(lambda: not view.alive)
    assert view._bar.alive is False
    assert "exits" in view.words()


def test_a_vm_with_counters_has_bars_and_says_how_to_get_more() -> None:
    with vlab.VM("hello") as vm:
        vm.run(timeout=20)
        view = ExitsView(vm)
        assert view._by_reason._bars.y.sum() == vm.exits.total
        assert view._timeline.figure.layout.display == "none"
        assert 'make the VM with VM(..., trace="full")' in view._bar.problem
    with vlab.VM("hello", trace="off") as vm:
        assert 'Nothing counts exits at trace level "off"' in ExitsView(vm).words()


def test_while_the_guest_runs_the_histogram_follows() -> None:
    with vlab.VM("wren", trace="counters") as vm:
        view = ExitsView(vm)
        vm.start()
        wait_for(lambda: view._by_reason._bars.y.sum() > 0)
        vm.pause()
        wait_for(lambda: view._by_reason._bars.y.sum() == vm.exits.total)


def test_while_the_guest_runs_the_timeline_follows_until_one_looks_elsewhere() -> None:
    with vlab.VM("wren", trace="full", append="selftest") as vm:
        view = ExitsView(vm)
        vm.start()
        wait_for(lambda: view._table.total > 100)
        told(view, do="closer")
        sight = view.visible
        total = vm.exits.total
        wait_for(lambda: vm.exits.total > total)
        vm.pause()
        wait_for(lambda: f"{vm.exits.total:,} exits" in view._bar.summary)
        assert view.visible == sight
        told(view, do="all")
        assert view._table.total == len(vm.exits)


def test_a_million_exits_are_ready_quickly_and_little_is_sent(vm: vlab.VM) -> None:
    exits = many(vm)
    began = time.process_time()
    view = ExitsView(exits, monitor="hardware", paging="nested")
    took = time.process_time() - began
    assert took < 2
    assert sent(view) < 1_000_000
    began = time.process_time()
    told(view, do="closer")
    assert time.process_time() - began < 0.5


# --- where there is no kernel -------------------------------------------------------------------------------


def test_the_picture_and_the_words_have_the_figures(view: ExitsView, vm: vlab.VM) -> None:
    view.selection = view.visible[0], view.visible[0] + 1_000_000
    view.selection = None
    data = view._repr_mimebundle_()
    assert "application/vnd.jupyter.widget-view+json" in data
    picture = fromstring(data["image/svg+xml"])
    text = " ".join(picture.itertext())
    for name, count in vm.exits.by_reason().items():
        assert marks.labelled(str(name)) in text
        assert f"{count:,}" in text
        assert str(name) in data["text/plain"]
    assert picture.get("aria-label") == view._bar.summary


def test_nonsense_is_refused_with_what_to_give(view: ExitsView) -> None:
    with pytest.raises(UnusableInput, match=r"subject: 5 has no exits to show; give a VM, vm\.exits or what"):
        ExitsView(5)  # type: ignore[arg-type]
    with pytest.raises(UnusableInput, match="generation: there is no 'z80'; choose one of handler time, pre"):
        ExitsView(view._vm(), generation="z80")  # type: ignore[arg-type, misc]
    with pytest.raises(UnusableInput, match=r"selection: \(3, 2\) is no stretch of time; give \(start"):
        view.selection = 3, 2
