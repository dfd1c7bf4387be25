"""Guests run to their end, or to the prompt of wren's shell, and what they show is compared."""

from __future__ import annotations

from random import Random
from typing import Final

from vlab.grading.exercise import Broken
from vlab.grading.trial import Trial
from vlab.session import VM

_SOON: Final = 100_000_000
"""Virtual ns in which the small guests are done."""


def word_of(rng: Random, least: int = 4, most: int = 10) -> str:
    """Make a word of small letters."""
    return "".join(rng.choice("abcdefghijklmnopqrstuvwxyz") for _ in range(rng.randrange(least, most)))


def runs(trial: Trial, vm: VM, expected: str | None = None, hint: str = "") -> None:
    """Run a small guest to its end, and compare what the terminal shows then."""
    try:
        trial.run(vm, exits=3_000, time_ns=_SOON)
    except Broken as broken:
        raise Broken(broken.why, hint=f"{broken.hint} {hint}".strip(), vm=vm) from None
    if expected is not None and vm.console.text != expected:
        raise Broken(
            f"the terminal shows {vm.console.text[:60]!r} and should show {expected[:60]!r}", hint=hint, vm=vm
        )


def shell(trial: Trial, vm: VM, typed: str, wanted: str, prompts: int = 2) -> None:
    """Run wren to its prompt, type, and wait for an answer and the next prompt."""
    hint = "wren polls LSR to send and takes what is typed by interrupt."
    try:
        trial.run(vm, "$ ", exits=5_000)
        vm.send(typed)
        trial.run(vm, lambda vm: vm.console.text.count("$ ") >= prompts, exits=8_000)
    except Broken as broken:
        raise Broken(broken.why, hint=f"{broken.hint} {hint}".strip(), vm=vm) from None
    said = vm.console.text.partition("$ ")[2].replace("\r\n", "\n")
    if wanted not in said:
        raise Broken(f"wren was typed {typed!r} and answered {said[:60]!r}; {wanted!r} was to come", vm=vm)
