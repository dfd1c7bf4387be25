"""The I/O and MSR permission maps of AMD-V: one bit a port, two bits an MSR, 1 means exit.

Sections are those of AMD APM vol. 2, rev. 3.44 (APM2). A map is any mutable buffer of its size, for example
a slice of the machine's memory; its address goes into the VMCB (iopm_base_pa, msrpm_base_pa).
"""

from __future__ import annotations

from typing import Final

IOPM_SIZE: Final = 0x3000
"""Bytes of the I/O permission map: 64 K ports, and room for an access that runs past the last."""

MSRPM_SIZE: Final = 0x2000
"""Bytes of the MSR permission map."""

# First MSR of each range of 0x2000 and the offset of its 2 KB of map (APM2 15.11).
_MSR_RANGES: Final = ((0x0000_0000, 0x0000), (0xC000_0000, 0x0800), (0xC001_0000, 0x1000))


def io_intercepted(iopm: bytes | bytearray | memoryview, port: int, size: int) -> bool:
    """Say whether an access of ``size`` bytes (1, 2 or 4) at ``port`` exits: a set bit does (APM2 15.10)."""
    window = iopm[port >> 3] | iopm[(port >> 3) + 1] << 8
    return bool(window >> (port & 7) & ((1 << size) - 1))


def set_io_intercept(iopm: bytearray | memoryview, port: int, exits: bool = True) -> None:
    """Make accesses to one port (0 to 0xFFFF) exit, or not."""
    _set(iopm, port, exits)


def msr_position(msr: int) -> int | None:
    """Give the bit number in the map of an MSR's read bit (its write bit is the next), or None.

    An MSR outside the three ranges of the map always exits when the map is on (APM2 15.11).
    """
    for first, offset in _MSR_RANGES:
        if first <= msr < first + 0x2000:
            return offset * 8 + (msr - first) * 2
    return None


def msr_intercepted(msrpm: bytes | bytearray | memoryview, msr: int, write: bool) -> bool:
    """Say whether RDMSR or WRMSR of ``msr`` exits (APM2 15.11)."""
    position = msr_position(msr)
    if position is None:
        return True
    position += write
    return bool(msrpm[position >> 3] >> (position & 7) & 1)


def set_msr_intercept(
    msrpm: bytearray | memoryview, msr: int, *, read: bool = True, write: bool = True
) -> None:
    """Make reads and writes of one MSR exit, or not; raises ValueError when the map has no bits for it."""
    position = msr_position(msr)
    if position is None:
        raise ValueError(f"msr: {msr:#x} is outside the ranges of the MSR permission map and always exits")
    _set(msrpm, position, read)
    _set(msrpm, position + 1, write)


def _set(bitmap: bytearray | memoryview, position: int, value: bool) -> None:
    if value:
        bitmap[position >> 3] |= 1 << (position & 7)
    else:
        bitmap[position >> 3] &= ~(1 << (position & 7))
