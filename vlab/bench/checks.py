"""How long a student waits for a check in the notebook: of the slowest of all the lessons' exercises.

Each lesson's solved cells are run in an IPython of their own, and checked there with ``lab.check``, twice:
the faster one counts, since one moment of a busy computer says nothing about the lesson.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
from os import environ
from pathlib import Path
from typing import Final

from vlab.bench.registry import Measurement, NotMeasured, Say, at_most, bench

LABS: Final = Path(__file__).parents[2] / "labs"
_CELL: Final = re.compile(
    r"^```\{code-cell\}[^\n]*\n(?::[^\n]*\n|\n)*(# exercise: (\S+)\n.*?)^```$", re.M | re.S
)
_NOTEBOOK: Final = """
import json, sys, time
from IPython.core.interactiveshell import InteractiveShell

shell = InteractiveShell.instance(colors="nocolor")

def run(source):
    found = shell.run_cell(source, store_history=True)
    found.raise_error()
    return found.result

lesson, cells, told = sys.argv[1], json.load(sys.stdin), {}
run(f"import vlab; from vlab.lessons import lesson; lab = lesson({lesson!r})")
for exercise, source in cells.items():
    run(source)
    took = []
    for _ in range(2):
        began = time.perf_counter()
        report = run(f"lab.check({exercise!r})")
        took.append(time.perf_counter() - began)
        assert all(each.holds or each.waits for each in report.mark.invariants), exercise
    told[exercise] = min(took)
print(json.dumps(told))
"""


def solved_cells(labs: Path, lesson: str) -> dict[str, str]:
    """Give the cells of a lesson's exercises by name, with their solutions. Raises NotMeasured."""
    source = next(labs.glob(f"{lesson}_*/lesson.md"), None)
    if source is None:
        raise NotMeasured("the lessons' sources are in a checkout only")
    return {ident: text for text, ident in _CELL.findall(source.read_text(encoding="utf-8"))}


@bench("check-slowest", unit="s", bar=at_most(2))
def check_slowest(say: Say) -> Measurement:
    """The slowest check of a solved exercise in its notebook, of all lessons."""
    lessons = sorted(each.parent.name[:2] for each in LABS.glob("[0-9][0-9]_*/lesson.md"))
    took = {}
    for lesson in lessons:
        say(f"lesson {lesson}")
        took.update({(lesson, name): seconds for name, seconds in check_times(lesson).items()})
    if not took:
        raise NotMeasured("the lessons' sources are in a checkout only")
    lesson, name = max(took, key=took.__getitem__)
    usual = sorted(took.values())[len(took) // 2]
    return Measurement(
        took[lesson, name], f"{name} of lesson {lesson}; half of {len(took)} take at most {usual:.2f} s"
    )


def check_times(lesson: str) -> dict[str, float]:
    """Give the seconds that the check of each exercise of a lesson takes in a notebook."""
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(
            [sys.executable, "-c", _NOTEBOOK, lesson],
            input=json.dumps(solved_cells(LABS, lesson)),
            env=environ | {"VLAB_DATA": folder, "IPYTHONDIR": folder},
            capture_output=True,
            text=True,
            check=False,
        )
    if done.returncode:
        raise NotMeasured(f"lesson {lesson} cannot be checked: {done.stderr.strip()[-300:]}")
    times: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return times
