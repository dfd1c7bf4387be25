"""The monitor with the intercepts that the student chose, and what it hears of its guest.

Sections are those of the AMD64 Architecture Programmer's Manual, vol. 2, rev. 3.42 (APM2).
"""

from __future__ import annotations

from collections.abc import Mapping
from random import Random
from typing import Final

from guests_07 import EXCEPTIONS, INSTRUCTIONS, does_everything

from vlab.grading.exercise import Broken
from vlab.grading.trial import Trial
from vlab.isa.svm_exits import SvmExit
from vlab.isa.vectors import Vector
from vlab.isa.vmcb import VmcbControl
from vlab.machine.faults import Event, EventKind
from vlab.session import VM
from vlab.vmm import exits
from vlab.vmm.exits import HardwareExit
from vlab.vmm.hardware import HardwareMonitor
from vlab.vmm.verdicts import RESUME, Inject, Verdict

_32: Final = (1 << 32) - 1
WORDS: Final = ("exceptions", "misc1", "misc2")
MUST: Final = {
    "misc1": {
        "INTR": "an interrupt of the host's would go to the guest's handler",
        "NMI": "an NMI of the host's would go to the guest's handler",
        "VINTR": "the monitor would not hear when the guest can take an interrupt",
        "HLT": "a guest that sleeps would put the host's processor to sleep",
        "IOIO": "the guest would drive the host's chips",
        "MSR": "the guest would write the host's MSRs",
        "SHUTDOWN": "a triple fault of the guest would shut the host down",
    },
    "misc2": {
        "VMRUN": "VMRUN refuses a VMCB without it (APM2 15.5.1)",
        "VMLOAD": "the guest would load host state from memory of its choice",
        "VMSAVE": "the guest would write host state to memory of its choice",
        "STGI": "the guest would open the host's interrupts",
        "CLGI": "the guest would close the host's interrupts",
        "SKINIT": "the guest would restart the host",
    },
}
"""What no monitor can leave to the guest, and why."""


class Chosen(HardwareMonitor):
    """vlab's monitor with intercepts that somebody chose. ``seen``: how often each of the wishes came."""

    words: Mapping[str, int]
    seen: dict[str, int]

    def _fill_vmcb(self) -> None:
        super()._fill_vmcb()
        control = VmcbControl(self.machine.memory.bytes, self.vmcb)
        control.intercept_exceptions = self.words["exceptions"]
        control.intercept_misc1, control.intercept_misc2 = self.words["misc1"], self.words["misc2"]

    def _take_processor(self, *, first: bool) -> None:
        super()._take_processor(first=first)
        self.intercepts_changed()  # VMRUN looks at all of the VMCB

    def handle(self, exit_: HardwareExit) -> Verdict:
        """Count what was wished for, and serve it."""
        match exit_:
            case exits.PrivilegedInstruction(SvmExit.INVALID):
                raise Broken(f"VMRUN ended in VMEXIT_INVALID: {self.machine.svm.refused} (APM2 15.5.1)")
            case exits.Cpuid():
                self._count_wish("CPUID")
            case exits.TimeStampRead():
                self._count_wish("RDTSC")
            case exits.ExceptionExit(vector):
                self._count_wish(f"#{Vector(vector).name}")
            case exits.PageFault(address, code):
                self._count_wish("#PF")
                return Inject(Event(EventKind.EXCEPTION, Vector.PF, code, address))
            case exits.PrivilegedInstruction(SvmExit.PAUSE):
                self._count_wish("PAUSE")
                self.processor.skip(1)  # its F3 counts as a prefix
                return RESUME
            case exits.PrivilegedInstruction(SvmExit.WBINVD):
                self._count_wish("WBINVD")
                self.processor.skip(2)
                return RESUME
            case _:
                pass
        return super().handle(exit_)

    def _count_wish(self, name: str) -> None:
        self.seen[name] = self.seen.get(name, 0) + 1


def chosen(trial: Trial, wishes: list[str]) -> dict[str, int]:
    """Ask the student for the intercept words, and check that they are words."""
    answer = trial.student.call("choose_intercepts", [*wishes])
    if not isinstance(answer, dict) or sorted(answer) != sorted(WORDS):
        raise Broken(
            f"choose_intercepts({wishes}) returned {_short(answer)}; return a dict with {', '.join(WORDS)}"
        )
    words: dict[str, int] = {}
    for name in WORDS:
        value = answer[name]
        if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= _32:
            raise Broken(f"choose_intercepts({wishes}): {name} is {_short(value)}, no number of 32 bits")
        words[name] = value
    return words


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def some_wishes(rng: Random, instructions: int, vectors: int) -> list[str]:
    """Wish for so many of INSTRUCTIONS and of EXCEPTIONS, in any order."""
    wishes = rng.sample(sorted(INSTRUCTIONS), instructions) + rng.sample(sorted(EXCEPTIONS), vectors)
    rng.shuffle(wishes)
    return wishes


def counted(trial: Trial, wishes: list[str]) -> tuple[VM, dict[str, int], dict[str, int]]:
    """Run the guest that does everything; give it, what it did, and what of that came to the monitor."""
    words = chosen(trial, wishes)
    guest, counts = does_everything(trial.rng)
    seen: dict[str, int] = {}
    vm = trial.vm(guest, monitor=type("Yours", (Chosen,), {"words": words, "seen": seen}), memory="2M")
    trial.run(vm, exits=500)
    return vm, counts, seen


def judged(word: str) -> int:
    """Give the bits that wishes decide on."""
    return expected_words([*INSTRUCTIONS, *EXCEPTIONS])[word]


def expected_words(wishes: list[str]) -> dict[str, int]:
    """Give the intercept words that have the bits of the wishes and no others."""
    words = dict.fromkeys(WORDS, 0)
    for name in wishes:
        if name in EXCEPTIONS:
            words["exceptions"] |= 1 << EXCEPTIONS[name]
        else:
            bit = INSTRUCTIONS[name][0] - SvmExit.INTR
            words["misc1" if bit < 32 else "misc2"] |= 1 << bit % 32
    return words


def named(words: Mapping[str, int]) -> str:
    """List what intercept words let the monitor hear of all that can be wished for."""
    found = [
        name for name in (*INSTRUCTIONS, *EXCEPTIONS)
        if any(words[word] & bits for word, bits in expected_words([name]).items())
    ]  # fmt: skip
    return " ".join(found) or "none of what can be wished for"
