"""The exercises of the lesson that the tests of `vlab course` use."""

from __future__ import annotations

from vlab.grading.exercise import Broken, Exercise, Invariant, Mistake
from vlab.grading.trial import Trial


def _page(trial: Trial, bits: int) -> None:
    for _ in range(4):
        linear = trial.rng.getrandbits(bits) | 1 << (bits - 1)
        said = trial.student.call("page_number", linear)
        if said != linear >> 12:
            raise Broken(
                f"page_number({linear:#x}) gave {said!r}, and it is page {linear >> 12:#x}",
                hint="An address has 64 bits, and the lowest 12 say where in the page it is.",
            )


def _low(trial: Trial) -> None:
    _page(trial, 20)


def _high(trial: Trial) -> None:
    _page(trial, 48)


def _highest(trial: Trial) -> None:
    _page(trial, 64)


def _set(trial: Trial) -> None:
    bits = trial.rng.sample(range(32), 3)
    said = trial.student.call("set_bits", 0, bits)
    if not isinstance(said, int) or any(not said >> each & 1 for each in bits):
        raise Broken(f"set_bits(0, {bits}) gave {said!r}", hint="Each of the bits must be 1 afterwards.")


def _kept(trial: Trial) -> None:
    value = trial.rng.getrandbits(32)
    said = trial.student.call("set_bits", value, [])
    if said != value:
        raise Broken(f"set_bits({value:#x}, []) gave {said!r}", hint="The other bits stay as they were.")


EXERCISES: tuple[Exercise, ...] = (
    Exercise(
        "page_number",
        "Which page is it?",
        ("page_number",),
        (
            Invariant("low", 2.0, "the pages of the first MiB are right", _low),
            Invariant("high", 1.5, "the pages of addresses with 48 bits are right", _high),
            Invariant("highest", 1.5, "the pages of addresses with 64 bits are right", _highest, hidden=True),
        ),
        hints=("How many bits does the offset in a page have?",),
        mistakes=(
            Mistake(
                "forgets the upper half",
                broken=("high", "highest"),
                hint="64 bits",
                edits=(("return linear >> 12", "return (linear & 0xFFFFFFFF) >> 12"),),
            ),
            Mistake(
                "counts in decimal",
                "# exercise: page_number\ndef page_number(linear):\n    return linear // 1000\n",
                ("low", "high", "highest"),
                "the lowest 12",
            ),
        ),
        seconds=5.0,
    ),
    Exercise(
        "set_bits",
        "Set bits",
        ("set_bits",),
        (
            Invariant("set", 3.0, "the bits are set", _set),
            Invariant("kept", 2.0, "the other bits are kept", _kept),
        ),
        mistakes=(
            Mistake(
                "begins with nothing",
                broken=("kept",),
                hint="stay as they were",
                edits=(("for each in bits", "value = 0\n    for each in bits"),),
            ),
        ),
        seconds=5.0,
    ),
)
