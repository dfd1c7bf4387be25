"""nbgrader and otter, for real: both give the same marks as vlab's own engine, whatever is handed in."""

from __future__ import annotations

import json
import pickle
import zipfile
from pathlib import Path
from typing import Any

import pytest

from tests.course.graders import NEEDS_GRADERS, grades, otter_scores, run, run_otter, vlab_scores
from tests.course.sample import LABS, NAME, NEEDS_JUPYTEXT, SECRETS
from tests.course.submissions import MARKS, hand_in

pytestmark = [pytest.mark.slow, NEEDS_JUPYTEXT, NEEDS_GRADERS]

GARBLED = "garbled"
"""Whose file is no JSON; otter gives up on it before a plugin is asked."""


@pytest.fixture(scope="module")
def course(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A built course, with what all students handed in where nbgrader looks for it."""
    directory = tmp_path_factory.mktemp("course")
    run("-m", "vlab.cli", "course", "build", "--labs", LABS, "--out", directory, cwd=directory)
    for student, notebook in hand_in(str(directory / "witness")).items():
        path = directory / "nbgrader" / "submitted" / student / NAME / f"{NAME}.ipynb"
        path.parent.mkdir(parents=True)
        path.write_text(json.dumps(notebook), encoding="utf-8")
    garbled = directory / "nbgrader" / "submitted" / GARBLED / NAME / f"{NAME}.ipynb"
    garbled.parent.mkdir(parents=True)
    garbled.write_text("{no notebook", encoding="utf-8")
    return directory


@pytest.fixture(scope="module")
def nbgrader(course: Path) -> Path:
    """The course directory after nbgrader has done all its work."""
    directory = course / "nbgrader"
    for command in ("generate_assignment", "autograde", "generate_feedback"):
        run("-m", "nbgrader", command, NAME, cwd=directory)
    return directory


@pytest.fixture(scope="module")
def otter(course: Path) -> dict[str, dict[str, Any]]:
    """otter's results by student."""
    out = course / "results"
    out.mkdir()
    submitted = course / "nbgrader" / "submitted"
    notebooks = [submitted / student / NAME / f"{NAME}.ipynb" for student in MARKS]
    found = run_otter(course, NAME, out, *notebooks)
    return {Path(path).parts[-3]: results for path, results in found.items()}


def expected(student: str) -> dict[str, float]:
    return dict(zip(("page_number", "set_bits"), MARKS[student], strict=True))


def test_nbgrader_gives_the_marks(nbgrader: Path) -> None:
    found = list(grades(nbgrader, NAME))
    nothing = {"page_number": 0.0, "set_bits": 0.0}
    assert {student: scores for student, scores, _ in found} == {each: expected(each) for each in MARKS} | {
        GARBLED: nothing
    }
    assert not any(by_hand for *_, by_hand in found)


def test_otter_gives_the_same_marks(otter: dict[str, dict[str, Any]]) -> None:
    found = {student: otter_scores(results) for student, results in otter.items()}
    assert found == {each: expected(each) for each in MARKS}
    assert {student: results["score"] for student, results in otter.items()} == {
        each: sum(MARKS[each]) for each in MARKS
    }


def test_vlab_grade_gives_the_same_marks(nbgrader: Path, tmp_path: Path) -> None:
    out = tmp_path / "all.json"
    run(
        "-m", "vlab.cli", "grade", nbgrader / "submitted", "--out", tmp_path / "out", "--json", out,
        cwd=tmp_path, VLAB_LABS=str(nbgrader / "labs"),
    )  # fmt: skip
    marks = vlab_scores(out)
    earned = marks.pop(GARBLED, {})
    assert not any(earned.values())
    assert marks == {each: expected(each) for each in MARKS}


def test_no_cell_of_a_student_ran_in_a_grader(
    course: Path, nbgrader: Path, otter: dict[str, dict[str, Any]]
) -> None:
    assert not (course / "witness").exists()


def test_what_nbgrader_releases_is_the_student_edition_and_holds_no_solution(
    course: Path, nbgrader: Path
) -> None:
    released = (nbgrader / "release" / NAME / f"{NAME}.ipynb").read_text(encoding="utf-8")
    student = (course / "student" / NAME / f"{NAME}.ipynb").read_text(encoding="utf-8")
    assert not [secret for secret in SECRETS if secret in released]
    assert [each["source"] for each in json.loads(released)["cells"]] == [
        each["source"] for each in json.loads(student)["cells"]
    ]


def test_the_feedback_explains_and_tells_what_was_repaired(nbgrader: Path) -> None:
    def feedback(student: str) -> str:
        return (nbgrader / "feedback" / student / NAME / f"{NAME}.html").read_text(encoding="utf-8")

    assert "An address has 64 bits" in feedback("half")
    assert "There were 2 cells of page_number; the last that is not empty is marked." in feedback("broken")
    assert "repaired" not in feedback("correct")
    assert "not written yet: write page_number" in feedback("empty")
    assert "The file is no notebook: it cannot be read as one." in feedback(GARBLED)


def test_otter_explains_and_tells_what_was_repaired(otter: dict[str, dict[str, Any]]) -> None:
    assert "Hint: An address has 64 bits" in otter["half"]["output"]
    assert "The notebook was repaired: There were 2 cells of page_number" in otter["broken"]["output"]
    assert otter["correct"]["output"].startswith("Which page is it?: 5 of 5 points")


def test_nothing_in_otters_student_directory_holds_a_solution(course: Path) -> None:
    for path in (course / "otter" / NAME / "student").rglob("*"):
        text = path.read_text(encoding="utf-8")
        assert not [secret for secret in SECRETS if secret in text]


def test_files_beside_a_notebook_reach_neither_otters_process_nor_its_kernel(
    course: Path, tmp_path: Path
) -> None:
    witness = tmp_path / "witness"
    bundle = tmp_path / "half.zip"
    module = f"open({str(witness)!r}, 'w').close()\n"
    with zipfile.ZipFile(bundle, "w") as archive:
        archive.write(course / "nbgrader" / "submitted" / "half" / NAME / f"{NAME}.ipynb", f"{NAME}.ipynb")
        for name in ("json.py", "otter.py", "vlab/__init__.py", "labs/x.py", "tests/page_number.py"):
            archive.writestr(name, module)
        archive.writestr(".OTTER_LOG", pickle.dumps(_Opens(str(witness))))
    (results,) = run_otter(course, NAME, tmp_path, bundle).values()
    assert results["score"] == sum(MARKS["half"])
    assert not witness.exists()


class _Opens:
    """Writes a file when it is unpickled."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, tuple[str, str]]:
        return open, (self.path, "w")
