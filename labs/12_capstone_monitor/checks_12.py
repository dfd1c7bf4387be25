"""What must hold of the student's monitor: guests write and note the same as under vlab's, in few exits."""

from __future__ import annotations

from random import Random

from guests_12 import LOG, asks, goes_to_ring_3, opens_windows, sleeps, tries_ports
from running_12 import SOON, how_it_ended, ours, yours
from session_12 import Plan

from vlab.grading.exercise import Broken
from vlab.grading.trial import Trial
from vlab.guests.programs import image, leave
from vlab.session import VM


def _log(vm: VM) -> bytes:
    return bytes(vm.memory[LOG : LOG + 0x100])


def _alike(trial: Trial, guest: bytes | str, *, hint: str, memory: str = "2M", exits: int = 5_000) -> None:
    """Run a guest on both, and compare what it wrote, on its console and in its log."""
    theirs = ours(trial, guest, Plan(), memory)
    said, log, status = theirs.console.text, _log(theirs), theirs.ended
    try:
        plan = Plan(exits=exits, time_ns=SOON) if isinstance(guest, bytes) else Plan(exits=exits)
        mine = yours(trial, guest, plan, memory)
    except Broken as broken:
        raise Broken(broken.why, hint=f"{broken.hint} {hint}".strip(), vm=broken.vm) from None
    ended = how_it_ended(mine)
    if status is not None and ended is not None and ended.exit_code != status.exit_code:
        first = ended.headline
        raise Broken(f"{first}; under vlab's monitor its status was {status.exit_code}", hint=hint, vm=mine)
    if mine.console.text != said:
        raise Broken(
            f"the guest wrote {mine.console.text[-60:]!r}, and {said[-60:]!r} under vlab's monitor",
            hint=hint,
            vm=mine,
        )
    if isinstance(guest, bytes) and _log(mine) != log:
        place = next(at for at, byte in enumerate(_log(mine)) if byte != log[at])
        raise Broken(
            f"the guest noted {_log(mine)[place]:#04x} as byte {place} of its log, and {log[place]:#04x} "
            "under vlab's monitor",
            hint=hint, vm=mine,
        )  # fmt: skip


def _word(rng: Random) -> str:
    return "".join(rng.choice("abcdefghijklmnopqrstuvwxyz") for _ in range(rng.randrange(4, 9)))


def starts(trial: Trial) -> None:
    """VMRUN takes the VMCB."""
    _alike(
        trial,
        image(leave(0)),
        hint="VMRUN wants its own intercept, in intercept_misc2, and an ASID that is not 0.",
    )


def serves_ports(trial: Trial) -> None:
    """IN and OUT."""
    _alike(
        trial, tries_ports(trial.rng),
        hint="IoExitInfo(vmcb.exitinfo1) has PORT, IN and operand_bytes. "
        "IN to AL or AX leaves the rest of RAX alone; IN to EAX clears its upper half.",
    )  # fmt: skip


def serves_cpuid_and_msrs(trial: Trial) -> None:
    """CPUID, RDMSR, WRMSR, and the #GP of an MSR that is not there."""
    _alike(
        trial,
        asks(trial.rng),
        hint="As in lesson 07: nrip behind what was done, #GP with error code 0 for the rest.",
    )


def says_hello(trial: Trial) -> None:
    """A boot sector and the firmware, in real mode."""
    _alike(
        trial, "hello", memory="16M",
        hint="Firmware talks to many ports, uses CPUID, an MSR and HLT, and keeps interrupts waiting.",
    )  # fmt: skip


def wakes(trial: Trial) -> None:
    """HLT, and the timer's interrupts."""
    _alike(
        trial, sleeps(trial.rng), exits=500,
        hint="HLT: RIP behind it, board.wait(), and before the next VMRUN the interrupt goes to eventinj.",
    )  # fmt: skip


def waits_for_windows(trial: Trial) -> None:
    """Interrupts only while the guest takes them."""
    _alike(
        trial, opens_windows(trial.rng), exits=500,
        hint="Inject only with RFLAGS.IF set and no interrupt shadow; "
        "else set vmcb.v_irq and take the VINTR exit.",
    )  # fmt: skip


def runs_rings(trial: Trial) -> None:
    """Protected mode, ring 3 and back."""
    _alike(trial, goes_to_ring_3(trial.rng), hint="Rings cost no exits: nothing is new here but the guest.")


def _boots(trial: Trial, typed: str) -> tuple[VM, VM]:
    """Boot wren on both, and type."""
    plans = [Plan([("$ ", f"{typed}\n")], _last(typed)) for _ in range(2)]
    return yours(trial, "wren", plans[0], "16M"), ours(trial, "wren", plans[1], "16M")


def _last(typed: str) -> str:
    """Give what the last ``echo`` of what is typed will say, on a line of its own."""
    return "\r\n" + typed.rpartition("echo ")[2] + "\r\n"


def boots_a_kernel(trial: Trial) -> None:
    """Wren to its shell, and an answer."""
    mine, theirs = _boots(trial, f"echo {_word(trial.rng)}")
    _same_console(mine, theirs)


def _same_console(mine: VM, theirs: VM) -> None:
    said, right = mine.console.text.rstrip("$ "), theirs.console.text.rstrip("$ ")
    if said != right:
        raise Broken(f"wren said {said[-60:]!r} at last, and {right[-60:]!r} under vlab's monitor", vm=mine)


def spends_no_more(trial: Trial) -> None:
    """The exit budget."""
    mine, theirs = _boots(trial, f"sleep 5\necho {_word(trial.rng)}")
    budget = theirs.exits.total * 3 // 2 + 20
    if mine.exits.total > budget:
        raise Broken(
            f"booting wren took {mine.exits.total:,} exits; vlab's monitor needs {theirs.exits.total:,}, "
            f"and {budget:,} are allowed",
            hint="v_irq may be set only while an interrupt waits that the guest cannot take.",
            vm=mine,
        )


def runs_anything(trial: Trial) -> None:
    """Other guests, other words."""
    word = _word(trial.rng)
    _same_console(*_boots(trial, f"echo {word}\nls\nsleep 2\necho {word[::-1]}x"))
    serves_ports(trial)
    waits_for_windows(trial)
