"""What students of lesson 07 typically get wrong, and what must come of it; `vlab course check` proves it.

This holds lines of the solutions, so it is not handed out.
"""

from __future__ import annotations

from typing import Final

from vlab.grading.exercise import Mistake

MISTAKES: Final[dict[str, tuple[Mistake, ...]]] = {
    "exit_handler": (
        Mistake(
            "forgets to go on behind CPUID",
            broken=("cpuid", "rings", "hidden"),
            hint="vmcb.nrip",
            edits=(("        vmcb.rip = vmcb.nrip  # behind CPUID\n", ""),),
        ),
        Mistake(
            "counts two bytes in place of nRIP",
            broken=("cpuid",),
            hint="RIP is",
            edits=(("vmcb.rip = vmcb.nrip  # behind CPUID", "vmcb.rip += 2"),),
        ),
        Mistake(
            "goes on behind an MSR that is not there",
            broken=("no_msr",),
            hint="RIP stays at the instruction",
            edits=(("# the instruction has failed", "vmcb.rip = vmcb.nrip"),),
        ),
        Mistake(
            "leaves CR2 as it was",
            broken=("exceptions", "hidden"),
            hint="whoever injects it sets CR2",
            edits=(("vmcb.cr2 = vmcb.exitinfo2", "pass"),),
        ),
        Mistake(
            "pushes no error codes",
            broken=("no_msr", "exceptions", "rings", "hidden"),
            hint="error code",
            edits=((", vmcb.exitinfo1)", ")"), ("exception(13, 0)", "exception(13)")),
        ),
    ),
    "intercepts": (
        Mistake(
            "forgets the intercept of VMRUN",
            broken=("starts", "control", "instructions", "exceptions", "no_more", "hidden"),
            hint="VMRUN",
            edits=(("[*MUST, *wishes", "[*[name for name in MUST if name != 'VMRUN'], *wishes"),),
        ),
        Mistake(
            "lets triple faults through",
            broken=("control",),
            hint="SHUTDOWN",
            edits=(("[*MUST, *wishes", "[*[name for name in MUST if name != 'SHUTDOWN'], *wishes"),),
        ),
        Mistake(
            "intercepts everything",
            broken=("no_more", "hidden"),
            hint="an exit costs the guest time",
            edits=(
                (
                    "[*MUST, *wishes",
                    "[*MUST, 'CPUID', 'RDTSC', 'PAUSE', 'WBINVD', '#DE', '#UD', '#GP', *wishes",
                ),
            ),
        ),
        Mistake(
            "takes the vector for the bit",
            broken=("exceptions", "no_more", "hidden"),
            hint="a bit for each vector",
            edits=(("1 << Vector", "Vector"),),
        ),
    ),
}
