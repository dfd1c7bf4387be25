"""Debian packages, read in Python: an ar archive with a compressed tar archive inside (deb(5))."""

from __future__ import annotations

import bz2
import contextlib
import gzip
import io
import lzma
import shutil
import subprocess
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, cast

_MAGIC = b"!<arch>\n"
_HEADER = 60  # ar(5): name 16, time 12, owner 6, group 6, mode 8, size 10, end mark 2


class BadPackage(Exception):
    """A package that is damaged or holds something else than expected; the text says what."""


def extract(package: Path, wanted: Callable[[str], bool]) -> tuple[str, bytes]:
    """Return name (without the leading ./) and contents of the first regular file whose name is `wanted`.

    Reads no further than that file. Raises BadPackage when it is not there or the package is damaged.
    """
    try:
        with package.open("rb") as file, _data(package, file) as data, tarfile.open(fileobj=data, mode="r|") as tar:
            for member in tar:
                name = member.name.removeprefix("./").lstrip("/")
                if member.isreg() and wanted(name):
                    contents = tar.extractfile(member)
                    if contents is not None:
                        return name, contents.read()
    except (tarfile.TarError, lzma.LZMAError, EOFError, OSError, ValueError) as error:
        raise BadPackage(f"{package.name} is damaged ({error})") from None
    raise BadPackage(f"{package.name} does not hold the file that was expected in it")


def members(file: IO[bytes]) -> Iterator[tuple[str, int, int]]:
    """Yield name, offset and size of each member of an ar archive. Raises ValueError when it is none."""
    if file.read(len(_MAGIC)) != _MAGIC:
        raise ValueError("it is not an ar archive")
    position = len(_MAGIC)
    while header := file.read(_HEADER):
        if len(header) < _HEADER or header[58:] != b"`\n":
            raise ValueError(f"its ar header at byte {position} is not one")
        size = int(header[48:58])
        position += _HEADER
        yield header[:16].decode("ascii", "replace").rstrip(" /"), position, size
        position += size + size % 2
        file.seek(position)


@contextlib.contextmanager
def _data(package: Path, file: IO[bytes]) -> Iterator[IO[bytes]]:
    """Open the data archive inside a package as a stream of tar."""
    for name, offset, size in members(file):
        if name.startswith("data.tar"):
            file.seek(offset)
            with _decompressed(package, cast("IO[bytes]", _Window(file, size)), name) as stream:
                yield stream
            return
    raise BadPackage(f"{package.name} has no data archive")


@contextlib.contextmanager
def _decompressed(package: Path, window: IO[bytes], name: str) -> Iterator[IO[bytes]]:
    suffix = name.removeprefix("data.tar").removeprefix(".")
    if suffix == "zst":
        with _zstd(package, window) as stream:
            yield stream
        return
    openers: dict[str, Callable[[IO[bytes]], IO[bytes]]] = {
        "": lambda source: source,
        "gz": lambda source: cast("IO[bytes]", gzip.GzipFile(fileobj=source)),
        "bz2": lambda source: cast("IO[bytes]", bz2.BZ2File(source)),
        "xz": lambda source: cast("IO[bytes]", lzma.LZMAFile(source)),
    }
    if suffix not in openers:
        raise BadPackage(f"{package.name} is compressed as .{suffix}, which vlab does not read")
    yield openers[suffix](window)


@contextlib.contextmanager
def _zstd(package: Path, window: IO[bytes]) -> Iterator[IO[bytes]]:
    """Unpack with Python's own library or the zstandard package, or else let dpkg-deb do it."""
    with contextlib.suppress(ImportError):
        from compression import zstd  # type: ignore[import-not-found]  # Python 3.14

        yield zstd.ZstdFile(window)
        return
    with contextlib.suppress(ImportError):
        import zstandard

        yield zstandard.ZstdDecompressor().stream_reader(window)
        return
    dpkg = shutil.which("dpkg-deb")
    if dpkg is None:
        raise BadPackage(f"{package.name} is compressed with zstd; `pip install zstandard` lets vlab read it")
    with subprocess.Popen(
        [dpkg, "--fsys-tarfile", package], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as process:
        try:
            yield cast("IO[bytes]", process.stdout)
        finally:
            process.kill()


class _Window(io.RawIOBase):
    """The next `size` bytes of a file, as a file."""

    def __init__(self, file: IO[bytes], size: int) -> None:
        self._file = file
        self._left = size

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1, /) -> bytes:
        data = self._file.read(self._left if size < 0 else min(size, self._left))
        self._left -= len(data)
        return data
