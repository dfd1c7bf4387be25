"""How vlab keeps files of the user's: a cache that can be fetched again, and a small index that cannot.

The cache holds objects by the SHA-256 of their contents; whoever names an object names its digest, and gets
it only if the bytes still have it. Everything is written beside its place and then moved there, so that a
file is whole or absent.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
from dataclasses import dataclass
from pathlib import Path

from vlab.errors import UnusableInput
from vlab.paths import cache_directory, data_directory

FILE_MAXIMUM = 3 << 30
"""Bytes of the largest file that is read as an image: no guest has more memory."""


def is_file(path: Path) -> bool:
    """Tell whether a regular file is there and may be looked at."""
    try:
        return path.is_file()
    except OSError:
        return False


def unwritable(error: OSError, directory: Path) -> UnusableInput:
    """Return the error for a directory of vlab's that cannot be written to."""
    variable = "VLAB_DATA" if directory.is_relative_to(data_directory()) else "VLAB_CACHE"
    return UnusableInput(
        f"{variable.removeprefix('VLAB_').lower()}: cannot write to {directory} ({error.strerror});"
        f" set {variable} to a directory that you can write to"
    )


def make_directory(directory: Path) -> Path:
    """Create `directory` with its parents and return it. Raises UnusableInput when that fails."""
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise unwritable(error, directory) from None
    return directory


def write_atomically(path: Path, data: bytes) -> None:
    """Write `data` to `path`, all or nothing. Raises UnusableInput when the directory is not writable."""
    make_directory(path.parent)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        with temporary.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        raise unwritable(error, path.parent) from None
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


@dataclass(frozen=True, slots=True)
class Entry:
    """An object of the cache: file name, SHA-256 of its contents in hexadecimal, size in bytes."""

    name: str
    sha256: str
    size: int

    @property
    def path(self) -> Path:
        """Where the object is, or would be."""
        return cache_directory() / "objects" / self.sha256 / self.name


def put(name: str, data: bytes) -> Entry:
    """Store `data` under its digest and return the entry. Raises UnusableInput for an unwritable cache."""
    entry = Entry(name, hashlib.sha256(data).hexdigest(), len(data))
    if not intact(entry):
        write_atomically(entry.path, data)
    return entry


def intact(entry: Entry) -> bool:
    """Tell whether the object is in the cache and still has its digest."""
    try:
        if entry.path.stat().st_size != entry.size:
            return False
        return digest(entry.path) == entry.sha256
    except OSError:
        return False


def digest(path: Path) -> str:
    """Return the SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_input(argument: str, path: Path) -> bytes:
    """Return the contents of a file that the user named as `argument`.

    Raises UnusableInput when it does not exist, is no regular file, cannot be read, or is larger than
    `FILE_MAXIMUM`.
    """
    try:
        if path.is_dir():
            raise UnusableInput(f"{argument}: {path} is a directory; give the path of a file")
        if not path.exists():
            raise UnusableInput(f"{argument}: there is no file {path}; check the path")
        if not path.is_file():
            raise UnusableInput(f"{argument}: {path} is not a regular file; copy its contents to one")
        if path.stat().st_size > FILE_MAXIMUM:
            raise UnusableInput(f"{argument}: {path} is larger than 3 GiB, which no guest's memory holds")
        return path.read_bytes()
    except ValueError:
        raise UnusableInput(f"{argument}: {str(path)!r} is not a path; check it") from None
    except OSError as error:
        raise UnusableInput(
            f"{argument}: cannot read {path} ({error.strerror}); check its permissions"
        ) from None
