"""How fast exits come: over the last second or so, and anew when a machine stops or goes back."""

from __future__ import annotations

import pytest

from vlab.pace import Pace


def test_exits_a_second_are_those_of_the_last_second_or_so() -> None:
    pace = Pace()
    seen = [
        pace.at(time, exits, True) for time, exits in ((10.0, 100), (10.5, 200), (11.0, 200), (12.0, 700))
    ]
    assert seen == [0, 200, 100, 500]


def test_a_moment_says_too_little() -> None:
    pace = Pace()
    assert [pace.at(time, exits, True) for time, exits in ((10.0, 0), (10.001, 50))] == [0, 0]


@pytest.mark.parametrize(("running", "exits"), [(False, 400), (True, 50)])
def test_it_begins_anew_with_a_machine_that_stops_or_goes_back(running: bool, exits: int) -> None:
    pace = Pace()
    pace.at(10.0, 100, True)
    assert pace.at(11.0, 300, True) == 200
    assert pace.at(11.5, exits, running) == 0
    assert pace.at(12.5, exits + 30, True) == 30
