"""Guests made by chance: for the exit handler, and one that does all that can be an intercept."""

from __future__ import annotations

import struct
from collections.abc import Callable
from random import Random
from typing import Final

from machine_07 import REFLECTED

from vlab.guests.programs import SCRATCH, TICKS, Code, image, leave, rings, store, timer
from vlab.isa.msr import find
from vlab.isa.svm_exits import SvmExit
from vlab.isa.vectors import Vector

_32: Final = (1 << 32) - 1
_LOG: Final = SCRATCH + 0x400
"""Where the guests here keep what they saw."""
_DIRECTORY: Final = 0x20000
INSTRUCTIONS: Final = {
    "CPUID": (SvmExit.CPUID, b"\x0f\xa2"), "RDTSC": (SvmExit.RDTSC, b"\x0f\x31"),
    "PAUSE": (SvmExit.PAUSE, b"\xf3\x90"), "WBINVD": (SvmExit.WBINVD, b"\x0f\x09"),
}  # fmt: skip
"""What can be wished for: the exit's code, and the instruction."""
EXCEPTIONS: Final = {f"#{vector.name}": vector for vector in REFLECTED}

_LEAVES: Final = (0, 1, 0x4000_0000, 0x4000_0001, 0x8000_0000, 0x8000_0001, 0x8000_0002, 0x8000_0008)
_OPERAND_SIZE: Final = b"\x66"


def asks_cpuid(rng: Random, count: int = 6) -> bytes:
    """Ask for leaves in any order, with prefixes now and then, and keep the answers."""
    code, at = b"", _LOG
    for leaf in rng.sample(_LEAVES, count):
        code += b"\xb8" + struct.pack("<I", leaf) + b"\xb9" + struct.pack("<I", rng.randrange(3))
        code += _OPERAND_SIZE * rng.choice((0, 0, 1, 2)) + b"\x0f\xa2"  # cpuid
        for move in (b"\xa3", b"\x89\x1d", b"\x89\x0d", b"\x89\x15"):  # mov [at], eax; ebx; ecx; edx
            code += move + struct.pack("<I", at)
            at += 4
    return image(code + leave(0))


def sleeps(rng: Random) -> bytes:
    """Sleep with HLT until the timer came so many times."""
    again = b"\xf4\x81\x3d" + struct.pack("<II", TICKS, rng.randrange(3, 7)) + b"\x72\xf3"
    return image(timer(again + leave(0), hertz=rng.choice((100, 200, 250))))


_WORDS: Final = (0x174, 0x175, 0x176, 0xC0000081, 0xC0000082, 0xC0000084, 0xC0000103)
"""MSRs that take any 32-bit value: SYSENTER_CS, _ESP, _EIP, STAR, LSTAR, SFMASK, TSC_AUX."""


def _load_ecx(number: int) -> bytes:
    return b"\xb9" + struct.pack("<I", number)


def _write_msr(number: int, value: int) -> bytes:
    halves = b"\xb8" + struct.pack("<I", value & _32) + b"\xba" + struct.pack("<I", value >> 32)
    return _load_ecx(number) + halves + b"\x0f\x30"


_KEEP: Final = b"\x89\x07\x83\xc7\x04"  # mov [edi], eax; add edi, 4
_KEEP_EDX: Final = b"\x89\x17\x83\xc7\x04"
_KEEP_CODE: Final = b"\x8f\x07\x83\xc7\x04"  # pop dword [edi]; add edi, 4


def _go_behind(length: int) -> bytes:
    return b"\x83\x04\x24" + bytes((length,)) + b"\xcf"  # add dword [esp], length; iret


def _log(rng: Random) -> bytes:
    return b"\xbf" + struct.pack("<I", _LOG + 4 * rng.randrange(16))  # mov edi, ...


def _handler(*pieces: bytes, behind: int) -> bytes:
    return b"".join(pieces) + _go_behind(behind)


def uses_msrs(rng: Random, count: int = 4) -> bytes:
    """Write and read registers in any order."""
    code = _log(rng)
    for number in rng.sample(_WORDS, count):
        high = rng.getrandbits(14) if number in (0xC0000081, 0xC0000082) else 0
        code += _write_msr(number, high << 32 | rng.getrandbits(32))
        code += b"\x31\xc0\x31\xd2\x0f\x32" + _KEEP + _KEEP_EDX  # xor eax, eax; xor edx, edx; rdmsr
    return image(code + leave(0))


def _unknown_msr(rng: Random) -> int:
    return next(
        number for number in iter(lambda: rng.randrange(0x1000, 0x40000), None) if find(number) is None
    )


def lacks_msrs(rng: Random) -> bytes:
    """Read and write registers that there are and that there are not; the handler keeps the error codes."""

    def kernel(code: Code) -> None:
        code.add(_log(rng))
        for _ in range(4):
            number = _unknown_msr(rng)
            code.add(rng.choice((_load_ecx(number) + b"\x0f\x32", _write_msr(number, rng.getrandbits(32)))))
            code.add(_KEEP, _load_ecx(0x174) + b"\x0f\x32", _KEEP)
        code.add(leave(0))

    return image(rings(kernel, {Vector.GP: _adding(_handler(_KEEP_CODE, behind=2))}))


def _adding(piece: bytes) -> Callable[[Code], None]:
    def add(code: Code) -> None:
        code.add(piece)

    return add


def _turn_paging_on() -> bytes:
    """Map the first 4 MiB with one large page, and nothing else."""
    return (
        store(_DIRECTORY, 0x83)
        + b"\xb8" + struct.pack("<I", _DIRECTORY) + b"\x0f\x22\xd8"  # mov cr3, eax
        + b"\x0f\x20\xe0\x83\xc8\x10\x0f\x22\xe0"  # CR4.PSE
        + b"\x0f\x20\xc0\x0d\x00\x00\x00\x80\x0f\x22\xc0\xeb\x00"  # CR0.PG
    )  # fmt: skip


def faults(rng: Random, kinds: tuple[Vector, ...] = REFLECTED, each: int = 2) -> bytes:
    """Raise exceptions in any order; each handler keeps what it was given, and returns behind the cause."""
    causes = [kind for kind in kinds for _ in range(each)]
    rng.shuffle(causes)

    def kernel(code: Code) -> None:
        code.add(_log(rng), _turn_paging_on())
        for kind in causes:
            code.add(_cause(kind, rng))
        code.add(leave(0))

    keep_cr2 = b"\x0f\x20\xd0" + _KEEP
    handlers = {
        Vector.DE: _handler(_KEEP, behind=2),
        Vector.BP: _KEEP + b"\xcf",
        Vector.UD: _handler(_KEEP, behind=2),
        Vector.GP: _handler(_KEEP_CODE, behind=2),
        Vector.PF: _handler(_KEEP_CODE, keep_cr2, behind=5),
    }
    return image(rings(kernel, {vector: _adding(text) for vector, text in handlers.items()}))


def _cause(kind: Vector, rng: Random) -> bytes:
    number = b"\xb8" + struct.pack("<I", rng.getrandbits(32))  # what the handler keeps of EAX
    address = struct.pack("<I", rng.randrange(0x40_0000, 0xF000_0000) & ~3)
    match kind:
        case Vector.DE:
            return number + b"\x31\xc9\xf7\xf1"  # xor ecx, ecx; div ecx
        case Vector.BP:
            return number + b"\xcc"
        case Vector.GP:
            return (
                b"\x66\xb8" + struct.pack("<H", rng.randrange(0x40, 0x1000) & ~7) + b"\x8e\xe8"
            )  # mov gs, ax
        case Vector.PF:
            return rng.choice((b"\xa1", b"\xa3")) + address  # mov eax, [address] or the other way
        case _:
            return number + b"\x0f\x0b"  # ud2


def does_everything(rng: Random) -> tuple[bytes, dict[str, int]]:
    """Make a guest that does all that can be wished for, and how often it does each."""
    counts = {name: rng.randrange(1, 4) for name in (*INSTRUCTIONS, *EXCEPTIONS)}
    causes = [name for name, count in counts.items() for _ in range(count)]
    rng.shuffle(causes)

    def kernel(code: Code) -> None:
        code.add(_log(rng), _turn_paging_on())
        for name in causes:
            code.add(INSTRUCTIONS[name][1] if name in INSTRUCTIONS else _cause(EXCEPTIONS[name], rng))
        code.add(leave(0))

    handlers = {
        Vector.DE: _go_behind(2), Vector.BP: b"\xcf", Vector.UD: _go_behind(2),
        Vector.GP: b"\x58" + _go_behind(2), Vector.PF: b"\x58" + _go_behind(5),
    }  # fmt: skip
    return image(rings(kernel, {vector: _adding(text) for vector, text in handlers.items()})), counts
