"""Limits that the kernel keeps for a process: processor time, memory, files, processes."""

from __future__ import annotations

import importlib
import math
from contextlib import suppress
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

#: Files that student code may have open, its way to us and an import's among them.
OPEN_FILES: Final = 16

AVAILABLE: Final = find_spec("resource") is not None


@dataclass(frozen=True, slots=True)
class Bounds:
    """What student code may take. memory_bytes: beside what an empty jail has. seconds: of processor time."""

    memory_bytes: int
    seconds: float


def restrict(bounds: Bounds, empty: int) -> None:
    """Set the limits of this process. Nothing happens where there are none (Windows).

    empty: the address space of an empty jail, bytes.
    """
    if not AVAILABLE:
        return
    resource: Any = importlib.import_module("resource")
    seconds = math.ceil(bounds.seconds) + 1
    wanted = {
        "RLIMIT_CPU": (seconds, seconds + 1),
        "RLIMIT_AS": (empty + bounds.memory_bytes,) * 2,
        "RLIMIT_FSIZE": (0, 0),
        "RLIMIT_NOFILE": (OPEN_FILES, OPEN_FILES),
        "RLIMIT_NPROC": (0, 0),
        "RLIMIT_CORE": (0, 0),
        "RLIMIT_MEMLOCK": (0, 0),
        "RLIMIT_MSGQUEUE": (0, 0),
    }
    for name, limits in wanted.items():
        if hasattr(resource, name):
            with suppress(ValueError, OSError):  # macOS knows RLIMIT_AS and refuses most of its values
                resource.setrlimit(getattr(resource, name), limits)


def address_space() -> int:
    """Give the size of this process's address space, bytes; 256 MiB where nobody says it."""
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    except (OSError, ValueError, IndexError):
        return 256 << 20
    return pages * int(importlib.import_module("resource").getpagesize())
