"""`vlab grade`: a class's submissions, graded side by side, and the results in the formats of others."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from vlab.cli.output import INPUT_FILE, WRITABLE_FILE, say, write_json
from vlab.errors import UnusableInput

if TYPE_CHECKING:
    from collections.abc import Sequence

    from vlab.grading.batch import Runner, Tally
    from vlab.grading.journal import Graded
    from vlab.grading.submission import Submission

__all__ = ["grade"]

_FOLDER: Final = click.Path(file_okay=False, path_type=Path)
EVERY: Final = 10.0
"""Seconds between lines of progress where there is no terminal."""
INTERRUPTED: Final = 130


@dataclass(frozen=True, slots=True)
class _Exports:
    """Where results go, besides the journal."""

    csv: Path | None
    canvas: Path | None
    canvas_roster: Path | None
    gradescope: Path | None
    nbgrader_db: Path | None
    feedback: Path | None
    plagiarism: Path | None
    json: Path | None


@click.command()
@click.argument("submissions", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--lesson", metavar="NN", help="Grade this lesson's notebooks alone.")
@click.option("--out", type=_FOLDER, default=Path("graded"), metavar="DIR", help="Keep the results in DIR.")
@click.option("--workers", type=click.IntRange(1, 1024), metavar="N", help="Processes (one for each core).")
@click.option("--cluster", metavar="ADDRESS", help="Grade on a Dask cluster: its scheduler's address.")
@click.option("--secret", type=INPUT_FILE, metavar="FILE", help="The course's secret, for the hidden guests.")
@click.option("--csv", type=WRITABLE_FILE, metavar="F", help="Write a table: student, exercise, marks.")
@click.option("--canvas", type=WRITABLE_FILE, metavar="F", help="Write a file for Canvas's gradebook.")
@click.option(
    "--canvas-roster", type=INPUT_FILE, metavar="F", help="The gradebook that Canvas exported, for IDs."
)
@click.option("--gradescope", type=_FOLDER, metavar="DIR", help="Write results.json for each student.")
@click.option(
    "--nbgrader-db", type=WRITABLE_FILE, metavar="F", help="Add the marks to nbgrader's gradebook.db."
)
@click.option("--feedback", type=_FOLDER, metavar="DIR", help="Write a page for each student.")
@click.option("--plagiarism", type=_FOLDER, metavar="DIR", help="Write sources for Dolos, JPlag or MOSS.")
@click.option("--json", type=WRITABLE_FILE, metavar="F", help="Write all results, without their traces.")
def grade(
    submissions: tuple[Path, ...],
    lesson: str | None,
    out: Path,
    workers: int | None,
    cluster: str | None,
    secret: Path | None,
    **exports: Path | None,
) -> int:
    """Grade SUBMISSIONS: notebooks, archives (.zip), or directories with one for each student.

    Only the text of the exercise cells is used. It runs in a jail, and real guests judge it. Results are kept
    as they come: run the same command again after a crash, or when a few more have handed in, and what is
    graded and unchanged is not graded again. docs/GRADING.md explains the layouts and the formats.

    \b
    Examples:
      vlab grade submitted/ --csv marks.csv --feedback feedback/
      vlab grade alice.ipynb bob.zip --lesson 02

    \b
    Exit status: 0 when all are graded, with whatever marks, 1 when vlab failed
    to grade one, 2 when the submissions cannot be used at all.
    """
    from vlab.grading import batch
    from vlab.grading.catalogue import find
    from vlab.grading.journal import Journal, Results
    from vlab.grading.submission import collect

    wanted = _Exports(**exports)
    _check(wanted, workers, cluster)
    number = None if lesson is None else find(lesson).id
    found = collect(submissions, number)
    with Journal(out) as journal:
        course = batch.Secret.read(secret) if secret else batch.Secret.of(out)
        with _progress() as tell:
            tally = _Last(len(found))
            try:
                batch.grade(
                    found, journal, course, _runner(workers, cluster), lambda now: tell(tally.keep(now))
                )
            except KeyboardInterrupt:
                say(
                    f"vlab grade: interrupted; {tally.now.done:,} of {tally.now.total:,} are graded and kept "
                    f"in '{out}'. Run the same command to go on."
                )
                return INTERRUPTED
        results = Results(journal, [(each.student, each.lesson) for each in found])
        _export(wanted, results)
    return _conclude(tally.now, found, out)


def _check(wanted: _Exports, workers: int | None, cluster: str | None) -> None:
    """Refuse what does not go together before the work begins."""
    if workers is not None and cluster is not None:
        raise UnusableInput("workers: a cluster brings its own; leave out --workers or --cluster")
    if wanted.canvas_roster and not wanted.canvas:
        raise UnusableInput("canvas-roster: it is of use with --canvas FILE only; add that")
    if wanted.nbgrader_db:
        from vlab.grading.export.nbgrader import require

        require()
    if wanted.canvas_roster:
        from vlab.grading.export.canvas import Roster

        Roster.read(wanted.canvas_roster)


def _runner(workers: int | None, cluster: str | None) -> Runner:
    from vlab.grading import pool

    if cluster is None:
        return partial(pool.mark_all, workers=workers or pool.cores())
    from vlab.grading.cluster import mark_all

    return partial(mark_all, address=cluster)


class _Last:
    """The tally as it was last told, for an interruption."""

    def __init__(self, total: int) -> None:
        from vlab.grading.batch import Tally

        self.now = Tally(total)

    def keep(self, now: Tally) -> Tally:
        self.now = now
        return now


@contextmanager
def _progress() -> Iterator[Callable[[Tally], None]]:
    """Show how far it has come: a bar in a terminal, a line now and then elsewhere."""
    from rich.console import Console

    console = Console(stderr=True, highlight=False)
    if not console.is_terminal:
        yield _Lines()
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("grading"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("grading")
        yield lambda tally: bar.update(task, total=tally.total, completed=tally.done)


class _Lines:
    def __init__(self) -> None:
        self._last = time.monotonic()

    def __call__(self, tally: Tally) -> None:
        now = time.monotonic()
        if now - self._last >= EVERY and tally.done < tally.total:
            self._last = now
            say(f"{tally.done:,} of {tally.total:,} graded")


def _export(wanted: _Exports, results: Sequence[Graded]) -> None:
    from vlab.grading.catalogue import lessons

    names = {each.id: each.name for each in lessons()}
    if wanted.csv:
        from vlab.grading.export import table

        table.write(wanted.csv, results)
    if wanted.canvas:
        _export_canvas(wanted, results, names)
    if wanted.gradescope:
        from vlab.grading.export import gradescope

        gradescope.write(wanted.gradescope, results, _is_hidden)
    if wanted.nbgrader_db:
        from vlab.grading.export import nbgrader

        nbgrader.write(wanted.nbgrader_db, results, names)
    if wanted.feedback:
        from vlab.grading import feedback

        feedback.write(wanted.feedback, results)
    if wanted.plagiarism:
        from vlab.grading.export import plagiarism
        from vlab.grading.submission import released

        plagiarism.write(wanted.plagiarism, results, released)
    if wanted.json:
        write_json(wanted.json, [each.to_json(traces=False) for each in results])


def _export_canvas(wanted: _Exports, results: Sequence[Graded], names: dict[str, str]) -> None:
    from vlab.grading.export import canvas

    assert wanted.canvas is not None, "asked for by the caller"
    roster = canvas.Roster.read(wanted.canvas_roster) if wanted.canvas_roster else None
    unknown = canvas.write(wanted.canvas, results, roster, names)
    if unknown:
        shown = ", ".join(unknown[:10]) + (f" and {len(unknown) - 10:,} more" if len(unknown) > 10 else "")
        say(f"canvas: not in the roster, or not only once, and left out: {shown}")


def _is_hidden(lesson: str, exercise: str, invariant: str) -> bool:
    from vlab.grading.marker import exercises_of

    return any(
        each.hidden
        for one in exercises_of(lesson)
        if one.ident == exercise
        for each in one.invariants
        if each.name == invariant
    )


def _conclude(tally: Tally, found: Sequence[Submission], out: Path) -> int:
    from vlab.grading.handed_in import visible

    students = len({each.student for each in found})
    said = f"{_count(tally.total, 'submission')} of {_count(students, 'student')}: {tally.marked:,} graded"
    if tally.troubled:
        said += f", {tally.troubled:,} unusable"
    if tally.kept:
        said += f", {tally.kept:,} kept from before"
    if tally.errors:
        said += f", {len(tally.errors):,} FAILED"
    click.echo(f"{said}. The results are in '{out}'.")
    for student, why in tally.errors:
        say(f"not graded, by no fault of the student's: {student}: {visible(why)}")
    return 1 if tally.errors else 0


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"
