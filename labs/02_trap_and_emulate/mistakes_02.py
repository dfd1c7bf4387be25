"""What students of lesson 02 typically get wrong, and what must come of it; `vlab course check` proves it.

This holds lines of the solutions, so it is not handed out.
"""

from __future__ import annotations

from typing import Final

from vlab.grading.exercise import Mistake

MISTAKES: Final[dict[str, tuple[Mistake, ...]]] = {
    "interrupt-flag": (
        Mistake(
            "forgets to move EIP behind CLI",
            broken=("follows", "shadow", "allowed", "hidden"),
            hint="RIP is",
            edits=(
                (
                    'cpu.interrupt_flag = False\n    cpu.eip += insn["length"]',
                    "cpu.interrupt_flag = False",
                ),
            ),
        ),
        Mistake(
            "clears the wrong flag",
            broken=("follows", "allowed", "hidden"),
            hint="RFLAGS.",
            edits=(("cpu.interrupt_flag = False", "cpu.eflags &= ~0x400"),),
        ),
        Mistake(
            "never looks at the ring",
            broken=("refused",),
            hint="RIP is",
            edits=(("if cpu.cpl > cpu.iopl:", "if False:"),),
        ),
        Mistake(
            "forgets the shadow",
            broken=("shadow",),
            hint="STI; HLT",
            edits=(("cpu.interrupt_shadow()", "pass"),),
        ),
    ),
    "registers": (
        Mistake(
            "takes one direction for the other",
            broken=("controls", "paging", "hidden"),
            hint="instead of",
            edits=(('if insn["to_control"]', 'if not insn["to_control"]'),),
        ),
        Mistake(
            "reads the base first",
            broken=("table", "refused"),
            hint="GDTR is",
            edits=(
                (
                    "cpu.read(where + 2, 4), cpu.read(where, 2)",
                    "cpu.read(where, 4), cpu.read(where + 4, 2)",
                ),
            ),
        ),
        Mistake(
            "lets ring 3 do it",
            broken=("refused",),
            hint="these instructions belong to ring 0",
            edits=(("if cpu.cpl > 0:", "if False:"),),
        ),
    ),
    "sleep-and-return": (
        Mistake(
            "forgets the stack of the outer ring",
            broken=("refused", "outside", "kernel", "hidden"),
            hint="ESP and SS are on the stack",
            edits=(("if cs & 3 > cpu.cpl:", "if False:"),),
        ),
        Mistake(
            "leaves the frame on the stack",
            broken=("inside",),
            hint="RSP is",
            edits=(("cpu.esp = esp + 12", "pass"),),
        ),
        Mistake(
            "goes on instead of sleeping",
            broken=("sleeps",),
            hint="cpu.halt()",
            edits=(("cpu.halt()", "pass"),),
        ),
    ),
}
