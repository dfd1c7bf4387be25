"""Guests made by chance: flags, the machine's own state, calls, and code that changes."""

from __future__ import annotations

import struct
from collections.abc import Callable
from random import Random

from vlab.guests.programs import KERNEL_CODE, KERNEL_DATA, SCRATCH, Code, leave, rings
from vlab.machine.memory import PAGE


def load(register: int, value: int) -> bytes:
    """Make ``mov reg, value``."""
    return bytes((0xB8 + register,)) + struct.pack("<I", value)


class Results:
    """Places for results, one after the other."""

    def __init__(self) -> None:
        self._next = SCRATCH

    def keep(self) -> bytes:
        """Make ``mov [next], eax``."""
        self._next += 4
        return b"\xa3" + struct.pack("<I", self._next - 4)


def filler(rng: Random) -> bytes:
    """Make some innocuous code."""
    choices = (
        b"\x90",  # nop
        b"\x83\xc3" + bytes((rng.randrange(1, 100),)),  # add ebx, imm
        b"\x89\xde",  # mov esi, ebx
        b"\x0f\xaf\xde",  # imul ebx, esi
        b"\x89\x1d" + struct.pack("<I", SCRATCH + 0x300),  # mov [SCRATCH + 300h], ebx
        b"\x53\x5f",  # push ebx; pop edi
    )
    return b"".join(rng.choice(choices) for _ in range(rng.randrange(1, 5)))


def flags_guest(rng: Random) -> bytes:
    """CLI, STI and POPF, and what PUSHF then shows."""

    def kernel(code: Code) -> None:
        results = Results()
        for _ in range(8):
            flags = 2 | rng.choice((0, 0x200)) | rng.choice((0, 1)) | rng.choice((0, 0x400))
            change = rng.choice(
                (b"\xfa", b"\xfb", b"\x68" + struct.pack("<I", flags) + b"\x9d")
            )  # cli, sti, push flags and popf
            code.add(filler(rng), change, filler(rng), b"\x9c\x58", results.keep())  # pushf; pop eax
        code.add(b"\xfa\x68\x02\0\0\0\x9d\x68\x02\x02\0\0\x9d\x9c\x58", results.keep())  # popf that sets IF
        code.add(b"\xfa", leave(0))

    return rings(kernel, {})


def system_guest(rng: Random) -> bytes:
    """Control registers, segments and descriptors, written and read."""

    def kernel(code: Code) -> None:
        results = Results()
        pieces = [
            b"\x0f\x20\xc0",  # mov eax, cr0
            load(1, rng.getrandbits(20) << 12) + b"\x0f\x22\xd9\x0f\x20\xd8",  # mov cr3, ecx; mov eax, cr3
            load(2, rng.getrandbits(32)) + b"\x0f\x22\xd2\x0f\x20\xd0",  # mov cr2, edx; mov eax, cr2
            b"\x31\xc0\x8c\xc8",  # xor eax, eax; mov eax, cs
            b"\x31\xc0\x8c\xd0",  # mov eax, ss
            b"\x0e\x58",  # push cs; pop eax
            b"\x31\xc0\xb9" + struct.pack("<I", KERNEL_CODE) + b"\x0f\x02\xc1",  # lar eax, ecx
            b"\x31\xc0\xb9" + struct.pack("<I", KERNEL_DATA) + b"\x0f\x03\xc1",  # lsl eax, ecx
            b"\x0f\x06\x0f\x20\xc0",  # clts; mov eax, cr0
            b"\x66\xb8" + struct.pack("<H", KERNEL_DATA) + b"\x8e\xe0\x8c\xe0",  # mov fs, ax; mov eax, fs
            b"\x31\xc0\x0f\x00\xc8",  # str eax
        ]
        rng.shuffle(pieces)
        for piece in pieces:
            code.add(filler(rng), piece, results.keep())
        code.add(leave(0))

    return rings(kernel, {})


def calls(rng: Random, turns: int) -> Callable[[Code], None]:
    """Some functions, called directly and through registers, in loops, with RET and RET n."""
    count = rng.randrange(2, 5)

    def kernel(code: Code) -> None:
        results = Results()
        code.add(load(3, rng.getrandbits(16)), load(1, turns), "again", b"\x51")  # mov ecx, turns; push ecx
        for number in range(count):
            way = rng.choice(("call", "through"))
            if number % 2:
                code.add(b"\x53")  # push ebx: released by RET 4
            if way == "call":
                code.add(b"\xb8").word(f"function {number}").add(b"\xff\xd0")  # mov eax, f; call eax
            else:
                code.add(b"\xe8").relative(f"function {number}")
            code.add(filler(rng))
        code.add(b"\x59\x49\x0f\x85").relative("again")  # pop ecx; dec ecx; jnz again
        code.add(b"\x89\xd8", results.keep())  # mov eax, ebx
        code.add(b"\xb8").word("over").add(b"\xff\xe0\x0f\x0b", "over")  # mov eax, over; jmp eax; ud2
        code.add(b"\xb9\x05\0\0\0", b"\x43\xe2\xfd", b"\x89\xd8", results.keep())  # inc ebx; loop
        code.add(leave(0))
        for number in range(count):
            code.add(f"function {number}", filler(rng), b"\x83\xc3" + bytes((number + 1,)))
            code.add(b"\xf6\xc3\x01\x74\x01\x43")  # test bl, 1; jz over inc ebx
            code.add(b"\xc2\x04\0" if number % 2 else b"\xc3")

    return kernel


def transfers_guest(rng: Random) -> bytes:
    """Calls, returns, jumps and loops."""
    return rings(calls(rng, rng.randrange(3, 7)), {})


def contexts_guest(rng: Random) -> bytes:
    """The same functions with interrupts on and with interrupts off."""

    def kernel(code: Code) -> None:
        results = Results()
        for turn in range(4):
            code.add(b"\xfb" if turn % 2 else b"\xfa", filler(rng), b"\xe8").relative("function")
            code.add(results.keep())
        code.add(b"\xfa", leave(0), "function", filler(rng), b"\x9c\x58\xc3")  # pushf; pop eax; ret

    return rings(kernel, {})


def changing_guest(rng: Random) -> bytes:
    """A function that is written over between its calls, and one that changes itself."""

    def kernel(code: Code) -> None:
        results = Results()
        for _ in range(5):
            code.add(b"\xe8").relative("function")
            code.add(results.keep())
            value = rng.getrandbits(32)
            code.add(b"\xc7\x05").word("function", 1).add(
                struct.pack("<I", value)
            )  # mov [function + 1], value
        for _ in range(3):
            code.add(b"\xe8").relative("itself")
            code.add(results.keep())
        code.add(leave(0)).align(PAGE)
        code.add("function", b"\xb8" + struct.pack("<I", rng.getrandbits(32)), filler(rng), b"\xc3").align(
            PAGE
        )
        code.add("itself", b"\xb8" + struct.pack("<I", rng.getrandbits(16)))  # mov eax, number
        code.add(b"\xff\x05").word("itself", 1).add(b"\xeb\0", filler(rng), b"\xc3")  # inc [itself + 1]; jmp

    return rings(kernel, {})


def stack_guest(rng: Random) -> bytes:
    """A stack on the page of the code that uses it."""
    code = Code()
    results = Results()
    code.add(b"\xbc").word("stack").add(load(3, rng.getrandbits(16)), load(1, rng.randrange(3, 6)), "turn")
    code.add(b"\x51\xe8").relative("function")
    code.add(b"\x59\x49\x0f\x85").relative("turn")
    code.add(b"\x89\xd8", results.keep(), leave(0), "function", filler(rng), b"\x43\xc3", bytes(64), "stack")
    return code.finish()
