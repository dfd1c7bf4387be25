"""What the boards of both chips share: the line out of a chip, and bytes that the student's chip gave."""

from __future__ import annotations

from collections.abc import Callable

from vlab.grading.exercise import Broken

Line = Callable[[bool], None]


def byte_of(what: str, value: object) -> int:
    """Check what the student's chip gave."""
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= 0xFF:
        raise Broken(f"{what} gave {value!r}; a chip gives a byte, 0 to 255")
    return int(value)


def level_name(level: bool) -> str:
    """Name the level of a line."""
    return "high" if level else "low"
