r"""Assembling a piece of source: `assemble` gives its bytes, with the line that each came from.

>>> from vlab.guests.assembler import assemble
>>> assemble("again: mov ax, 5\n jmp again", bits=16, origin=0x7C00).code.hex(" ")
'b8 05 00 eb fb'

The syntax is GNU's with Intel operands and bare register names: ``mov eax, dword ptr [counter]``,
``.byte 1, 2``, ``# a comment`` or ``// a comment``. Clang, GNU as or keystone does the work, whichever is
found first. Sections follow each other: code, data, and zeros for what is only reserved.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from vlab.errors import UnusableInput
from vlab.guests.assembling import dialect, guard, keystone, objects, tools, words
from vlab.guests.assembling.prepare import MARK, Prepared, prepare
from vlab.guests.assembling.problems import AssemblyError, Problem

__all__ = ["Assembled", "AssemblyError", "Line", "Problem", "assemble", "assemblers"]

_BITS: Final = (16, 32, 64)
_NAME: Final = re.compile(r"[A-Za-z_][\w$]*", re.ASCII)


@dataclass(frozen=True, slots=True)
class Line:
    """What one line of source became. number: from 1. address: of its first byte. text: as written."""

    number: int
    address: int
    code: bytes
    text: str

    def __str__(self) -> str:
        shown = self.code[:8].hex(" ") + (f" ... {len(self.code)} bytes" if len(self.code) > 8 else "")
        return f"{self.number:4}  {self.address:08x}  {shown:24}  {self.text.rstrip()}"


@dataclass(frozen=True, slots=True)
class Assembled:
    """Code that was assembled for ``origin``: ``listing`` by address, ``symbols`` by name."""

    code: bytes
    listing: tuple[Line, ...]
    symbols: Mapping[str, int]
    origin: int = 0
    bits: int = 16
    tool: str = field(default="", compare=False)

    def __str__(self) -> str:
        return "\n".join(map(str, self.listing))


def assemblers() -> list[str]:
    """Give the assemblers that are on this computer; the first is used."""
    return tools.there()


def assemble(
    source: str, *, bits: int = 16, origin: int = 0, symbols: Mapping[str, int] | None = None
) -> Assembled:
    """Assemble ``source`` as code for 16, 32 or 64 bits that will be at the address ``origin``.

    symbols: names that the source may use, with their values. The same source gives the same result. Raises
    AssemblyError for mistakes in the source, with line and caret, and UnusableInput for other arguments that
    cannot be used, or when there is no assembler.
    """
    lines = _check(source, bits, origin, (symbols or {}).items())
    guard.check(lines)
    found = tools.there()
    if not found:
        raise UnusableInput(tools.ABSENT)
    given = dict(symbols or {})
    head = [
        ".intel_syntax noprefix",
        f".code{bits}",
        *(f"{name} = {value}" for name, value in given.items()),
        ".text",
    ]
    work = _Work(lines, bits, origin, found[0], given)
    spoken = lines if found[0] == "as" else dialect.for_llvm(lines, bits, numbers=found[0] == "clang")
    try:
        return work.through(prepare(spoken, head, marked=True))
    except AssemblyError as error:
        if not any(MARK in problem.message for problem in error.problems):
            raise
    return work.through(prepare(spoken, head, marked=False))  # a label stood where none may stand


def _check(
    source: object, bits: object, origin: object, symbols: Iterable[tuple[object, object]]
) -> list[str]:
    if not isinstance(source, str):
        raise UnusableInput(f"source: {source!r} is no text; give the assembly as a string")
    if bits not in _BITS or isinstance(bits, bool):
        raise UnusableInput(f"bits: {bits!r} is not possible; give 16, 32 or 64")
    if (
        not isinstance(origin, int)
        or isinstance(origin, bool)
        or not 0 <= origin < 1 << (64 if bits == 64 else 32)
    ):
        raise UnusableInput(f"origin: {origin!r} is no address; give a whole number from 0, such as 0x7C00")
    for name, value in symbols:
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise UnusableInput(f"symbols: {name!r} is not possible as a name; use letters, digits and '_'")
        if not isinstance(value, int) or not -(1 << 63) <= value < 1 << 64:
            raise UnusableInput(f"symbols: {name} is {value!r}; give a whole number of at most 64 bits")
    lines = source.replace("\r\n", "\n").split("\n")
    for number, text in enumerate(lines, 1):
        odd = next((place for place, letter in enumerate(text) if _unusable(letter)), None)
        if odd is not None:
            what = f"the character {text[odd]!r} cannot be in source; delete it"
            shown = "".join("?" if _unusable(letter) else letter for letter in text)
            raise AssemblyError([Problem(what, number, odd + 1, shown)])
    return lines


def _unusable(letter: str) -> bool:
    return (letter < " " and letter != "\t") or "\ud800" <= letter <= "\udfff" or letter == "\x7f"


@dataclass(frozen=True, slots=True)
class _Work:
    """One call of `assemble`."""

    lines: list[str]
    bits: int
    origin: int
    tool: str
    given: Mapping[str, int]

    def through(self, prepared: Prepared) -> Assembled:
        """Have the tool do it, and put the result together."""
        try:
            if self.tool == "keystone":
                code, labels = keystone.assemble(prepared, self.bits, self.origin)
                places = [(name, value, 0) for name, value in labels.items()]
                return self._result(code, places, {0: (self.origin, len(code))})
            program = tools.find_program(self.tool, os.environ.get("PATH", os.defpath))
            if program is None:
                raise UnusableInput(tools.ABSENT)
            found = objects.read(program.assemble(prepared.text, self.bits))
        except tools.Refused as refused:
            raise AssemblyError([self._problem(each, prepared) for each in refused.messages]) from None
        except objects.LinkError as error:
            raise AssemblyError([Problem(str(error))]) from None
        try:
            code = objects.link(found, self.origin)
        except objects.LinkError as error:
            raise AssemblyError([self._unresolved(found, error)]) from None
        extents = {part.index: (part.address, part.size) for part in found.placed()}
        return self._result(code, list(objects.named(found)), extents)

    def _result(
        self, code: bytes, places: list[tuple[str, int, int]], extents: Mapping[int, tuple[int, int]]
    ) -> Assembled:
        listing: list[Line] = []
        for section, (start, size) in extents.items():
            marks = sorted(
                (value, int(name.removeprefix(MARK)))
                for name, value, where in places
                if where == section and name.startswith(MARK)
            )
            ends = [value for value, _ in marks[1:]] + [start + size]
            for (begin, number), end in zip(marks, ends[: len(marks)], strict=True):
                if end > begin:
                    piece = code[begin - self.origin : end - self.origin]
                    listing.append(Line(number, begin, piece, self.lines[number - 1]))
        symbols = {
            name: value
            for name, value, _ in sorted(places, key=lambda place: (place[1], place[0]))
            if not name.startswith(MARK) and name not in self.given
        }
        listing.sort(key=lambda line: line.address)
        return Assembled(code, tuple(listing), symbols, self.origin, self.bits, self.tool)

    def _problem(self, message: tools.Message, prepared: Prepared) -> Problem:
        if message.foreign:
            return Problem("the source reads a file, which is refused; write the bytes with .byte or .ascii")
        if message.line is None:
            return Problem(words.plain(message.text, "", None)[0])
        number, column = prepared.place(message.line, message.column)
        number = min(max(number, 1), len(self.lines))
        text = self.lines[number - 1]
        said, place = words.plain(message.text, text, column)
        return Problem(said, number, place, text)

    def _unresolved(self, found: objects.Object, error: objects.LinkError) -> Problem:
        """Find the line in which something stands that cannot be resolved."""
        marks = [
            (symbol.value, int(symbol.name.removeprefix(MARK)))
            for symbol in found.symbols
            if symbol.section == error.section
            and symbol.name.startswith(MARK)
            and symbol.value <= error.offset
        ]
        number = max(marks, default=(0, 0))[1]
        text = self.lines[number - 1] if number else ""
        if str(error) != "undefined":
            return Problem(str(error), number or None, words.plain("", text, None)[1], text)
        known = [
            symbol.name for symbol in found.symbols if symbol.section and not symbol.name.startswith(MARK)
        ]
        said, column = words.undefined(error.symbol, text, known)
        return Problem(said, number or None, column, text)
