"""Unpacking of a kernel's payload on the host, in pieces, so that it costs no memory of its own.

Linux documentation, arch/x86/boot.rst, ``payload_offset``: the format is known by its magic number. For all
formats but gzip the kernel's build appends the unpacked size as four bytes, which are ignored here.
"""

from __future__ import annotations

import bz2
import io
import lzma
import zlib
from collections.abc import Callable, Iterator
from typing import Protocol

from vlab.errors import UnusableImage
from vlab.guests import zstd
from vlab.guests.loaders import lz4

CHUNK = 1 << 20
"""Bytes that a piece has, at most (8 MiB with lz4)."""
STORED = "uncompressed"
"""The name of the format that is none."""


class CannotUnpack(Exception):
    """The payload's format is unknown here or its library is missing; the text says which and what to do."""


class _Decompressor(Protocol):
    @property
    def eof(self) -> bool: ...
    @property
    def needs_input(self) -> bool: ...
    def decompress(self, data: bytes, max_length: int = -1, /) -> bytes: ...


def unpack(payload: memoryview, name: str) -> tuple[str, Iterator[bytes]]:
    """Return the name of the payload's format and an iterator over the unpacked bytes.

    The iterator raises UnusableImage when the payload turns out to be damaged; `name` is the image in
    messages. Raises CannotUnpack when the format cannot be unpacked here.
    """
    for magic, form, opener in _FORMATS:
        if payload[: len(magic)] == magic:
            return form, _guard(opener(payload), form, name)
    start = bytes(payload[:6]).hex(" ").upper()
    raise CannotUnpack(f"the payload's format is unknown (it starts with {start})")


def _guard(chunks: Iterator[bytes], form: str, name: str) -> Iterator[bytes]:
    """Turn every library's own error into one that names the image."""
    try:
        yield from chunks
    except (lzma.LZMAError, zlib.error, EOFError, OSError, ValueError) as error:
        reason = str(error).rstrip(".") or "it ends too early"
        text = f"{name}: its {form} payload is damaged ({reason}); get the kernel again"
        raise UnusableImage(text) from None


def _stored(payload: memoryview) -> Iterator[bytes]:
    for start in range(0, len(payload), CHUNK):
        yield bytes(payload[start : start + CHUNK])


def _gzip(payload: memoryview) -> Iterator[bytes]:
    decoder = zlib.decompressobj(wbits=31)
    data: bytes | memoryview = payload
    while not decoder.eof:
        piece = decoder.decompress(data, CHUNK)
        data = decoder.unconsumed_tail
        if not piece and not data and not decoder.eof:
            raise EOFError
        yield piece


def _with(make: Callable[[], _Decompressor]) -> Callable[[memoryview], Iterator[bytes]]:
    def pieces(payload: memoryview) -> Iterator[bytes]:
        decoder = make()
        # fed in parts: a decoder may copy the input that it has not used yet
        for start in range(0, len(payload), CHUNK):
            piece = decoder.decompress(bytes(payload[start : start + CHUNK]), CHUNK)
            yield piece
            while not decoder.eof and not decoder.needs_input:
                yield decoder.decompress(b"", CHUNK)
            if decoder.eof:
                return
        raise EOFError

    return pieces


def _zstd(payload: memoryview) -> Iterator[bytes]:
    unpack_frame = zstd.library()
    if unpack_frame is None:
        raise CannotUnpack(
            "the payload is zstd, which this Python does not read (`pip install zstandard` would do)"
        )
    return unpack_frame(io.BytesIO(payload))


_FORMATS: tuple[tuple[bytes, str, Callable[[memoryview], Iterator[bytes]]], ...] = (
    (b"\x1f\x8b", "gzip", _gzip),
    (b"\xfd7zXZ\0", "xz", _with(lzma.LZMADecompressor)),
    (b"\x5d\0\0", "lzma", _with(lzma.LZMADecompressor)),
    (b"BZh", "bzip2", _with(bz2.BZ2Decompressor)),
    (b"\x28\xb5\x2f\xfd", "zstd", _zstd),
    (lz4.MAGIC, "lz4", lz4.blocks),
    (b"\x7fELF", STORED, _stored),
)
