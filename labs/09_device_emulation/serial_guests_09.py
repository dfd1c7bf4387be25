"""Drivers of a serial port: they try its registers, send, receive and test it."""

from __future__ import annotations

import struct
from random import Random
from typing import Final

from notes_09 import LOG, NOTE, edi

from vlab.devices.serial_registers import LineControl
from vlab.guests.programs import Code, image, leave, out, rings

COM1: Final = 0x3F8
DATA, IER, IIR, LCR, MCR, LSR, MSR, SCR = range(8)
FCR: Final = 2
_DLAB: Final = LineControl.DLAB.mask
BASE: Final = 0x18
"""Vector of IRQ 0 in the guests here."""


def _to(register: int, value: int) -> bytes:
    return b"\x66\xba" + struct.pack("<H", COM1 + register) + bytes((0xB0, value, 0xEE, 0xEB, 0))


def _from(register: int) -> bytes:
    return b"\x66\xba" + struct.pack("<H", COM1 + register) + b"\xec" + NOTE


def tries_registers(rng: Random, count: int = 20) -> bytes:
    """Write registers and read them back, the divisor's too, in any order."""
    code = edi() + _to(FCR, rng.choice((0, 1, 7)))
    for _ in range(count):
        lcr = rng.getrandbits(6)
        code += rng.choice(
            (
                _to(LCR, lcr) + _from(LCR),
                _to(SCR, rng.getrandbits(8)) + _from(SCR),
                _to(MCR, rng.getrandbits(4)) + _from(MCR) + _from(MSR),
                _to(LCR, lcr) + _to(IER, rng.choice((0, 4, 8, 12))) + _from(IER) + _from(IIR),
                _to(LCR, lcr | _DLAB) + _to(DATA, rng.getrandbits(8)) + _to(IER, rng.getrandbits(8))
                + _from(DATA) + _from(IER) + _to(LCR, lcr) + _from(IER),
                _to(FCR, rng.choice((0, 1, 7))) + _from(IIR),
                _from(LSR),
            )
        )  # fmt: skip
    return image(code + leave(0))


def _controllers(master_mask: int) -> bytes:
    return b"".join(
        out(port, value)
        for port, value in (
            (0x20, 0x11), (0x21, BASE), (0x21, 4), (0x21, 1), (0x21, master_mask), (0xA1, 0xFF),
        )
    )  # fmt: skip


def sends(text: str) -> bytes:
    """Send by polling: wait for THRE in LSR, then write THR."""
    code = _to(LCR, 3) + _to(FCR, 7)
    for byte in text.encode():
        # again: mov dx, LSR; in al, dx; test al, 20h; jz again
        code += b"\x66\xba" + struct.pack("<H", COM1 + LSR) + b"\xec\xa8\x20\x74\xf7" + _to(DATA, byte)
    return image(code + leave(0))


def receives(length: int) -> bytes:
    """Receive by interrupt, until so many characters have come, and echo them."""

    def kernel(code: Code) -> None:
        code.add(edi(), _controllers(0xEF), _to(FCR, 7), _to(LCR, 3), _to(IER, 1), b"\xfb", "wait")
        code.add(b"\x81\xff" + struct.pack("<I", LOG + length), b"\x72\xf8")  # cmp edi, end; jb wait
        code.add(b"\xfa", leave(0))

    def handler(code: Code) -> None:
        code.add(b"\x66\xba" + struct.pack("<H", COM1 + IIR) + b"\xec")
        code.add(b"\x66\xba" + struct.pack("<H", COM1 + LSR) + b"\xec\xa8\x01\x74\x0e")  # test al, 1; jz done
        code.add(b"\x66\xba" + struct.pack("<H", COM1) + b"\xec", NOTE, b"\xee\xeb\xea\x90\x90")
        code.add(out(0x20, 0x20), b"\xcf")

    return image(rings(kernel, {BASE + 4: handler}))


def sends_by_interrupt(text: str, *, asks: bool) -> bytes:
    """Send a character for each interrupt of the empty transmitter; ``asks``: look at IIR first."""

    def kernel(code: Code) -> None:
        code.add(edi(), b"\xb9" + struct.pack("<I", len(text)), b"\xbe").word("text")  # ecx, esi
        code.add(b"\x31\xdb", _controllers(0xEF), _to(LCR, 3), b"\xfb", _to(IER, 2))
        code.add(b"\x85\xdb\x74\xfc\xfa", leave(0))  # again: test ebx, ebx; jz again
        code.add("text", text.encode())

    def handler(code: Code) -> None:
        code.add(_from(IIR) if asks else b"", b"\xe3\x09")  # jecxz done
        code.add(b"\x66\xba" + struct.pack("<H", COM1) + b"\xac\xee\x49\xeb\x09")  # lodsb; out; dec ecx; jmp
        code.add(b"\x43\x66\xba" + struct.pack("<H", COM1 + IER) + b"\x31\xc0\xee\x90")  # inc ebx; IER = 0
        code.add(out(0x20, 0x20), b"\xcf")

    return image(rings(kernel, {BASE + 4: handler}))


def tests_itself(rng: Random) -> bytes:
    """Send to itself in loopback, and look at the modem's lines."""
    code = edi() + _to(FCR, 7) + _to(LCR, 3)
    for _ in range(3):
        code += _to(MCR, 0x10 | rng.getrandbits(4)) + _from(MSR)
        for _ in range(rng.randrange(1, 4)):
            code += _to(DATA, rng.getrandbits(8)) + _from(LSR)
        code += _from(DATA) + _from(LSR) + _from(DATA) + _to(FCR, 7) + _from(LSR)
    return image(code + _to(MCR, 3) + _from(MSR) + _to(DATA, ord("!")) + leave(0))
