"""What students of lesson 03 typically get wrong, and what must come of it; `vlab course check` proves it.

This holds lines of the solutions, so it is not handed out.
"""

from __future__ import annotations

from typing import Final

from vlab.grading.exercise import Mistake

MISTAKES: Final[dict[str, tuple[Mistake, ...]]] = {
    "find": (
        Mistake(
            "looks at registers alone",
            broken=("memory", "others"),
            hint="Compare the memory, too",
            edits=(("for area in debugger.areas", "for area in ()"),),
        ),
        Mistake(
            "leaves the flags out",
            broken=("flags", "others"),
            hint="leaves IF alone",
            edits=(
                (
                    "registers = debugger.registers(machine)",
                    'registers = debugger.registers(machine) | {"eflags": 0}',
                ),
            ),
        ),
        Mistake(
            "blames the first that could be wrong",
            broken=("registers", "memory", "flags", "decoys", "nothing", "others"),
            hint="goes wrong",
            edits=(('if state("right") != state("wrong"):', "if True:"),),
        ),
    ),
    "repair": (
        Mistake(
            "shows the processor's own IF",
            broken=("pushes", "boots", "others"),
            hint="the guest's own flags",
            edits=(("cpu.eflags & ~0x30000", "cpu.eflags & ~0x30000 | 0x200"),),
        ),
        Mistake(
            "lets programs switch interrupts off",
            broken=("programs", "others"),
            hint="IF does if CPL is not above IOPL",
            edits=(("if cpu.cpl > cpu.iopl:", "if False:"),),
        ),
        Mistake(
            "asks for ring 0 only",
            broken=("allowed",),
            hint="CPL is not above IOPL",
            edits=(("if cpu.cpl > cpu.iopl:", "if cpu.cpl > 0:"),),
        ),
        Mistake(
            "leaves the stack as it is",
            broken=("pops", "programs", "allowed", "boots", "others"),
            hint="instead of",
            edits=(("cpu.esp += 4", "pass"),),
        ),
    ),
}
