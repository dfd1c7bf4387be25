"""Editions: what is in each, that it is the same each time, and that students get no solutions."""

from __future__ import annotations

import json

import nbformat
import pytest

from tests.course.sample import NEEDS_JUPYTEXT, SECRETS, cell, edition, lesson
from vlab import __version__
from vlab.course.editions import EDITIONS, build, to_text
from vlab.grading.catalogue import lessons

pytestmark = NEEDS_JUPYTEXT

ALL = (*EDITIONS, "nbgrader")


@pytest.mark.parametrize("which", ALL)
def test_an_edition_is_a_sound_notebook_without_outputs(which: str) -> None:
    notebook = nbformat.from_dict(edition(which))
    nbformat.validate(notebook)
    assert (notebook.nbformat, notebook.nbformat_minor) == (4, 5)
    assert notebook.metadata.kernelspec.name == "python3"
    assert notebook.metadata.language_info.name == "python"
    for each in notebook.cells:
        if each.cell_type == "code":
            assert (each.outputs, each.execution_count) == ([], None)


@pytest.mark.parametrize("which", ALL)
def test_an_edition_is_the_same_to_the_byte_each_time_and_as_jupyter_writes_it(which: str) -> None:
    text = to_text(edition(which))
    assert text == to_text(edition(which))
    assert text == nbformat.writes(nbformat.reads(text, 4)) + "\n"


@pytest.mark.parametrize("which", EDITIONS)
def test_an_edition_says_of_which_lesson_and_version_it_is(which: str) -> None:
    about = edition(which)["metadata"]["vlab"]
    assert about == {"lesson": "90", "edition": which, "version": __version__, "title": "Pages and bits"}


def test_cells_have_ids_by_what_they_are_for() -> None:
    ids = [each["id"] for each in edition("student")["cells"]]
    assert ids == [
        "90-prose-pages-and-bits", "90-setup", "90-prose-cd3e6614", "90-predict-size", "90-reveal-size",
        "90-prose-which-page", "90-exercise-page_number", "90-check-page_number", "90-prose-bits",
        "90-exercise-set_bits", "90-check-set_bits",
    ]  # fmt: skip


def test_ids_stay_the_same_across_editions() -> None:
    student = {each["id"] for each in edition("student")["cells"]}
    for which in ALL:
        assert student <= {each["id"] for each in edition(which)["cells"]}


def test_the_student_edition_holds_nothing_of_a_solution() -> None:
    text = to_text(edition("student"))
    assert not [secret for secret in SECRETS if secret in text or json.dumps(secret)[1:-1] in text]
    assert "instructor alone" not in text


def test_the_student_edition_has_stubs_in_the_place_of_solutions() -> None:
    notebook = edition("student")
    assert cell(notebook, "exercise-page_number")["source"].endswith(
        '    raise NotImplementedError("write page_number")'
    )
    assert cell(notebook, "exercise-set_bits")["source"].endswith("    # set the bits here\n    return value")


def test_exercise_and_check_cells_say_so_and_cannot_be_deleted_by_accident() -> None:
    notebook = edition("student")
    exercise, check = cell(notebook, "exercise-set_bits"), cell(notebook, "check-set_bits")
    assert exercise["metadata"]["vlab"] == {"exercise": "set_bits", "role": "exercise"}
    assert check["metadata"]["vlab"] == {"exercise": "set_bits", "role": "check"}
    assert exercise["metadata"]["deletable"] is check["metadata"]["deletable"] is False
    assert check["metadata"]["editable"] is False
    assert "editable" not in exercise["metadata"]


def test_the_solution_edition_has_the_solutions_and_the_cells_for_it_alone() -> None:
    notebook = edition("solution")
    text = to_text(notebook)
    assert "return linear >> 12" in text
    assert "page_number(0x7000)" in text
    assert "SOLUTION" not in text
    assert "stub:" not in text
    assert "instructor alone" not in text


def test_the_instructor_edition_tells_how_each_exercise_is_marked() -> None:
    notebook = edition("instructor")
    assert "instructor alone" in to_text(notebook)
    told = cell(notebook, "marks-page_number")["source"]
    assert (
        "| 1.5 | `highest` | the pages of addresses with 64 bits are right (tried on hidden guests only) |"
        in told
    )
    assert "- forgets the upper half: breaks `high`, `highest`; students read *64 bits*" in told
    assert "1. How many bits does the offset in a page have?" in told


def test_the_edition_for_nbgrader_has_its_metadata() -> None:
    notebook = edition("nbgrader")
    exercise, check = cell(notebook, "exercise-set_bits"), cell(notebook, "check-set_bits")
    assert exercise["metadata"]["nbgrader"] == {
        "schema_version": 3, "grade_id": "exercise-set_bits", "cell_type": "code",
        "grade": False, "locked": False, "solution": True, "task": False,
    }  # fmt: skip
    assert check["metadata"]["nbgrader"] == {
        "schema_version": 3, "grade_id": "set_bits", "cell_type": "code",
        "grade": True, "locked": True, "solution": False, "task": False, "points": 5.0,
    }  # fmt: skip
    assert "# BEGIN SOLUTION" in exercise["source"]


def test_a_version_of_vlab_is_all_that_an_edition_takes_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    before = to_text(build(lesson(), "student"))
    monkeypatch.setattr("vlab.course.editions.__version__", "9.9")
    assert to_text(build(lesson(), "student")) == before.replace(
        f'"version": "{__version__}"', '"version": "9.9"'
    )


@pytest.mark.parametrize(
    "files", [each for each in lessons() if each.source.exists()], ids=lambda each: each.id
)
def test_the_student_notebook_beside_a_source_is_up_to_date(files: object) -> None:
    from vlab.course.source import read
    from vlab.grading.catalogue import LessonFiles

    assert isinstance(files, LessonFiles)
    built = to_text(build(read(files), "student"))
    assert files.notebook.read_text(encoding="utf-8") == built, f"vlab course build --lesson {files.id}"
