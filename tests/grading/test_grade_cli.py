"""`vlab grade`, as it is run: its exit status, its words, its exports, and what a crash does to it."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.grading.classroom import GOOD, HALF, RELEASED, WRONG, hand_in, make_labs, notebook
from vlab.cli import main

COMMAND = [sys.executable, "-m", "vlab.cli", "grade"]
KILL = {"greet": '# exercise: greet\ndef greeting():\n    return "kill the worker"\n'}
unix = pytest.mark.skipif(sys.platform == "win32", reason="signals are sent in another way there")


@dataclass
class Result:
    status: int
    out: str
    err: str


Grade = Callable[..., Result]


@pytest.fixture
def grade(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Grade:
    """The command in a directory of its own, with the small lesson."""
    monkeypatch.setenv("VLAB_LABS", str(make_labs(tmp_path)))
    monkeypatch.chdir(tmp_path)

    def command(*arguments: object) -> Result:
        status = main(["grade", *map(str, arguments)])
        captured = capsys.readouterr()
        return Result(status, captured.out, captured.err)

    return command


def results() -> dict[str, dict[str, object]]:
    return {each.stem: json.loads(each.read_bytes()) for each in Path("graded/results/02").glob("*.json")}


# --- the contract -----------------------------------------------------------------------------------------


def test_a_class_is_graded_exported_and_not_graded_again(
    grade: Grade, monkeypatch: pytest.MonkeyPatch
) -> None:
    hand_in(Path("in"), alice=GOOD, bob=HALF, carol=WRONG, dave=RELEASED)
    Path("in/eve").mkdir()
    monkeypatch.setenv("CLASSROOM_COUNTER", "counter")
    exports = ["--csv", "m.csv", "--canvas", "c.csv", "--gradescope", "gs", "--feedback", "fb"]
    exports += ["--plagiarism", "pl", "--json", "r.json"]
    first = grade("in", "--workers", 1, *exports)
    assert (first.status, first.err) == (0, "")
    assert first.out == "5 submissions of 5 students: 4 graded, 1 unusable. The results are in 'graded'.\n"
    with Path("m.csv").open(encoding="utf-8", newline="") as file:
        totals = {row["student"]: row["earned"] for row in csv.DictReader(file) if row["exercise"] == "total"}
    assert totals == {"alice": "2.3", "bob": "2.1", "carol": "0.5", "dave": "0", "eve": "0"}
    assert len(list(Path("fb").glob("*-02.html"))) == len(list(Path("gs").glob("*/results.json"))) == 5
    tests = json.loads(Path("gs/bob/results.json").read_text(encoding="utf-8"))["tests"]
    assert [each["visibility"] for each in tests] == ["visible"] * 3 + ["after_published"]
    written = json.loads(Path("r.json").read_text(encoding="utf-8"))
    assert [each["student"] for each in written] == ["alice", "bob", "carol", "dave", "eve"]
    assert Path("c.csv").read_text(encoding="utf-8").splitlines()[1] == "    Points Possible,,,,,2.3"
    counted = Path("counter").read_text()
    again = grade("in", "--workers", 1)
    assert again.out.startswith("5 submissions of 5 students: 0 graded, 5 kept from before. ")
    assert Path("counter").read_text() == counted


def test_only_what_changed_is_graded_again(grade: Grade) -> None:
    hand_in(Path("in"), alice=GOOD, bob=HALF)
    grade("in", "--workers", 1)
    hand_in(Path("in"), bob=GOOD, carol=WRONG)
    assert "3 submissions of 3 students: 2 graded, 1 kept" in grade("in", "--workers", 1).out
    assert results()["bob"]["earned"] == pytest.approx(2.3)
    exercises = Path("labs/02_small/exercises_02.py")
    exercises.write_text(exercises.read_text(encoding="utf-8") + "\n# corrected\n", encoding="utf-8")
    assert "3 graded" in grade("in", "--workers", 1).out


def test_another_secret_grades_on_other_guests(grade: Grade) -> None:
    hand_in(Path("in"), alice=GOOD)
    Path("secret").write_text("a line of random text\n", encoding="utf-8")
    grade("in", "--workers", 1)
    assert "1 graded" in grade("in", "--workers", 1, "--secret", "secret").out
    assert "1 kept" in grade("in", "--workers", 1, "--secret", "secret").out
    assert "random text" not in Path("graded/results/02/alice.json").read_text(encoding="utf-8")


@unix
def test_a_failure_of_ours_is_status_1_and_tried_again_the_next_time(grade: Grade) -> None:
    hand_in(Path("in"), alice=GOOD, bob=KILL)
    result = grade("in", "--workers", 2, "--csv", "m.csv", "--feedback", "fb")
    assert result.status == 1
    assert "1 graded, 1 FAILED" in result.out
    assert result.err == (
        "not graded, by no fault of the student's: bob: grading failed 2 times: "
        "the worker process ended with signal 9\n"
    )
    assert [each.name for each in Path("fb").iterdir()] == ["alice-02.html"]
    assert "bob,02,total,,2.3,,error," in Path("m.csv").read_text(encoding="utf-8")
    hand_in(Path("in"), bob=HALF)
    assert grade("in", "--workers", 1).status == 0


def test_poor_and_unusable_work_is_status_0(grade: Grade) -> None:
    Path("alice.ipynb").write_text("{", encoding="utf-8")
    result = grade("alice.ipynb")
    assert (result.status, result.err) == (0, "")
    assert result.out == "1 submission of 1 student: 0 graded, 1 unusable. The results are in 'graded'.\n"


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["none"], "vlab: submissions: there is no 'none'; check the path"),
        (["labs/02_small/exercises_02.py"], "is no notebook; name .ipynb files, .zip files or directories"),
        (["."], "vlab: submissions: there is no notebook in '.'"),
        (["a.ipynb", "--lesson", "77"], "vlab: lesson: there is no lesson '77'; choose one of 02"),
        (["a.ipynb", "--workers", "2", "--cluster", "tcp://x:1"], "leave out --workers or --cluster"),
        (["a.ipynb", "--canvas-roster", "a.ipynb"], "it is of use with --canvas FILE only; add that"),
        (["a.ipynb", "--secret", "none"], "there is no file 'none'; check the path"),
        (["a.ipynb", "--csv", "none/m.csv"], "does not exist; create it first"),
        (["a.ipynb", "--out", "a.ipynb"], "is a file"),
        (["a.ipynb", "--workers", "0"], "Invalid value for '--workers'"),
        ([], "Missing argument 'SUBMISSIONS...'"),
    ],
)
def test_what_cannot_be_used_is_one_line_and_status_2(grade: Grade, arguments: list[str], line: str) -> None:
    if "." not in arguments:
        Path("a.ipynb").write_text(notebook(GOOD), encoding="utf-8")
    else:
        Path("labs/02_small/02_small.ipynb").unlink()
        Path("labs/02_small/lesson.md").write_text("", encoding="utf-8")
    result = grade(*arguments)
    assert result.status == 2
    assert result.out == ""
    assert result.err.count("\n") == 1
    assert line in result.err


# --- signals ----------------------------------------------------------------------------------------------


def _start(environment: Mapping[str, str]) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*COMMAND, "in", "--workers", "2"],
        env=os.environ | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def _wait_for(count: int) -> None:
    until = time.monotonic() + 60
    while len(list(Path("graded/results/02").glob("*.json"))) < count:
        assert time.monotonic() < until, "the grading does not get on"
        time.sleep(0.02)


@unix
@pytest.mark.slow
def test_a_grading_that_was_killed_goes_on_where_it_was(grade: Grade) -> None:
    hand_in(Path("in"), **{f"student{number}": HALF for number in range(10)})
    counting = {"CLASSROOM_COUNTER": str(Path("counter").absolute()), "CLASSROOM_SLEEP": "0.3"}
    process = _start(counting)
    with process:
        _wait_for(3)
        process.kill()
    before = {each: each.stat().st_mtime_ns for each in Path("graded/results/02").glob("*.json")}
    assert 3 <= len(before) < 10
    second = _start(counting)
    out, err = second.communicate(timeout=60)
    assert (second.returncode, err) == (0, "")
    assert f"{10 - len(before)} graded, {len(before)} kept from before" in out
    assert {each: each.stat().st_mtime_ns for each in before} == before
    assert {name: round(float(str(each["earned"])), 3) for name, each in results().items()} == {
        f"student{number}": 2.1 for number in range(10)
    }
    # at most what the two workers were at when the parent died was marked again
    assert 10 <= len(Path("counter").read_text()) <= 12
    assert not list(Path("graded").rglob("*.tmp"))


@unix
@pytest.mark.slow
def test_ctrl_c_ends_in_one_line_that_says_how_to_go_on(grade: Grade) -> None:
    hand_in(Path("in"), **{f"student{number}": HALF for number in range(20)})
    process = _start({"CLASSROOM_SLEEP": "1"})
    with process:
        _wait_for(2)
        os.killpg(process.pid, signal.SIGINT)
        out, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert out == ""
    assert err.count("\n") == 1, err
    line = err.strip()
    assert line.startswith("vlab grade: interrupted; ")
    assert line.endswith(" of 20 are graded and kept in 'graded'. Run the same command to go on.")
    done = len(results())
    assert f"{20 - done} graded, {done} kept" in grade("in", "--workers", 2).out


def test_progress_is_a_line_now_and_then_where_there_is_no_terminal(
    grade: Grade, monkeypatch: pytest.MonkeyPatch
) -> None:
    hand_in(Path("in"), alice=GOOD, bob=HALF)
    monkeypatch.setattr("vlab.cli.grade.EVERY", 0.0)
    assert grade("in", "--workers", 1).err == "0 of 2 graded\n1 of 2 graded\n"
