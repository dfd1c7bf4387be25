"""A capstone: the student's own monitor, a loop around VMRUN, on AMD-V with nested paging.

The student's function ``run`` is the monitor. It is given the VMCB, the processor and the board, and nothing
happens to the guest that it does not do, but for nested page faults, which vlab serves.
"""

from __future__ import annotations

from typing import Final

from checks_12 import (
    boots_a_kernel,
    runs_anything,
    runs_rings,
    says_hello,
    serves_cpuid_and_msrs,
    serves_ports,
    spends_no_more,
    starts,
    waits_for_windows,
    wakes,
)

from vlab.grading.exercise import Exercise, Invariant

EXERCISES: Final = (
    Exercise(
        "monitor",
        "Your own monitor",
        defines=("run",),
        invariants=(
            Invariant("starts", 1, "stage 1: VMRUN takes the VMCB, and a guest ends itself", starts),
            Invariant("ports", 3, "stage 1: IN and OUT reach the chips, in all sizes", serves_ports),
            Invariant("hello", 2, "stage 2: a boot sector says hello in real mode", says_hello),
            Invariant("cpuid", 2, "stage 2: CPUID and MSRs are the virtual CPU's", serves_cpuid_and_msrs),
            Invariant("timer", 3, "stage 2: a guest that sleeps is woken by its timer", wakes),
            Invariant(
                "windows",
                2,
                "stage 2: interrupts come when the guest takes them",
                waits_for_windows,
            ),
            Invariant("rings", 1, "stage 2: a protected-mode kernel goes to ring 3 and back", runs_rings),
            Invariant("wren", 3, "stage 3: wren boots, and its shell answers", boots_a_kernel),
            Invariant("budget", 1, "stage 3: in about as many exits as under vlab's monitor", spends_no_more),
            Invariant("hidden", 2, "other guests run, too", runs_anything, hidden=True),
        ),
        hints=(
            (
                "Begin small: set the intercepts and the ASID, then `while not board.over: cpu.vmrun()`, "
                "and print vmcb.exitcode. The first exit that you meet is the next one to write."
            ),
            (
                "IOIO: info = IoExitInfo(vmcb.exitinfo1). "
                "OUT: board.write_port(info.PORT, size, low bytes of RAX). "
                "IN: put the value into the low bytes of RAX. Then vmcb.rip = vmcb.exitinfo2."
            ),
            "INTR: board.serve_timers(). HLT: vmcb.rip = vmcb.nrip, then board.wait().",
            (
                "Before each VMRUN: if board.interrupt, and RFLAGS.IF is 1, no shadow, and eventinj is free: "
                "vmcb.eventinj = EventInjection.interrupt(board.acknowledge()). "
                "Where the guest cannot take it: vmcb.v_irq = True; "
                "the VINTR exit says when, and v_irq goes back to False."
            ),
        ),
        seconds=30.0,
    ),
)
