"""The student's code as the checks see it: something that can be asked, and that may answer anything."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from vlab.errors import VlabError
from vlab.grading.facade import Part, Value


@dataclass(frozen=True, slots=True)
class Place:
    """Where in a cell something went wrong. line: from 1. text: that line."""

    line: int
    text: str


class StudentError(VlabError):
    """Student code raised. kind: the exception's name. place: where in the cell, when it is known."""

    def __init__(self, kind: str, message: str, place: Place | None = None) -> None:
        where = f" in line {place.line} of the cell, `{place.text.strip()}`" if place else ""
        said = f": {message}" if message else ""
        super().__init__(f"your code raised {kind}{said}{where}")
        self.kind, self.message, self.place = kind, message, place


class NotWritten(StudentError):
    """The part that is to be written is still empty. what: the text of its NotImplementedError."""

    def __init__(self, what: str, place: Place | None = None) -> None:
        super().__init__("NotImplementedError", what, place)
        self.args = (f"not written yet: {what or 'this part of the cell'}",)


class Stopped(StudentError):
    """Student code is gone: out of time or memory, ended, or refused what it must not do. why: a sentence."""

    def __init__(self, why: str) -> None:
        super().__init__("Stopped", why)
        self.args = (why,)
        self.why = why


class Student(Protocol):
    """The code of one exercise's cell.

    Calls raise StudentError, NotWritten or Stopped; after Stopped, so does every call that follows. Values
    are those of `facade.Value`; a function of ours is passed as `facade.Function`.
    """

    def defines(self, name: str) -> bool:
        """Whether the cell has given the name a meaning."""

    def call(self, name: str, *arguments: Value) -> Value:
        """Call a function of the cell's."""

    def make(self, name: str, *arguments: Value) -> Part:
        """Make an object of a class of the cell's."""

    def close(self) -> None:
        """Let it go."""
