"""Marks for a course's graders, by vlab's own engine: in a process of its own, students' code in a jail."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from html import escape
from pathlib import Path
from typing import Final

from vlab.errors import VlabError
from vlab.grading.result import ExerciseMark

__all__ = ["as_html", "as_text", "labs_in", "mark_answers"]

PATIENCE: Final = 300.0
"""Seconds that one submission may take in all; its student's code is stopped long before by the jail."""


def mark_answers(
    lesson: str, answers: Mapping[str, str], student: str, secret: str = ""
) -> tuple[ExerciseMark, ...]:
    """Mark a student's answers, by exercise, with the hidden invariants too.

    secret: the course's, that the hidden guests depend on. The same answers of the same student get the same
    marks as from ``vlab grade``. Raises VlabError when grading itself failed.
    """
    from vlab.grading.marker import Job, marks_of
    from vlab.grading.variant import seed_of

    job = Job(0, lesson, dict(answers), seed_of(student, lesson, secret))
    answer = _answer(job.to_text(), f"lesson {lesson}: the answers of {student or 'a student'}")
    return marks_of(answer)[0]


def _answer(job: str, what: str) -> str:
    """Have another process mark a job; give the marks as JSON. Raises VlabError, which tells what was not."""
    paths = [str(Path(__file__).parents[2]), *filter(None, [os.environ.get("PYTHONPATH")])]
    try:
        done = subprocess.run(
            [sys.executable, "-P", "-m", "vlab.course.marking_process"],
            input=job,
            capture_output=True,
            encoding="utf-8",
            env=os.environ | {"PYTHONPATH": os.pathsep.join(paths)},
            timeout=PATIENCE,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise VlabError(f"{what} were not marked within {PATIENCE:g} seconds") from error
    if done.returncode:
        said = (done.stderr.strip() or f"the process ended with status {done.returncode}").splitlines()[-1]
        raise VlabError(f"{what} were not marked: {said}")
    return done.stdout.strip().splitlines()[-1]


@contextmanager
def labs_in(directory: Path | None) -> Iterator[None]:
    """Take lessons from a directory, here and in processes that start meanwhile; None leaves all as it is."""
    if directory is None:
        yield
        return
    before = os.environ.get("VLAB_LABS")
    os.environ["VLAB_LABS"] = str(directory)
    try:
        yield
    finally:
        if before is None:
            del os.environ["VLAB_LABS"]
        else:
            os.environ["VLAB_LABS"] = before


def as_text(mark: ExerciseMark) -> str:
    """Tell a mark in lines of text."""
    lines = [f"{mark.title}: {mark.earned:g} of {mark.points:g} points"]
    for each in mark.invariants:
        lines.append(f"{each.earned:g} of {each.points:g}: {each.says}")
        lines += [f"    {line}" for line in (each.why, each.hint and f"Hint: {each.hint}") if line]
    return "\n".join(lines)


def as_html(mark: ExerciseMark, notes: tuple[str, ...] = ()) -> str:
    """Tell a mark as HTML without scripts; nothing in it is taken for markup that is not ours.

    notes: what was repaired in the notebook, shown above.
    """
    told = "".join(f"<li>{escape(note)}</li>" for note in notes)
    rows = []
    for each in mark.invariants:
        why = f"<br>{escape(each.why)}" if each.why else ""
        hint = f"<br><em>Hint:</em> {escape(each.hint)}" if each.hint else ""
        sign = "\N{CHECK MARK}" if each.holds else "\N{MULTIPLICATION SIGN}"
        rows.append(
            f"<tr><td>{sign}</td><td>{each.earned:g} of {each.points:g}</td>"
            f"<td style='text-align: left'>{escape(each.says)}{why}{hint}</td></tr>"
        )
    return (
        "<div class='vlab-marks'>"
        + (f"<p>The notebook was repaired:</p><ul>{told}</ul>" if told else "")
        + f"<p><strong>{escape(mark.title)}: {mark.earned:g} of {mark.points:g} points</strong></p>"
        + f"<table>{''.join(rows)}</table></div>"
    )
