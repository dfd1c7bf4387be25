"""What an assembler is given: the source line for line, marked so that each byte can be traced to its line.

A label is put in front of each line that stands outside of macros, repetitions and conditions; the labels
change no byte of the code. Lines keep their order, so that a message about line N of the file is about line
N - `Prepared.above` of the source.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

MARK: Final = "__vlab_line_"
"""How the labels begin; a number follows."""

_OPENING: Final = re.compile(r"\.(macro|rept|rep|irpc?|if\w*)$", re.IGNORECASE)
_MACRO: Final = re.compile(r"\s*\.macro\b", re.IGNORECASE)  # GNU as takes a label before it for its name
_CLOSING: Final = re.compile(r"\.(endm|endmacro|endr|endif)$", re.IGNORECASE)
_WORD: Final = re.compile(r"\s*(?:[\w.$]+:\s*)*(\.?[A-Za-z_]\w*)?")
_STRING_OR_COMMENT: Final = re.compile(r'"(?:[^"\\]|\\.)*"|\'\\?.|#.*|//.*')


@dataclass(frozen=True, slots=True)
class Prepared:
    """The text for an assembler. above: lines before the source's first. widths: of the lines' labels."""

    text: str
    above: int
    widths: Mapping[int, int]

    def place(self, line: int, column: int | None) -> tuple[int, int | None]:
        """Give line and column in the source for a place in the text."""
        number = line - self.above
        inside = None if column is None else max(1, column - self.widths.get(number, 0))
        return number, inside


def prepare(lines: Sequence[str], head: Sequence[str], *, marked: bool) -> Prepared:
    """Put the lines ``head`` above the source, and labels into it if ``marked``. ``//`` begins a comment."""
    out, widths, depth, comment = list(head), {}, 0, False
    for number, text in enumerate(lines, 1):
        bare = _STRING_OR_COMMENT.sub(_blank, text)
        begins = not comment and depth == 0
        comment = _inside_comment(bare, comment)
        before = depth
        for part in bare.split(";"):
            found = _WORD.match(part)
            word = (found[1] if found else None) or ""
            depth += bool(_OPENING.match(word))
            depth -= bool(_CLOSING.match(word))
        depth = max(depth, 0)
        mark = f"{MARK}{number}: "
        if marked and begins and before == 0 and bare.strip() and not _MACRO.match(bare):
            widths[number] = len(mark)
            out.append(mark + _without_comment(text))
        else:
            out.append(_without_comment(text))
    return Prepared("\n".join(out) + "\n", len(head), widths)


def _blank(found: re.Match[str]) -> str:
    return "" if found[0].startswith(("#", "/")) else '"' * len(found[0])


def _without_comment(text: str) -> str:
    """Take a ``//`` comment away, which not every assembler knows."""
    for found in _STRING_OR_COMMENT.finditer(text):
        if found[0].startswith("//"):
            return text[: found.start()]
        if found[0].startswith("#"):
            break
    return text


def _inside_comment(bare: str, inside: bool) -> bool:
    """Whether the end of a line is within a /* comment */."""
    opened, closed = bare.rfind("/*"), bare.rfind("*/")
    return inside if opened == closed else opened > closed
