"""From a piece of source to a guest that boots: what an ``%%asm`` cell becomes.

16-bit code becomes a boot sector, which the firmware starts at 0000:7C00. 32- and 64-bit code becomes an ELF
image at 1 MiB, entered at ``_start`` or else at its first byte, with flat segments and a stack, in 64-bit
mode over tables that map the low 4 GiB (`vlab.guests.loaders.elf`). Behind the code stands CLI, HLT: code
that runs to its end stops there.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

from vlab.guests.assembler import Assembled, AssemblyError, Problem, assemble

BOOT_SECTOR: Final = 0x7C00
"""Where the firmware puts a boot sector."""
LOAD: Final = 0x100000
"""Where 32- and 64-bit code goes."""

_ROOM: Final = 510
_SIGNATURE: Final = b"\x55\xaa"
_STOP: Final = "__vlab_stop"
_TAIL: Final = f"\n.text\n{_STOP}: .byte 0xFA, 0xF4, 0xEB, 0xFD\n"  # cli; again: hlt; jmp again
_I386, _X86_64 = 3, 62


@dataclass(frozen=True, slots=True)
class CellImage:
    """A guest made of source. entry: its first address. end: where code that runs out stops."""

    image: bytes
    bits: int
    entry: int
    end: int
    assembled: Assembled

    @property
    def suffix(self) -> str:
        """What a file of it is called by: ".img" for a boot sector, ".elf" otherwise."""
        return ".img" if self.bits == 16 else ".elf"


def make(source: str, bits: int = 16, symbols: Mapping[str, int] | None = None) -> CellImage:
    """Assemble ``source`` and make a guest of it. Raises what `assemble` raises."""
    count = source.count("\n") + 1
    origin = BOOT_SECTOR if bits == 16 else LOAD
    try:
        made = assemble(source + _TAIL, bits=bits, origin=origin, symbols=symbols)
    except AssemblyError as error:
        raise AssemblyError([_inside(problem, source, count) for problem in error.problems]) from None
    end = made.symbols[_STOP]
    own = replace(
        made,
        listing=tuple(line for line in made.listing if line.number <= count),
        symbols={name: value for name, value in made.symbols.items() if name != _STOP},
    )
    if bits == 16:
        return CellImage(_sector(made.code, own), bits, origin, end, own)
    entry = own.symbols.get("_start", origin)
    return CellImage(_elf(made.code, entry, bits), bits, entry, end, own)


def _inside(problem: Problem, source: str, count: int) -> Problem:
    """Say of a mistake that shows only behind the source, such as a missing .endr, that it is at its end."""
    if problem.line is None or problem.line <= count:
        return problem
    return Problem(problem.message, count, None, source.rsplit("\n", 1)[-1])


def _sector(code: bytes, made: Assembled) -> bytes:
    if code[_ROOM : _ROOM + 2] == _SIGNATURE:
        return code + bytes(-len(code) % 512)
    if len(code) > _ROOM:
        behind = next(
            (line for line in made.listing if line.address + len(line.code) > BOOT_SECTOR + _ROOM), None
        )
        what = (
            f"a boot sector has room for {_ROOM} bytes, and this code needs {len(code):,}; use --bits 32, or "
            "end the first sector yourself with .org 510 and .word 0xAA55 and load the others with INT 0x13"
        )
        raise AssemblyError(
            [Problem(what) if behind is None else Problem(what, behind.number, 1, behind.text)]
        )
    return code + bytes(_ROOM - len(code)) + _SIGNATURE


def _elf(code: bytes, entry: int, bits: int) -> bytes:
    """Give an executable with one segment, all of which may be read, written and executed."""
    ident = b"\x7fELF" + bytes((2 if bits == 64 else 1, 1, 1)) + bytes(9)
    size = len(code)
    if bits == 64:
        header = struct.pack("<HHIQQQIHHHHHH", 2, _X86_64, 1, entry, 64, 0, 0, 64, 56, 1, 0, 0, 0)
        program = struct.pack("<IIQQQQQQ", 1, 7, 120, LOAD, LOAD, size, size, 16)
    else:
        header = struct.pack("<HHIIIIIHHHHHH", 2, _I386, 1, entry, 52, 0, 0, 52, 32, 1, 0, 0, 0)
        program = struct.pack("<8I", 1, 84, LOAD, LOAD, size, size, 7, 16)
    return ident + header + program + code
