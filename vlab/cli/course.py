"""`vlab course`: build the editions of lessons and the graders' courses, and prove their exercises."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from vlab.cli.output import WRITABLE_FILE, say, write_json

if TYPE_CHECKING:
    from vlab.course.checking import Attempt, Finding
    from vlab.course.source import Lesson

__all__ = ["course"]

_DIRECTORY = click.Path(file_okay=False, path_type=Path)
_lessons = click.option(
    "--lesson", "wanted", multiple=True, metavar="NN", help="This lesson alone; may be given several times."
)
_labs = click.option(
    "--labs",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    metavar="DIR",
    help="A directory of lessons of your own, in place of vlab's.",
)


@click.group()
def course() -> None:
    """Build lessons from their sources, and prove their exercises.

    docs/COURSE_AUTHORING.md tells how a lesson is written.
    """


@course.command()
@_lessons
@click.option(
    "--out", type=_DIRECTORY, metavar="DIR", help="Write all editions and both graders' courses here."
)
@click.option(
    "--in-place/--not-in-place",
    default=None,
    help="Write student notebooks beside their sources (the default without --out).",
)
@_labs
@click.option("--requirement", metavar="SPEC", help="Where otter's image gets vlab from, as pip takes it.")
@click.option(
    "--secret",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    metavar="FILE",
    help="A line of random text that hidden guests depend on.",
)
def build(
    wanted: tuple[str, ...],
    out: Path | None,
    in_place: bool | None,
    labs: Path | None,
    requirement: str | None,
    secret: Path | None,
) -> int:
    """Build notebooks from lessons' sources.

    \b
    Without --out, the student editions beside the sources are brought up to date. With --out DIR:
      DIR/student, DIR/solution, DIR/instructor   the editions
      DIR/nbgrader                                a course directory for nbgrader
      DIR/otter/LESSON                            a notebook and an autograder.zip for otter

    \b
    Exit status: 0 when all was built, 2 when a source is not in order; then nothing is written.
    """
    from vlab.course import building
    from vlab.grading.batch import Secret

    options = building.Options(requirement, None if secret is None else Secret.read(secret).text)
    read = _read(wanted, labs)
    if read is None:
        return 2
    if in_place or (in_place is None and out is None):
        changed = building.in_place(read)
        for path in changed:
            click.echo(f"wrote {path}")
        if not changed:
            click.echo(f"{_count(len(read), 'student notebook')} up to date")
    if out is not None:
        for remark in building.write_course(read, out, options):
            say(f"vlab course: {remark}")
        click.echo(
            f"wrote {_count(len(read), 'lesson')} into {out}: student, solution, instructor, nbgrader, otter"
        )
    return 0


@course.command()
@_lessons
@_labs
@click.option("--json", "json_file", type=WRITABLE_FILE, metavar="FILE", help="Write all marks to FILE.")
@click.option("--no-jail", is_flag=True, help="Run the code in this process, as on systems without a jail.")
def check(wanted: tuple[str, ...], labs: Path | None, json_file: Path | None, no_jail: bool) -> int:
    """Prove every exercise.

    Without its solution it fails with the expected text, with it it gets full marks, and each typical mistake
    breaks the invariants that it should and shows its hint.

    \b
    Exit status: 0 when all is as it should be, 1 otherwise, 2 when a source is not in order.
    """
    from vlab.course import checking
    from vlab.course.marks import labs_in

    read = _read(wanted, labs)
    if read is None:
        return 2
    attempts = [each for lesson in read for each in checking.attempts(lesson)]
    findings: list[Finding] = []
    with labs_in(None if labs is None else labs.absolute()), _progress(len(attempts)) as tell:
        for finding in checking.check(attempts, checking.local if no_jail else checking.jailed):
            findings.append(finding)
            tell(f"{finding.attempt.lesson} {finding.attempt.exercise.ident}")
    findings.sort(key=lambda each: _place(attempts, each))
    _print(findings)
    if json_file is not None:
        write_json(json_file, [_as_json(each) for each in findings])
    return _verdict(findings)


def _read(wanted: Sequence[str], labs: Path | None) -> list[Lesson] | None:
    """Read lessons; tell what is wrong, a line each, and give None."""
    from vlab.course import building
    from vlab.course.source import LessonProblems

    try:
        return building.read_all(building.chosen(wanted, labs and labs.absolute()), lambda _text: None)
    except LessonProblems as error:
        for problem in error.problems:
            say(problem)
        return None


def _place(attempts: Sequence[Attempt], finding: Finding) -> int:
    return next(number for number, each in enumerate(attempts) if each is finding.attempt)


@contextmanager
def _progress(total: int) -> Iterator[Callable[[str], None]]:
    """Show how far it is, in a terminal."""
    from rich.console import Console
    from rich.progress import Progress

    console = Console(stderr=True, highlight=False)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("checking", total=total)
        yield lambda text: progress.update(task, advance=1, description=f"checked {text}")


def _print(findings: Sequence[Finding]) -> None:
    from rich.box import SIMPLE
    from rich.console import Console
    from rich.table import Table

    table = Table(box=SIMPLE, pad_edge=False, show_edge=False)
    for heading in ("lesson", "exercise", "tried"):
        table.add_column(heading, overflow="fold")
    table.add_column("points", justify="right")
    table.add_column("as it should be")
    for each in findings:
        mark = each.mark
        points = "-" if mark is None else f"{mark.earned:g} of {mark.points:g}"
        verdict = "[red]no[/]" if each.troubles else "[green]yes[/]"
        attempt = each.attempt
        table.add_row(attempt.lesson, attempt.exercise.ident, attempt.name, points, verdict)
    Console(highlight=False).print(table)


def _verdict(findings: Sequence[Finding]) -> int:
    wrong = [each for each in findings if each.troubles]
    for each in wrong:
        for trouble in each.troubles:
            say(
                f"lesson {each.attempt.lesson}, {each.attempt.exercise.ident}, {each.attempt.name}: {trouble}"
            )
    if wrong:
        say(f"vlab course check: {len(wrong)} of {len(findings)} attempts did not go as they should")
    return 1 if wrong else 0


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def _as_json(finding: Finding) -> dict[str, object]:
    attempt, mark = finding.attempt, finding.mark
    invariants = [] if mark is None else mark.to_json()["invariants"]
    return {
        "lesson": attempt.lesson,
        "exercise": attempt.exercise.ident,
        "tried": attempt.name,
        "points": None if mark is None else mark.points,
        "earned": None if mark is None else mark.earned,
        "invariants": [{key: each[key] for key in each if key != "trace"} for each in invariants],
        "troubles": list(finding.troubles),
    }
