"""What students of lesson 01 typically get wrong, and what must come of it; `vlab course check` proves it.

This holds lines of the solutions, so it is not handed out.
"""

from __future__ import annotations

from typing import Final

from vlab.grading.exercise import Mistake

MISTAKES: Final[dict[str, tuple[Mistake, ...]]] = {
    "classify": (
        Mistake(
            "does not ask whether ring 0 may do it",
            broken=("privileged", "all"),
            hint="does not in ring 0",
            edits=(('not runs["ring0"]["trap"] and ', ""),),
        ),
        Mistake(
            "never compares two machines",
            broken=("tells", "all"),
            hint="on two machines",
            edits=(("if ring0 != elsewhere:", "if False:"),),
        ),
        Mistake(
            "does not see the ring",
            broken=("ring", "offenders", "all"),
            hint="executes in ring 1 or 3",
            edits=(('not run["trap"] and run != ring0', "False"),),
        ),
        Mistake(
            "takes a trap for a difference",
            broken=("innocuous", "all"),
            hint="A trap is no difference",
            edits=(('not run["trap"] and run != ring0', "run != ring0"),),
        ),
        Mistake(
            "blames all that is sensitive",
            broken=("offenders", "all"),
            hint="which is harmless to a monitor",
            edits=((" and executes:", ":"),),
        ),
    ),
}
