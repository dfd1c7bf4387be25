"""Each export, to the byte: a class with a name in another script, a formula, and a failure of ours."""

from __future__ import annotations

import csv
import json
import sqlite3
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from vlab.errors import UnusableInput
from vlab.grading.export import canvas, gradescope, nbgrader, plagiarism, table
from vlab.grading.export.numbers import cell, number, total
from vlab.grading.journal import Graded, Stamp
from vlab.grading.result import ExerciseMark, InvariantMark

NAMES = {"02": "02_small"}


def graded(student: str, *earned: float, lesson: str = "02", trouble: str = "", error: str = "") -> Graded:
    """Make a result: three invariants of 0.1, 0.2 and 1.5 points in two exercises."""
    points = (0.1, 0.2, 1.5)
    marks = [
        InvariantMark(name, f"it {name}s", point, got, "" if got else "it did not", "" if got else "look")
        for name, point, got in zip(("trap", "run", "halt"), points, earned or (0.0,) * 3, strict=True)
    ]
    exercises = (
        ExerciseMark("cli", "CLI & STI", tuple(marks[:2])),
        ExerciseMark("hlt", "HLT", tuple(marks[2:])),
    )
    cells = {"cli": f"# exercise: cli\n# {student}", "hlt": "# exercise: hlt\npass\n"}
    stamp = Stamp("d", "e", "s")
    kept = {} if trouble else cells
    return Graded(student, lesson, "here", stamp, exercises, kept, trouble=trouble, error=error)


CLASS = [
    graded("=HYPERLINK(0)", 0.1, 0.2, 0.0),
    graded("Zoë Müller", 0.1, 0.2, 1.5),
    graded("李, 小龍", trouble="the notebook is broken: it has no cells"),
    graded("unlucky", error="the worker process ended with signal 9"),
]


# --- numbers and cells ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "text"),
    [(3.0, "3"), (2.5, "2.5"), (0.1 + 0.2, "0.3"), (0.0, "0"), (1 / 3, "0.333333"), (100, "100")],
)
def test_a_mark_is_written_as_a_person_would(value: float, text: str) -> None:
    assert number(value) == text


def test_a_total_is_the_sum_of_what_stands_above_it() -> None:
    assert total([0.1] * 10) == 1.0
    assert total([0.1, 0.2]) == 0.3
    assert total([]) == 0.0


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "\uff1d1"])
def test_what_a_spreadsheet_would_calculate_becomes_text(text: str) -> None:
    assert cell(text) == f"'{text}"


@pytest.mark.parametrize("text", ["", "alice", "Zoë", "a=b", "O'Neil", "3"])
def test_other_text_stays(text: str) -> None:
    assert cell(text) == text


# --- CSV --------------------------------------------------------------------------------------------------


def test_the_table_has_a_row_for_each_exercise_and_a_total(tmp_path: Path) -> None:
    table.write(tmp_path / "marks.csv", CLASS)
    assert (tmp_path / "marks.csv").read_bytes().decode("utf-8").split("\r\n") == [
        "student,lesson,exercise,title,points,earned,status,remark",
        "'=HYPERLINK(0),02,cli,CLI & STI,0.3,0.3,graded,",
        "'=HYPERLINK(0),02,hlt,HLT,1.5,0,graded,",
        "'=HYPERLINK(0),02,total,,1.8,0.3,graded,",
        "Zoë Müller,02,cli,CLI & STI,0.3,0.3,graded,",
        "Zoë Müller,02,hlt,HLT,1.5,1.5,graded,",
        "Zoë Müller,02,total,,1.8,1.8,graded,",
        '"李, 小龍",02,cli,CLI & STI,0.3,0,unusable,',
        '"李, 小龍",02,hlt,HLT,1.5,0,unusable,',
        '"李, 小龍",02,total,,1.8,0,unusable,the notebook is broken: it has no cells',
        "unlucky,02,cli,CLI & STI,0.3,,error,",
        "unlucky,02,hlt,HLT,1.5,,error,",
        "unlucky,02,total,,1.8,,error,the worker process ended with signal 9",
        "",
    ]


def test_a_place_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UnusableInput, match=r"marks\.csv' cannot be written: .*; name another place$"):
        table.write(tmp_path / "file" / "marks.csv", CLASS)


# --- Canvas -----------------------------------------------------------------------------------------------

ROSTER = """\ufeffStudent,ID,SIS User ID,SIS Login ID,Section,02_small (4711),Current Score
    Points Possible,,,,,1.8,(read only)
"Müller, Zoë",101,S-1,zmueller@example.edu,Group A,,
"李, 小龍",102,S-2,bruce,Group B,,
"Twin, Tim",103,S-3,tim1,Group A,,
"Twin, Tim",104,S-4,tim2,Group A,,
"Never, Nina",105,S-5,nina,Group B,,
"Student, Test",106,,deadbeef,Group A,,
"""


@pytest.fixture
def roster(tmp_path: Path) -> canvas.Roster:
    (tmp_path / "roster.csv").write_text(ROSTER, encoding="utf-8")
    return canvas.Roster.read(tmp_path / "roster.csv")


def test_canvas_without_a_roster_has_names_alone(tmp_path: Path) -> None:
    assert canvas.write(tmp_path / "canvas.csv", CLASS, None, NAMES) == ()
    assert (tmp_path / "canvas.csv").read_bytes().decode("utf-8").split("\r\n") == [
        "Student,ID,SIS User ID,SIS Login ID,Section,02_small",
        "    Points Possible,,,,,1.8",
        "'=HYPERLINK(0),,,,,0.3",
        "Zoë Müller,,,,,1.8",
        '"李, 小龍",,,,,0',
        "unlucky,,,,,",
        "",
    ]


def test_canvas_with_a_roster_has_its_students_ids_and_column(tmp_path: Path, roster: canvas.Roster) -> None:
    left_out = canvas.write(tmp_path / "canvas.csv", CLASS, roster, NAMES)
    assert left_out == ("=HYPERLINK(0)", "unlucky")
    assert (tmp_path / "canvas.csv").read_bytes().decode("utf-8").split("\r\n") == [
        "Student,ID,SIS User ID,SIS Login ID,Section,02_small (4711)",
        "    Points Possible,,,,,1.8",
        '"Müller, Zoë",101,S-1,zmueller@example.edu,Group A,1.8',
        '"李, 小龍",102,S-2,bruce,Group B,0',
        '"Twin, Tim",103,S-3,tim1,Group A,',
        '"Twin, Tim",104,S-4,tim2,Group A,',
        '"Never, Nina",105,S-5,nina,Group B,',
        "",
    ]


@pytest.mark.parametrize(
    ("student", "place"),
    [
        ("Zoë Müller", 0), ("muller zoe", 0), ("zmueller", 0), ("zmueller@example.edu", 0), ("S-1", 0),
        ("101", 0),
        ("muellerzoe_101_99887_02_small", 0), ("muellerzoe_LATE_101_99887_02_small", 0), ("bruce", 1),
        ("Tim Twin", None), ("tim2", 3), ("nobody", None), ("", None), ("Student, Test", None),
    ],
)  # fmt: skip
def test_a_student_is_found_by_any_name_that_is_theirs_alone(
    roster: canvas.Roster, student: str, place: int | None
) -> None:
    assert roster.find(student) == place


def test_two_submissions_of_one_student_do_not_become_one_mark(tmp_path: Path, roster: canvas.Roster) -> None:
    twice = [graded("zmueller", 0.1, 0.2, 1.5), graded("S-1")]
    assert canvas.write(tmp_path / "canvas.csv", twice, roster, NAMES) == ("S-1",)


def test_what_is_no_gradebook_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text("name,mark\n")
    with pytest.raises(
        UnusableInput, match=r"^canvas-roster: '.*x\.csv' has no columns Student and ID; export"
    ):
        canvas.Roster.read(tmp_path / "x.csv")
    (tmp_path / "y.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UnusableInput, match=r"^canvas-roster: '.*y\.csv' cannot be read as CSV"):
        canvas.Roster.read(tmp_path / "y.csv")


# --- Gradescope -------------------------------------------------------------------------------------------


def test_gradescope_gets_a_file_for_each_student(tmp_path: Path) -> None:
    gradescope.write(tmp_path, CLASS, lambda _lesson, exercise, name: (exercise, name) == ("hlt", "halt"))
    assert sorted(each.parent.name for each in tmp_path.glob("*/results.json")) == [
        "Zoë Müller",
        "_HYPERLINK(0)-9bf97ab5",
        "李, 小龍",
    ]
    written = json.loads((tmp_path / "_HYPERLINK(0)-9bf97ab5" / "results.json").read_text(encoding="utf-8"))
    assert written == {
        "score": 0.3,
        "output": "",
        "output_format": "text",
        "visibility": "visible",
        "stdout_visibility": "hidden",
        "tests": [
            {
                "name": "CLI & STI: it traps", "name_format": "text", "number": "cli.trap",
                "score": 0.1, "max_score": 0.1, "status": "passed",
                "output": "", "output_format": "text", "visibility": "visible",
            },
            {
                "name": "CLI & STI: it runs", "name_format": "text", "number": "cli.run",
                "score": 0.2, "max_score": 0.2, "status": "passed",
                "output": "", "output_format": "text", "visibility": "visible",
            },
            {
                "name": "HLT: it halts", "name_format": "text", "number": "hlt.halt",
                "score": 0.0, "max_score": 1.5, "status": "failed",
                "output": "it did not\nlook", "output_format": "text", "visibility": "after_published",
            },
        ],
    }  # fmt: skip
    broken = json.loads((tmp_path / "李, 小龍" / "results.json").read_text(encoding="utf-8"))
    assert (broken["score"], broken["output"]) == (0.0, "the notebook is broken: it has no cells")


def test_gradescope_has_a_directory_for_each_lesson_when_there_are_several(tmp_path: Path) -> None:
    gradescope.write(tmp_path, [graded("ann"), graded("ann", lesson="03")], lambda *_: False)
    assert sorted(each.parent.name for each in tmp_path.glob("ann/*/results.json")) == ["02", "03"]


# --- nbgrader ---------------------------------------------------------------------------------------------


def scores(path: Path) -> list[tuple[str, str, float, float | None]]:
    rows = """
        select submitted_assignment.student_id, base_cell.name, grade_cells.max_score, grade.auto_score
        from grade join submitted_notebook on grade.notebook_id = submitted_notebook.id
        join submitted_assignment on submitted_notebook.assignment_id = submitted_assignment.id
        join base_cell on grade.cell_id = base_cell.id join grade_cells on grade_cells.id = base_cell.id
        order by 1, 2
    """
    database = sqlite3.connect(path)
    try:
        return list(database.execute(rows))
    finally:
        database.close()


@pytest.mark.slow
def test_nbgraders_gradebook_gets_the_marks_and_is_brought_up_to_date(tmp_path: Path) -> None:
    pytest.importorskip("nbgrader")
    path = tmp_path / "gradebook.db"
    nbgrader.write(path, CLASS, NAMES)
    assert scores(path) == [
        ("=HYPERLINK(0)", "cli", 0.3, 0.3),
        ("=HYPERLINK(0)", "hlt", 1.5, 0.0),
        ("Zoë Müller", "cli", 0.3, 0.3),
        ("Zoë Müller", "hlt", 1.5, 1.5),
        ("李, 小龍", "cli", 0.3, 0.0),
        ("李, 小龍", "hlt", 1.5, 0.0),
    ]
    better = graded("=HYPERLINK(0)", 0.1, 0.2, 1.5)
    more = replace(better, exercises=(*better.exercises, replace(better.exercises[1], ident="new")))
    nbgrader.write(path, [more], NAMES)
    found = scores(path)
    assert ("=HYPERLINK(0)", "hlt", 1.5, 1.5) in found
    assert ("=HYPERLINK(0)", "new", 1.5, 1.5) in found
    assert ("Zoë Müller", "cli", 0.3, 0.3) in found


@pytest.mark.slow
def test_a_file_that_is_no_gradebook_is_told(tmp_path: Path) -> None:
    pytest.importorskip("nbgrader")
    (tmp_path / "gradebook.db").write_text("certainly no database, " * 100)
    with pytest.raises(UnusableInput, match=r"gradebook\.db' cannot be used as a gradebook: "):
        nbgrader.write(tmp_path / "gradebook.db", CLASS, NAMES)


def test_without_nbgrader_the_message_says_which_extra_brings_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "nbgrader.api", None)
    with pytest.raises(
        UnusableInput, match=r"^nbgrader-db: nbgrader is not installed; pip install 'vlab\[grade\]'$"
    ):
        nbgrader.require()


# --- plagiarism -------------------------------------------------------------------------------------------


def test_tools_against_plagiarism_get_the_answers_and_what_was_given(tmp_path: Path) -> None:
    plagiarism.write(
        tmp_path, CLASS, lambda _lesson: {"cli": "# exercise: cli", "hlt": "# exercise: hlt\npass"}
    )
    files = sorted(each.relative_to(tmp_path).as_posix() for each in tmp_path.rglob("*") if each.is_file())
    assert files == [
        "info.csv",
        "released/02_cli.py",
        "released/02_hlt.py",
        "submissions/Zoë Müller/02_cli.py",
        "submissions/_HYPERLINK(0)-9bf97ab5/02_cli.py",
        "submissions/unlucky/02_cli.py",
    ]
    assert (tmp_path / "submissions/Zoë Müller/02_cli.py").read_text(encoding="utf-8") == (
        "# exercise: cli\n# Zoë Müller\n"
    )
    with (tmp_path / "info.csv").open(encoding="utf-8", newline="") as file:
        assert list(csv.reader(file)) == [
            ["filename", "full_name", "label"],
            ["submissions/_HYPERLINK(0)-9bf97ab5/02_cli.py", "'=HYPERLINK(0)", "02 cli"],
            ["submissions/Zoë Müller/02_cli.py", "Zoë Müller", "02 cli"],
            ["submissions/unlucky/02_cli.py", "unlucky", "02 cli"],
        ]
