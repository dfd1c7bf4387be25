"""What students of lesson 06 typically get wrong, and what must come of it; `vlab course check` proves it.

This holds lines of the solutions, so it is not handed out.
"""

from __future__ import annotations

from typing import Final

from vlab.grading.exercise import Mistake

MISTAKES: Final[dict[str, tuple[Mistake, ...]]] = {
    "fill": (
        Mistake(
            "maps clean pages writable",
            broken=("dirty", "kernel", "hidden"),
            hint="to miss once for each",
            edits=(("miss.may_write and (miss.write or miss.dirty)", "miss.may_write"),),
        ),
        Mistake(
            "sets D too early",
            broken=("dirty", "kernel", "hidden"),
            hint="D is 1",
            edits=(("if miss.write:", "if miss.may_write:"),),
        ),
        Mistake(
            "forgets A",
            broken=("accessed", "kernel", "hidden"),
            hint="A is 0",
            edits=(("miss.set_accessed()", "pass"),),
        ),
        Mistake(
            "gives ring 3 everything",
            broken=("granted", "hidden"),
            hint="grants more than",
            edits=(("miss.for_users", "True"),),
        ),
    ),
    "protect": (
        Mistake(
            "protects the last table alone",
            broken=("upper", "hidden"),
            hint="the directory too",
            edits=(('for table in page["tables"]:', 'for table in page["tables"][-1:]:'),),
        ),
        Mistake(
            "protects nothing",
            broken=("edits", "upper", "shared", "hidden"),
            hint="the shadow still had",
            edits=(("        shadow.protect(table)", "        pass"),),
        ),
        Mistake(
            "maps tables writable",
            broken=("edits", "upper", "shared", "hidden"),
            hint="the shadow still had",
            edits=(('page["may_write"] and not shadow.protected(page["frame"])', 'page["may_write"]'),),
        ),
        Mistake(
            "lets the write through and drops nothing",
            broken=("edits", "upper", "shared", "hidden"),
            hint="the shadow still had",
            edits=(("    shadow.drop_made_from(table)\n", ""),),
        ),
    ),
}
