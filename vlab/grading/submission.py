"""Submissions: whose notebook it is, which lesson's, and the text of its exercise cells; no more goes on.

A notebook is read as JSON, never run here. What is wrong with one becomes the submission's ``trouble``, a
sentence that the student gets to read; it never stops the grading of the others.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Final

from vlab.errors import UnusableInput
from vlab.grading.catalogue import LessonFiles, find, lessons
from vlab.grading.first_line import marker
from vlab.grading.handed_in import Folder, Notebook, Unreadable, look, visible
from vlab.grading.repair import Repaired, repair, source_of, within

__all__ = ["Submission", "collect", "released", "safe_name"]

_LESSON_CALL: Final = re.compile(r"""^[^#\n]*\blesson\(\s*["'](\d\d)["']\s*\)""", re.MULTILINE)
_LESSON_NAME: Final = re.compile(r"\d\d(?:[_ -].*)?")
"""What directories and notebooks of lessons are called: ``02``, ``02_trap_and_emulate``."""


@dataclass(frozen=True, slots=True)
class Submission:
    """What one student handed in for one lesson.

    lesson: two digits, empty when the notebook does not say. cells: the exercise cells' text by exercise.
    place: where it was found, for people. trouble: why it cannot be graded, or empty. notes: what was
    repaired, a sentence each.
    """

    student: str
    lesson: str
    cells: Mapping[str, str]
    place: str
    trouble: str = ""
    notes: tuple[str, ...] = ()

    @property
    def digest(self) -> str:
        """The SHA-256 of what is graded: it changes when the marks can."""
        graded = [self.student, self.lesson, sorted(self.cells.items()), self.trouble, self.notes]
        return hashlib.sha256(json.dumps(graded).encode("ascii")).hexdigest()


def collect(paths: Sequence[Path], lesson: str | None = None) -> list[Submission]:
    """Find all submissions in files, directories and archives, in a steady order.

    lesson: grade this lesson's notebooks alone, and those that do not say whose they are as its. Raises
    UnusableInput when a path is of no use, nothing was handed in, or two submissions are the same student's.
    """
    given = [(path, look(path)) for path in paths]
    stems = Counter(path.stem for path, what in given if isinstance(what, Notebook))
    found = dict[tuple[str, str], Submission]()
    for path, what in given:
        if isinstance(what, Notebook):
            several = [_read(what, _owner(path, stems[path.stem] > 1), lesson)]
        else:
            several = _class(what, lesson)
        for each in several:
            key = (each.student.casefold(), each.lesson)
            other = found.setdefault(key, each)
            if other.place != each.place:
                raise UnusableInput(
                    f"submissions: '{other.place}' and '{each.place}' are both by '{each.student}'; "
                    "rename one, or leave it out"
                )
    if not found:
        raise UnusableInput(
            f"submissions: there is no notebook in '{visible(str(paths[0]))}'; name .ipynb files, .zip "
            "files, or directories with one of them for each student"
        )
    return _all_of_one_lesson([found[key] for key in sorted(found)])


def _all_of_one_lesson(found: list[Submission]) -> list[Submission]:
    """Take what is too broken to say its lesson for the one that all others are of, if there is one."""
    said = {each.lesson for each in found if each.lesson}
    if len(said) != 1:
        return found
    lesson = said.pop()
    return [each if each.lesson else replace(each, lesson=lesson) for each in found]


def released(lesson: str) -> Mapping[str, str]:
    """Give the exercise cells as all students were given them."""
    return repair({"cells": []}, _released(find(lesson))).answers


def safe_name(name: str) -> str:
    """Give a file name for a student's name: the same where any file system takes it, else one like it."""
    kept = "".join(char if char.isalnum() or char in " ._-@+()," else "_" for char in name).strip(" .")
    kept = kept.encode("utf-8")[:100].decode("utf-8", "ignore").strip(" .")
    device = re.fullmatch(r"(?i)(con|prn|aux|nul|com\d|lpt\d)(\..*)?", kept)
    if kept and kept == name and not device:
        return kept
    return f"{kept or 'student'}-{hashlib.sha256(name.encode('utf-8')).hexdigest()[:8]}"


# --- whose it is -------------------------------------------------------------------------------------------


def _owner(path: Path, shared: bool) -> str:
    """Name the student of a notebook that was named itself: its file's name, or that of a directory around.

    shared: another file that was given has the same name, so it cannot be the student's.
    """
    path = path.absolute()
    if not shared and not _LESSON_NAME.fullmatch(path.stem):
        return visible(path.stem)
    around = [each.name for each in path.parents if each.name]
    return visible(next((name for name in around if not _LESSON_NAME.fullmatch(name)), path.stem))


def _class(folder: Folder, lesson: str | None) -> list[Submission]:
    """Take a directory or an archive apart: one student's, or one with many students' in it."""
    if folder.trouble:
        return [Submission(folder.name, lesson or "", {}, folder.place, folder.trouble)]
    if not any(True for _ in folder.all_notebooks()) and not folder.first_trouble():
        return []
    inside = {each.name: each for each in folder.folders}
    if not folder.notebooks and "submitted" in inside:
        return _class(inside["submitted"], lesson)
    if folder.notebooks:
        read = [_read(each, each.stem, lesson) for each in folder.notebooks]
        lessons = Counter(each.lesson for each in read if not each.trouble)
        if len(read) == 1 or (lessons and max(lessons.values()) == 1):
            return _choose(folder.name, read, folder.place, lesson)
        return read + [each for inner in folder.folders for each in _student(inner, lesson)]
    if inside and all(_LESSON_NAME.fullmatch(name) for name in inside):
        return _student(folder, lesson)
    return [each for inner in folder.folders for each in _student(inner, lesson)]


def _student(folder: Folder, lesson: str | None) -> list[Submission]:
    """Take one student's directory: the notebooks in it, or, where there is none, those below."""
    notebooks = folder.notebooks or list(folder.all_notebooks())
    if not notebooks:
        trouble = folder.first_trouble() or "nothing was handed in: there is no notebook (.ipynb) here"
        return [Submission(folder.name, lesson or "", {}, folder.place, trouble)]
    read = [_read(each, folder.name, lesson) for each in notebooks]
    return _choose(folder.name, read, folder.place, lesson)


def _choose(student: str, read: list[Submission], place: str, lesson: str | None) -> list[Submission]:
    """Keep one submission a lesson; two of one lesson are a trouble of their own."""
    usable = [each for each in read if not each.trouble]
    if not usable:
        return [replace(read[0], student=student)]
    chosen = []
    for number in sorted({each.lesson for each in usable}):
        same = [each for each in usable if each.lesson == number]
        one = replace(same[0], student=student)
        if len(same) > 1:
            names = ", ".join(each.place.rpartition("/")[2] for each in same)
            trouble = (
                f"there are {len(same)} notebooks of lesson {number} ({names}): keep the one that counts"
            )
            one = Submission(student, number, {}, place, trouble)
        chosen.append(one)
    return chosen


# --- what is in it -----------------------------------------------------------------------------------------


def _read(file: Notebook, student: str, lesson: str | None) -> Submission:
    """Read a notebook; whatever is wrong with it becomes the trouble."""
    says = ""
    try:
        notebook = _parse(file.read())
        says = _lesson_of(notebook)
        if lesson is not None and says not in ("", lesson):
            raise Unreadable(f"this is a notebook of lesson {says}, and lesson {lesson} was to be handed in")
        if not (says or lesson):
            raise Unreadable(
                "the notebook does not say which lesson it is of: it has neither its metadata nor "
                'the cell with lesson("...")'
            )
        repaired = _repaired(notebook, says or lesson or "")
    except Unreadable as error:
        return Submission(student, lesson or says, {}, file.place, str(error))
    return Submission(student, says or lesson or "", repaired.answers, file.place, notes=repaired.notes)


def _parse(content: bytes) -> Mapping[str, object]:
    try:
        notebook = json.loads(content)
    except RecursionError as error:
        raise Unreadable("the notebook is broken: it is nested deeper than any notebook is") from error
    except ValueError as error:
        said = "it is no text" if isinstance(error, UnicodeDecodeError) else f"it is no JSON ({error})"
        raise Unreadable(
            f"the notebook is broken: {said}; download it again from JupyterLab and hand it in"
        ) from error
    if not isinstance(notebook, dict) or not isinstance(notebook.get("cells"), list):
        raise Unreadable("the notebook is broken: it has no cells; download it again and hand it in")
    return notebook


def _lesson_of(notebook: Mapping[str, object]) -> str:
    """Give the lesson that the metadata or the call of ``lesson`` names, or nothing."""
    value = within(notebook, "metadata", "vlab", "lesson")
    if isinstance(value, str) and re.fullmatch(r"[0-9]{2}", value):
        return value
    calls = (_LESSON_CALL.search(text) for text in _code(notebook))
    return next((call[1] for call in calls if call), "")


def _code(notebook: Mapping[str, object]) -> Iterator[str]:
    """Give the text of the code cells."""
    cells = notebook["cells"]
    assert isinstance(cells, list), "checked when it was read"
    for cell in cells:
        if within(cell, "cell_type") == "code":
            yield source_of(cell)


def _repaired(notebook: Mapping[str, object], lesson: str) -> Repaired:
    """Give the answers, repaired. Raises Unreadable when there is none at all."""
    if lesson not in {each.id for each in lessons()}:
        raise Unreadable(f"the notebook is of lesson {lesson}, and there is no such lesson here")
    repaired = repair(notebook, _released(find(lesson)))
    if repaired.answers and repaired.missing == repaired.answers.keys():
        raise Unreadable(
            "there is no exercise cell in the notebook: each begins with the line `# exercise: ...`; "
            "put that line back, or copy your code into a fresh notebook of the lesson"
        )
    return repaired


@cache
def _released(files: LessonFiles) -> Mapping[str, object]:
    """Give the edition that students were given; where it is not there, the bare cells of the exercises."""
    if files.notebook.exists():
        notebook: Mapping[str, object] = json.loads(files.notebook.read_bytes())
        return notebook
    idents = [each.ident for each in files.exercises()]
    return {"cells": [{"cell_type": "code", "source": marker(ident)} for ident in idents]}
