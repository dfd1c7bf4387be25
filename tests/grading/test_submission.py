"""Whose notebook it is, which lesson's, and what becomes of those that are broken or hostile."""

from __future__ import annotations

import json
import os
import zipfile
from pathlib import Path

import pytest

from tests.grading.classroom import GOOD, HALF, RELEASED, hand_in, make_labs, notebook
from vlab.errors import UnusableInput
from vlab.grading import handed_in
from vlab.grading.submission import Submission, collect, released, safe_name


@pytest.fixture(autouse=True)
def labs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    directory = make_labs(tmp_path / "course")
    (directory / "03_other").mkdir()
    (directory / "03_other" / "03_other.ipynb").write_text(notebook(RELEASED, "03"))
    monkeypatch.setenv("VLAB_LABS", str(directory))
    return directory


@pytest.fixture
def room(tmp_path: Path) -> Path:
    place = tmp_path / "handed in"
    place.mkdir()
    return place


def write(path: Path, text: str | bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def pack(path: Path, **members: str | bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def who(found: list[Submission]) -> list[tuple[str, str, bool]]:
    return [(each.student, each.lesson, not each.trouble) for each in found]


def trouble_of(path: Path, lesson: str | None = None) -> str:
    (one,) = collect([path], lesson)
    assert one.cells == {}
    return one.trouble


# --- layouts ----------------------------------------------------------------------------------------------


def test_a_file_is_its_students_by_its_name(room: Path) -> None:
    write(room / "alice.ipynb", notebook(GOOD))
    (one,) = collect([room / "alice.ipynb"])
    assert (one.student, one.lesson, one.trouble, one.notes) == ("alice", "02", "", ())
    assert {name: text.strip() for name, text in one.cells.items()} == {
        name: text.strip() for name, text in GOOD.items()
    }


def test_a_file_that_is_called_as_the_lesson_is_the_students_whose_directory_it_is_in(room: Path) -> None:
    write(room / "bob" / "02_small.ipynb", notebook(GOOD))
    write(room / "carol" / "02" / "02_small (1).ipynb", notebook(GOOD))
    paths = [room / "bob" / "02_small.ipynb", room / "carol" / "02" / "02_small (1).ipynb"]
    assert who(collect(paths)) == [("bob", "02", True), ("carol", "02", True)]


def test_files_of_one_name_are_told_apart_by_their_directories(room: Path) -> None:
    paths = [write(room / name / "homework.ipynb", notebook(GOOD)) for name in ("dan", "eve")]
    assert who(collect(paths)) == [("dan", "02", True), ("eve", "02", True)]


def test_a_directory_of_directories_is_a_class(room: Path) -> None:
    hand_in(room, bob=GOOD, alice=HALF)
    (room / "nobody").mkdir()
    write(room / ".git" / "x.ipynb", notebook(GOOD))
    write(room / "alice" / ".ipynb_checkpoints" / "02_small-checkpoint.ipynb", notebook(RELEASED))
    found = collect([room])
    assert who(found) == [("alice", "02", True), ("bob", "02", True), ("nobody", "02", False)]
    assert found[2].trouble == "nothing was handed in: there is no notebook (.ipynb) here"


def test_a_directory_with_one_notebook_is_one_students(room: Path) -> None:
    hand_in(room, alice=GOOD)
    assert who(collect([room / "alice"])) == [("alice", "02", True)]


def test_a_directory_with_many_notebooks_of_a_lesson_is_a_class(room: Path) -> None:
    for name in ("alice", "bob"):
        write(room / f"{name}.ipynb", notebook(GOOD))
    assert who(collect([room])) == [("alice", "02", True), ("bob", "02", True)]


def test_a_directory_with_notebooks_of_several_lessons_is_one_students(room: Path) -> None:
    for lesson in ("02", "03"):
        write(room / "alice" / f"{lesson}.ipynb", notebook(GOOD, lesson))
    assert who(collect([room / "alice"])) == [("alice", "02", True), ("alice", "03", True)]
    assert who(collect([room])) == [("alice", "02", True), ("alice", "03", True)]
    assert who(collect([room], "03")) == [("alice", "03", True)]


@pytest.mark.parametrize("start", ["", "submitted", "submitted/alice"])
def test_nbgraders_layout_is_understood(room: Path, start: str) -> None:
    write(room / "submitted" / "alice" / "02_small" / "02_small.ipynb", notebook(GOOD))
    write(room / "release" / "02_small" / "02_small.ipynb", notebook(RELEASED))
    assert who(collect([room / start])) == [("alice", "02", True)]


def test_archives_are_looked_into_whose_ever_they_are(room: Path) -> None:
    pack(room / "alice.zip", **{"02_small.ipynb": notebook(GOOD), "__MACOSX/._02.ipynb": b"\0"})
    pack(room / "bob.zip", **{"work/02_small.ipynb": notebook(GOOD)})
    assert who(collect([room])) == [("alice", "02", True), ("bob", "02", True)]
    assert who(collect([room / "alice.zip", room / "bob.zip"])) == [
        ("alice", "02", True),
        ("bob", "02", True),
    ]


def test_an_archive_of_a_class_may_hold_directories_and_archives(room: Path) -> None:
    inner = pack(room / "x.zip", **{"02_small.ipynb": notebook(GOOD)}).read_bytes()
    path = pack(room / "class.zip", **{"c/bob/02.ipynb": notebook(GOOD), "c/carol.zip": inner})
    found = collect([path])
    assert who(found) == [("bob", "02", True), ("carol", "02", True)]
    assert found[0].place.endswith("class.zip: c/bob/02.ipynb")


def test_two_notebooks_of_a_lesson_by_one_student_are_told_and_not_chosen_between(room: Path) -> None:
    hand_in(room, bob=GOOD)
    for name in ("02_small", "copy"):
        write(room / "alice" / f"{name}.ipynb", notebook(GOOD))
    first, second = collect([room])
    assert first.trouble == (
        "there are 2 notebooks of lesson 02 (02_small.ipynb, copy.ipynb): keep the one that counts"
    )
    assert not second.trouble


def test_the_same_student_twice_is_refused_with_both_places(room: Path) -> None:
    one = write(room / "a" / "alice.ipynb", notebook(GOOD))
    other = write(room / "b" / "Alice.ipynb", notebook(HALF))
    assert len(collect([one, one])) == 1
    with pytest.raises(
        UnusableInput, match=r"alice\.ipynb' and '.*Alice\.ipynb' are both by 'Alice'; rename"
    ):
        collect([one, other])


# --- which lesson -----------------------------------------------------------------------------------------


def test_the_call_of_lesson_says_which_it_is_when_the_metadata_does_not(room: Path) -> None:
    cells = {"": 'from vlab.lessons import lesson\nlab = lesson("02")', **GOOD}
    write(room / "alice.ipynb", notebook(cells, None))
    assert collect([room / "alice.ipynb"])[0].lesson == "02"


def test_a_notebook_that_does_not_say_is_taken_for_the_lesson_that_is_graded(room: Path) -> None:
    path = write(room / "alice.ipynb", notebook(GOOD, None))
    assert who(collect([path], "02")) == [("alice", "02", True)]
    assert trouble_of(path).startswith("the notebook does not say which lesson it is of")


def test_another_lessons_notebook_gets_no_marks_and_is_told_so(room: Path) -> None:
    path = write(room / "alice.ipynb", notebook(GOOD, "03"))
    assert trouble_of(path, "02") == "this is a notebook of lesson 03, and lesson 02 was to be handed in"


def test_a_lesson_that_is_not_there_is_no_crash(room: Path) -> None:
    path = write(room / "alice.ipynb", notebook(GOOD, "77"))
    assert trouble_of(path) == "the notebook is of lesson 77, and there is no such lesson here"


@pytest.mark.parametrize("lesson", [["02"], {"02": 1}, 2, "٠٢", "02; rm"])
def test_a_lesson_of_another_type_is_none(room: Path, lesson: object) -> None:
    parsed = json.loads(notebook(GOOD))
    parsed["metadata"]["vlab"]["lesson"] = lesson
    path = write(room / "alice.ipynb", json.dumps(parsed))
    assert trouble_of(path).startswith("the notebook does not say which lesson it is of")


# --- broken and hostile -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"{", "the notebook is broken: it is no JSON ("),
        (b"", "the notebook is broken: it is no JSON ("),
        (b"[" * 200_000, "the notebook is broken: it is nested deeper than any notebook is"),
        (b"\xff\xfe\x00", "the notebook is broken: it is no"),
        (b"[]", "the notebook is broken: it has no cells"),
        (b'{"cells": {"a": 1}}', "the notebook is broken: it has no cells"),
        (b'{"cells": [' + b"9" * 5000 + b"]}", "the notebook is broken: it is no JSON ("),
    ],
)
def test_broken_files_say_what_is_wrong(room: Path, content: bytes, why: str) -> None:
    assert trouble_of(write(room / "alice.ipynb", content)).startswith(why)


def test_a_notebook_of_50_mb_is_not_read(room: Path) -> None:
    path = write(room / "alice.ipynb", b" " * 50_000_000)
    assert trouble_of(path) == (
        "the notebook has 50 MB, and no more than 17 MB are read; clear its outputs (Edit, Clear Outputs of "
        "All Cells) and hand it in again"
    )


def test_a_notebook_without_an_exercise_cell_says_so(room: Path) -> None:
    path = write(room / "alice.ipynb", notebook({"a": "print(1)"}))
    assert trouble_of(path).startswith("there is no exercise cell in the notebook: each begins with the line")


def test_a_deleted_cell_is_as_it_was_released_and_noted(room: Path) -> None:
    write(room / "alice.ipynb", notebook({"greet": GOOD["greet"]}))
    (one,) = collect([room / "alice.ipynb"])
    assert one.cells["double"].strip() == RELEASED["double"].strip()
    assert one.notes == ("The cell of double was missing; it is marked as it was handed out.",)


def test_cells_that_are_no_cells_are_passed_over(room: Path) -> None:
    parsed = json.loads(notebook(GOOD))
    parsed["cells"] += [None, 3, [], {"cell_type": "code"}, {"cell_type": "code", "source": {"a": 1}}]
    (one,) = collect([write(room / "alice.ipynb", json.dumps(parsed))])
    assert not one.trouble


def test_half_a_surrogate_pair_does_not_travel_on(room: Path) -> None:
    cells = GOOD | {"greet": GOOD["greet"] + "\n# \ud800"}
    (one,) = collect([write(room / "alice.ipynb", notebook(cells))])
    assert one.cells["greet"].encode("utf-8").endswith(b"# ?")


@pytest.mark.parametrize("name", ["../../bob/02.ipynb", "/etc/02.ipynb", "..\\..\\02.ipynb", "C:\\02.ipynb"])
def test_an_archive_whose_paths_lead_out_is_refused(room: Path, name: str) -> None:
    path = pack(room / "alice.zip", **{name: notebook(GOOD)})
    assert trouble_of(path).startswith("the archive holds a path that leads out of it, ")
    assert sorted(each.name for each in room.iterdir()) == ["alice.zip"]


def test_an_archive_that_expands_beyond_measure_is_refused(room: Path) -> None:
    path = pack(room / "alice.zip", **{f"{number}.ipynb": b" " * (15 << 20) for number in range(6)})
    assert path.stat().st_size < 1 << 20
    assert "would become 94 MB; hand in the notebook as it is" in trouble_of(path)


def test_a_member_that_lies_about_its_size_is_no_crash(room: Path) -> None:
    path = pack(room / "alice.zip", **{"02.ipynb": b" " * (40 << 20)})
    content = bytearray(path.read_bytes())
    size = (40 << 20).to_bytes(4, "little")
    content = content.replace(size, (1000).to_bytes(4, "little"))
    path.write_bytes(content)
    assert trouble_of(path)


def test_a_broken_archive_is_its_students_trouble_alone(room: Path) -> None:
    hand_in(room, bob=GOOD)
    whole = pack(room / "alice.zip", **{"02.ipynb": notebook(GOOD)}).read_bytes()
    (room / "alice.zip").write_bytes(whole[: len(whole) // 2])
    first, second = collect([room])
    assert first.trouble == "the archive cannot be read: File is not a zip file; make it again"
    assert not second.trouble


def test_an_encrypted_archive_is_told(room: Path) -> None:
    content = bytearray(pack(room / "alice.zip", **{"02.ipynb": notebook(GOOD)}).read_bytes())
    content[content.index(b"PK\1\2") + 8] |= 1
    (room / "alice.zip").write_bytes(content)
    assert trouble_of(room / "alice.zip") == "the archive is encrypted; hand it in without a password"


def test_an_archive_with_too_many_names_is_refused(room: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handed_in, "MOST_MEMBERS", 2)
    path = pack(room / "alice.zip", a=b"", b=b"", c=b"")
    assert trouble_of(path) == "the archive names 3 files, and no more than 2 are read"


@pytest.mark.skipif(not hasattr(os, "symlink"), reason="needs symbolic links")
def test_links_to_the_work_of_others_are_not_followed(room: Path) -> None:
    hand_in(room, bob=GOOD)
    (room / "alice").mkdir()
    (room / "alice" / "02.ipynb").symlink_to(room / "bob" / "02_small.ipynb")
    (room / "carol").symlink_to(room / "bob")
    assert who(collect([room])) == [("alice", "02", False), ("bob", "02", True)]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs pipes with names")
def test_a_pipe_with_a_notebooks_name_does_not_hold_up_the_class(room: Path) -> None:
    hand_in(room, bob=GOOD)
    (room / "alice").mkdir()
    os.mkfifo(room / "alice" / "02.ipynb")
    assert who(collect([room])) == [("alice", "02", False), ("bob", "02", True)]


def test_what_a_terminal_would_obey_is_taken_out_of_names(room: Path) -> None:
    write(room / "ali\x1b[2Jce\u202e.ipynb", notebook(GOOD))
    assert collect([room])[0].student == "handed in"
    write(room / "bob.ipynb", notebook(GOOD))
    assert [each.student for each in collect([room])] == ["ali\ufffd[2Jce\ufffd", "bob"]


# --- unusable arguments -----------------------------------------------------------------------------------


def test_what_is_no_submission_at_all_is_refused(room: Path) -> None:
    write(room / "marks.csv", "")
    with pytest.raises(UnusableInput, match=r"^submissions: there is no '.*none'; check the path$"):
        collect([room / "none"])
    with pytest.raises(
        UnusableInput, match=r"marks.csv' is no notebook; name \.ipynb files, \.zip files or dir"
    ):
        collect([room / "marks.csv"])
    with pytest.raises(UnusableInput, match=r"^submissions: there is no notebook in '.*handed in'; name "):
        collect([room])


# --- digest, names, the released cells --------------------------------------------------------------------


def test_the_digest_changes_with_what_is_graded_and_with_nothing_else(room: Path) -> None:
    path = write(room / "alice.ipynb", notebook(GOOD))
    before = collect([path])[0].digest
    write(path, notebook({"more": "print(2)", **GOOD}))
    assert collect([path])[0].digest == before
    write(path, notebook(HALF))
    assert collect([path])[0].digest != before


def test_a_name_that_every_file_system_takes_stays_and_others_become_one() -> None:
    assert safe_name("Zoë Müller") == "Zoë Müller"
    for name in ("a/b", "..", "", "CON", "x" * 300, "a\ufffdb", "=cmd|' /C calc'!A0"):
        made = safe_name(name)
        assert made != name
        assert not set(made) & set('/\\:*?"<>|')
        assert 0 < len(made.encode()) < 120
    assert safe_name("a/b") != safe_name("a:b")


def test_the_released_cells_are_what_all_were_given() -> None:
    assert {name: text.strip() for name, text in released("02").items()} == {
        name: text.strip() for name, text in RELEASED.items()
    }
