"""A small lesson with two exercises that real guests judge, and a class that hands in all sorts of things."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Final

EXERCISES: Final = '''
from __future__ import annotations

import os
import pathlib
import signal
import time

from vlab.grading.exercise import Broken, Exercise, Invariant
from vlab.grading.trial import Trial


def says_hello(trial: Trial) -> None:
    vm = trial.vm("hello", memory="4M")
    wanted = trial.student.call("greeting")
    trial.run(vm)
    if not isinstance(wanted, str) or wanted not in vm.console.text:
        raise Broken(f"the guest did not write {wanted!r}", hint="look at the boot sector", vm=vm)


def doubles(trial: Trial) -> None:
    number = trial.rng.randrange(1000)
    got = trial.student.call("double", number)
    if got != 2 * number:
        raise Broken(f"double({number}) gave {got!r}, and {2 * number} is right", hint="count again")


def doubles_big(trial: Trial) -> None:
    number = trial.rng.randrange(1 << 40, 1 << 41)
    if trial.student.call("double", number) != 2 * number:
        raise Broken("a number of more than 32 bits was not doubled")


def marks(trial: Trial) -> None:
    """Counts the markings, and does to our own process what the test asks for."""
    counter = os.environ.get("CLASSROOM_COUNTER")
    if counter:
        with pathlib.Path(counter).open("a") as file:
            file.write("x")
    time.sleep(float(os.environ.get("CLASSROOM_SLEEP", "0")))
    act = trial.student.call("greeting")
    if act == "kill the worker":
        os.kill(os.getpid(), signal.SIGKILL)
    if act == "kill the worker once" and counter:
        once = pathlib.Path(counter + ".once")
        if not once.exists():
            once.touch()
            os.kill(os.getpid(), signal.SIGKILL)
    if act == "fail the worker":
        raise RuntimeError("a bug of ours")
    if act == "hang the worker":
        time.sleep(60)


EXERCISES = (
    Exercise(
        "greet",
        "What the guest says",
        ("greeting",),
        (
            Invariant("hello", 1.5, "the greeting is what the guest writes", says_hello),
            Invariant("counted", 0.5, "the marking takes place", marks),
        ),
        seconds=5.0,
    ),
    Exercise(
        "double",
        "Twice as much",
        ("double",),
        (
            Invariant("small", 0.1, "small numbers are doubled", doubles),
            Invariant("big", 0.2, "so are numbers of 40 bits", doubles_big, hidden=True),
        ),
        seconds=5.0,
    ),
)
'''

RELEASED: Final = {
    "greet": '# exercise: greet\ndef greeting():\n    raise NotImplementedError("write greeting")\n',
    "double": '# exercise: double\ndef double(n):\n    raise NotImplementedError("write double")\n',
}
GOOD: Final = {
    "greet": '# exercise: greet\ndef greeting():\n    return "hello from a boot sector"\n',
    "double": "# exercise: double\ndef double(n):\n    return 2 * n\n",
}
HALF: Final = GOOD | {"double": "# exercise: double\ndef double(n):\n    return (2 * n) & 0xFFFFFFFF\n"}
WRONG: Final = {
    "greet": '# exercise: greet\ndef greeting():\n    return "<b>good bye</b>"\n',
    "double": "# exercise: double\ndef double(n):\n    if n:\n        return n / 0\n    return 0\n",
}
FULL: Final = 2.3
"""The points of a full solution."""


def notebook(cells: Mapping[str, str], lesson: str | None = "02") -> str:
    """Give a notebook with these exercise cells as text."""
    sources = ["import vlab", *cells.values()]
    metadata = {} if lesson is None else {"vlab": {"lesson": lesson}}
    listed = [
        {"cell_type": "code", "source": each, "metadata": {}, "outputs": [], "execution_count": None}
        for each in sources
    ]
    return json.dumps({"cells": listed, "metadata": metadata, "nbformat": 4, "nbformat_minor": 5})


def make_labs(directory: Path) -> Path:
    """Write the lesson, for VLAB_LABS."""
    lesson = directory / "labs" / "02_small"
    lesson.mkdir(parents=True)
    (lesson / "exercises_02.py").write_text(EXERCISES, encoding="utf-8")
    (lesson / "02_small.ipynb").write_text(notebook(RELEASED), encoding="utf-8")
    return lesson.parent


def hand_in(directory: Path, **students: Mapping[str, str]) -> Path:
    """Write a directory with a directory for each student."""
    for name, cells in students.items():
        place = directory / name / "02_small.ipynb"
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(notebook(cells), encoding="utf-8")
    return directory
