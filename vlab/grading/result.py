"""Marks: what was earned for what, and why, as plain data that survives a file."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class InvariantMark:
    """The mark for one invariant.

    why: empty when it holds, else a sentence. hint: what to look at. trace: the shortest trace that shows it,
    a ``.vlabtrace`` file's bytes. waits: it was not tried, for it is hidden.
    """

    name: str
    says: str
    points: float
    earned: float
    why: str = ""
    hint: str = ""
    trace: bytes | None = None
    waits: bool = False

    @property
    def holds(self) -> bool:
        """Whether the invariant held."""
        return not self.why


@dataclass(frozen=True, slots=True)
class ExerciseMark:
    """The mark for one exercise."""

    ident: str
    title: str
    invariants: tuple[InvariantMark, ...]

    @property
    def points(self) -> float:
        """What a full solution gets."""
        return sum(each.points for each in self.invariants)

    @property
    def earned(self) -> float:
        """What this one gets."""
        return sum(each.earned for each in self.invariants)

    def to_json(self, *, traces: bool = True) -> dict[str, Any]:
        """Give it as JSON's types, with the traces, in base 64, or without."""
        return {
            "ident": self.ident,
            "title": self.title,
            "invariants": [
                {
                    "name": each.name, "says": each.says, "points": each.points, "earned": each.earned,
                    "why": each.why, "hint": each.hint, "waits": each.waits,
                } | ({"trace": _text_of(each.trace)} if traces else {})
                for each in self.invariants
            ],
        }  # fmt: skip

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> ExerciseMark:
        """Take that back. Raises KeyError, TypeError or ValueError for what ``to_json`` did not write."""
        return cls(
            str(data["ident"]),
            str(data["title"]),
            tuple(
                InvariantMark(
                    str(each["name"]), str(each["says"]), float(each["points"]), float(each["earned"]),
                    str(each["why"]), str(each["hint"]),
                    None if each["trace"] is None else base64.b64decode(each["trace"], validate=True),
                    bool(each["waits"]),
                )
                for each in data["invariants"]
            ),
        )  # fmt: skip


def _text_of(trace: bytes | None) -> str | None:
    return None if trace is None else base64.b64encode(trace).decode("ascii")
