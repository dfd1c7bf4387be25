"""Relocatable ELF objects for x86, put together as one piece of memory: the smallest of linkers.

Format: System V ABI, edition 4.1, chapter 4, with its supplements for i386 and AMD64. The sections that take
memory follow each other from the origin on: .text, the others in their order, then those without contents,
as zeros.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final, NamedTuple

_MAGIC: Final = b"\x7fELF"
_PROGBITS, _SYMTAB, _RELA, _NOBITS, _REL = 1, 2, 4, 8, 9
_ALLOC: Final = 2
_UNDEFINED, _ABSOLUTE, _COMMON = 0, 0xFFF1, 0xFFF2
_SECTION_TYPE, _FILE_TYPE = 3, 4
_DROPPED: Final = (".note", ".eh_frame", ".comment")
SIZE_MAXIMUM: Final = 16 << 20
"""Bytes that may come out."""


class _Kind(NamedTuple):
    """A relocation: bytes written, whether relative to its own place, and how a value must fit."""

    size: int
    relative: bool
    range: str = "either"  # "signed", "unsigned", "either", or "wraps"


_KINDS_32: Final = {
    1: _Kind(4, False, "wraps"), 2: _Kind(4, True, "wraps"), 4: _Kind(4, True, "wraps"),
    20: _Kind(2, False), 21: _Kind(2, True, "wraps"), 22: _Kind(1, False), 23: _Kind(1, True, "signed"),
}  # fmt: skip
_KINDS_64: Final = {
    1: _Kind(8, False, "wraps"), 2: _Kind(4, True, "signed"), 4: _Kind(4, True, "signed"),
    10: _Kind(4, False, "unsigned"), 11: _Kind(4, False, "signed"), 12: _Kind(2, False),
    13: _Kind(2, True, "signed"), 14: _Kind(1, False), 15: _Kind(1, True, "signed"),
    24: _Kind(8, True, "wraps"),
}  # fmt: skip


class LinkError(Exception):
    """A reference that comes to nothing. section, offset: where; symbol: to what, "" if that has no name."""

    def __init__(self, message: str, section: int = -1, offset: int = 0, symbol: str = "") -> None:
        super().__init__(message)
        self.section, self.offset, self.symbol = section, offset, symbol


@dataclass(slots=True)
class Section:
    """A section header with its contents; ``address`` once it has a place."""

    index: int
    name: str
    kind: int
    flags: int
    link: int
    info: int
    alignment: int
    size: int
    data: bytearray
    address: int = 0

    @property
    def placed(self) -> bool:
        """Whether it takes memory."""
        return (
            bool(self.flags & _ALLOC)
            and self.kind in (_PROGBITS, _NOBITS)
            and not self.name.startswith(_DROPPED)
        )


@dataclass(frozen=True, slots=True)
class Symbol:
    """A symbol as the object has it: its value counts from the start of its section."""

    name: str
    value: int
    section: int
    kind: int


@dataclass(slots=True)
class Object:
    """A relocatable object."""

    wide: bool
    sections: list[Section]
    symbols: list[Symbol] = field(default_factory=list)

    def placed(self) -> list[Section]:
        """Give the sections that take memory, in the order in which they follow each other."""
        found = [section for section in self.sections if section.placed]
        return sorted(found, key=lambda each: (each.kind == _NOBITS, each.name != ".text", each.index))


def read(data: bytes) -> Object:
    """Read an object file. Raises ValueError for what is none."""
    if data[:4] != _MAGIC or len(data) < 52 or data[4] not in (1, 2):
        raise ValueError("no ELF object")
    wide = data[4] == 2
    layout = "<16sHHIQQQIHHHHHH" if wide else "<16sHHIIIIIHHHHHH"
    header = struct.unpack_from(layout, data)
    start, size, count, names = header[6], *header[11:14]
    form = "<IIQQQQIIQQ" if wide else "<10I"
    sections: list[Section] = []
    raw = [struct.unpack_from(form, data, start + number * size) for number in range(count)]
    for number, (name, kind, flags, _address, offset, length, link, info, alignment, _entry) in enumerate(
        raw
    ):
        if kind == _NOBITS and length > SIZE_MAXIMUM:
            raise LinkError(f"the code needs {length:,} bytes; at most {SIZE_MAXIMUM >> 20} MiB are possible")
        contents = bytearray(length) if kind == _NOBITS else bytearray(data[offset : offset + length])
        text = _string(data, raw[names][4] + name)
        sections.append(Section(number, text, kind, flags, link, info, max(alignment, 1), length, contents))
    found = Object(wide, sections)
    table = next((section for section in sections if section.kind == _SYMTAB), None)
    if table is not None:
        found.symbols = list(_symbols(table, sections[table.link].data, wide))
    return found


def _symbols(table: Section, names: bytearray, wide: bool) -> Iterator[Symbol]:
    for fields in struct.iter_unpack("<IBBHQQ" if wide else "<IIIBBH", table.data):
        if wide:
            name, info, _, section, value, _size = fields
        else:
            name, value, _size, info, _, section = fields
        yield Symbol(_string(names, name), value, section, info & 15)


def _string(data: bytes | bytearray, offset: int) -> str:
    return bytes(data[offset : data.index(0, offset)]).decode("utf-8", "replace")


def link(found: Object, origin: int) -> bytes:
    """Give every section its address from ``origin`` on, resolve what refers to them, and give the bytes.

    Raises LinkError.
    """
    cursor, parts = origin, found.placed()
    for number, section in enumerate(parts):
        if number:
            cursor += -cursor % section.alignment
        section.address = cursor
        cursor += section.size
    if cursor - origin > SIZE_MAXIMUM:
        size = f"{cursor - origin:,} bytes"
        raise LinkError(f"the code needs {size}; at most {SIZE_MAXIMUM >> 20} MiB are possible")
    for table in found.sections:
        if table.kind in (_REL, _RELA) and found.sections[table.info].placed:
            _relocate(found, table)
    image = bytearray(cursor - origin)
    for section in parts:
        start = section.address - origin
        image[start : start + section.size] = section.data
    return bytes(image)


def _relocate(found: Object, table: Section) -> None:
    target, explicit = found.sections[table.info], table.kind == _RELA
    form = ("<QQq" if explicit else "<QQ") if found.wide else ("<IIi" if explicit else "<II")
    kinds = _KINDS_64 if found.wide else _KINDS_32
    for offset, info, *rest in struct.iter_unpack(form, table.data):
        number, code = (info >> 32, info & 0xFFFFFFFF) if found.wide else (info >> 8, info & 0xFF)
        symbol = found.symbols[number]
        if code == 0:
            continue
        kind = kinds.get(code)
        if kind is None:
            what = f"a reference of type {code}, as for shared libraries, cannot be resolved here"
            raise LinkError(what, target.index, offset, symbol.name)
        stored = int.from_bytes(target.data[offset : offset + kind.size], "little", signed=True)
        value = _value(found, symbol, target, offset, number) + (rest[0] if explicit else stored)
        value -= target.address + offset if kind.relative else 0
        if not _fits(value, kind):
            what = f"the distance {value:#x}" if kind.relative else f"the value {value:#x}"
            raise LinkError(f"{what} does not fit in {8 * kind.size} bits", target.index, offset, symbol.name)
        value &= (1 << 8 * kind.size) - 1
        target.data[offset : offset + kind.size] = value.to_bytes(kind.size, "little")


def _fits(value: int, kind: _Kind) -> bool:
    bits = 8 * kind.size
    least = 0 if kind.range == "unsigned" else -(1 << bits - 1)
    most = (1 << bits - 1) if kind.range == "signed" else 1 << bits
    return kind.range == "wraps" or least <= value < most


def _value(found: Object, symbol: Symbol, target: Section, offset: int, number: int) -> int:
    if symbol.section == _ABSOLUTE or number == 0:
        return symbol.value
    if symbol.section == _COMMON:
        raise LinkError(
            "symbols made by .comm have no place here; use .lcomm", target.index, offset, symbol.name
        )
    if symbol.section == _UNDEFINED:
        raise LinkError("undefined", target.index, offset, symbol.name)
    return found.sections[symbol.section].address + symbol.value


def named(found: Object) -> Iterator[tuple[str, int, int]]:
    """Give name, address and section (-1 for a constant) of every symbol that a linked object defines."""
    for symbol in found.symbols:
        if not symbol.name or symbol.kind in (_SECTION_TYPE, _FILE_TYPE):
            continue
        if symbol.section == _ABSOLUTE:
            yield symbol.name, symbol.value, -1
        elif 0 < symbol.section < len(found.sections) and found.sections[symbol.section].placed:
            yield symbol.name, found.sections[symbol.section].address + symbol.value, symbol.section
