"""The LZ4 legacy frame, as the Linux kernel uses it for its payload, decoded in Python.

Format: LZ4 Frame Format Description 1.6.1, "Legacy frame", and LZ4 Block Format Description.
"""

from __future__ import annotations

from collections.abc import Iterator

MAGIC = b"\x02\x21\x4c\x18"
BLOCK_MAXIMUM = 8 << 20
"""Bytes that a block of a legacy frame unpacks to, at most."""

_LONG = 15  # a length nibble of 15 goes on in further bytes
_MATCH_MINIMUM = 4


def blocks(frame: memoryview) -> Iterator[bytes]:
    """Yield the unpacked blocks of a legacy frame.

    A size that does not fit in what is left ends the frame: Linux appends the unpacked size there.
    Raises ValueError for a damaged block.
    """
    position = len(MAGIC)
    while position + 4 <= len(frame):
        size = int.from_bytes(frame[position : position + 4], "little")
        position += 4
        if position + size > len(frame):
            return
        yield decode_block(bytes(frame[position : position + size]))
        position += size


def decode_block(block: bytes) -> bytes:
    """Unpack one LZ4 block. Raises ValueError when it is damaged or unpacks to more than `BLOCK_MAXIMUM`."""
    try:
        return _decode(block)
    except IndexError:
        raise ValueError("an lz4 block ends too early") from None


def _decode(block: bytes) -> bytes:
    out = bytearray()
    position = 0
    while True:
        token = block[position]
        position += 1
        literals = token >> 4
        if literals == _LONG:
            literals, position = _long_length(block, position)
        if literals:
            if position + literals > len(block):
                raise ValueError("an lz4 block ends too early")
            out += block[position : position + literals]
            position += literals
        if position == len(block):  # the last sequence has no match
            return bytes(out)
        distance = block[position] | block[position + 1] << 8
        position += 2
        length = token & 0xF
        if length == _LONG:
            length, position = _long_length(block, position)
        _copy_match(out, distance, length + _MATCH_MINIMUM)


def _copy_match(out: bytearray, distance: int, length: int) -> None:
    if not 0 < distance <= len(out):
        raise ValueError(f"an lz4 match goes back {distance} bytes of {len(out)}")
    if len(out) + length > BLOCK_MAXIMUM:
        raise ValueError("an lz4 block unpacks to more than 8 MiB")
    start = len(out) - distance
    if length <= distance:
        out += out[start : start + length]
    else:  # the match overlaps what it produces: its first bytes repeat
        out += (bytes(out[start:]) * (length // distance + 1))[:length]


def _long_length(block: bytes, position: int) -> tuple[int, int]:
    """Return a length whose nibble was full, and the position after its further bytes."""
    length = _LONG
    while True:
        byte = block[position]
        position += 1
        length += byte
        if byte != 0xFF:
            return length, position
