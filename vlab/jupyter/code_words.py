"""What can be meant in the code of an ``%%asm`` cell: instructions, registers, and the cell's own names."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from vlab.guests.assembling.words import MNEMONICS, WORD_REGISTERS

REGISTERS: Final = (
    *WORD_REGISTERS, *(f"e{name}" for name in WORD_REGISTERS), *(f"r{name}" for name in WORD_REGISTERS),
    *(f"r{n}" for n in range(8, 16)),
    "al", "bl", "cl", "dl", "ah", "bh", "ch", "dh", "cs", "ds", "es", "fs", "gs", "ss",
    "cr0", "cr2", "cr3", "cr4",
)  # fmt: skip
_NAME: Final = re.compile(r"^\s*([A-Za-z_][\w$]*)(?:\s*:|\s*=)", re.MULTILINE)


def code_words(cell: str, before: Sequence[str], begun: str) -> list[str]:
    """Give the words that may stand where ``begun`` is, after the words ``before`` in its line."""
    if not begun:
        return []
    begins = not before or before[-1].endswith((":", ";"))
    words = MNEMONICS.split() if begins else (*REGISTERS, *_NAME.findall(cell), "byte ptr", "dword ptr")
    return sorted({word for word in words if word.startswith(begun)})
