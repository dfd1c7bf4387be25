"""Hardware assistance: the student's exit handler and intercepts, in vlab's own hardware-assisted monitor.

Tables are those of the AMD64 Architecture Programmer's Manual, vol. 2, rev. 3.42 (APM2).
"""

from __future__ import annotations

from typing import Final

from guests_07 import EXCEPTIONS, INSTRUCTIONS, asks_cpuid, faults, lacks_msrs, sleeps, uses_msrs
from intercepts_07 import MUST, WORDS, Chosen, chosen, counted, expected_words, judged, named, some_wishes
from machine_07 import ours, yours

from vlab.grading.equivalence import follow
from vlab.grading.exercise import Broken, Exercise, Invariant
from vlab.grading.trial import Trial
from vlab.isa.vmcb import InterceptMisc1, InterceptMisc2

# --- what must hold of the handler --------------------------------------------------------------------------

_NRIP: Final = (
    "What the monitor did for the guest is done: the guest goes on at vmcb.nrip. "
    "A fault is the guest's, and RIP stays at the instruction."
)


def answers_cpuid(trial: Trial) -> None:
    """CPUID, exit by exit."""
    guest = asks_cpuid(trial.rng)
    follow(yours(trial, guest), ours(trial, guest), exits=40, hint=_NRIP)


def waits(trial: Trial) -> None:
    """HLT, exit by exit."""
    guest = sleeps(trial.rng)
    follow(
        yours(trial, guest), ours(trial, guest), exits=100,
        hint="After HLT the guest sleeps, and goes on behind it: host.wait_for_interrupt() and vmcb.nrip.",
    )  # fmt: skip


def moves_msrs(trial: Trial) -> None:
    """RDMSR and WRMSR, exit by exit."""
    guest = uses_msrs(trial.rng)
    follow(
        yours(trial, guest), ours(trial, guest), exits=40,
        hint="EXITINFO1 is 1 for WRMSR. The number is in ECX, the value in EDX (high half) and EAX: "
        "32 bits in each, and the rest of RDX and RAX is 0 after RDMSR.",
    )  # fmt: skip


def refuses_msrs(trial: Trial) -> None:
    """MSRs that the virtual CPU does not have."""
    guest = lacks_msrs(trial.rng)
    follow(
        yours(trial, guest), ours(trial, guest), exits=80,
        hint="An MSR that is not there is #GP with error code 0, and RIP stays at the instruction.",
    )  # fmt: skip


def reflects(trial: Trial) -> None:
    """Exceptions with their error codes."""
    guest = faults(trial.rng)
    follow(
        yours(trial, guest, followed=True), ours(trial, guest), exits=80,
        hint="The vector is EXITCODE - 0x40, the error code EXITINFO1. Only some exceptions push one. "
        "For #PF the address is in EXITINFO2, and whoever injects it sets CR2. "
        "RIP stays at a fault; INT3 alone has an nRIP to go on at.",
    )  # fmt: skip


def _same_run(trial: Trial, guest: str, until: str | None) -> None:
    """Run a guest on both, and compare what they wrote and how often they stopped."""
    theirs = ours(trial, guest, "16M")
    trial.run_ours(theirs, until)
    budget = theirs.exits.total
    mine = yours(trial, guest, "16M")
    trial.run(mine, until, exits=budget + 50)
    if not _alike(mine.console.text, theirs.console.text, until):
        raise Broken(
            f"'{guest}' wrote {mine.console.text[-60:]!r} at last, and {theirs.console.text[-60:]!r} under "
            "vlab's handlers",
            vm=mine,
        )
    if until is None and mine.exits.total != budget:
        raise Broken(f"'{guest}' took {mine.exits.total:,} exits instead of {budget:,}", vm=mine)


def _alike(mine: str, theirs: str, until: str | None) -> bool:
    """Whether two consoles say the same, up to what was waited for."""
    return mine == theirs if until is None else mine.partition(until) == theirs.partition(until)


def runs_rings(trial: Trial) -> None:
    """A guest that provokes faults in ring 3."""
    _same_run(trial, "rings", None)


def runs_others(trial: Trial) -> None:
    """Guests that the student has not seen."""
    _same_run(trial, "longmode", None)
    _same_run(trial, "wren", "$ ")


# --- what must hold of the intercepts -----------------------------------------------------------------------


def starts(trial: Trial) -> None:
    """VMRUN takes the VMCB."""
    words = chosen(trial, [])
    vm = trial.vm(
        asks_cpuid(trial.rng), monitor=type("Yours", (Chosen,), {"words": words, "seen": {}}), memory="2M"
    )
    trial.run(vm, exits=100)


def keeps_control(trial: Trial) -> None:
    """The intercepts that no monitor can do without, whatever is wished for."""
    for wishes in ([], some_wishes(trial.rng, 2, 2)):
        words = chosen(trial, wishes)
        for word, names in MUST.items():
            register = InterceptMisc1 if word == "misc1" else InterceptMisc2
            for name, why in names.items():
                if not words[word] & getattr(register, name).mask:
                    raise Broken(
                        f"choose_intercepts({wishes}): {name} is not intercepted, so {why}",
                        hint="Table B-1 of APM2 has the bits; the list MUST says which are needed.",
                    )


def sees_instructions(trial: Trial) -> None:
    """Instructions that were wished for."""
    _all_seen(trial, some_wishes(trial.rng, 2, 0))


def sees_exceptions(trial: Trial) -> None:
    """Exceptions that were wished for."""
    _all_seen(trial, some_wishes(trial.rng, 0, 3))


def _all_seen(trial: Trial, wishes: list[str]) -> None:
    vm, counts, seen = counted(trial, wishes)
    for name in wishes:
        if seen.get(name, 0) != counts[name]:
            raise Broken(
                f"wishes are {wishes}: the guest did {name} {counts[name]} times, "
                f"and the monitor heard of it {seen.get(name, 0)} times",
                hint="Exceptions have a word of their own, with a bit for each vector; "
                "RDTSC, CPUID and PAUSE are in misc1, WBINVD is in misc2.",
                vm=vm,
            )


def leaves_the_rest(trial: Trial) -> None:
    """What nobody wished for goes on at full speed."""
    wishes = some_wishes(trial.rng, 1, 2)
    vm, _, seen = counted(trial, wishes)
    for name, count in seen.items():
        if name not in wishes:
            raise Broken(
                f"wishes are {wishes}: the guest stopped {count} times for {name}, which nobody asked for",
                hint="Set a bit for each wish and for each must, and no other: an exit costs the guest time.",
                vm=vm,
            )


def other_wishes(trial: Trial) -> None:
    """All single wishes, and two dozen mixtures."""
    for name in (*INSTRUCTIONS, *EXCEPTIONS):
        words, expected = chosen(trial, [name]), expected_words([name])
        if any(words[word] & judged(word) != expected[word] for word in WORDS):
            raise Broken(f"choose_intercepts([{name!r}]) intercepts {named(words)}")
    wishes = some_wishes(trial.rng, 3, 3)
    vm, counts, seen = counted(trial, wishes)
    wanted = {name: counts[name] for name in wishes}
    if seen != wanted:
        raise Broken(f"wishes are {wishes}: the monitor heard of {seen}, the guest did {wanted}", vm=vm)


# --- the exercises ------------------------------------------------------------------------------------------

EXERCISES: Final = (
    Exercise(
        "exit_handler",
        "The exit handler",
        defines=("handle",),
        invariants=(
            Invariant(
                "cpuid", 2, "CPUID shows the virtual CPU, and the guest goes on behind it", answers_cpuid
            ),
            Invariant("hlt", 1, "HLT lets the guest sleep until its timer comes", waits),
            Invariant("msr", 2, "RDMSR and WRMSR move the virtual CPU's registers", moves_msrs),
            Invariant("no_msr", 2, "an MSR that is not there is #GP with error code 0", refuses_msrs),
            Invariant(
                "exceptions",
                3,
                "exceptions get to the guest's handlers, with the right error code and CR2",
                reflects,
            ),
            Invariant(
                "rings",
                1,
                "the guest 'rings' says the same as under vlab's handlers, in as many exits",
                runs_rings,
            ),
            Invariant(
                "hidden",
                2,
                "so do guests that you have not seen, with no exit too many",
                runs_others,
                hidden=True,
            ),
        ),
        hints=(
            "Begin with a match over vmcb.exitcode; vlab.isa.svm_exits.SvmExit has the names.",
            (
                "CPUID: the answer goes to vmcb.rax, registers.rbx, registers.rcx and registers.rdx; "
                "then the guest goes on at vmcb.nrip."
            ),
            (
                "MSR: exitinfo1 tells WRMSR from RDMSR. host.read_msr gives None and host.write_msr False "
                "where the guest gets #GP: vmcb.eventinj = EventInjection.exception(13, 0), and RIP stays."
            ),
            (
                "Exceptions: the vector is exitcode - SvmExit.EXCP_DE. #GP (13) and #PF (14) push exitinfo1; "
                "for #PF vmcb.cr2 = vmcb.exitinfo2. INT3 has an nrip, and the others have 0 there."
            ),
        ),
    ),
    Exercise(
        "intercepts",
        "Choosing intercepts",
        defines=("choose_intercepts",),
        invariants=(
            Invariant("starts", 1, "VMRUN takes the VMCB, and a guest runs to its end", starts),
            Invariant(
                "control",
                2,
                "nothing gets past the monitor that the host cannot leave to a guest",
                keeps_control,
            ),
            Invariant(
                "instructions", 2, "instructions that were wished for exit, each time", sees_instructions
            ),
            Invariant("exceptions", 2, "exceptions that were wished for exit, each time", sees_exceptions),
            Invariant("no_more", 2, "nothing exits that nobody asked for", leaves_the_rest),
            Invariant("hidden", 1, "all that for any mixture of wishes", other_wishes, hidden=True),
        ),
        hints=(
            "getattr(InterceptMisc1, 'CPUID') is a field; its .mask is the bit in its place.",
            "hasattr(InterceptMisc1, name) tells whether a name belongs to misc1 or to misc2.",
            "Exceptions have a word of their own with a bit for each vector: 1 << Vector[name.lstrip('#')].",
        ),
    ),
)
