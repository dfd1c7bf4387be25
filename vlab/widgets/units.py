"""Numbers as views write them: sizes in bytes, and virtual time."""

from __future__ import annotations

from typing import Final

_UNITS: Final = ((40, "TiB"), (30, "GiB"), (20, "MiB"), (10, "KiB"))


def size_text(size: int) -> str:
    """Write a number of bytes in the largest unit up to GiB of which it is a multiple."""
    for shift, unit in _UNITS[1:]:
        if size >= 1 << shift and not size % (1 << shift):
            return f"{size >> shift:,} {unit}"
    return f"{size:,} bytes"


def rough_size(size: int) -> str:
    """Write a number of bytes with at most four digits."""
    for shift, unit in _UNITS:
        if size >= 1 << shift:
            return f"{size / (1 << shift):,.4g} {unit}"
    return f"{size} bytes"


def milliseconds(ns: int, digits: int = 3) -> str:
    """Write a virtual time."""
    return f"{ns / 1e6:,.{digits}f} ms"
