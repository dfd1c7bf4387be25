"""What students of lesson 12 typically get wrong, and what must come of it; `vlab course check` proves it.

This holds lines of the solutions, so it is not handed out.
"""

from __future__ import annotations

from typing import Final

from vlab.grading.exercise import Mistake

MISTAKES: Final[dict[str, tuple[Mistake, ...]]] = {
    "monitor": (
        Mistake(
            "writes all of RAX for a byte",
            broken=("ports", "hidden"),
            hint="leaves the rest of RAX alone",
            edits=(("vmcb.rax & ~mask | value if size < 4 else value", "value"),),
        ),
        Mistake(
            "injects without asking",
            broken=("hello", "windows", "hidden"),
            hint="Inject only with RFLAGS.IF set",
            edits=(("vmcb.rflags & 1 << 9 and not vmcb.interrupt_shadow", "True"),),
        ),
        Mistake(
            "never asks for a window",
            broken=("windows", "hidden"),
            hint="take the VINTR exit",
            edits=(("vmcb.v_irq = True", "pass"),),
        ),
        Mistake(
            "goes on behind a refused MSR",
            broken=("cpuid",),
            hint="#GP with error code 0",
            edits=(("vmcb.eventinj = EventInjection.exception(13, 0)", "vmcb.rip = vmcb.nrip"),),
        ),
    ),
}
