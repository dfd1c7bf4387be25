"""What students of lesson 04 typically get wrong, and what must come of it; `vlab course check` proves it.

This holds lines of the solutions, so it is not handed out.
"""

from __future__ import annotations

from typing import Final

from vlab.grading.exercise import Mistake

MISTAKES: Final[dict[str, tuple[Mistake, ...]]] = {
    "sort": (
        Mistake(
            "copies POPF and PUSHF, for they do not fault",
            broken=("flags", "hidden"),
            hint="do not fault at CPL 1",
            edits=(('"pushfd", "popfd"', '"-"'),),
        ),
        Mistake(
            "calls the flags out",
            broken=("cheap",),
            hint="what can be rewritten is quicker",
            edits=(
                ('"cli", "sti", "pushfd", "popfd"', '"-"'),
                ('"hlt", ', '"hlt", "cli", "sti", "pushfd", "popfd", '),
            ),
        ),
        Mistake(
            "overlooks what reads silently",
            broken=("system", "hidden"),
            hint="segments, tables",
            edits=(('"lar", "lsl", ', ""),),
        ),
        Mistake(
            "copies conditional jumps",
            broken=("transfers", "cheap", "kernel"),
            hint="none is copied",
            edits=(('name.startswith("j")', 'name == "jmp"'),),
        ),
    ),
    "book": (
        Mistake(
            "forgets the context",
            broken=("contexts", "hidden"),
            hint="interrupts on",
            edits=(("(address, context)", "address"),),
        ),
        Mistake(
            "finds what was dropped",
            broken=("changed", "hidden"),
            hint="never found again",
            edits=(("number in self.staying else None", "True else None"),),
        ),
        Mistake(
            "never chains",
            broken=("chained",),
            hint="as long as nothing speaks against it",
            edits=(("return source in self.staying and target in self.staying", "return False"),),
        ),
        Mistake(
            "chains whatever comes",
            broken=("once",),
            hint="both have to be there to stay",
            edits=(("return source in self.staying and target in self.staying", "return True"),),
        ),
    ),
}
