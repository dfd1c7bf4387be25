"""The first line of an exercise's cell, which says whose it is: ``# exercise: ID``."""

from __future__ import annotations

import re
from typing import Final

__all__ = ["marker", "marker_in", "marker_of"]

_MARKER: Final = re.compile(r"[ \t]*#[ \t]*exercise[ \t]*:[ \t]*([A-Za-z0-9_-]+)[ \t]*")


def marker(exercise: str) -> str:
    """Give the first line of an exercise's cell."""
    return f"# exercise: {exercise}"


def marker_in(line: str) -> str | None:
    """Give the exercise that a line names, which may be written with more or less space."""
    match = _MARKER.fullmatch(line)
    return match[1] if match else None


def marker_of(text: str) -> str | None:
    """Give the exercise that a text's first line which is not blank names."""
    return marker_in(next((line for line in text.split("\n") if line.strip()), ""))
