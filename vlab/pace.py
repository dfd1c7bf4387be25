"""How fast a running virtual machine's exits come."""

from __future__ import annotations

from collections import deque
from typing import Final

# In seconds.
_WINDOW: Final = 1.0
_LEAST: Final = 0.1
"""A shorter time says little."""


class Pace:
    """Exits a second of wall time, over the last second or so."""

    def __init__(self) -> None:
        self._samples: deque[tuple[float, int]] = deque()

    def at(self, now: float, exits: int, running: bool) -> float:
        """Add what is seen now, and give the pace up to here.

        now: in seconds. exits: of the machine since its start; fewer than before where it went back, which
        begins anew, as a machine that does not run does. Until a tenth of a second is seen: 0.
        """
        samples = self._samples
        if not running or (samples and samples[-1][1] > exits):
            samples.clear()
        samples.append((now, exits))
        while len(samples) > 2 and now - samples[1][0] >= _WINDOW:
            samples.popleft()
        first, before = samples[0]
        return (exits - before) / (now - first) if now - first >= _LEAST else 0.0
