"""The papers, reproduced: the exercises, their points and their hints."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import crossover_checks_11 as crossover
import model_checks_11 as model
from sweep_11 import LIMIT, MOST_RUNS

from vlab.grading.exercise import Exercise, Invariant
from vlab.grading.trial import Trial

Check = Callable[[Trial], None]


def _invariants(*rows: tuple[str, float, str, Check]) -> tuple[Invariant, ...]:
    return tuple(Invariant(*row, hidden=row[0] == "hidden") for row in rows)


EXERCISES: Final = (
    Exercise(
        "cost-model",
        "From counts to cycles",
        defines=("rates", "cycles"),
        invariants=_invariants(
            ("rates", 2, "an operation is the difference of two runs, over how many more", model.rates_hold),
            (
                "exits", 3,
                "an exit is the way there and back and the work for its reason",
                model.exits_charged,
            ),
            ("inside", 1, "what translated code serves by itself makes no such way", model.inside_charged),
            ("own", 2, "the guest's own part is its native figure, or its basic blocks", model.own_charged),
            ("carried_out", 2, "what the monitor carries out costs the guest nothing", model.carried_out),
            ("hidden", 1, "all of that on guests and tables that you have not seen", model.hidden),
        ),
        hints=(
            "A run has a beginning and an end that no operation is to blame for. Two runs have the same.",
            (
                'Sum over one["exits"].items(): costs.exit(reason) for each, and costs.transition unless '
                "costs.inside(reason)."
            ),
            (
                'The guest\'s part: 0 if one["carried_out"], else costs.native(...) + costs.translated(...), '
                'or one["blocks"] * costs.block where native gives None.'
            ),
        ),
    ),
    Exercise(
        "crossover",
        "Shadow against nested tables",
        defines=("a_touch", "crossover"),
        invariants=_invariants(
            (
                "misses", 2,
                "a TLB miss costs a walk, each of its references at its own price",
                crossover.misses_costed,
            ),
            ("updates", 2, "an update costs its exits, and a fill walks once more", crossover.updates_costed),
            (
                "line", 3,
                f"your two rates enclose the crossover, a quarter apart, after {MOST_RUNS} runs at most",
                crossover.line_found,
            ),
            ("sides", 2, "where one way wins at every rate, you say which", crossover.sides_told),
            ("hidden", 1, "all of that on processors that you have not seen", crossover.line_found),
        ),
        hints=(
            "Cycles first, for the whole run; divide by run['touches'] at the very end.",
            "Walks: misses + fills. Each is last * last_reference + upper * upper_reference.",
            (
                f"Begin with measure(1) and measure({LIMIT}). Keep `often`, where nested tables win, and "
                "`seldom`, where they do not, and try the middle by ratio: round((often * seldom) ** 0.5)."
            ),
        ),
    ),
)  # fmt: skip
