"""Lesson 01: it runs, and its exercises are marked as they should be."""

from __future__ import annotations

import pytest

from tests.labs.running import (
    broken,
    exercises,
    marked,
    solution,
)
from vlab.grading.catalogue import find

LESSON = "01"


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        ("None", "privileged gave None, and it is to give True or False"),
        ("'#GP'", "privileged gave '#GP', and it is to give True or False"),
        ("1", "privileged gave 1, and it is to give True or False"),
    ],
)
def test_an_answer_of_another_kind_is_told(answer: str, why: str) -> None:
    (exercise,) = (each.values[1] for each in exercises(LESSON))
    source = solution(LESSON, exercise.ident) + f"\n\ndef privileged(runs):\n    return {answer}\n"
    told = broken(marked(exercise, source))
    assert set(told) == {"privileged", "all"}
    assert all(each.startswith(why) for each in told.values()), told


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        ("None", "offenders gave None, and it is to give a list of names"),
        ("[1]", "offenders gave [1], and it is to give a list of names"),
        ("['MOV']", "offenders blames 'MOV', an unknown one"),
        ("sorted(names) * 2", "2 times; once is enough"),
    ],
)
def test_a_list_that_is_none_is_told(answer: str, why: str) -> None:
    (exercise,) = (each.values[1] for each in exercises(LESSON))
    source = solution(LESSON, exercise.ident).replace("return sorted(names)", f"return {answer}")
    told = broken(marked(exercise, source))
    assert set(told) == {"offenders", "all"}
    assert all(why in each for each in told.values()), told


def test_each_kind_of_form_is_what_it_is_called() -> None:
    module = find(LESSON).module()
    for name in module._CHANGING:
        found = module._measure(module._MEASURABLE[name])
        assert (found.privileged, found.sensitive.split()[0]) == (True, "changes"), name
    for name in module._TELLING:
        found = module._measure(module._MEASURABLE[name])
        assert (found.privileged, found.sensitive) == (True, "shows whose machine it is"), name
    for name in module._RING:
        found = module._measure(module._MEASURABLE[name])
        assert (found.trouble, found.sensitive) == (True, "shows which ring it is in"), name
    for name in module._HARMLESS:
        assert not module._measure(module._MEASURABLE[name]).sensitive, name
    for name in module._HOLES:
        assert module._measure(module._MEASURABLE[name]).trouble, name
