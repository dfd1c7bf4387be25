"""Landlock: of all files of the computer, a process reads those that are named here, and no network.

linux/landlock.h, ABI 1 (Linux 5.13) to 6 (6.12). What an older kernel does not know is left to the other
layers.
"""

from __future__ import annotations

import ctypes
import os
import struct
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Final

from vlab.grading.jail.system import LINUX, syscall

CREATE_RULESET, ADD_RULE, RESTRICT_SELF = 444, 445, 446  # the same on every architecture
RULE_PATH_BENEATH: Final = 1

READ_FILE: Final = 1 << 2
READ_DIR: Final = 1 << 3

#: By the ABI that brought them: how many of the rights to files, to TCP and of the scopes there are.
FILE_RIGHTS: Final = {1: 13, 2: 14, 3: 15, 5: 16}
NETWORK_RIGHTS: Final = {4: 2}
SCOPES: Final = {6: 2}


def version() -> int:
    """Give the ABI that this kernel offers, 0 for none."""
    if not LINUX:
        return 0
    try:
        return syscall(CREATE_RULESET, None, 0, 1)
    except OSError:
        return 0


def _all(rights: dict[int, int], abi: int) -> int:
    """Give the mask of all rights that an ABI knows."""
    return (1 << max((count for since, count in rights.items() if since <= abi), default=0)) - 1


def ruleset(files: Iterable[Path], listed: Iterable[Path]) -> int:
    """Make a set of rules, and give its descriptor. Raises OSError.

    files: files and whole directories that can be read. listed: directories whose names can be listed.
    All else, and all that changes anything, is refused.
    """
    abi = version()
    words = (_all(FILE_RIGHTS, abi), _all(NETWORK_RIGHTS, abi), _all(SCOPES, abi))
    attributes = struct.pack("=3Q", *words)[: 8 if abi < 4 else 16 if abi < 6 else 24]
    rules = syscall(CREATE_RULESET, ctypes.c_char_p(attributes), len(attributes), 0)
    for path in files:
        _allow(rules, path, READ_FILE | READ_DIR if path.is_dir() else READ_FILE)
    for path in listed:
        _allow(rules, path, READ_DIR)
    return rules


def _allow(rules: int, path: Path, rights: int) -> None:
    with suppress(FileNotFoundError):
        descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
        try:
            rule = struct.pack("=Qi", rights, descriptor)
            syscall(ADD_RULE, rules, RULE_PATH_BENEATH, ctypes.c_char_p(rule), 0)
        finally:
            os.close(descriptor)


def restrict(rules: int) -> None:
    """Hold this process to a set of rules, for good. Raises OSError."""
    syscall(RESTRICT_SELF, rules, 0)
