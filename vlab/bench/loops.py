"""The guests that are measured: small loops, assembled by hand into Multiboot images.

An image is two things at once. vlab boots it from a file; the raw emulator beside it gets the same bytes at
the same address. It enters 32-bit protected mode, turns on PAE paging with its stack in a page that is not
executable, as a kernel's data is, and then repeats *rounds*: the body, so many times, and a `.` on the serial
port. So a run ``until="."`` is one round, and the raw emulator's is from ``body`` to ``mark``.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

MARK: Final = "."
"""What a guest prints after each round."""

LOAD: Final = 0x100000
MEMORY: Final = 4 << 20
"""Bytes of memory that an image needs: code in the first 2 MiB, stack in the second."""

_POINTERS, _DIRECTORY, _TABLES = LOAD + 0x1000, LOAD + 0x2000, LOAD + 0x3000
_FAR: Final = 0x800000
"""Where the small pages of ``page_loop`` are, linear and physical; memory must reach to twice that."""
FAR_PAGES: Final = 2048
"""How many they are."""
_STACK: Final = 0x3FF000
_MAGIC, _ADDRESSES = 0x1BADB002, 1 << 16
_PRESENT, _WRITABLE, _LARGE_WRITABLE, _NX = 0x01, 0x03, 0x83, 1 << 63

_PAGING_ON: Final = (
    "0f 20 e0  83 c8 20  0f 22 e0"  # mov eax, cr4; or eax, PAE; mov cr4, eax
    "b8 %(pointers)s  0f 22 d8"  # mov eax, pointers; mov cr3, eax
    "b9 80 00 00 c0  0f 32  0d 00 08 00 00  0f 30"  # mov ecx, EFER; rdmsr; or eax, NXE; wrmsr
    "0f 20 c0  0d 00 00 00 80  0f 22 c0"  # mov eax, cr0; or eax, PG; mov cr0, eax
    "bc %(stack)s"  # mov esp, stack
)
_MARK_AND_AGAIN: Final = "b0 2e  66 ba f8 03  ee  e9"  # mov al, '.'; mov dx, 3F8h; out dx, al; jmp rel32


@dataclass(frozen=True, slots=True)
class Loop:
    """A guest that repeats rounds. entry, body, mark: addresses of its first instruction, of a round's, and
    of the first after it. rounds are of ``count`` iterations.
    """

    image: bytes
    entry: int
    body: int
    mark: int
    count: int

    @contextmanager
    def file(self) -> Iterator[Path]:
        """Give the image as a file, there for the length of a ``with`` statement."""
        with TemporaryDirectory(prefix="vlab-bench-") as directory:
            path = Path(directory) / "loop.bin"
            path.write_bytes(self.image)
            yield path


def cpuid_loop(count: int) -> Loop:
    """Nothing but exits: CPUID, ``count`` times a round."""
    return _loop(
        f"be {_word(count)}  31 c0  0f a2  4e  75 f9", count
    )  # mov esi; xor eax, eax; cpuid; dec; jnz


def cli_loop(count: int) -> Loop:
    """A privileged instruction, ``count`` times a round: CLI, which traps outside ring 0."""
    return _loop(f"be {_word(count)}  fa  4e  75 fc", count)  # mov esi; cli; dec; jnz


def page_loop(count: int) -> Loop:
    """Loads from ``count`` pages of 4 KiB a round, beginning behind the last one of the round before.

    The guest's own entries for all FAR_PAGES of them are there from the start, not accessed yet.
    """
    body = (
        f"be {_word(count)}"  # mov esi, count
        f"81 e7 {_word(_FAR - 0x1000)} 81 cf {_word(_FAR)}"  # and edi, 7FF000h; or edi, 800000h
        "8a 07 81 c7 00 10 00 00 4e 75 e9"  # mov al, [edi]; add edi, 1000h; dec esi; jnz
    )
    entries = [_FAR + number * 0x1000 | _WRITABLE for number in range(FAR_PAGES)]
    return _loop(body, count, struct.pack(f"<{FAR_PAGES}Q", *entries))


def tight_loop(count: int) -> Loop:
    """A xorshift generator: a dozen instructions on registers, without a call or a memory access."""
    step = (
        "89 c2 c1 e2 0d 31 d0"  # mov edx, eax; shl edx, 13; xor eax, edx
        "89 c2 c1 ea 11 31 d0"  # mov edx, eax; shr edx, 17; xor eax, edx
        "89 c2 c1 e2 05 31 d0"  # mov edx, eax; shl edx, 5; xor eax, edx
        "01 c3 49 75 e6"  # add ebx, eax; dec ecx; jnz
    )
    return _loop(f"b8 01 00 00 00  b9 {_word(count)} {step}", count)


def call_loop(count: int) -> Loop:
    """Fibonacci numbers by recursion, ``count`` times the eighteenth: calls, returns and a stack."""
    fibonacci = (
        "83 f8 02  72 13"  # cmp eax, 2; jb return
        "48  50  e8 f4 ff ff ff"  # dec eax; push eax; call fibonacci
        "87 04 24  48  e8 eb ff ff ff"  # xchg eax, [esp]; dec eax; call fibonacci
        "5a  01 d0  c3"  # pop edx; add eax, edx; return: ret
    )
    caller = f"b9 {_word(count)}  b8 12 00 00 00  e8 05 00 00 00  49  75 f3  eb 19"
    return _loop(f"{caller} {fibonacci}", count)


def idle_loop() -> Loop:
    """A guest that halts, with interrupts on, for ever."""
    return _loop("fb  f4  eb fd", 1)  # sti; hlt; jmp hlt


def _loop(body: str, count: int, tables: bytes = b"") -> Loop:
    """Make a loop. tables: page tables for what begins at ``_FAR``."""
    start = bytes.fromhex(_PAGING_ON % {"pointers": _word(_POINTERS), "stack": _word(_STACK)})
    work, mark = bytes.fromhex(body), bytes.fromhex(_MARK_AND_AGAIN)
    back = -(len(work) + len(mark) + 4)
    code = start + work + mark + struct.pack("<i", back)
    end = _TABLES + len(tables)
    header = struct.pack(
        "<8I", _MAGIC, _ADDRESSES, -(_MAGIC + _ADDRESSES) & 0xFFFFFFFF, LOAD, LOAD, end, 0, LOAD + 32
    )
    page = (header + code).ljust(0x1000, b"\0")
    pointers = struct.pack("<4Q", _DIRECTORY | _PRESENT, 0, 0, 0).ljust(0x1000, b"\0")
    far = [table | _WRITABLE for table in range(_TABLES, end, 0x1000)]
    directory = struct.pack(
        f"<{4 + len(far)}Q", _LARGE_WRITABLE, 0x200000 | _LARGE_WRITABLE | _NX, 0, 0, *far
    ).ljust(0x1000, b"\0")
    entry = LOAD + 32
    first = entry + len(start)
    return Loop(page + pointers + directory + tables, entry, first, first + len(work), count)


def _word(value: int) -> str:
    return struct.pack("<I", value).hex()
