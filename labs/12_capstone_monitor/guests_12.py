"""Guests made by chance; each asks for one part of a monitor, and says or notes what it got."""

from __future__ import annotations

import struct
from random import Random
from typing import Final

from vlab.guests.programs import SCRATCH, TICKS, Code, enter_ring_3, image, leave, out, rings, say, timer
from vlab.isa.msr import find
from vlab.isa.vectors import Vector

LOG: Final = SCRATCH + 0x400
_KEEP: Final = b"\x89\x07\x83\xc7\x04"  # mov [edi], eax; add edi, 4
_EDI: Final = b"\xbf" + struct.pack("<I", LOG)


def tries_ports(rng: Random, count: int = 10) -> bytes:
    """IN and OUT of all sizes, to chips that keep what they are told and to ports with nobody behind."""
    code = _EDI
    for _ in range(count):
        fill = b"\xb8" + struct.pack("<I", rng.getrandbits(32))  # mov eax, ...
        nobody = b"\x66\xba" + struct.pack("<H", rng.randrange(0x1000, 0x2000))  # mov dx, ...
        scratch = b"\x66\xba\xff\x03"  # mov dx, 3FFh: the serial port's scratch register
        code += (
            rng.choice(
                (
                    fill + scratch + b"\xee" + fill + b"\xec",  # out dx, al; in al, dx
                    fill + nobody + b"\x66\xed",  # in ax, dx
                    fill
                    + nobody
                    + rng.choice((b"\xed", b"\xec", b"\xef")),  # in eax, dx; in al, dx; out dx, eax
                    out(0x70, 0x50) + fill + b"\xe6\x71" + fill + out(0x70, 0x50) + b"\xe4\x71",  # CMOS
                )
            )
            + _KEEP
        )
    return image(code + say("".join(rng.choice("abcdef") for _ in range(3))) + leave(rng.randrange(3)))


def asks(rng: Random) -> bytes:
    """CPUID, MSRs that there are and that there are not; the handler of #GP keeps the error code."""
    missing = next(
        number for number in iter(lambda: rng.randrange(0x1000, 0x9000), None) if find(number) is None
    )

    def read(number: int) -> bytes:
        return b"\xb9" + struct.pack("<I", number) + b"\x31\xc0\x31\xd2\x0f\x32" + _KEEP

    def kernel(code: Code) -> None:
        code.add(_EDI)
        pieces = [
            b"\xb8"
            + struct.pack("<I", leaf)
            + b"\x31\xc9"
            + prefix
            + b"\x0f\xa2"
            + _KEEP
            + b"\x89\xd8"
            + _KEEP
            for leaf, prefix in zip(
                rng.sample((0, 1, 0x40000000, 0x80000000), 2), (b"", b"\x66"), strict=True
            )
        ]
        value = struct.pack("<II", rng.getrandbits(32), 0)
        pieces.append(
            b"\xb9\x74\x01\x00\x00\xb8" + value[:4] + b"\xba" + value[4:] + b"\x0f\x30" + read(0x174)
        )
        pieces.append(read(missing))
        rng.shuffle(pieces)
        code.add(*pieces, leave(0))

    def refused(code: Code) -> None:
        # pop [edi]; or dword [edi], 0DEADh; add edi, 4; add dword [esp], 2; iret
        code.add(bytes.fromhex("8F 07 81 0F AD DE 00 00 83 C7 04 83 04 24 02 CF"))

    return image(rings(kernel, {Vector.GP: refused}))


def sleeps(rng: Random) -> bytes:
    """Sleep until the timer came so many times, then say so."""
    again = b"\xf4\x81\x3d" + struct.pack("<II", TICKS, rng.randrange(3, 9)) + b"\x72\xf3"
    return image(timer(again + b"\xfa" + say("awake") + leave(0), hertz=rng.choice((100, 200, 250))))


def opens_windows(rng: Random) -> bytes:
    """Take interrupts in short windows alone, and end with status 7 when one comes outside of them."""
    ticks = struct.pack("<I", TICKS)
    spin = b"\xb9" + struct.pack("<I", rng.randrange(300_000, 400_000)) + b"\x49\x75\xfd"  # dec ecx; jnz
    body = b"\xfa\xa1" + ticks + spin + b"\x3b\x05" + ticks  # cli; mov eax, [ticks]; ...; cmp eax, [ticks]
    bad = leave(7)
    body += b"\x74" + bytes((len(bad),)) + bad
    body += b"\xfb\x90\xeb\x00\x90\xfa"  # sti; nop; jmp; nop; cli
    body += b"\x81\x3d" + ticks + struct.pack("<I", rng.randrange(3, 6))
    body += b"\x72" + struct.pack("<b", -(len(body) + 2))
    return image(timer(body + say("done") + leave(0), hertz=250))


_CALL: Final = 0x20


def goes_to_ring_3(rng: Random) -> bytes:
    """Go to ring 3, make system calls there, and be refused a HLT."""

    def kernel(code: Code) -> None:
        code.add(_EDI)
        enter_ring_3(code, "user")
        code.add("user")
        for _ in range(rng.randrange(2, 5)):
            code.add(b"\xbb" + struct.pack("<I", rng.getrandbits(32)) + bytes((0xCD, _CALL)))  # mov ebx; int
        code.add(b"\xf4")

    # mov ax, 10h; mov ds, ax; mov [edi], ebx; add edi, 4
    note = bytes.fromhex("66 B8 10 00 8E D8 89 1F 83 C7 04")

    def call(code: Code) -> None:
        code.add(note + b"\xcf")

    def refused(code: Code) -> None:
        code.add(b"\x5b" + note + say("refused") + leave(0))  # pop ebx: the error code

    return image(rings(kernel, {_CALL: call, Vector.GP: refused}))
