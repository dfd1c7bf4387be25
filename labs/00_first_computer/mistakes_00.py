"""What students of lesson 00 typically get wrong, and what must come of it; `vlab course check` proves it.

This holds lines of the solutions, so it is not handed out.
"""

from __future__ import annotations

from typing import Final

from vlab.grading.exercise import Mistake

MISTAKES: Final[dict[str, tuple[Mistake, ...]]] = {
    "spoken": (
        Mistake(
            "takes every port for the console",
            broken=("ports", "divisor", "others"),
            hint="the console's is 0x3F8",
            edits=(("elif port == 0x3F8 and not latch:", "else:"),),
        ),
        Mistake(
            "takes reads for writes",
            broken=("reads", "others"),
            hint="An IN is an IOIO exit too",
            edits=((" or not each.info1 >> 24", ""),),
        ),
        Mistake(
            "forgets that the speed is set through the same port",
            broken=("divisor", "others"),
            hint="low byte of the speed's divisor",
            edits=((" and not latch", ""),),
        ),
    ),
    "cpuid": (
        Mistake(
            "forgets to go past the instruction",
            broken=("goes_on", "vendor", "present", "name", "rest", "long_mode"),
            hint="cpu.rip += 2",
            edits=(("cpu.rip += 2", "pass"),),
        ),
        Mistake(
            "puts the vendor in alphabetical order",
            broken=("vendor", "long_mode"),
            hint="EBX, EDX, ECX",
            edits=(("ebx, edx, ecx = words(vendor)", "ebx, ecx, edx = words(vendor)"),),
        ),
        Mistake(
            "leaves the subleaf out",
            broken=("rest", "long_mode"),
            hint="Some leaves have subleaves",
            edits=(("cpu.processor(leaf, cpu.ecx)", "cpu.processor(leaf, 0)"),),
        ),
        Mistake(
            "shows nothing but the monitor's bit",
            broken=("present", "long_mode"),
            hint="all other bits stay",
            edits=(("ecx |= 1 << 31", "ecx = 1 << 31"),),
        ),
    ),
}
