"""The journal of a grading: one file for each finished submission, so that a crash loses and repeats nothing.

A result is written to a file of its own beside its final name, forced to the disk, and then renamed, which
the file system does as a whole or not at all. Each tells what it was made from: the hash of what was graded,
the version of what graded it, and the fingerprint of the secret; a result stands as long as all three are the
same.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Final, Self

from vlab.errors import UnusableInput
from vlab.grading.result import ExerciseMark
from vlab.grading.submission import safe_name
from vlab.trace.atomic import replacing

__all__ = ["FORMAT", "Graded", "Journal", "Results", "Stamp"]

FORMAT: Final = 1


@dataclass(frozen=True, slots=True)
class Stamp:
    """What a result was made from. It stands as long as these are the same."""

    digest: str
    engine: str
    secret: str


@dataclass(frozen=True, slots=True)
class Graded:
    """A submission with its marks.

    trouble: why it could not be graded though we could, a sentence for the student. error: what went wrong on
    our side; such a result does not count, and is tried again the next time. notes: what was repaired in the
    notebook. seconds: that grading took.
    """

    student: str
    lesson: str
    place: str
    stamp: Stamp
    exercises: tuple[ExerciseMark, ...]
    cells: Mapping[str, str]
    trouble: str = ""
    error: str = ""
    notes: tuple[str, ...] = ()
    seconds: float = 0.0

    @property
    def points(self) -> float:
        """What a full solution gets."""
        return sum(each.points for each in self.exercises)

    @property
    def earned(self) -> float:
        """What this one gets."""
        return sum(each.earned for each in self.exercises)

    def to_json(self, *, traces: bool = True) -> dict[str, Any]:
        """Give it as JSON's types, with the traces or without."""
        return {
            "format": FORMAT,
            "student": self.student,
            "lesson": self.lesson,
            "place": self.place,
            "digest": self.stamp.digest,
            "engine": self.stamp.engine,
            "secret": self.stamp.secret,
            "points": self.points,
            "earned": self.earned,
            "trouble": self.trouble,
            "error": self.error,
            "notes": list(self.notes),
            "seconds": self.seconds,
            "cells": dict(self.cells),
            "exercises": [each.to_json(traces=traces) for each in self.exercises],
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """Take that back. Raises KeyError, TypeError or ValueError for what ``to_json`` did not write."""
        if data["format"] != FORMAT:
            raise ValueError(f"format: {data['format']!r} is not {FORMAT}")
        return cls(
            student=str(data["student"]),
            lesson=str(data["lesson"]),
            place=str(data["place"]),
            stamp=Stamp(str(data["digest"]), str(data["engine"]), str(data["secret"])),
            exercises=tuple(ExerciseMark.from_json(each) for each in data["exercises"]),
            cells={str(name): str(text) for name, text in dict(data["cells"]).items()},
            trouble=str(data["trouble"]),
            error=str(data["error"]),
            notes=tuple(str(each) for each in data["notes"]),
            seconds=float(data["seconds"]),
        )


class Journal:
    """The results below a directory. One process at a time writes there; a context manager.

    Raises UnusableInput when the directory cannot be written, or another grading writes to it.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._results = directory / "results"
        try:
            self._results.mkdir(parents=True, exist_ok=True)
            self._lock = (directory / "lock").open("a")
        except OSError as error:
            raise UnusableInput(
                f"out: '{directory}' cannot be written ({error.strerror}); name another directory"
            ) from error
        if not _lock(self._lock):
            self._lock.close()
            raise UnusableInput(f"out: another `vlab grade` writes to '{directory}'; wait, or name another")
        for left in self._results.glob("*/.*.tmp"):
            left.unlink(missing_ok=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._lock.close()

    def path(self, student: str, lesson: str) -> Path:
        """Give where a student's result for a lesson is kept."""
        return self._results / (safe_name(lesson) if lesson else "unknown") / f"{safe_name(student)}.json"

    def find(self, student: str, lesson: str) -> Graded | None:
        """Give a result; None when there is none, or what is there cannot be read as one."""
        try:
            return Graded.from_json(json.loads(self.path(student, lesson).read_bytes()))
        except (OSError, KeyError, TypeError, ValueError, RecursionError):
            return None

    def done(self, student: str, lesson: str, stamp: Stamp) -> bool:
        """Whether there is a result that stands."""
        found = self.find(student, lesson)
        return found is not None and not found.error and found.stamp == stamp

    def write(self, graded: Graded) -> None:
        """Keep a result: from here on no crash can lose it. Raises UnusableInput when there is no room."""
        path = self.path(graded.student, graded.lesson)
        text = json.dumps(graded.to_json(), ensure_ascii=False, allow_nan=False, indent=1)
        try:
            path.parent.mkdir(exist_ok=True)
            with replacing(path) as stream:
                stream.write(text.encode("utf-8"))
        except OSError as error:
            raise UnusableInput(
                f"out: '{path}' cannot be written ({error.strerror}); make room, and run the command again"
            ) from error


class Results(Sequence[Graded]):
    """The results of a class, read from the journal when they are looked at: memory need not hold them."""

    def __init__(self, journal: Journal, keys: Sequence[tuple[str, str]]) -> None:
        self._journal = journal
        self._keys = [key for key in keys if journal.path(*key).exists()]

    def __len__(self) -> int:
        return len(self._keys)

    def __iter__(self) -> Iterator[Graded]:
        for number in range(len(self)):
            yield self._at(number)

    def __getitem__(self, number: Any) -> Any:
        """Give one, or a list for a slice."""
        if isinstance(number, slice):
            return [self._at(each) for each in range(*number.indices(len(self)))]
        return self._at(range(len(self))[number])

    def _at(self, number: int) -> Graded:
        found = self._journal.find(*self._keys[number])
        if found is None:
            raise UnusableInput(
                f"out: '{self._journal.path(*self._keys[number])}' is broken; delete it and run this again"
            )
        return found


def _lock(file: IO[str]) -> bool:
    """Take the file's lock, which ends with the process however that ends; False if another has it."""
    try:
        import fcntl
    except ImportError:  # Windows: a file that is open for writing there is protected well enough
        return True
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # a network file system without locks
        return True
    return True
