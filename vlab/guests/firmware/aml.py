"""A very small assembler for AML, the byte code of ACPI: what the DSDT of a PC without PCI needs.

Every function returns the encoding of one term (ACPI 6.5, chapter 20, "ACPI Machine Language Specification").
"""

from __future__ import annotations

import struct

_ZERO, _ONE, _NAME, _BYTE, _WORD, _DWORD = b"\x00", b"\x01", b"\x08", b"\x0a", b"\x0b", b"\x0c"
_SCOPE, _BUFFER, _PACKAGE, _DEVICE = b"\x10", b"\x11", b"\x12", b"\x5b\x82"
_LONGEST = 0xFFF


def name_path(path: str) -> bytes:
    r"""Encode a name such as `_HID` or `\_SB`: an optional root, then one segment, padded to four letters."""
    root, segment = (b"\\", path[1:]) if path.startswith("\\") else (b"", path)
    if not 1 <= len(segment) <= 4 or not segment.isascii() or not segment.isupper():
        raise ValueError(f"path: {path!r} is no AML name; give up to four capitals, digits or underscores")
    return root + segment.ljust(4, "_").encode()


def integer(value: int) -> bytes:
    """Encode an integer, 0..2^32-1, in the shortest way."""
    if value in (0, 1):
        return _ONE if value else _ZERO
    if value < 1 << 8:
        return _BYTE + struct.pack("<B", value)
    if value < 1 << 16:
        return _WORD + struct.pack("<H", value)
    return _DWORD + struct.pack("<I", value)


def with_length(payload: bytes) -> bytes:
    """Prefix a package length, which counts itself (20.2.4). Raises ValueError over 4 KiB."""
    if len(payload) + 1 < 1 << 6:
        return bytes([len(payload) + 1]) + payload
    total = len(payload) + 2
    if total > _LONGEST:
        raise ValueError(f"payload: {len(payload)} bytes are more than a two-byte package length can say")
    return bytes([1 << 6 | total & 0xF, total >> 4]) + payload


def name(path: str, value: bytes) -> bytes:
    """Name (path, value)."""
    return _NAME + name_path(path) + value


def scope(path: str, *terms: bytes) -> bytes:
    """Scope (path) { terms }."""
    return _SCOPE + with_length(name_path(path) + b"".join(terms))


def device(path: str, *terms: bytes) -> bytes:
    """Device (path) { terms }."""
    return _DEVICE + with_length(name_path(path) + b"".join(terms))


def package(*elements: bytes) -> bytes:
    """Package () { elements }."""
    return _PACKAGE + with_length(bytes([len(elements)]) + b"".join(elements))


def buffer(content: bytes) -> bytes:
    """Buffer () { content }."""
    return _BUFFER + with_length(integer(len(content)) + content)


def eisa_id(identifier: str) -> bytes:
    """Encode a Plug and Play identifier such as PNP0501: three letters, four digits (19.6.36)."""
    a, b, c = (ord(letter) - ord("@") for letter in identifier[:3])
    number = a << 26 | b << 21 | c << 16 | int(identifier[3:], 16)
    return _DWORD + struct.pack(">I", number)


# ---- resource descriptors, the elements of _CRS (6.4.2) ---------------------------------------------------


def ports(first: int, count: int) -> bytes:
    """IO descriptor: `count` ports from `first` on, 16-bit decoding."""
    return struct.pack("<BBHHBB", 0x47, 1, first, first, 1, count)


def interrupt(irq: int) -> bytes:
    """IRQ descriptor without flags: an ISA interrupt, edge-triggered, active high."""
    return struct.pack("<BH", 0x22, 1 << irq)


def resources(*descriptors: bytes) -> bytes:
    """Name (_CRS, ResourceTemplate () { descriptors }); the checksum 0 in the end tag means none."""
    return name("_CRS", buffer(b"".join(descriptors) + b"\x79\x00"))
