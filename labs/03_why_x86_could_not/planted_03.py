"""Guests with one sensitive instruction that does not trap at CPL 1, planted among harmless ones.

They tell by a byte to port 80h how far they are. Under trap-and-emulate they go wrong, on AMD-V they do not.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Final

from pieces_03 import CLI, DATA, FREE, POPF, PUSHF, STI, load, ordinary, push

from vlab.guests.programs import KERNEL_CODE, KERNEL_DATA, TASK, Code, image, leave, rings

CHECKPOINT: Final = 0x80
_REACHED: Final = bytes((0xE6, CHECKPOINT, 0xEB, 0x00))  # out 80h, al; jmp to the next


def _decoy(rng: Random) -> bytes:
    """What looks wrong, or traps, and is right: of DS, or with the interrupt flag as it really is."""
    one = rng.choice(FREE)
    return rng.choice(
        (
            bytes((0x8C, 0xD8 | one)),  # mov reg, ds
            b"\x1e" + bytes((0x58 | one,)),  # push ds; pop reg
            CLI,
            b"\x0f\x20" + bytes((0xC0 | one,)),  # mov reg, cr0: it traps
            b"\x0f\x06",  # clts: it traps
        )
    )


def _harmless(rng: Random) -> bytes:
    """What does harm elsewhere and none here.

    With the guest's own IF at 1, as the real one is, PUSHF shows what is right. POPF may leave IF alone where
    it is to stay. The real LDTR is empty as the guest's is, and CR0 has the same low bits.
    """
    one = rng.choice(FREE)
    saved = STI + PUSHF + bytes((0x58 | one,)) + CLI
    kept = STI + push(0x202) + POPF + CLI
    local_table = bytes((0x0F, 0x00, 0xC0 | one))  # sldt reg
    machine_status = b"\x0f\x01\x25" + struct.pack("<I", DATA)  # smsw [mem]
    return rng.choice((saved, kept, push(2) + POPF, machine_status, local_table))


@dataclass(frozen=True, slots=True)
class Planted:
    """An instruction that goes wrong. before: what it needs. after: what later shows it in a register."""

    code: bytes
    before: bytes = b""
    after: bytes = b""


def in_registers(rng: Random) -> Planted:
    """What brings a wrong value into a register."""
    one = rng.choice(FREE)
    needs = struct.pack("<I", rng.choice((KERNEL_CODE, KERNEL_DATA)))
    return rng.choice(
        (
            Planted(bytes((0x8C, 0xC8 | one))),  # mov reg, cs
            Planted(bytes((0x8C, 0xD0 | one))),  # mov reg, ss
            Planted(bytes((0x0F, 0x00, 0xC8 | one))),  # str reg
            Planted(bytes((0x0F, 0x02, 0xC1 | one << 3)), b"\xb9" + needs),  # mov ecx, selector; lar reg, ecx
            Planted(bytes((0x0F, 0x03, 0xC1 | one << 3)), load(one, 0) + load(1, TASK)),  # lsl reg, ecx
        )
    )


def in_memory(rng: Random) -> Planted:
    """What brings a wrong value into memory."""
    one, place = rng.choice(FREE), struct.pack("<I", DATA + 0x80 + 8 * rng.randrange(8))
    pop = bytes((0x58 | one,))
    fetch = bytes((0x8B, 0x05 | one << 3)) + place  # mov reg, [place]
    return rng.choice(
        (
            Planted(PUSHF, after=pop),
            Planted(b"\x0e", after=pop),  # push cs
            Planted(b"\x16", after=pop),  # push ss
            Planted(b"\x0f\x01\x05" + place, after=fetch),  # sgdt [place]
            Planted(b"\x0f\x01\x0d" + place, after=fetch),  # sidt [place]
        )
    )


def in_flags(rng: Random) -> Planted:
    """What leaves a wrong flag."""
    if rng.randrange(2):
        return Planted(POPF, push(0x202))  # the guest's IF was 0
    return Planted(POPF, STI + push(2))


@dataclass(frozen=True, slots=True)
class Made:
    """A guest. planted: the address of the instruction, None without one."""

    guest: bytes
    planted: int | None


def make(
    rng: Random, kind: Callable[[Random], Planted] | None, decoys: int = 1, *, late: bool = False
) -> Made:
    """Make a guest of some segments, each of which ends at a checkpoint.

    kind: of what is planted in one of them. decoys: how many segments before it have one of its kind in a
    harmless place. late: whether a later segment brings the wrong result from memory into a register.
    """
    planted = None if kind is None else kind(rng)
    where = rng.randrange(decoys + 1, decoys + 4)
    harmless = set(rng.sample(range(where), decoys))
    found: list[int] = []

    def kernel(code: Code) -> None:
        code.add(_REACHED)
        for number in range(where + 3):
            pieces = [ordinary(rng) for _ in range(rng.randrange(1, 4))] + [_decoy(rng)]
            rng.shuffle(pieces)
            if number in harmless:
                pieces.insert(rng.randrange(len(pieces) + 1), _harmless(rng))
            code.add(*pieces)
            if planted is not None and number == where:
                code.add(CLI, planted.before)
                found.append(code.here)
                code.add(planted.code)
            if planted is not None and late and number == where + 1:
                code.add(planted.after)
            code.add(_REACHED)
        code.add(leave(0))

    whole = image(rings(kernel, {}))
    return Made(whole, found[0] if found else None)
