"""What a process inherits: descriptors, environment, directory, terminal. All of it is taken away."""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from typing import Final

#: The descriptors that are left beside the standard three, which lead nowhere: the way to us, and another
#: for as long as it is needed.
WAY_OUT: Final = 3
KEPT: Final = 4


def strip(way_out: int, keep: int | None) -> int:
    """Leave this process nothing but its way to us, and give that descriptor's new number.

    Standard input leads nowhere already. keep: a descriptor that becomes number 4.
    """
    if os.name == "posix":
        os.setsid()  # a process group of its own, to be killed by, and no terminal
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        way_out = _close_all_but(way_out, keep)
    os.environ.clear()
    with suppress(OSError):
        os.chdir(os.sep)
    return way_out


def _close_all_but(way_out: int, keep: int | None) -> int:
    aside = [os.dup(each) for each in (way_out, keep) if each is not None]
    while min(aside) <= KEPT:  # where it would be overwritten
        aside = [os.dup(each) for each in aside]
    for number, each in enumerate(aside, WAY_OUT):
        os.dup2(each, number, inheritable=False)
    for standard in (1, 2):
        os.dup2(0, standard)
    os.closerange(WAY_OUT + len(aside), max(256, os.sysconf("SC_OPEN_MAX")))
    return WAY_OUT
