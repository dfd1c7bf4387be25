"""A cache of unpacked kernels: a distribution's takes a second to unpack, and it is booted again and again.

A file holds what a payload unpacks to, under the payload's SHA-256, with the SHA-256 of the contents at its
end. It is read only if that digest is right, so a damaged file costs time and nothing else. A cache that
cannot be written to is as good as none.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
import time
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Final

from vlab.guests.loaders import unpack
from vlab.paths import cache_directory

KEPT: Final = 8
"""How many unpacked kernels are kept: those used last."""
ROOM: Final = 512 << 20
"""How many bytes they may have together; a larger one is not kept."""
WORTH_KEEPING: Final = 1 << 20
"""Bytes of the smallest payload that is kept; a smaller one is unpacked in no time."""

_SUFFIX: Final = ".unpacked"
_ABANDONED: Final = 3600
"""Seconds after which an unfinished file is what a process that was killed has left."""
_DIGEST_SIZE: Final = hashlib.sha256().digest_size


def unpacked(payload: memoryview, name: str) -> tuple[str, Iterator[bytes]]:
    """Do as `unpack.unpack` does, from the cache where the payload was unpacked before.

    What is unpacked anew is kept once the iterator has been read to its end without an error.
    """
    form, chunks = unpack.unpack(payload, name)
    if form == unpack.STORED or len(payload) < WORTH_KEEPING:
        return form, chunks
    path = directory() / f"{hashlib.sha256(payload).hexdigest()}{_SUFFIX}"
    size = _intact(path)
    return form, _keep(chunks, path) if size is None else _read(path, size)


def directory() -> Path:
    """Return where unpacked kernels are kept."""
    return cache_directory() / "kernels"


def _intact(path: Path) -> int | None:
    """Return how many bytes the kept file has before its digest; None when it is absent or damaged."""
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size - _DIGEST_SIZE
            digest = hashlib.sha256()
            for chunk in _chunks(file, size):
                digest.update(chunk)
            if size <= 0 or file.read() != digest.digest():
                return None
        os.utime(path)  # the most recent use, for `_make_room`
    except OSError:
        return None
    return size


def _read(path: Path, size: int) -> Iterator[bytes]:
    with path.open("rb") as file:
        yield from _chunks(file, size)


def _chunks(file: BinaryIO, size: int) -> Iterator[bytes]:
    while size > 0 and (chunk := file.read(min(size, unpack.CHUNK))):
        size -= len(chunk)
        yield chunk


def _keep(chunks: Iterator[bytes], path: Path) -> Iterator[bytes]:
    """Pass `chunks` on and write them to `path` as well, where that works: all of them or none."""
    copy, digest, size = _Copy(path), hashlib.sha256(), 0
    try:
        for chunk in chunks:
            size += len(chunk)
            digest.update(chunk)
            if size > ROOM:
                copy.discard()
            copy.write(chunk)
            yield chunk
        copy.write(digest.digest())
        copy.finish()
    finally:
        copy.discard()


class _Copy:
    """A file that takes its place when it is finished; whatever goes wrong discards it, and is no error."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
        self._file: BinaryIO | None = None
        with contextlib.suppress(OSError):
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = self._temporary.open("xb")

    def write(self, data: bytes) -> None:
        if self._file is not None:
            try:
                self._file.write(data)
            except OSError:
                self.discard()

    def finish(self) -> None:
        if self._file is not None:
            with contextlib.suppress(OSError):
                self._file.close()
                self._temporary.replace(self._path)
                _make_room(self._path.parent)

    def discard(self) -> None:
        """Delete what is not finished; nothing that is written afterwards is kept."""
        if self._file is not None:
            with contextlib.suppress(OSError):
                self._file.close()
            with contextlib.suppress(OSError):
                self._temporary.unlink(missing_ok=True)
            self._file = None


def _make_room(kept: Path) -> None:
    """Delete the files that were used longest ago until `KEPT` files and `ROOM` bytes are left."""
    for path in kept.glob(f".*{_SUFFIX}.*"):
        if path.stat().st_mtime < time.time() - _ABANDONED:
            path.unlink(missing_ok=True)
    files = [(path, path.stat()) for path in kept.glob(f"*{_SUFFIX}")]
    total = 0
    for count, (path, status) in enumerate(sorted(files, key=lambda each: -each[1].st_mtime_ns), 1):
        total += status.st_size
        if count > KEPT or total > ROOM:
            path.unlink(missing_ok=True)
