"""How times are compared: what is disturbed does not count, and no side is favoured."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vlab.bench.timing import alternate, quiet, quiet_ratio, ratio, seconds


def silent(_words: str) -> None:
    pass


def test_runs_take_turns_and_every_other_time_in_reverse() -> None:
    order: list[str] = []

    def run(name: str) -> tuple[str, object]:
        return name, lambda: order.append(name) or 1.0  # type: ignore[func-returns-value]

    times = alternate(silent, 3, run("a"), run("b"), run("c"))  # type: ignore[arg-type]
    assert "".join(order) == "abccbaabc"
    assert times == [[1.0] * 3] * 3


def test_the_times_of_a_run_stay_in_the_order_in_which_they_were_taken() -> None:
    numbers = iter(range(100))
    first, second = alternate(silent, 2, ("x", lambda: next(numbers)), ("y", lambda: next(numbers)))
    assert (first, second) == ([0, 3], [1, 2])


@pytest.mark.parametrize(("repetitions", "said"), [(1, 1), (3, 3), (10, 10), (100, 10), (101, 10)])
def test_progress_is_told_ten_times_at_most(repetitions: int, said: int) -> None:
    words: list[str] = []
    alternate(words.append, repetitions, ("work", lambda: 1.0))
    assert len(words) == said
    assert words[0] == f"repetition 1 of {repetitions}: work"


def test_seconds_gives_processor_time_and_does_the_work() -> None:
    done: list[int] = []
    assert seconds(lambda: done.append(1)) >= 0
    assert done == [1]


def test_the_fastest_tenth_is_the_quiet_time() -> None:
    assert quiet([3.0, 1.0, *[9.0] * 18]) == 2.0
    assert quiet([5.0]) == 5.0


@given(
    st.lists(st.floats(0, 50), min_size=30, max_size=30), st.lists(st.floats(0, 50), min_size=30, max_size=30)
)
def test_disturbances_of_nine_rounds_in_ten_change_nothing(one: list[float], other: list[float]) -> None:
    above = [2.0] * 3 + [2.0 + more for more in one]
    below = [1.0] * 3 + [1.0 + more for more in other]
    assert quiet_ratio(above, below) == pytest.approx(2.0)
    assert quiet_ratio(below, above) == pytest.approx(0.5)


def test_a_few_long_runs_are_compared_pair_by_pair() -> None:
    assert ratio([2.0, 30.0, 5.0], [1.0, 10.0, 5.0]) == 2.0
    with pytest.raises(ValueError, match="shorter"):
        ratio([1.0, 2.0], [1.0])
