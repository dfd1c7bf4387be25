"""Guests made by chance: instructions to be emulated, between others, in ring 0 and in ring 3."""

from __future__ import annotations

import struct
from random import Random
from typing import Final

from vlab.guests.programs import Code, enter_ring_3, leave, rings
from vlab.isa.vectors import Vector

TRAP: Final = 0x20
"""The INT with which a program ends its guest; the vector is the status."""


def filler(rng: Random) -> bytes:
    """Some innocuous code, so that addresses and registers are other ones each time."""
    choices = (
        b"\x90",  # nop
        bytes((0xB8 + rng.choice((1, 2, 6, 7)),)) + struct.pack("<I", rng.getrandbits(32)),  # mov reg, imm
        b"\x83\xc3" + bytes((rng.randrange(1, 120),)),  # add ebx, imm
        b"\x31\xed",  # xor ebp, ebp
    )
    return b"".join(rng.choice(choices) for _ in range(rng.randrange(4)))


def mixed(rng: Random, *instructions: bytes, turns: int = 4) -> bytes:
    """The instructions in some order, several times, with filler between them."""
    found = [each for each in instructions for _ in range(turns)]
    rng.shuffle(found)
    return b"".join(filler(rng) + each for each in found)


def in_ring_3(rng: Random, instruction: bytes, flags: int = 2) -> bytes:
    """A guest that tries an instruction in ring 3; its #GP handler keeps error code and EIP, and ends."""

    def kernel(code: Code) -> None:
        code.add(filler(rng))
        enter_ring_3(code, "user", flags)
        code.add("user", filler(rng), instruction, bytes((0xCD, TRAP)))

    def refused(code: Code) -> None:
        code.add(b"\x58\x8b\x14\x24", leave(Vector.GP))  # pop eax: the error code; mov edx, [esp]: EIP

    return rings(kernel, {Vector.GP: refused})


def to_control(number: int, register: int) -> bytes:
    """Make ``mov crN, reg``."""
    return bytes((0x0F, 0x22, 0xC0 | number << 3 | register))


def from_control(number: int, register: int) -> bytes:
    """Make ``mov reg, crN``."""
    return bytes((0x0F, 0x20, 0xC0 | number << 3 | register))


def load(register: int, value: int) -> bytes:
    """Make ``mov reg, value``."""
    return bytes((0xB8 + register,)) + struct.pack("<I", value)
