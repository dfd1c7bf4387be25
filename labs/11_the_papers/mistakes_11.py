"""What students of lesson 11 typically get wrong, and what must come of it; `vlab course check` proves it.

This holds lines of the solutions, so it is not handed out.
"""

from __future__ import annotations

from typing import Final

from vlab.grading.exercise import Mistake

MISTAKES: Final[dict[str, tuple[Mistake, ...]]] = {
    "cost-model": (
        Mistake(
            "divides one run by its count",
            broken=("rates", "hidden"),
            hint="what came before and after",
            edits=(
                (' - few["exits"].get(reason, 0)', ""),
                ('many["count"] - few["count"]', 'many["count"]'),
            ),
        ),
        Mistake(
            "forgets the way to the monitor",
            broken=("exits", "carried_out", "hidden"),
            hint="the way there and back",
            edits=(("costs.exit(reason) + way", "costs.exit(reason)"),),
        ),
        Mistake(
            "charges the way for what is served inside",
            broken=("inside", "hidden"),
            hint="costs.inside(reason)",
            edits=(("0 if costs.inside(reason) else costs.transition", "costs.transition"),),
        ),
        Mistake(
            "charges the port twice",
            broken=("carried_out", "hidden"),
            hint="the processor did not do",
            edits=(('if one["carried_out"]:', "if False:"),),
        ),
    ),
    "crossover": (
        Mistake(
            "prices all references alike",
            broken=("misses", "updates"),
            hint="at the other",
            edits=(('run["upper"] * costs.upper_reference', 'run["upper"] * costs.last_reference'),),
        ),
        Mistake(
            "forgets the walk after a fill",
            broken=("updates",),
            hint="walks again",
            edits=(('(run["misses"] + run["fills"])', 'run["misses"]'),),
        ),
        Mistake(
            "tries one rate after the other",
            broken=("line", "hidden"),
            hint="halve the range",
            edits=(("middle = round((often * seldom) ** 0.5)", "middle = often + 1"),),
        ),
        Mistake(
            "never looks at the ends",
            broken=("sides",),
            hint="who wins there?",
            edits=(
                ('    if nested_wins(256):\n        return "nested"\n', ""),
                ('    if not nested_wins(1):\n        return "shadow"\n', ""),
            ),
        ),
    ),
}
