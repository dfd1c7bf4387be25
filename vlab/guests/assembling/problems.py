"""What is wrong with a piece of assembly, told with the line and a caret."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from vlab.errors import UnusableInput

_SHOWN: Final = 3


@dataclass(frozen=True, slots=True)
class Problem:
    """One mistake. line, column: counted from 1, None where not known. text: the line as it was written."""

    message: str
    line: int | None = None
    column: int | None = None
    text: str = ""

    def __str__(self) -> str:
        if self.line is None:
            return self.message
        lines = [f"line {self.line}: {self.message}"]
        if self.text.strip():
            lines.append(f"    {self.text.rstrip()}")
            if self.column is not None:
                before = self.text[: self.column - 1]
                lines.append("    " + "".join("\t" if each == "\t" else " " for each in before) + "^")
        return "\n".join(lines)


class AssemblyError(UnusableInput):
    """Source that cannot be assembled. ``problems``: all; ``line``, ``column``, ``text``: of the first."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(problems)
        first = self.problems[0]
        self.line, self.column, self.text = first.line, first.column, first.text
        told = [str(problem) for problem in self.problems[:_SHOWN]]
        more = len(self.problems) - _SHOWN
        if more > 0:
            told.append(f"and {more} more {'mistake' if more == 1 else 'mistakes'}")
        super().__init__("\n".join(told))
