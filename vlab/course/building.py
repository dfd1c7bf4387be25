"""Building: which files come from which lessons, and writing them only when all lessons are in order."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from vlab.course import nbgrader_course, otter_assignment
from vlab.course.editions import EDITIONS, build, to_text
from vlab.course.extra import there
from vlab.course.source import Lesson, LessonProblems, read
from vlab.errors import UnusableInput
from vlab.grading.catalogue import LessonFiles, lessons

__all__ = ["Options", "chosen", "in_place", "read_all", "write_course"]


@dataclass(frozen=True, slots=True)
class Options:
    """What a course is built with.

    requirement: where otter's image gets vlab from, as pip takes it. secret: the course's, for hidden guests.
    """

    requirement: str | None = None
    secret: str | None = None


def chosen(wanted: Sequence[str], directory: Path | None = None) -> list[LessonFiles]:
    """Give the lessons that are named, by number or name, or all that have a source.

    Raises UnusableInput for one that is not there, or when there are none.
    """
    known = [each for each in lessons(directory) if each.source.exists()]
    if not known:
        raise UnusableInput(
            "lesson: there is no lesson's source (labs/NN_topic/lesson.md) here; "
            "sources come with a checkout of vlab, and --labs names another directory"
        )
    for name in wanted:
        if not any(name in (each.id, each.name) for each in known):
            there_are = ", ".join(each.id for each in known)
            raise UnusableInput(f"lesson: there is no lesson {name!r} with a source; choose from {there_are}")
    return [each for each in known if not wanted or each.id in wanted or each.name in wanted]


def read_all(files: Sequence[LessonFiles], tell: Callable[[str], None]) -> list[Lesson]:
    """Read lessons. Raises LessonProblems with what is wrong in any of them."""
    found: list[Lesson] = []
    problems: list[str] = []
    for each in files:
        tell(f"reading {each.name}")
        try:
            found.append(read(each))
        except LessonProblems as error:
            problems += error.problems
    if problems:
        raise LessonProblems(problems)
    return found


def in_place(found: Sequence[Lesson]) -> list[Path]:
    """Write the student editions beside their sources; give the files that changed."""
    changed = []
    for lesson in found:
        if _put(lesson.files.notebook, to_text(build(lesson, "student"))):
            changed.append(lesson.files.notebook)
    return changed


def write_course(found: Sequence[Lesson], directory: Path, options: Options) -> list[str]:
    """Write all editions and both graders' courses into a directory; give remarks, a sentence each.

    What was built there before and belongs to no lesson any more stays. Raises UnusableInput when a file
    cannot be written.
    """
    for path, text in _editions(found):
        _put(directory / path, text)
    for path, text in nbgrader_course.files(found):
        _put(directory / "nbgrader" / path, text)
    if options.secret is not None:
        _put(directory / "nbgrader" / "secret", f"{options.secret}\n", mode=0o600)
    remarks = []
    for lesson in found:
        assignment = directory / "otter" / lesson.files.name
        for path, text in otter_assignment.files(lesson, options.requirement, options.secret):
            _put(assignment / path, text)
        if lesson.exercises and there("otter"):
            otter_assignment.make_zip(assignment)
    if not there("otter"):
        remarks.append(
            "otter-grader is not installed, so there is no autograder.zip; `otter generate` makes it, see "
            "docs/COURSE_AUTHORING.md"
        )
    return remarks


def _editions(found: Sequence[Lesson]) -> Iterator[tuple[str, str]]:
    for lesson in found:
        for edition in EDITIONS:
            name = lesson.files.name
            yield f"{edition}/{name}/{name}.ipynb", to_text(build(lesson, edition))


def _put(path: Path, text: str, mode: int | None = None) -> bool:
    """Write a file unless it holds the text already; say whether it was written."""
    try:
        if path.exists() and path.read_bytes() == text.encode("utf-8"):
            return False
        path.parent.mkdir(parents=True, exist_ok=True)
        if mode is not None:
            path.touch(mode)
        path.write_text(text, encoding="utf-8", newline="\n")
    except OSError as error:
        raise UnusableInput(
            f"out: '{path}' cannot be written: {error.strerror}; name another directory"
        ) from error
    return True
