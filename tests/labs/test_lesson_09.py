"""Lesson 09: what Linux's own drivers make of the chips, right and wrong, and that no marks hang on it."""

from __future__ import annotations

import importlib
from dataclasses import replace
from types import ModuleType

import pytest

from tests.labs.running import broken, exercises, jail, marked, solution
from vlab.grading.exercise import Exercise
from vlab.grading.trial import Trial
from vlab.guests import catalogue

LESSON = "09"
UART, PIC = (each.values[1] for each in exercises(LESSON))
WRONG_PORTS = {
    "no bits of the FIFO in IIR": (
        "value |= 0xC0 if self.fcr & 1 else 0",
        "pass",
        "Linux's 8250 driver says that ttyS0 is a 16450, and should say 16550A",
    ),
    "no bits of the FIFO, and no scratch register": (
        "value |= 0xC0 if self.fcr & 1 else 0",
        "pass\n        elif offset == 7:\n            value = 0",
        "Linux's 8250 driver says that ttyS0 is a 8250, and should say 16550A",
    ),
    "an IER that keeps the two bits that it needs": (
        "self.ier = value & 0x0F",
        "self.ier = value & 0x03",
        "and came to no shell; it wrote",
    ),
}


def checks(name: str) -> ModuleType:
    """Give the module of the lesson that has the checks; the lesson's folder is importable by now."""
    return importlib.import_module(name)


def on_linux(exercise: Exercise) -> Exercise:
    """Give the exercise with Linux's verdict alone, and without the small guests that come before it."""
    linux = next(each for each in exercise.invariants if each.name == "linux")
    chips = checks("linux_09")

    def holds(trial: Trial) -> None:
        if exercise is UART:
            made = {"serial": checks("serial_09").port_of(trial, strict=False)}
        else:
            made = {"pic": checks("pic_09").pair_of(trial, [], strict=False)}
        chips.must_accept(trial, made, "accepted")

    return replace(exercise, invariants=(replace(linux, holds=holds),))


@pytest.mark.linux
@pytest.mark.slow
@pytest.mark.parametrize("exercise", [UART, PIC], ids=lambda each: each.ident)
def test_linux_takes_the_solution_in_a_jail(exercise: Exercise) -> None:
    with jail(exercise.seconds) as student:
        assert broken(marked(on_linux(exercise), solution(LESSON, exercise.ident), "", student)) == {}


@pytest.mark.linux
@pytest.mark.slow
@pytest.mark.parametrize("name", WRONG_PORTS)
def test_linux_does_not_take_a_wrong_port_for_a_16550a(name: str) -> None:
    old, new, why = WRONG_PORTS[name]
    cell = solution(LESSON, "uart")
    assert cell.count(old) == 1
    assert why in broken(marked(on_linux(UART), cell.replace(old, new)))["linux"]


@pytest.mark.linux
@pytest.mark.slow
def test_linux_gets_no_interrupts_through_a_controller_that_forgets_requests() -> None:
    cell = solution(LESSON, "interrupt_controller")
    old = "self.irr |= 1 << n\n"
    assert cell.count(old) == 1
    assert "came to no shell" in broken(marked(on_linux(PIC), cell.replace(old, "pass\n")))["linux"]


@pytest.mark.parametrize("exercise", [UART, PIC], ids=lambda each: each.ident)
def test_marks_are_the_same_with_linux_and_without(
    exercise: Exercise, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without Linux the small guests are tried again; with it the verdict of Linux is worth nothing."""
    monkeypatch.setattr(checks("linux_09"), "AVAILABLE", False)
    linux = next(each for each in exercise.invariants if each.name == "linux")
    assert linux.hidden
    assert linux.points == 0
    mark = marked(exercise, solution(LESSON, exercise.ident))
    assert broken(mark) == {}
    assert mark.earned == mark.points == 12


@pytest.mark.parametrize(
    ("available", "says"), [(True, "(no marks: not every"), (False, "not tried, since Linux")]
)
def test_the_report_says_whether_linux_was_asked(
    available: bool, says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    lesson = checks("exercises_09")
    monkeypatch.setattr(lesson, "AVAILABLE", available)
    assert says in lesson._with_linux("it boots")
    monkeypatch.undo()
    here = catalogue.find("linux").available
    assert all(each.invariants[-1].says.startswith("not tried") != here for each in (UART, PIC))
