"""What students of lesson 08 typically get wrong, and what must come of it; `vlab course check` proves it.

This holds lines of the solutions, so it is not handed out.
"""

from __future__ import annotations

from typing import Final

from vlab.grading.exercise import Mistake

MISTAKES: Final[dict[str, tuple[Mistake, ...]]] = {
    "walk": (
        Mistake(
            "forgets the last nested walk",
            broken=("arrives", "references", "large", "nested_fault", "hidden"),
            hint="is a guest-physical address",
            edits=(("    return nested(host, gpa)", "    return gpa"),),
        ),
        Mistake(
            "knows no large pages in the host",
            broken=("large", "hidden"),
            hint="PS (bit 7) at level 2",
            edits=(("if shift == 21 and entry & 0x80:  # nested", "if False:"),),
        ),
        Mistake(
            "walks on behind an absent entry",
            broken=("guest_fault", "hidden"),
            hint="is the guest's affair",
            edits=(("if not entry & 1:  # guest", "if not entry:"),),
        ),
        Mistake(
            "takes every miss for the guest's",
            broken=("nested_fault", "hidden"),
            hint="is the monitor's affair",
            edits=(("return host.nested_fault(gpa)", "return host.guest_fault()"),),
        ),
    ),
    "tables": (
        Mistake(
            "forgets the bit of ring 3",
            broken=("boots", "memory", "read_only", "large", "hidden"),
            hint="counts as one of ring 3",
            edits=(('7 if region["writable"] else 5', '3 if region["writable"] else 1'),),
        ),
        Mistake(
            "lets the guest write to its firmware",
            broken=("read_only", "hidden"),
            hint="are right",
            edits=(('7 if region["writable"] else 5', "7"),),
        ),
        Mistake(
            "maps addresses to themselves",
            broken=("boots", "memory", "read_only", "large", "hidden"),
            hint="not its own",
            edits=(('gpa, hpa = region["gpa"], region["hpa"]', 'gpa, hpa = region["gpa"], region["gpa"]'),),
        ),
        Mistake(
            "knows small pages alone",
            broken=("large",),
            hint="are enough",
            edits=(("if (gpa | hpa) % LARGE == 0 and left >= LARGE:", "if False:"),),
        ),
    ),
}
