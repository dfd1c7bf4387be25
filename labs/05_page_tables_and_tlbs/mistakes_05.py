"""What students of lesson 05 typically get wrong, and what must come of it; `vlab course check` proves it.

This holds lines of the solutions, so it is not handed out.
"""

from __future__ import annotations

from typing import Final

from vlab.grading.exercise import Mistake

MISTAKES: Final[dict[str, tuple[Mistake, ...]]] = {
    "walk": (
        Mistake(
            "looks at the last entry alone",
            broken=("rights", "hidden"),
            hint="a right is there if every entry on the way grants it",
            edits=(("rights = pde & pte", "rights = pte"),),
        ),
        Mistake(
            "leaves P out of the error code",
            broken=("rights", "hidden"),
            hint="P is 1 where an entry was present",
            edits=(("return mmu.page_fault(code | 1)", "return mmu.page_fault(code)"),),
        ),
        Mistake(
            "takes ring 0 for free of R/W",
            broken=("rights", "hidden"),
            hint="CR0.WP binds ring 0",
            edits=(
                (
                    "if write and not rights & 2 and (user or mmu.wp):",
                    "if write and not rights & 2 and user:",
                ),
            ),
        ),
        Mistake(
            "takes a 4 MiB page for a table",
            broken=("large", "hidden"),
            hint="the processor",
            edits=(("if pde & 0x80:", "if False:"),),
        ),
        Mistake(
            "walks on behind an absent directory entry",
            broken=("absent", "entries", "hidden"),
            hint="bit 0 of every entry",
            edits=(("if not pde & 1:", "if not pde:"),),
        ),
    ),
    "walk_pae": (
        Mistake(
            "asks the pointers for rights",
            broken=("small", "large", "rights", "no_execute", "reserved", "hidden"),
            hint="a right is there",
            edits=(("rights = 6", "rights = 6 & pointer"),),
        ),
        Mistake(
            "leaves NX in the frame",
            broken=("no_execute", "hidden"),
            hint="no entry of 8 bytes",
            edits=(("FRAME = 0xFF_FFFF_F000", "FRAME = ~0xFFF"),),
        ),
        Mistake(
            "sets I for faults of NX alone",
            broken=("no_execute", "hidden"),
            hint="W, U and I",
            edits=(("code = write * 2 | user * 4 | fetch * 16", "code = write * 2 | user * 4"),),
        ),
        Mistake(
            "looks at reserved bits last",
            broken=("reserved", "hidden"),
            hint="before rights",
            edits=(("if entry & RESERVED:", "if entry & RESERVED and not user and not write:"),),
        ),
    ),
    "tlb": (
        Mistake(
            "forgets INVLPG",
            broken=("invlpg", "large", "keeps", "hidden"),
            hint="still had",
            edits=(('if entry["page"] <= address < entry["page"] + entry["size"]:', "if False:"),),
        ),
        Mistake(
            "compares 4 KiB pages",
            broken=("large", "hidden"),
            hint="in the same 4 MB page",
            edits=(
                (
                    'if entry["page"] <= address < entry["page"] + entry["size"]:',
                    'if entry["page"] == address & ~0xFFF:',
                ),
            ),
        ),
        Mistake(
            "spares global pages from INVLPG",
            broken=("invlpg", "hidden"),
            hint="global",
            edits=(
                (
                    'if entry["page"] <= address < entry["page"] + entry["size"]:',
                    'if not entry["global"] and 0 <= address - entry["page"] < entry["size"]:',
                ),
            ),
        ),
        Mistake(
            "drops everything at MOV to CR3",
            broken=("keeps",),
            hint="enough",
            edits=(('if not entry["global"]:', "if True:"),),
        ),
        Mistake(
            "leaves CR4 alone",
            broken=("global_off", "hidden"),
            hint="still had",
            edits=(("if (old ^ new) & (PGE | PSE):", "if False:"),),
        ),
    ),
}
