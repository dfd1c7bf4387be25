"""Zstandard, from Python's standard library (3.14) or the zstandard package, whichever is there."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import IO, Protocol, cast

PIECE = 1 << 20
"""Bytes of one unpacked piece, at most."""


class Reader(Protocol):
    """Something to read compressed bytes from: a file, or part of one."""

    def read(self, size: int = -1, /) -> bytes:
        """Return up to `size` bytes, none at the end."""
        ...


def library() -> Callable[[Reader], Iterator[bytes]] | None:
    """Return a function that unpacks one zstd frame from a reader in pieces, None where no library is there.

    The iterator raises ValueError for damaged data. What follows the frame is ignored.
    """
    return _standard() or _package()


def _standard() -> Callable[[Reader], Iterator[bytes]] | None:
    try:
        from compression import zstd  # type: ignore[import-not-found]  # Python 3.14
    except ImportError:
        return None

    def pieces(reader: Reader) -> Iterator[bytes]:
        decoder = zstd.ZstdDecompressor()
        try:
            while not decoder.eof:
                data = reader.read(PIECE) if decoder.needs_input else b""
                if decoder.needs_input and not data:
                    raise ValueError("it ends too early")
                yield decoder.decompress(data, PIECE)
        except zstd.ZstdError as error:
            raise ValueError(str(error)) from None

    return pieces


def _package() -> Callable[[Reader], Iterator[bytes]] | None:
    try:
        import zstandard
    except ImportError:
        return None

    def pieces(reader: Reader) -> Iterator[bytes]:
        try:
            yield from zstandard.ZstdDecompressor().read_to_iter(cast("IO[bytes]", reader), write_size=PIECE)
        except zstandard.ZstdError as error:
            raise ValueError(str(error)) from None

    return pieces
