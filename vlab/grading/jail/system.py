"""System calls of Linux that Python has no function for, through the C library."""

from __future__ import annotations

import ctypes
import os
import sys
from functools import cache

LINUX = sys.platform == "linux"


@cache
def library() -> ctypes.CDLL:
    """Give the C library that this process runs with."""
    return ctypes.CDLL(None, use_errno=True)


def syscall(number: int, *arguments: object) -> int:
    """Do a system call. Raises OSError."""
    return _checked(int(library().syscall(ctypes.c_long(number), *map(_word, arguments))))


def prctl(option: int, *arguments: object) -> int:
    """Do ``prctl(2)``, its missing arguments 0. Raises OSError."""
    words = [_word(each) for each in (*arguments, 0, 0, 0, 0)[:4]]
    return _checked(int(library().prctl(ctypes.c_int(option), *words)))


def _word(value: object) -> object:
    return ctypes.c_ulong(value) if isinstance(value, int) else value


def _checked(result: int) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result
