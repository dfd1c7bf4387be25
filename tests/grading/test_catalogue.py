"""Lessons are found, in a checkout and installed, and their exercises loaded under a steady name."""

from __future__ import annotations

import pickle
import sys
from pathlib import Path

import pytest

from vlab.errors import UnusableInput
from vlab.grading import catalogue
from vlab.grading.catalogue import find, labs_directory, lessons

EXERCISES = """\
from vlab.grading.exercise import Exercise, Invariant


def holds(trial):
    pass


EXERCISES = (Exercise("one", "One", ("f",), (Invariant("it", 1.0, "it holds", holds),)),)
"""


@pytest.fixture
def labs(tmp_path: Path) -> Path:
    for name in ("01_rings", "04_translation"):
        directory = tmp_path / name
        directory.mkdir()
        (directory / f"{name}.ipynb").write_text("{}")
    (tmp_path / "01_rings" / "exercises_01.py").write_text(EXERCISES)
    (tmp_path / "04_translation" / "lesson.md").write_text("")
    (tmp_path / "notes").mkdir()
    (tmp_path / "07_empty").mkdir()
    (tmp_path / "09_file").write_text("")
    return tmp_path


def test_lessons_are_the_directories_with_a_number_and_a_notebook_or_source(labs: Path) -> None:
    assert [(each.id, each.name) for each in lessons(labs)] == [("01", "01_rings"), ("04", "04_translation")]


def test_a_lesson_is_found_by_its_number_and_by_its_name(labs: Path) -> None:
    files = find("04", labs)
    assert files == find("04_translation", labs)
    assert files.source == labs / "04_translation" / "lesson.md"
    assert files.notebook == labs / "04_translation" / "04_translation.ipynb"
    assert files.exercises_module == labs / "04_translation" / "exercises_04.py"


def test_a_lesson_that_is_not_there_is_told_with_those_that_are(labs: Path) -> None:
    with pytest.raises(UnusableInput) as caught:
        find("99", labs)
    assert str(caught.value) == "lesson: there is no lesson '99'; choose one of 01, 04"


def test_two_lessons_with_one_number_are_told(labs: Path) -> None:
    (labs / "01_again").mkdir()
    (labs / "01_again" / "lesson.md").write_text("")
    with pytest.raises(UnusableInput, match="01_again and 01_rings have one number; change one of them"):
        lessons(labs)


def test_exercises_are_loaded_once_under_a_name_that_other_processes_can_import_by(labs: Path) -> None:
    (exercise,) = find("01", labs).exercises()
    assert exercise.ident == "one"
    assert (exercise,) == sys.modules["exercises_01"].EXERCISES
    assert find("01", labs).exercises() == (exercise,)
    assert pickle.loads(pickle.dumps(exercise.invariants[0].holds)) is exercise.invariants[0].holds


def test_a_lesson_without_exercises_has_none(labs: Path) -> None:
    assert find("04", labs).exercises() == ()


def test_exercises_of_another_directory_take_the_place_of_those_before(labs: Path, tmp_path: Path) -> None:
    find("01", labs).exercises()
    other = tmp_path / "other" / "01_rings"
    other.mkdir(parents=True)
    (other / "lesson.md").write_text("")
    (other / "exercises_01.py").write_text(EXERCISES.replace('"one"', '"two"'))
    assert [each.ident for each in find("01", other.parent).exercises()] == ["two"]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("x = 1\n1 / 0\n", "exercises_01.py:2: ZeroDivisionError: division by zero; correct the exercises"),
        ("x = (\n", "SyntaxError"),
        ("EXERCISES = [1]\n", "has no tuple EXERCISES of Exercise objects; write one"),
        (EXERCISES + "EXERCISES *= 2\n", "has two exercises 'one'; rename one"),
    ],
)
def test_exercises_that_cannot_be_loaded_are_told_with_their_file(labs: Path, text: str, told: str) -> None:
    path = labs / "01_rings" / "exercises_01.py"
    path.write_text(text)
    sys.modules.pop("exercises_01", None)
    with pytest.raises(UnusableInput) as caught:
        find("01", labs).exercises()
    assert told in str(caught.value)
    assert str(path) in str(caught.value)


def test_the_environment_names_a_directory_of_lessons_of_ones_own(
    labs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VLAB_LABS", str(labs))
    assert [each.id for each in lessons()] == ["01", "04"]
    monkeypatch.setenv("VLAB_LABS", str(labs / "nowhere"))
    with pytest.raises(UnusableInput, match="VLAB_LABS: there is no directory"):
        labs_directory()


def test_installed_lessons_go_before_those_beside_the_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "vlab"
    package.mkdir()
    monkeypatch.delenv("VLAB_LABS", raising=False)
    monkeypatch.setattr(catalogue, "_PACKAGE", package)
    assert labs_directory() is None
    assert lessons() == []
    with pytest.raises(UnusableInput, match="no lessons are installed here"):
        find("00")
    (tmp_path / "labs").mkdir()
    assert labs_directory() == tmp_path / "labs"
    (package / "labs").mkdir()
    assert labs_directory() == package / "labs"


def test_exercises_import_what_is_beside_them_and_from_their_own_directory(tmp_path: Path) -> None:
    for name in ("one", "other"):
        place = tmp_path / name / "01_pages"
        place.mkdir(parents=True)
        (place / "lesson.md").write_text("x")
        (place / "machine_01.py").write_text(f"TITLE = {name!r}\n")
        (place / "exercises_01.py").write_text(
            "from machine_01 import TITLE\nfrom vlab.grading.exercise import Exercise\n"
            "EXERCISES = (Exercise('e', TITLE, (), ()),)\n"
        )
        (place / "mistakes_01.py").write_text("MISTAKES = {}\n")
    for name in ("one", "other", "one"):
        files = find("01", tmp_path / name)
        assert [each.title for each in files.exercises()] == [name]
        assert [each.name for each in files.modules] == ["exercises_01.py", "machine_01.py"]
    assert str(files.directory) not in sys.path


def test_a_mistake_in_what_is_beside_the_exercises_is_placed_there(tmp_path: Path) -> None:
    place = tmp_path / "01_pages"
    place.mkdir()
    (place / "lesson.md").write_text("x")
    (place / "machine_01.py").write_text("\n1 / 0\n")
    (place / "exercises_01.py").write_text("import machine_01\n")
    with pytest.raises(
        UnusableInput, match=r"machine_01\.py:2: ZeroDivisionError: division by zero; correct"
    ):
        find("01", tmp_path).exercises()
