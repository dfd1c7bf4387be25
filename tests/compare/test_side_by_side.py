"""One guest under several monitors: what agrees, and how the runner chooses images."""

from __future__ import annotations

import pytest

from vlab.compare.side_by_side import image_for, side_by_side
from vlab.errors import UnusableInput


def test_a_guest_runs_the_same_way_everywhere() -> None:
    said: list[str] = []
    ways = [("none", "direct"), ("paravirtual", "direct"), ("hardware", "nested")]
    runs = side_by_side("hello", ways=ways, say=said.append)
    assert [(run["monitor"], run["paging"]) for run in runs] == [ways[0], ways[2]]
    assert said == ["running hello under none/direct", "running hello under hardware/nested"]
    assert all(run["agrees"] and run["expected_to_agree"] for run in runs)
    assert runs[0]["result_hash"] == runs[1]["result_hash"]


def test_the_paravirtual_monitor_has_images_of_its_own() -> None:
    assert image_for("wren", "paravirtual") == "wren-paravirt"
    assert image_for("hello", "paravirtual") is None
    assert image_for("hello", "hardware") == "hello"


def test_an_unknown_guest_is_refused() -> None:
    with pytest.raises(UnusableInput, match="helo"):
        side_by_side("helo")
