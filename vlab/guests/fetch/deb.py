"""Debian packages, read in Python: an ar archive with a compressed tar archive inside (deb(5))."""

from __future__ import annotations

import contextlib
import io
import lzma
import shutil
import subprocess
import tarfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, TYPE_CHECKING, Literal, cast

from vlab.guests import zstd

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer as Buffer

_MAGIC = b"!<arch>\n"
_HEADER = 60  # ar(5): name 16, time 12, owner 6, group 6, mode 8, size 10, end mark 2


class BadPackage(Exception):
    """A package that is damaged or holds something else than expected; the text says what."""


def extract(package: Path, wanted: Callable[[str], bool]) -> tuple[str, bytes]:
    """Return name (without the leading ./) and contents of the first regular file whose name is `wanted`.

    Reads no further than that file. Raises BadPackage when it is not there or the package is damaged.
    """
    try:
        with _tar(package) as tar:
            for member in tar:
                name = member.name.removeprefix("./").lstrip("/")
                if member.isreg() and wanted(name):
                    contents = tar.extractfile(member)
                    if contents is not None:
                        return name, contents.read()
    except (tarfile.TarError, lzma.LZMAError, zlib.error, EOFError, OSError, ValueError) as error:
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
def _tar(package: Path) -> Iterator[tarfile.TarFile]:
    """Open the data archive inside a package, to be read from front to back."""
    with package.open("rb") as file:
        found = next((member for member in members(file) if member[0].startswith("data.tar")), None)
        if found is None:
            raise BadPackage(f"{package.name} has no data archive")
        name, offset, size = found
        file.seek(offset)
        window = cast("IO[bytes]", _Window(file, size))
        suffix = name.removeprefix("data.tar").removeprefix(".")
        if suffix == "zst":
            with _zstd(package, window) as stream, tarfile.open(fileobj=stream, mode="r|") as tar:
                yield tar
        elif suffix in ("", "gz", "bz2", "xz"):
            mode = cast("Literal['r|gz']", f"r|{suffix}")  # one of the four, which have one type
            with tarfile.open(fileobj=window, mode=mode) as tar:
                yield tar
        else:
            raise BadPackage(f"{package.name} is compressed as .{suffix}, which vlab does not read")


@contextlib.contextmanager
def _zstd(package: Path, window: IO[bytes]) -> Iterator[IO[bytes]]:
    """Unpack with a library of Python's, or else let dpkg-deb do it."""
    unpack_frame = zstd.library()
    dpkg = shutil.which("dpkg-deb")
    if unpack_frame is not None:
        yield cast("IO[bytes]", io.BufferedReader(_Pieces(unpack_frame(window))))
    elif dpkg is not None:
        command = [dpkg, "--fsys-tarfile", str(package)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
            try:
                yield cast("IO[bytes]", process.stdout)
            finally:
                process.kill()
    else:
        raise BadPackage(f"{package.name} is compressed with zstd; `pip install zstandard` lets vlab read it")


class _Pieces(io.RawIOBase):
    """Pieces of bytes, as a file."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces
        self._rest = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Buffer, /) -> int:
        target = memoryview(buffer).cast("B")
        while not self._rest:
            piece = next(self._pieces, None)
            if piece is None:
                return 0
            self._rest = memoryview(piece)
        size = min(len(target), len(self._rest))
        target[:size] = self._rest[:size]
        self._rest = self._rest[size:]
        return size


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
