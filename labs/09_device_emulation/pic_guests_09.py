"""Guests that have interrupt lines driven by port 60h, and note which vectors come of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from random import Random
from typing import Final

from notes_09 import NOTE, edi

from vlab.guests.programs import Code, image, leave, out, rings

MASTER, SLAVE = 0x10, 0x18
IN: Final = {port: bytes((0xE4, port)) + NOTE for port in (0x20, 0x21, 0xA0, 0xA1)}
WINDOW: Final = bytes.fromhex("FB EB 00 90 EB 00 90 FA")  # sti; jmp; nop; jmp; nop; cli
MASTERS: Final = (0, 1, 3, 4, 5, 6, 7)
SLAVES: Final = tuple(range(8, 16))


def set_up(rng: Random, mask: int = 0) -> bytes:
    """Initialise both, at vectors 10h and 18h either way round; give the code."""
    return b"".join(
        out(port, value)
        for port, value in (
            (0x20, 0x11), (0x21, MASTER | rng.getrandbits(3)), (0x21, 4), (0x21, 1),
            (0xA0, 0x11), (0xA1, SLAVE | rng.getrandbits(3)), (0xA1, 2), (0xA1, 1),
            (0x21, mask), (0xA1, mask),
        )
    )  # fmt: skip


def interrupted(rng: Random, steps: Iterator[bytes], *, ends: bool = True) -> bytes:
    """A guest that does ``steps`` with interrupts off; handlers note their vector, and end the interrupt."""

    def kernel(code: Code) -> None:
        code.add(edi(), set_up(rng), *steps, leave(0))

    def handler(vector: int) -> Callable[[Code], None]:
        note = b"\x50\xc6\x07" + bytes((vector,)) + b"\x47"  # push eax; mov byte [edi], vector; inc edi
        end = b"" if not ends else out(0x20, 0x20) + (out(0xA0, 0x20) if vector >= SLAVE else b"")
        return _putting(note + end + b"\x58\xcf")

    return image(rings(kernel, {vector: handler(vector) for vector in range(MASTER, SLAVE + 8)}))


def _putting(piece: bytes) -> Callable[[Code], None]:
    def put(code: Code) -> None:
        code.add(piece)

    return put


def drive(line: int, level: bool) -> bytes:
    """Drive one line."""
    return out(0x60, line | level << 7)


def pulses(rng: Random, lines: tuple[int, ...], most: int = 3) -> bytes:
    """Raise some of the lines."""
    chosen = rng.sample(lines, rng.randrange(1, most + 1))
    return b"".join(drive(line, True) for line in chosen)


def releases(lines: tuple[int, ...]) -> bytes:
    """Lower all of the lines."""
    return b"".join(drive(line, False) for line in lines)
