"""The general registers, and the numbers that they hold."""

from __future__ import annotations

from typing import Final

MASK_32: Final = 0xFFFFFFFF
GENERAL: Final = ("eax", "ecx", "edx", "ebx", "esp", "ebp", "esi", "edi")
