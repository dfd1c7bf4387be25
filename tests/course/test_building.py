"""`vlab course build`: what it writes and where, and that it writes nothing when a source is not in order."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from tests.course.sample import LABS, NAME, NEEDS_JUPYTEXT, SECRETS, changed
from vlab.cli import main
from vlab.course import building

pytestmark = NEEDS_JUPYTEXT

NOTEBOOK = f"{NAME}/{NAME}.ipynb"


@pytest.fixture(autouse=True)
def _without_otter(monkeypatch: pytest.MonkeyPatch) -> None:
    """Importing otter takes seconds; tests/course/test_graders.py has it make its archive."""
    monkeypatch.setattr(building, "there", lambda _module: False)


def build(*arguments: str | Path) -> int:
    return main(["course", "build", *map(str, arguments)])


def files(directory: Path) -> dict[str, str]:
    return {
        path.relative_to(directory).as_posix(): path.read_text(encoding="utf-8")
        for path in directory.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }


def test_a_directory_gets_all_editions_and_both_courses(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert build("--labs", LABS, "--out", tmp_path) == 0
    assert sorted(files(tmp_path)) == [
        f"instructor/{NOTEBOOK}",
        f"nbgrader/labs/{NOTEBOOK}",
        f"nbgrader/labs/{NAME}/exercises_90.py",
        "nbgrader/nbgrader_config.py",
        f"nbgrader/source/{NOTEBOOK}",
        f"otter/{NAME}/autograder/labs/{NOTEBOOK}",
        f"otter/{NAME}/autograder/labs/{NAME}/exercises_90.py",
        f"otter/{NAME}/autograder/otter_config.json",
        f"otter/{NAME}/autograder/tests/page_number.py",
        f"otter/{NAME}/autograder/tests/set_bits.py",
        f"otter/{NAME}/student/{NAME}.ipynb",
        f"solution/{NOTEBOOK}",
        f"student/{NOTEBOOK}",
    ]
    told = capsys.readouterr()
    assert told.out == f"wrote 1 lesson into {tmp_path}: student, solution, instructor, nbgrader, otter\n"
    assert "otter-grader is not installed, so there is no autograder.zip" in told.err
    assert not (LABS / NOTEBOOK).exists()


def test_the_same_sources_give_the_same_bytes(tmp_path: Path) -> None:
    for name in ("one", "two"):
        assert build("--labs", LABS, "--out", tmp_path / name) == 0
    assert files(tmp_path / "one") == files(tmp_path / "two")


def test_only_what_instructors_keep_holds_solutions(tmp_path: Path) -> None:
    build("--labs", LABS, "--out", tmp_path)
    leaking = {
        re.split(r"/", path)[0] + ("/source" if "/source/" in path else "")
        for path, text in files(tmp_path).items()
        if path.endswith(".ipynb") and any(secret in text for secret in SECRETS)
    }
    assert leaking == {"solution", "instructor", "nbgrader/source"}


def test_without_a_directory_student_notebooks_are_written_beside_their_sources(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    labs = changed(tmp_path)
    assert build("--labs", labs) == 0
    assert capsys.readouterr().out == f"wrote {labs / NOTEBOOK}\n"
    assert json.loads((labs / NOTEBOOK).read_text())["metadata"]["vlab"]["edition"] == "student"
    before = (labs / NOTEBOOK).stat().st_mtime_ns
    assert build("--labs", labs, "--lesson", "90") == 0
    assert capsys.readouterr().out == "1 student notebook up to date\n"
    assert (labs / NOTEBOOK).stat().st_mtime_ns == before


def test_both_can_be_had_at_once(tmp_path: Path) -> None:
    labs = changed(tmp_path)
    assert build("--labs", labs, "--out", tmp_path / "out", "--in-place") == 0
    assert (labs / NOTEBOOK).read_text() == (tmp_path / "out" / "student" / NOTEBOOK).read_text()


def test_a_source_that_is_not_in_order_is_told_line_by_line_and_nothing_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    labs = changed(tmp_path, ("minutes: 5", "minutes: 0"), ("import vlab\n", ""))
    assert build("--labs", labs, "--out", tmp_path / "out") == 2
    lines = capsys.readouterr().err.splitlines()
    source = labs / NAME / "lesson.md"
    assert lines == [
        f"{source}:1: vlab: minutes is 0; write a whole number of minutes",
        f"{source}:18: the first code cell does without 'import vlab'; write it there",
    ]
    assert not (tmp_path / "out").exists()


def test_a_lesson_that_is_not_there_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert build("--labs", LABS, "--lesson", "91") == 2
    assert capsys.readouterr().err == (
        "vlab: lesson: there is no lesson '91' with a source; choose from 90\n"
    )


def test_a_directory_without_sources_says_where_they_come_from(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert build("--labs", tmp_path) == 2
    assert (
        "sources come with a checkout of vlab, and --labs names another directory" in capsys.readouterr().err
    )


def test_a_directory_that_cannot_be_written_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "student").write_text("")
    assert build("--labs", LABS, "--out", tmp_path) == 2
    assert "cannot be written: " in capsys.readouterr().err


def test_a_secret_and_a_requirement_go_where_the_graders_look_for_them(tmp_path: Path) -> None:
    secret = tmp_path / "secret.txt"
    secret.write_text("a line of random text\n")
    out = tmp_path / "out"
    assert build("--labs", LABS, "--out", out, "--secret", secret, "--requirement", "vlab[grade]==1.0") == 0
    assert (out / "nbgrader" / "secret").read_text() == "a line of random text\n"
    assert (out / "nbgrader" / "secret").stat().st_mode & 0o077 == 0
    assert (out / "otter" / NAME / "autograder" / "secret").read_text() == "a line of random text\n"
    assert (out / "otter" / NAME / "autograder" / "requirements.txt").read_text() == "vlab[grade]==1.0\n"


def test_otters_tests_have_a_case_for_each_invariant_with_its_points(tmp_path: Path) -> None:
    build("--labs", LABS, "--out", tmp_path)
    text = files(tmp_path)[f"otter/{NAME}/autograder/tests/page_number.py"]
    compile(text, "page_number.py", "exec")
    assert re.findall(r"points=([\d.]+), hidden=(\w+)", text) == [
        ("2.0", "False"), ("1.5", "False"), ("1.5", "True"),
    ]  # fmt: skip
    assert "must_hold(vlab_marks, 'page_number', 'highest')" in text
