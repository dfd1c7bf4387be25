"""Guests made by chance: what they say through the PC16550D of its data sheet, and how they ask CPUID."""

from __future__ import annotations

import struct
from random import Random
from typing import Final

from vlab.guests.programs import SCRATCH, say

_LETTERS: Final = "abcdefghijklmnopqrstuvwxyz"
_LINE_CONTROL: Final = 0x3FB
_IN_STATUS: Final = bytes.fromhex("66 BA FD 03 EC")  # mov dx, 3FDh; in al, dx
_IN_DATA: Final = bytes.fromhex("66 BA F8 03 EC")  # mov dx, 3F8h; in al, dx
TABLE: Final = SCRATCH + 0x100


def word(rng: Random, length: int) -> str:
    """Make a word of lower-case letters."""
    return "".join(rng.choice(_LETTERS) for _ in range(length))


def _out(port: int, value: int) -> bytes:
    """Write a byte to any port; changes AL and DX."""
    return b"\x66\xba" + struct.pack("<H", port) + bytes((0xB0, value, 0xEE))  # mov dx; mov al; out dx, al


def listening(rng: Random) -> bytes:
    """Read the chip's status and data, which holds nothing, between two words."""
    reads = [_IN_STATUS, _IN_DATA, _IN_DATA, rng.choice((_IN_STATUS, _IN_DATA))]
    rng.shuffle(reads)
    return b"".join(say(word(rng, 2)) + each for each in reads)


def elsewhere(rng: Random) -> bytes:
    """Write letters to ports that are no console."""
    pieces = []
    for _ in range(5):
        port = rng.choice((0x80, 0x3F9, 0x3FF, 0x3FF))  # POST code, the chip's interrupt enable and scratch
        value = 0 if port == 0x3F9 else ord(rng.choice(_LETTERS))
        pieces.append(say(word(rng, 2)) + _out(port, value))
    return b"".join(pieces)


def speed(rng: Random) -> bytes:
    """Set the chip's speed: with bit 7 of its line control set, its data port is the divisor's low byte."""
    divisor = rng.randrange(0x41, 0x5B)
    closed = _out(_LINE_CONTROL, 0x80) + _out(0x3F8, divisor) + _out(0x3F9, 0) + _out(_LINE_CONTROL, 3)
    return say(word(rng, 2)) + closed + say(word(rng, 2))


def asking(leaves: list[tuple[int, int]]) -> bytes:
    """Execute CPUID for each leaf and subleaf, and write what it gives to a table; 32- or 64-bit code."""
    code = b"\xbf" + struct.pack("<I", TABLE)  # mov edi, TABLE
    for leaf, subleaf in leaves:
        # mov eax, leaf; mov ecx, subleaf; cpuid
        code += b"\xb8" + struct.pack("<I", leaf) + b"\xb9" + struct.pack("<I", subleaf) + b"\x0f\xa2"
        # mov [edi], eax; mov [edi+4], ebx; mov [edi+8], ecx; mov [edi+12], edx; add edi, 16
        code += bytes.fromhex("8907 895F04 894F08 89570C 83C710")
    return code


def saying(places: tuple[int, int, int]) -> bytes:
    """Send the 12 characters that lie in three words of the first record to the console."""
    code = bytes.fromhex("66BAF803")  # mov dx, 3F8h
    for place in places:
        for byte in range(4):
            code += (
                b"\xa0" + struct.pack("<I", TABLE + place + byte) + b"\xee\xeb\x00"
            )  # mov al, [..]; out; jmp
    return code


def names_by_chance(rng: Random) -> tuple[str, str]:
    """Make a vendor and a monitor's name of 12 characters."""
    vendor, name = (word(rng, 11).capitalize() for _ in range(2))
    return vendor + str(rng.randrange(10)), name + str(rng.randrange(10))
