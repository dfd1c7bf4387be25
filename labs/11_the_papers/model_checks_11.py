"""What is tried of a student's cost model; `vlab.costs.model` says what it should make of the counts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from prices_11 import Table, amount, near, shuffled
from runs_11 import BODIES, NESTED, SHADOWED, TRANSLATED, TRAPPED, reading_of, two_runs

from vlab.costs.model import of_operation
from vlab.costs.operations import OPERATIONS
from vlab.costs.readings import Way
from vlab.grading.exercise import Broken
from vlab.grading.facade import Value
from vlab.grading.trial import Trial

_CARRIED_OUT: Final = frozenset(each.name for each in OPERATIONS if each.carried_out)


def _rates(trial: Trial, way: Way, operation: str) -> None:
    few, many = two_runs(trial, way, operation)
    given = trial.student.call("rates", few.told(), many.told())
    where = f"{operation}, {few.count} and {many.count} times under {way.name}"
    if not isinstance(given, dict) or not isinstance(given.get("exits"), dict):
        raise Broken(
            f'{where}: rates returned {given!r}; it has to return {{"exits": {{...}}, "blocks": ...}}'
        )
    expected = reading_of(few, many)
    exits = given["exits"]
    assert isinstance(exits, dict)
    for reason in {**expected.exits, **exits}:
        mine, right = amount("rates", exits.get(reason, 0)), expected.exits.get(reason, 0.0)
        if not near(mine, right):
            raise Broken(
                f"{where}: {few.exits.get(reason, 0)} and {many.exits.get(reason, 0)} exits of {reason} are "
                f"{right:g} for one operation; rates says {mine:g}",
                hint="what came before and after the operations is in both runs",
            )
    if not near(amount("rates", given.get("blocks")), expected.blocks or 0.0):
        raise Broken(
            f"{where}: {few.blocks} and {many.blocks} blocks are {expected.blocks:g} for one operation; "
            f"rates says {given.get('blocks')!r}",
            hint="blocks are counted as exits are: by the difference",
        )


def rates_hold(trial: Trial) -> None:
    """Two runs, taken apart."""
    for way, operation in ((SHADOWED, "cr"), (SHADOWED, "in"), (TRANSLATED, "invlpg"), (NESTED, "cr")):
        _rates(trial, way, operation)


def _costed(trial: Trial, cases: Sequence[tuple[Way, str]], hint: str) -> None:
    """Count each case anew, and compare the student's cycles with the model's, for a table by chance."""
    for way, operation in cases:
        few, many = two_runs(trial, way, operation)
        reading = reading_of(few, many)
        costs, generation = shuffled(trial.rng)
        expected = of_operation(costs, generation, operation, way, reading)
        assert expected is not None, (way, operation)
        one: dict[str, Value] = {
            "operation": operation,
            "exits": dict(reading.exits),
            "blocks": reading.blocks,
            "carried_out": operation in _CARRIED_OUT and reading.total >= 1,
        }
        given = amount("cycles", trial.student.call("cycles", Table(costs, generation, way.monitor), one))
        if not near(given, expected.total):
            exits = ", ".join(f"{each:g} {reason}" for reason, each in reading.exits.items()) or "no exits"
            raise Broken(
                f"{operation} under {way.name} ({exits}; {reading.blocks:g} blocks) takes "
                f"{expected.total:,.0f} cycles with this table: {expected.guest:,.0f} the guest's own and "
                f"{expected.exits:,.0f} for exits; cycles says {given:,.0f}",
                hint=hint,
            )


def exits_charged(trial: Trial) -> None:
    """Operations that exit."""
    cases = [(SHADOWED, "cpuid"), (TRAPPED, "invlpg"), (SHADOWED, "invlpg")]
    _costed(trial, cases, "each exit is the way there and back, and the work that its reason asks for")


def inside_charged(trial: Trial) -> None:
    """An operation that translated code serves."""
    _costed(
        trial, [(TRANSLATED, "invlpg")],
        "what translated code serves by itself makes no way to the monitor: costs.inside(reason)",
    )  # fmt: skip


def own_charged(trial: Trial) -> None:
    """Operations of which the guest does a part, or all."""
    cases = [(SHADOWED, "callret"), (NESTED, "invlpg"), (TRANSLATED, "callret"), (NESTED, "cr")]
    _costed(
        trial, cases,
        "the guest's own part: the native figure and what translation adds, or by basic blocks where "
        "costs.native gives None",
    )  # fmt: skip


def carried_out(trial: Trial) -> None:
    """Operations that the monitor carries out."""
    cases = [(SHADOWED, "in"), (TRAPPED, "cr"), (SHADOWED, "cr")]
    _costed(trial, cases, "what the monitor has carried out, the processor did not do: the guest's part is 0")


def hidden(trial: Trial) -> None:
    """All of that on other guests and tables."""
    choice = trial.rng.choice
    _rates(trial, choice((SHADOWED, TRAPPED)), choice(("in", "cr")))
    cases = [
        (choice((SHADOWED, TRAPPED)), choice(("in", "cr"))),
        (choice((SHADOWED, TRAPPED)), "invlpg"),
        (TRANSLATED, choice(("invlpg", "cr"))),
        (NESTED, choice(list(BODIES))),
    ]
    _costed(trial, cases, "read the four other sentences again, for these guests")
