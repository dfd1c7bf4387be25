"""Pieces of machine code for the guests of both exercises."""

from __future__ import annotations

import struct
from random import Random
from typing import Final

from vlab.guests.programs import SCRATCH

FREE: Final = (0, 3, 6, 7)
"""EAX, EBX, ESI and EDI: ECX and EDX are operands of what is planted."""
CLI, STI, PUSHF, POPF = b"\xfa", b"\xfb", b"\x9c", b"\x9d"
DATA: Final = SCRATCH


def push(value: int) -> bytes:
    """Push a number."""
    return b"\x68" + struct.pack("<I", value)


def load(register: int, value: int) -> bytes:
    """Load a register with a number."""
    return bytes((0xB8 + register,)) + struct.pack("<I", value)


def ordinary(rng: Random) -> bytes:
    """Something that is nobody's business."""
    one, other = rng.sample(FREE, 2)
    return rng.choice(
        (
            load(one, rng.getrandbits(32)),
            bytes((0x01, 0xC0 | one << 3 | other)),  # add
            bytes((0x31, 0xC0 | one << 3 | other)),  # xor
            bytes((0x89, 0x05 | one << 3))
            + struct.pack("<I", DATA + 4 * rng.randrange(16)),  # mov [mem], reg
            bytes((0x0F, 0xC8 | one)),  # bswap
        )
    )
