"""Waiting for what a view's thread does, with an end to it."""

from __future__ import annotations

import time
from collections.abc import Callable

SECONDS = 10.0
PAUSE = 0.05


def wait_for(condition: Callable[[], object]) -> None:
    """Return as soon as `condition()` holds; fail when it does not within ten seconds."""
    end = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < end, f"it did not come about within {SECONDS:g} seconds"
        time.sleep(PAUSE)
