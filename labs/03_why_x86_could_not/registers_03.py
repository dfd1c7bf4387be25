"""The general registers, and the numbers that they hold."""

from __future__ import annotations

from reprlib import repr as shorten
from typing import Final

MASK_32: Final = 0xFFFFFFFF
GENERAL: Final = ("eax", "ecx", "edx", "ebx", "esp", "ebp", "esi", "edi")


def number_of(name: str, value: object) -> int:
    """Take what is to be a number of 32 bits. Raises ValueError."""
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= MASK_32:
        raise ValueError(f"{name} is {shorten(value)}; it is to be a whole number of 32 bits")
    return value
