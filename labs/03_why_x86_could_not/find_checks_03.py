"""What is tried of a student's search: guests with different kinds of what is planted, and with nothing."""

from __future__ import annotations

from reprlib import repr as shorten
from typing import Final

from debugger_03 import Debugger
from planted_03 import Made, in_flags, in_memory, in_registers, make
from registers_03 import MASK_32

from vlab.grading.exercise import Broken
from vlab.grading.trial import Trial


def _found(trial: Trial, made: Made, hint: str) -> Debugger:
    """Have the student search, and compare."""
    debugger = Debugger(trial, made.guest)
    said = trial.student.call("find", debugger)
    wrong = debugger.machines["wrong"]
    if said is not None and (isinstance(said, bool) or not isinstance(said, int) or not 0 <= said <= MASK_32):
        raise Broken(f"find gave {shorten(said)}, and it is to give an address or None", hint=hint, vm=wrong)
    if said == made.planted:
        return debugger
    if said is None:
        assert made.planted is not None
        raise Broken(
            f"find gave None; `{debugger.text(made.planted)}` at {made.planted:#x} goes wrong",
            hint=hint,
            vm=wrong,
        )
    blamed = f"find gave {said:#x}, `{debugger.text(said)}`"
    if made.planted is None:
        raise Broken(f"{blamed}; nothing is wrong with this guest", hint=hint, vm=wrong)
    raise Broken(
        f"{blamed}; it is `{debugger.text(made.planted)}` at {made.planted:#x} that goes wrong",
        hint=hint,
        vm=wrong,
    )


_COMPARE: Final = (
    "Compare both machines at each checkpoint; the first difference was made since the one before."
)


def registers(trial: Trial) -> None:
    """A register shows it."""
    _found(trial, make(trial.rng, in_registers), _COMPARE)


def memory(trial: Trial) -> None:
    """Memory alone shows it at first."""
    hint = "Compare the memory, too: what was pushed or stored wrong reaches a register later, or never."
    _found(trial, make(trial.rng, in_memory, late=True), hint)


def flags(trial: Trial) -> None:
    """EFLAGS alone show it."""
    hint = "POPF brings no wrong value anywhere: it leaves IF alone. That is in EFLAGS."
    _found(trial, make(trial.rng, in_flags), hint)


def decoys(trial: Trial) -> None:
    """The same instructions where they do no harm."""
    hint = (
        "PUSHF shows what is right while the guest has interrupts on. Whether it goes wrong, a run can tell."
    )
    _found(trial, make(trial.rng, in_registers, decoys=3), hint)


def nothing(trial: Trial) -> None:
    """A guest that is all right."""
    debugger = _found(trial, make(trial.rng, None, decoys=2), "A guest can be all right: then it is None.")
    if not all(vm.ended for vm in debugger.machines.values()):
        raise Broken("find gave None before the guest had come to its end", vm=debugger.machines["wrong"])


def others(trial: Trial) -> None:
    """All of that on other guests."""
    for kind, late in ((in_memory, False), (in_flags, False), (in_registers, False), (in_memory, True)):
        _found(trial, make(trial.rng, kind, decoys=2, late=late), _COMPARE)
