"""What is tried of a student's reading of a console out of exits."""

from __future__ import annotations

from reprlib import repr as shorten
from typing import Final

from guests_00 import elsewhere, listening, speed, word
from machine_00 import SeenExit

from vlab.grading.exercise import Broken
from vlab.grading.facade import Value
from vlab.grading.trial import Trial
from vlab.guests.programs import HALT, image, leave, say
from vlab.session import VM

_CPUID: Final = bytes.fromhex("31 C0 0F A2")  # xor eax, eax; cpuid


def _heard(trial: Trial, vm: VM, hint: str) -> None:
    """Compare what the student reads out of the exits with what the chip sent."""
    seen: list[Value] = [SeenExit(each) for each in vm.exits]
    said = trial.student.call("spoken", seen)
    if not isinstance(said, str):
        raise Broken(f"spoken gave {shorten(said)}, and it is to give text", hint="Return a str.", vm=vm)
    right = vm.console.text
    if said != right:
        raise Broken(
            f"spoken gave {_short(said)} for {len(seen)} exits; the guest's console has {_short(right)}",
            hint=hint,
            vm=vm,
        )


def _short(text: str) -> str:
    return repr(text) if len(text) <= 40 else f"{text[:40]!r}... ({len(text)} characters)"


def _ran(trial: Trial, code: bytes) -> VM:
    vm = trial.vm(image(code), memory="2M")
    trial.run(vm)
    return vm


def text(trial: Trial) -> None:
    """Let a guest speak, with CPUID between its words."""
    rng = trial.rng
    code = b"".join(say(word(rng, rng.randrange(2, 6))) + _CPUID for _ in range(3))
    _heard(trial, _ran(trial, code + HALT), "Every IOIO exit here is one character, which is in info2.")


def reads(trial: Trial) -> None:
    """Let a guest read from the chip."""
    code = listening(trial.rng) + HALT
    _heard(
        trial,
        _ran(trial, code),
        "An IN is an IOIO exit too: bit 24 of info1 is set for an OUT, and not for an IN.",
    )


def ports(trial: Trial) -> None:
    """Let a guest write to other ports."""
    code = elsewhere(trial.rng) + leave(0)
    _heard(trial, _ran(trial, code), "Bits 15:0 of info1 are the port; the console's is 0x3F8.")


def divisor(trial: Trial) -> None:
    """Let a guest set the chip's speed."""
    _heard(
        trial,
        _ran(trial, speed(trial.rng) + HALT),
        "While bit 7 of port 0x3FB is set, 0x3F8 is the low byte of the speed's divisor, and no character.",
    )


def others(trial: Trial) -> None:
    """Try all of that in one guest, and a kernel."""
    rng = trial.rng
    parts = [listening, elsewhere, speed, speed]
    rng.shuffle(parts)
    code = b"".join(part(rng) for part in parts)
    hint = "A real kernel sets the chip's speed, asks whether it is ready, and uses other chips too."
    _heard(trial, _ran(trial, code + leave(rng.randrange(8))), hint)
    wren = trial.vm("wren", memory="16M")
    trial.run(wren, "$ ")
    _heard(trial, wren, hint)
