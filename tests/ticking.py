"""How long a thread waits for its turn while a guest runs beside it."""

from __future__ import annotations

import time
from itertools import pairwise


class Ticking:
    """Ticks whenever it is told to, and knows how long it was from each tick to the next, the shortest first.

    ``ours``: in seconds of this process, in which what other programs do does not count. ``wall``: in seconds
    of wall time, in which what a guest sleeps through does.
    """

    def __init__(self) -> None:
        self._ticks: list[tuple[float, float]] = []
        self.tick()

    def tick(self) -> None:
        """Take the times."""
        self._ticks.append((time.process_time(), time.monotonic()))

    @property
    def ours(self) -> list[float]:
        return self._waits(0)

    @property
    def wall(self) -> list[float]:
        return self._waits(1)

    def _waits(self, clock: int) -> list[float]:
        return sorted(now[clock] - last[clock] for last, now in pairwise(self._ticks))
