"""A class's submissions, graded: what the journal has stays, the rest is marked and written down at once."""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from vlab import __version__
from vlab.errors import UnusableInput
from vlab.grading.catalogue import lessons
from vlab.grading.journal import Graded, Journal, Stamp
from vlab.grading.marker import Job, exercises_of, marks_of, nothing_for
from vlab.grading.pool import Outcome
from vlab.grading.submission import Submission
from vlab.grading.variant import seed_of

__all__ = ["Runner", "Secret", "Tally", "grade"]

Runner = Callable[[Iterable[Job]], Generator[Outcome, None, None]]
"""Marks jobs somewhere, and gives the outcomes in any order; closing it ends the work."""
SHORTEST: Final = 16
"""Characters that a secret has at least."""


@dataclass(frozen=True, slots=True)
class Secret:
    """What students cannot know and the hidden guests depend on."""

    text: str

    @classmethod
    def read(cls, path: Path) -> Secret:
        """Read one from a file, which must hold ``SHORTEST`` bytes or more. Raises UnusableInput."""
        try:
            text = path.read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise UnusableInput(
                f"secret: '{path}' cannot be read as text ({error}); check the path"
            ) from error
        if len(text) < SHORTEST:
            raise UnusableInput(
                f"secret: '{path}' holds {len(text)} characters, and {SHORTEST} or more are needed; "
                "write a line of random text into it"
            )
        return cls(text)

    @classmethod
    def of(cls, directory: Path) -> Secret:
        """Read the secret of a directory of results; make it where there is none yet."""
        path = directory / "secret"
        if not path.exists():
            beside = path.with_name(f".secret.{os.getpid()}")
            beside.touch(mode=0o600)
            beside.write_text(secrets.token_hex(32) + "\n", encoding="ascii")
            beside.replace(path)
        return cls.read(path)

    @property
    def fingerprint(self) -> str:
        """Tells this secret from others and gives nothing away of it."""
        return hmac.new(self.text.encode("utf-8"), b"fingerprint", hashlib.sha256).hexdigest()[:16]


@dataclass(slots=True)
class Tally:
    """How far a grading has come. errors: submissions that we could not grade, and why."""

    total: int
    kept: int = 0
    marked: int = 0
    troubled: int = 0
    errors: list[tuple[str, str]] = field(default_factory=list)

    @property
    def done(self) -> int:
        """Submissions that are done with, for now."""
        return self.kept + self.marked + self.troubled + len(self.errors)


def grade(
    submissions: Sequence[Submission],
    journal: Journal,
    secret: Secret,
    run: Runner,
    tell: Callable[[Tally], None],
) -> Tally:
    """Grade what the journal does not have yet; every result is on the disk before ``tell`` hears of it.

    run: where the marking is done. tell: gets the same tally each time.
    """
    tally = Tally(len(submissions))
    tell(tally)
    engines = _engines()
    waiting = list[tuple[Submission, Stamp]]()
    for each in submissions:
        checked = _checked(each)
        stamp = Stamp(checked.digest, engines.get(checked.lesson, __version__), secret.fingerprint)
        if journal.done(checked.student, checked.lesson, stamp):
            tally.kept += 1
        elif checked.trouble:
            journal.write(_troubled(checked, stamp))
            tally.troubled += 1
        else:
            waiting.append((checked, stamp))
            continue
        tell(tally)
    with closing(run(_jobs(waiting, secret))) as outcomes:
        for outcome in outcomes:
            submission, stamp = waiting[outcome.job.number]
            graded = _graded(submission, stamp, outcome)
            journal.write(graded)
            if graded.error:
                tally.errors.append((graded.student, graded.error))
            else:
                tally.marked += 1
            tell(tally)
    return tally


def _checked(submission: Submission) -> Submission:
    if submission.trouble or exercises_of(submission.lesson):
        return submission
    trouble = f"lesson {submission.lesson} has no exercises that are graded"
    return Submission(submission.student, submission.lesson, {}, submission.place, trouble)


def _engines() -> dict[str, str]:
    """Give the version of what marks each lesson: vlab's, and the exercises' own."""
    found = {}
    for each in lessons():
        own = hashlib.sha256(b"".join(module.read_bytes() for module in each.modules)).hexdigest()
        found[each.id] = f"{__version__}/{own[:12]}"
    return found


def _jobs(waiting: Sequence[tuple[Submission, Stamp]], secret: Secret) -> Iterator[Job]:
    for number, (each, _stamp) in enumerate(waiting):
        idents = [exercise.ident for exercise in exercises_of(each.lesson)]
        yield Job(
            number,
            each.lesson,
            {ident: each.cells[ident] for ident in idents if ident in each.cells},
            seed_of(each.student, each.lesson, secret.text),
        )


def _graded(submission: Submission, stamp: Stamp, outcome: Outcome) -> Graded:
    common = (submission.student, submission.lesson, submission.place, stamp)
    if outcome.answer is None:
        nothing = tuple(
            nothing_for(each, "not graded: an error of ours") for each in exercises_of(submission.lesson)
        )
        return Graded(*common, nothing, submission.cells, error=outcome.error, notes=submission.notes)
    marks, seconds = marks_of(outcome.answer)
    return Graded(*common, marks, submission.cells, notes=submission.notes, seconds=seconds)


def _troubled(submission: Submission, stamp: Stamp) -> Graded:
    known = submission.lesson in {each.id for each in lessons()}
    exercises = exercises_of(submission.lesson) if known else ()
    marks = tuple(nothing_for(each, submission.trouble) for each in exercises)
    return Graded(
        submission.student, submission.lesson, submission.place, stamp, marks, {}, trouble=submission.trouble
    )
