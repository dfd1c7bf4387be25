"""What is tried of a student's cycles a touch, and of the search for the crossover."""

from __future__ import annotations

from typing import Final

from prices_11 import Prices, amount, near
from sweep_11 import LIMIT, Lab, lab_of

from vlab.compare.crossover import workload_at
from vlab.compare.sweep import cycles_a_touch
from vlab.grading.exercise import Broken
from vlab.grading.facade import Function, Value
from vlab.grading.trial import Trial

CLOSE_ENOUGH: Final = 1.25


def _touch_costed(trial: Trial, way: str, touches: int, hint: str) -> None:
    lab = lab_of(trial)
    workload = workload_at(lab.pages, touches)
    rounds, counted, lookups = lab.count(workload, way)
    run: dict[str, Value] = {
        "touches": rounds * workload.touches,
        "updates": rounds * workload.updates,
        "hits": lookups.hits[-1],
        "misses": lookups.misses,
        "fills": counted.fills,
        "exits": {reason: each for reason, each in counted.exits.items() if each},
        "last": counted.walk.last,
        "upper": counted.walk.upper,
    }
    given = amount("a_touch", trial.student.call("a_touch", Prices(lab.processor), run))
    expected = cycles_a_touch(lab.processor, workload, rounds, counted, lookups)
    if not near(given, expected):
        told = ", ".join(f"{name} {each!r}" for name, each in run.items() if name != "exits")
        raise Broken(
            f"over {way} tables ({told}; exits {counted.exits}) a touch takes {expected:,.1f} cycles; "
            f"a_touch says {given:,.1f}",
            hint=hint,
        )


def misses_costed(trial: Trial) -> None:
    """Rounds without an update."""
    hint = "a miss is a walk: run['last'] references at one price and run['upper'] at the other"
    for way in ("nested", "shadow"):
        _touch_costed(trial, way, 0, hint)


def updates_costed(trial: Trial) -> None:
    """Rounds with updates, over shadow tables."""
    hint = "exits cost what costs.exit says, an update costs its own; after a fill the processor walks again"
    _touch_costed(trial, "shadow", trial.rng.randrange(2, 12), hint)


def _found(trial: Trial, lab: Lab) -> None:
    """Have the student look for the crossover, and measure at what was found."""
    given = trial.student.call("crossover", Function(lab.measure))
    if isinstance(given, str):
        raise Broken(
            f"crossover returned {given!r}, and neither way wins at every rate here: "
            f"{_sides(lab, 1)}; {_sides(lab, LIMIT)}",
            hint=f"measure at 1 and at {LIMIT} first: who wins there?",
        )
    if not isinstance(given, list) or len(given) != 2 or not all(_possible(each) for each in given):
        raise Broken(
            f"crossover returned {given!r}; it has to return two numbers from 1 to {LIMIT}, or a word"
        )
    often, seldom = (each for each in given if isinstance(each, int))
    lab.known = {each: lab.known[each] for each in (often, seldom) if each in lab.known}
    if not _wins(lab, often) or _wins(lab, seldom):
        raise Broken(
            f"at the first rate nested tables win, at the second shadow tables; here: "
            f"{_sides(lab, often)}; {_sides(lab, seldom)}",
            hint="keep two rates all the time: one where nested tables win, and one where they do not",
        )
    if not often < seldom or (seldom > CLOSE_ENOUGH * often and seldom != often + 1):
        raise Broken(
            f"one update in {often} and one in {seldom} touches are more than a quarter apart",
            hint="go on until seldom <= 1.25 * often, or nothing is between them",
        )


def _possible(touches: Value) -> bool:
    return isinstance(touches, int) and not isinstance(touches, bool) and 1 <= touches <= LIMIT


def _wins(lab: Lab, touches: int) -> bool:
    lab.measure(touches)
    shadow, nested = lab.known[touches]
    return nested <= shadow


def _sides(lab: Lab, touches: int) -> str:
    lab.known = {each: lab.known[each] for each in (touches,) if each in lab.known}
    lab.measure(touches)
    shadow, nested = lab.known[touches]
    return (
        f"with one update in {touches} touches {shadow:,.1f} cycles over shadow tables and {nested:,.1f} "
        "over nested ones"
    )


def line_found(trial: Trial) -> None:
    """A processor on which each way wins at some rates."""
    _found(trial, lab_of(trial, factor=trial.rng.uniform(0.6, 1.2)))


def sides_told(trial: Trial) -> None:
    """A TLB that holds everything, and a processor whose exits cost next to nothing."""
    for word, options in (("nested", {"reach": 64}), ("shadow", {"factor": 0.001})):
        lab = lab_of(trial, **options)
        given = trial.student.call("crossover", Function(lab.measure))
        if given != word:
            raise Broken(
                f"crossover returned {given!r} and {word} tables win, or do no worse, at every rate: "
                f"{_sides(lab, 1)}; {_sides(lab, LIMIT)}",
                hint=f"measure at 1 and at {LIMIT} first: who wins there? In a draw it is nested",
            )
