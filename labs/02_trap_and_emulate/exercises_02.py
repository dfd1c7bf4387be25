"""Trap-and-emulate: the exercises, their points and their hints."""

from __future__ import annotations

from typing import Final

import checks_02 as checks

from vlab.grading.exercise import Exercise, Invariant

EXERCISES: Final = (
    Exercise(
        "interrupt-flag",
        "CLI and STI",
        defines=checks.BOTH,
        invariants=(
            Invariant(
                "follows",
                3,
                "the guest's own IF follows its CLIs and STIs, and nothing else changes",
                checks.flag_follows,
            ),
            Invariant(
                "shadow",
                1,
                "no interrupt comes between an STI and the instruction after it",
                checks.shadow_kept,
            ),
            Invariant(
                "refused", 2, "in ring 3 with IOPL 0 the guest gets #GP with error code 0", checks.cli_refused
            ),
            Invariant(
                "allowed", 1, "in ring 3 with IOPL 3 they do what they do in ring 0", checks.cli_allowed
            ),
            Invariant(
                "hidden", 1, "all of that on guests that you have not seen", checks.flag_follows, hidden=True
            ),
        ),
        hints=(
            "The real EFLAGS.IF is always 1 while the guest runs. Where is the guest's?",
            "Look at cpu.interrupt_flag. And who moves EIP behind the instruction, if not you?",
            "Refuse if cpu.cpl > cpu.iopl: cpu.fault(13, 0). Else change the flag and move cpu.eip.",
        ),
    ),
    Exercise(
        "registers",
        "MOV CRn and LGDT",
        defines=checks.REGISTERS,
        invariants=(
            Invariant(
                "controls",
                3,
                "CR0, CR2 and CR3 are the guest's own, in both directions",
                checks.controls_follow,
            ),
            Invariant("table", 2, "LGDT gives the guest the GDT that it names", checks.table_follows),
            Invariant(
                "refused", 2, "in ring 3 the guest gets #GP with error code 0", checks.controls_refused
            ),
            Invariant("paging", 2, "a guest that turns paging on runs on", checks.paging_follows),
            Invariant(
                "hidden",
                1,
                "all of that on guests that you have not seen",
                checks.controls_follow,
                hidden=True,
            ),
        ),
        hints=(
            "There are two directions: insn['to_control'] says which.",
            "getattr(cpu, insn['register']) reads the general register, setattr writes it.",
            "LGDT: cpu.read(insn['address'], 2) is the limit, and the base is the 4 bytes behind it.",
        ),
    ),
    Exercise(
        "sleep-and-return",
        "HLT and IRET",
        defines=checks.RETURNS,
        invariants=(
            Invariant("sleeps", 1, "HLT lets the guest sleep", checks.sleeps),
            Invariant("refused", 1, "in ring 3 HLT is #GP with error code 0", checks.hlt_refused),
            Invariant(
                "inside",
                2,
                "IRET within ring 0 takes EIP, CS and EFLAGS from the stack",
                checks.returns_inside,
            ),
            Invariant("outside", 3, "IRET to ring 3 takes ESP and SS, too", checks.returns_outside),
            Invariant("kernel", 2, "the guest `rings` runs to its end", checks.whole_guest),
            Invariant(
                "hidden",
                1,
                "all of that on guests that you have not seen",
                checks.returns_outside,
                hidden=True,
            ),
        ),
        hints=(
            "IRET is the way into a ring as well as back from one: what it finds on the stack decides.",
            "The words are at cpu.esp: EIP, CS, EFLAGS. If cs & 3 > cpu.cpl, ESP and SS follow.",
            "Set cpu.eflags last; set cpu.esp where the ring stays: return_to_outer_ring loads it.",
        ),
    ),
)
