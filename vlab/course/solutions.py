"""Solutions inside exercise cells, and what students get in their place.

A solution is what stands between ``# BEGIN SOLUTION`` and ``# END SOLUTION``, indented with the code. It may
begin with lines ``# stub: TEXT``: their text is what students get; without them it is one line that raises
NotImplementedError("write NAME"), with the name of the function around the solution.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

__all__ = ["Block", "Unbalanced", "blocks", "has_solution", "solved", "unsolved"]

_BEGIN: Final = re.compile(r"([ \t]*)#\s*BEGIN SOLUTION\s*")
_END: Final = re.compile(r"[ \t]*#\s*END SOLUTION\s*")
_LIKE: Final = re.compile(r"#.*\b(BEGIN|END)\s+SOLUTION", re.IGNORECASE)
_STUB: Final = re.compile(r"[ \t]*# stub: ?(.*)")


class Unbalanced(ValueError):
    """A solution's marks do not pair. line: from 1, in the cell."""

    def __init__(self, line: int, why: str) -> None:
        super().__init__(why)
        self.line = line


@dataclass(frozen=True, slots=True)
class Block:
    """One solution in a cell.

    begin, end: the lines of its marks, from 0. indent: of the first mark. stub: the lines that students get.
    """

    begin: int
    end: int
    indent: str
    stub: tuple[str, ...]
    inside: tuple[str, ...]


def blocks(text: str, ident: str = "this") -> list[Block]:
    """Find the solutions of a cell.

    ident: what there is to write when the solution is in no function. Raises Unbalanced.
    """
    lines = text.split("\n")
    found: list[Block] = []
    for begin, end in _pairs(lines):
        match = _BEGIN.fullmatch(lines[begin])
        indent = match[1] if match else ""
        inside = lines[begin + 1 : end]
        stubs = 0
        while stubs < len(inside) and _STUB.fullmatch(inside[stubs]):
            stubs += 1
        said = tuple(match[1] for line in inside[:stubs] if (match := _STUB.fullmatch(line)))
        name = _name(text, begin + 1, end + 1) or ident
        stub = said or (f'raise NotImplementedError("write {name}")',)
        found.append(Block(begin, end, indent, stub, tuple(inside[stubs:])))
    return found


def has_solution(text: str) -> bool:
    """Whether a text holds a mark of a solution, or what somebody meant as one."""
    return any(_LIKE.search(line) for line in text.split("\n"))


def unsolved(text: str, ident: str = "this") -> str:
    """Give the cell as students get it."""
    return _replaced(text, ident, lambda block: [_indented(line, block.indent) for line in block.stub])


def solved(text: str, ident: str = "this") -> str:
    """Give the cell with its solution, without the marks."""
    return _replaced(text, ident, lambda block: list(block.inside))


def without(text: str, chosen: Block, ident: str = "this") -> str:
    """Give the cell with its solution but for one block, which is as students get it."""
    return _replaced(
        text,
        ident,
        lambda block: (
            [_indented(line, block.indent) for line in block.stub] if block == chosen else block.inside
        ),
    )


def _replaced(text: str, ident: str, put: Callable[[Block], Sequence[str]]) -> str:
    lines = text.split("\n")
    for block in reversed(blocks(text, ident)):
        lines[block.begin : block.end + 1] = put(block)
    return "\n".join(lines)


def _indented(line: str, indent: str) -> str:
    return indent + line if line.strip() else ""


def _pairs(lines: Sequence[str]) -> Iterator[tuple[int, int]]:
    begin: int | None = None
    for number, line in enumerate(lines):
        if _BEGIN.fullmatch(line):
            if begin is not None:
                raise Unbalanced(number + 1, "a solution begins inside another: end the first one before")
            begin = number
        elif _END.fullmatch(line):
            if begin is None:
                raise Unbalanced(number + 1, "a solution ends that did not begin: write # BEGIN SOLUTION")
            yield begin, number
            begin = None
        elif _LIKE.search(line):
            raise Unbalanced(
                number + 1, f"{line.strip()!r} is no mark: write # BEGIN SOLUTION or # END SOLUTION alone"
            )
    if begin is not None:
        raise Unbalanced(begin + 1, "a solution begins that does not end: write # END SOLUTION")


def _name(text: str, begin: int, end: int) -> str | None:
    """Name what the lines are inside of, ``Class.method``, or else what they define; None for neither."""
    try:
        node: ast.AST = ast.parse(text)
    except SyntaxError:
        return None
    names: list[str] = []
    inner: ast.stmt | None = None
    while (inner := _around(node, begin, end)) is not None:
        node = inner
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names.append(node.name)
    if names:
        return ".".join(names)
    return next(_defined(node, begin, end), None)


def _around(node: ast.AST, begin: int, end: int) -> ast.stmt | None:
    """Give the statement inside a node that holds the lines."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.stmt) and child.lineno < begin and end - 1 <= (child.end_lineno or 0):
            return child
    return None


def _defined(node: ast.AST, begin: int, end: int) -> Iterator[str]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) and (
            begin < child.lineno < end
        ):
            yield child.name
