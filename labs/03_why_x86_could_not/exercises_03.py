"""Why x86 could not be virtualized: the exercises, their points and their hints."""

from __future__ import annotations

from typing import Final

import find_checks_03 as find
import repair_checks_03 as repair

from vlab.grading.exercise import Exercise, Invariant

FIND: Final = Exercise(
    "find",
    "Find the instruction that breaks the guest",
    ("find",),
    (
        Invariant("registers", 2, "it is found when a register shows it", find.registers),
        Invariant("memory", 2, "it is found when memory alone shows it at first", find.memory),
        Invariant("flags", 2, "it is found when only EFLAGS.IF shows it", find.flags),
        Invariant("decoys", 1, "the same instructions are not blamed where they do no harm", find.decoys),
        Invariant("nothing", 1, "nothing is blamed in a guest that is all right", find.nothing),
        Invariant("others", 3, "all of it holds for other guests", find.others, hidden=True),
    ),
    hints=(
        "Two parts: find the segment, from checkpoint to checkpoint, that makes a difference; read its code.",
        "Remember EIP of the checkpoint before, and disassemble from there. `out 0x80, al` is the end.",
        "Compare debugger.registers(...) and debugger.memory(...) of both areas, of both machines.",
    ),
)
REPAIR: Final = Exercise(
    "repair",
    "PUSHF and POPF, repaired",
    ("pushf", "popf"),
    (
        Invariant("pushes", 2, "PUSHF shows the guest's own IF", repair.pushes),
        Invariant("pops", 2, "POPF changes the guest's own IF and IOPL in ring 0", repair.pops),
        Invariant("programs", 2, "POPF in ring 3 leaves IOPL alone, and IF if IOPL is 0", repair.programs),
        Invariant("allowed", 1, "POPF in ring 3 changes IF if IOPL is 3", repair.allowed),
        Invariant("boots", 2, "wren boots to its shell, and the shell answers", repair.boots),
        Invariant("others", 2, "all of it holds for other guests", repair.others, hidden=True),
    ),
    hints=(
        "PUSHF: ESP goes down by 4, the flags go there, and EIP moves on by 1. POPF is the way back.",
        "POPF takes the bits in FLAGS from the stack: cpu.eflags & ~FLAGS | value & FLAGS.",
        "Before that, take IOPL out of FLAGS if cpu.cpl > 0, and IF if cpu.cpl > cpu.iopl.",
    ),
)
EXERCISES: tuple[Exercise, ...] = (FIND, REPAIR)
