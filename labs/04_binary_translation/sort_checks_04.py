"""What is tried of a student's sorting: what guests then do, and how many exits it takes."""

from __future__ import annotations

from typing import Final

from guests_04 import flags_guest, load, system_guest, transfers_guest
from running_04 import run_both, with_parts, wren
from sorting_04 import Sorting

from vlab.grading.exercise import Broken
from vlab.grading.trial import Trial
from vlab.guests.programs import Code, leave, rings
from vlab.session import VM
from vlab.vmm.translation.library import Translations

_FLAGS_HINT: Final = (
    "POPF and PUSHF do not fault at CPL 1: copied, they show the real flags and lose the guest's"
)
_SYSTEM_HINT: Final = (
    "what reads or writes the machine's own registers is the monitor's: CRn, segments, tables"
)


def _sorted(trial: Trial, guest: bytes, hint: str) -> tuple[VM, VM]:
    return run_both(trial, guest, with_parts(trial, Sorting, Translations), hint)


def flags_kept(trial: Trial) -> None:
    """Run a guest that changes its flags."""
    _sorted(trial, flags_guest(trial.rng), _FLAGS_HINT)


def system_kept(trial: Trial) -> None:
    """Run a guest that reads and writes the machine's own state."""
    _sorted(trial, system_guest(trial.rng), _SYSTEM_HINT)


def transfers_kept(trial: Trial) -> None:
    """Run a guest that calls, returns, jumps and loops."""
    _sorted(
        trial, transfers_guest(trial.rng), "each transfer is rewritten, so that it leads to a translation"
    )


def cheap(trial: Trial) -> None:
    """A loop with calls and flags: what can be rewritten does not go to the monitor."""
    rng = trial.rng

    def kernel(code: Code) -> None:
        code.add(b"\x31\xdb\x80\xcf\x02" + load(1, rng.randrange(30, 60)))  # xor ebx, ebx; or bh, 2
        code.add("turn", b"\x51\x9c\xfa\x53\x9d\x9c\x5f\x9d\xe8").relative("function")
        # push ecx; pushf; cli; push ebx; popf; pushf; pop edi; popf; call function
        code.add(b"\x59\x49\x0f\x85").relative("turn")  # pop ecx; dec ecx; jnz turn
        code.add(leave(0), "function", b"\x90\xc3")

    yours, ours = _sorted(trial, rings(kernel, {}), _FLAGS_HINT)
    mine, right = yours.exits.total, ours.exits.total
    if mine > right + 5:
        raise Broken(
            f"the guest took {mine} exits as you sort its instructions; {right} are enough",
            hint="a call-out is an exit each time: what can be rewritten is quicker",
            vm=yours,
        )


def kernel_sorted(trial: Trial) -> None:
    """Boot the kernel `wren`."""
    wren(trial, with_parts(trial, Sorting, Translations))


def hidden_sorting(trial: Trial) -> None:
    """Try flags and state."""
    _sorted(trial, flags_guest(trial.rng), _FLAGS_HINT)
    _sorted(trial, system_guest(trial.rng), _SYSTEM_HINT)
