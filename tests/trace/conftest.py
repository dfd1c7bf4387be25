"""A small machine's worth of exits, told apart by their number."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from vlab.trace import Recorder

REASONS = ("CPUID", "HLT", "IO", "NPF")
HANDLERS = ("cpuid", "idle", "ports", "paging")
RIP = 0xFFFF_FFFF_8100_0000
LONG64 = 5

Make = Callable[..., Recorder]
Fill = Callable[..., None]


@pytest.fixture
def make() -> Make:
    def new(level: str = "full", **options: Any) -> Recorder:
        return Recorder(REASONS, HANDLERS, level=level, **options)  # type: ignore[arg-type]

    return new


@pytest.fixture
def fill() -> Fill:
    """Record exits number `start` to `start + count - 1`; exit n happens at 1000 * n ns, for reason n % 4."""

    def record(recorder: Recorder, count: int, start: int = 0, duration: int = 1500) -> None:
        for n in range(start, start + count):
            recorder.record(1000 * n, n % 4, LONG64, 3 * (n % 2), RIP + n % 7, n, n ^ 1, n % 4, duration, 0)

    return record
