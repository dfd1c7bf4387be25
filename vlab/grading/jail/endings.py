"""How a student's process came to its end, as a sentence."""

from __future__ import annotations

import signal
from typing import Final

from vlab.grading.linked import ENDED

#: Refusals after which the process ends.
MAX_REFUSALS: Final = 100

#: Exit statuses that the jail itself ends with.
TOO_OFTEN: Final = 70
NO_MEMORY: Final = 71


def sentence(status: int, memory_bytes: int) -> str:
    """Say what an exit status means; a signal is its number below zero."""
    if status == TOO_OFTEN:
        return f"your code tried more than {MAX_REFUSALS} times to do what it must not, and was ended"
    if status == NO_MEMORY:
        return f"your code ran out of the {memory_bytes >> 20} MiB of memory that it may use"
    if status >= 0:
        return ENDED
    if status == -getattr(signal, "SIGXCPU", 0):
        return "your code took more processor time than it may"
    if status == -getattr(signal, "SIGKILL", 0):
        return "your code's process was killed by the system: it used too much memory or processor time"
    try:
        name = signal.Signals(-status).name
    except ValueError:
        name = f"signal {-status}"
    return f"your code crashed its process ({name}): endless recursion and damaged memory do that"
