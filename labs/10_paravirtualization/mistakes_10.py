"""What students of lesson 10 typically get wrong, and what must come of it; `vlab course check` proves it.

This holds lines of the solutions, so it is not handed out.
"""

from __future__ import annotations

from typing import Final

from vlab.grading.exercise import Mistake

MISTAKES: Final[dict[str, tuple[Mistake, ...]]] = {
    "hypercalls": (
        Mistake(
            "believes what the guest says of frames",
            broken=("foreign", "order", "hidden"),
            hint="is not the guest's",
            edits=(("not hv.owns(value)", "False"),),
        ),
        Mistake(
            "lets the guest write to its tables",
            broken=("tables", "hidden"),
            hint="with it the guest can write to its",
            edits=(('hv.use(value) != "plain"', "False"),),
        ),
        Mistake(
            "refuses what is not present",
            broken=("foreign", "flags", "hidden"),
            hint="and you refuse it",
            edits=(("if not value & 1:", "if value == 0:"),),
        ),
        Mistake(
            "goes on behind a refused update",
            broken=("order",),
            hint="up to the first that is refused",
            edits=(("            break", "            continue"),),
        ),
        Mistake(
            "prints what it cannot read",
            broken=("console",),
            hint="EFAULT is the answer",
            edits=(("        return EFAULT  # nothing", "        return 0  # nothing"),),
        ),
    ),
    "batching": (
        Mistake(
            "sends each change at once",
            broken=("budget", "lazy", "hidden"),
            hint="let changes wait",
            edits=(("self.pages.add(linear)", "self.pages.add(linear)\n        self.send(kernel)"),),
        ),
        Mistake(
            "forgets to flush",
            broken=("right", "long", "budget", "lazy", "hidden"),
            hint="old translations flushed",
            edits=(("kernel.flush_all()", "pass"),),
        ),
        Mistake(
            "sends at every touch",
            broken=("lazy", "hidden"),
            hint="did not change",
            edits=(("if linear in self.pages:", "if self.waiting:"),),
        ),
        Mistake(
            "knows no limit",
            broken=("long",),
            hint="cut what waits",
            edits=(("range(0, len(self.waiting), 64)", "(0,)"), ("[first : first + 64]", "")),
        ),
    ),
}
