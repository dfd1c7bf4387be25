"""What a learner has done so far, in one file on this computer and nowhere else."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

from vlab.errors import UnusableInput
from vlab.paths import data_directory
from vlab.trace.atomic import replacing

FORMAT: Final = 1


@dataclass(slots=True)
class Done:
    """What was done of one lesson.

    predictions: the choice by question. right: whether that was what came out, once it is known. earned:
    the best marks by exercise. attempts: failed checks by exercise. hints: how many were shown by exercise.
    """

    predictions: dict[str, str] = field(default_factory=dict)
    right: dict[str, bool] = field(default_factory=dict)
    earned: dict[str, float] = field(default_factory=dict)
    attempts: dict[str, int] = field(default_factory=dict)
    hints: dict[str, int] = field(default_factory=dict)


class Progress:
    """The file of one learner's progress: ``progress.json`` in vlab's data directory, or another one."""

    def __init__(self, path: Path | None = None) -> None:
        self.path = data_directory() / "progress.json" if path is None else path

    def of(self, lesson: str) -> Done:
        """Give what was done of a lesson. Raises UnusableInput when the file is damaged."""
        return self._read().get(lesson, Done())

    def all(self) -> dict[str, Done]:
        """Give what was done of every lesson that was begun."""
        return self._read()

    @contextmanager
    def change(self, lesson: str) -> Iterator[Done]:
        """Give what was done of a lesson, to be changed; it is written at the end, whole or not at all.

        A place that cannot be written to costs the memory of it, and nothing else.
        """
        everything = self._read()
        done = everything.setdefault(lesson, Done())
        yield done
        text = json.dumps(
            {"format": FORMAT, "lessons": {name: asdict(each) for name, each in everything.items()}}
        )
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with replacing(self.path) as stream:
                stream.write(text.encode())
        except OSError:
            pass

    def forget(self) -> None:
        """Begin anew. Raises UnusableInput when the file cannot be taken away."""
        try:
            self.path.unlink(missing_ok=True)
        except OSError as error:
            raise UnusableInput(
                f"progress: {self.path} cannot be removed: {os.strerror(error.errno or 0)}; remove it by hand"
            ) from error

    def _read(self) -> dict[str, Done]:
        try:
            text = self.path.read_text(encoding="utf-8")
        except OSError:
            return {}
        try:
            data = json.loads(text)
            if data["format"] != FORMAT:
                raise UnusableInput(
                    f"progress: {self.path} has format {data['format']!r}, and this vlab reads {FORMAT}; "
                    "use a newer vlab, or remove the file to begin anew"
                )
            return {str(name): _done(each) for name, each in data["lessons"].items()}
        except (ValueError, TypeError, LookupError, AttributeError) as error:
            raise UnusableInput(
                f"progress: {self.path} is damaged; remove it to begin anew, or bring it back from a copy"
            ) from error


def _done(data: Mapping[str, Any]) -> Done:
    return Done(
        predictions={str(name): str(each) for name, each in data["predictions"].items()},
        right={str(name): bool(each) for name, each in data["right"].items()},
        earned={str(name): float(each) for name, each in data["earned"].items()},
        attempts={str(name): int(each) for name, each in data["attempts"].items()},
        hints={str(name): int(each) for name, each in data["hints"].items()},
    )
