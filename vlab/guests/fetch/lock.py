"""One fetch at a time: they share a directory of half-done downloads."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from vlab.guests.store import unwritable


@contextlib.contextmanager
def locked(directory: Path, waiting: Callable[[], None]) -> Iterator[bool]:
    """Hold the lock of `directory`, and tell whether another process had it before; then `waiting` is called.

    The lock goes with the process, so none is left behind. Raises UnusableInput when the directory is not
    writable. On Windows, which has no apt, there is no lock.
    """
    if sys.platform == "win32":
        yield False
        return
    import fcntl

    path = directory.with_name(f"{directory.name}.lock")
    try:
        file = path.open("wb")
    except OSError as error:
        raise unwritable(error, directory.parent) from None
    with file:
        waited = False
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            waited = True
            waiting()
            fcntl.flock(file, fcntl.LOCK_EX)
        yield waited
