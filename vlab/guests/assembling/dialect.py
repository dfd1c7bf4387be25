"""Where the Intel syntax of clang, and of keystone, means something else than GNU's.

In 16-bit code they make the 32-bit forms of a near CALL and RET, which nobody else means by these words; a
RET after an indirect CALL would pop two bytes too many.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

_MODE: Final = re.compile(r"\s*(?:[\w.$]+:\s*)*\.code(16|32|64)\b", re.IGNORECASE)
_RET: Final = re.compile(
    r"^(\s*(?:[\w.$]+:\s*)*)ret(?:\s+(?P<bytes>\d\w*))?(?=\s*(?:[#;]|//|$))", re.IGNORECASE
)
_CALL: Final = re.compile(
    r"^(\s*(?:[\w.$]+:\s*)*)call\s+(?:near\s+ptr\s+)?(?P<to>[\w.$]+)(?=\s*(?:[#;]|//|$))", re.IGNORECASE
)
_REGISTER: Final = re.compile(r"e?([abcd]x|[sd]i|[sb]p)", re.IGNORECASE)


def for_llvm(lines: Sequence[str], bits: int, *, numbers: bool) -> list[str]:
    """Write 16-bit calls and returns so that they are made as such. numbers: calls to numbers too."""
    found = []
    for line in lines:
        switch = _MODE.match(line)
        bits = bits if switch is None else int(switch[1])
        found.append(_sixteen(line, numbers) if bits == 16 else line)
    return found


def _sixteen(line: str, numbers: bool) -> str:
    back, call = _RET.match(line), _CALL.match(line)
    if back is not None:
        code = ".byte 0xC3" if back["bytes"] is None else f".byte 0xC2; .short {back['bytes']}"
        return f"{back[1]}{code}{line[back.end() :]}"
    if call is not None and not _REGISTER.fullmatch(call["to"]) and (numbers or not call["to"][0].isdigit()):
        return f"{call[1]}.byte 0xE8; .short {call['to']} - . - 2{line[call.end() :]}"
    return line
