"""The little decoding that the processor itself needs: lengths past prefixes, and software interrupts."""

from __future__ import annotations

from typing import Final

from vlab.isa.vectors import Vector
from vlab.machine.faults import Event, EventKind

LONGEST: Final = 15
"""Bytes of the longest instruction (AMD APM vol. 3, rev. 3.36, 1.2)."""

PREFIXES: Final = frozenset((0x26, 0x2E, 0x36, 0x3E, 0x64, 0x65, 0x66, 0x67, 0xF0, 0xF2, 0xF3))
REX: Final = frozenset(range(0x40, 0x50))
_INT3, _INT, _INTO, _INT1 = 0xCC, 0xCD, 0xCE, 0xF1


def prefix_count(code: bytes, *, long_mode: bool) -> int:
    """Give the number of prefix bytes, REX included in 64-bit mode (AMD APM vol. 3, rev. 3.36, 1.2)."""
    for place, byte in enumerate(code):
        if byte not in PREFIXES and not (long_mode and byte in REX):
            return place
    return len(code)


def software_interrupt(code: bytes, *, long_mode: bool = False) -> Event:
    """Give the event of the INT n, INT3, INTO or INT1 at the start of ``code`` (1 to 15 bytes)."""
    start = prefix_count(code, long_mode=long_mode)
    opcode = code[start] if start < len(code) else _INT3
    if opcode == _INT and start + 1 < len(code):
        return Event(EventKind.SOFTWARE_INT, code[start + 1], instruction_length=start + 2)
    if opcode == _INTO:
        return Event(EventKind.INTO, Vector.OF, instruction_length=start + 1)
    if opcode == _INT1:
        return Event(EventKind.ICEBP, Vector.DB, instruction_length=start + 1)
    return Event(EventKind.INT3, Vector.BP, instruction_length=start + 1)
