"""Lesson 11: what it reveals, and answers of students that are no answers."""

from __future__ import annotations

import pytest

from tests.labs.running import broken, exercises, marked

MODEL, CROSSOVER = (each.values[1] for each in exercises("11"))
WRONG_TYPES = ("None", "'many'", "True", "float('nan')", "float('inf')", "[1]")


@pytest.mark.parametrize("value", WRONG_TYPES)
def test_cycles_that_are_no_number_are_told(value: str) -> None:
    cell = f"def rates(few, many):\n    return {value}\n\n\ndef cycles(costs, one):\n    return {value}\n"
    found = broken(marked(MODEL, cell))
    assert set(found) == {each.name for each in MODEL.invariants}
    assert "rates returned" in found["rates"]
    assert "cycles returned" in found["exits"]
    assert "it has to return a number of cycles" in found["exits"]


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("return {'exits': {'CR': None}, 'blocks': 1}", "rates returned None; it has to return a number"),
        ("return {'exits': [], 'blocks': 1}", 'it has to return {"exits": {...}, "blocks": ...}'),
        ("return {'exits': {'CR': 2, 'HLT': 3}, 'blocks': 1}", "are 0 for one operation; rates says 3"),
    ],
)
def test_rates_of_another_kind_are_told(line: str, why: str) -> None:
    cell = f"def rates(few, many):\n    {line}\n\n\ndef cycles(costs, one):\n    return 0\n"
    assert why in broken(marked(MODEL, cell))["rates"]


def test_a_reason_that_there_is_not_is_told() -> None:
    cell = "def rates(few, many): ...\n\n\ndef cycles(costs, one):\n    return costs.exit('WHIM')\n"
    assert "reason: 'WHIM' is no exit reason, such as 'PF'" in broken(marked(MODEL, cell))["exits"]


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("return None", "crossover returned None; it has to return two numbers from 1 to 256, or a word"),
        ("return [0, 9]", "crossover returned [0, 9]; it has to return two numbers"),
        ("return [True, 9]", "crossover returned [True, 9]"),
        ("return [1, 2, 3]", "crossover returned [1, 2, 3]"),
        ("return 'nested'", "crossover returned 'nested', and neither way wins at every rate here"),
        ("return [200, 3]", "at the first rate nested tables win, at the second shadow tables; here: "),
        ("return [1, 250]", "one update in 1 and one in 250 touches are more than a quarter apart"),
        ("return measure(300)", "measure was called with 300; touches are a number from 1 to 256"),
        ("return measure('x')", "measure was called with 'x'"),
        ("return [measure(n) for n in range(1, 50)]", "after 14 measurements you want another one, of 15"),
    ],
)
def test_a_crossover_that_is_none_is_told(line: str, why: str) -> None:
    cell = f"def a_touch(costs, run):\n    return 0\n\n\ndef crossover(measure):\n    {line}\n"
    assert why in broken(marked(CROSSOVER, cell))["line"]
