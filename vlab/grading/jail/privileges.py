"""Privileges on Linux: none are left, and none can be gained."""

from __future__ import annotations

import ctypes
import signal
from typing import Final

from vlab.grading.jail.system import LINUX, library, prctl

PR_SET_PDEATHSIG: Final = 1
PR_SET_DUMPABLE: Final = 4
PR_SET_NO_NEW_PRIVS: Final = 38

#: Of capset(2): the version with 64 capabilities, in two sets of three words.
CAPABILITY_VERSION_3: Final = 0x20080522


def end_with_maker() -> None:
    """Have this process killed when the thread ends that made it. Nothing happens elsewhere than on Linux."""
    if LINUX:
        prctl(PR_SET_PDEATHSIG, int(signal.SIGKILL))


def drop() -> None:
    """Give up all capabilities of this process, for good. Nothing happens elsewhere than on Linux."""
    if not LINUX:
        return
    prctl(PR_SET_DUMPABLE, 0)  # nobody traces it, and /proc shows nobody its memory
    prctl(PR_SET_NO_NEW_PRIVS, 1)
    header = (ctypes.c_uint32 * 2)(CAPABILITY_VERSION_3, 0)
    if library().capset(header, (ctypes.c_uint32 * 6)()) != 0:
        raise OSError(ctypes.get_errno(), "capset")
