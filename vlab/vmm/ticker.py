"""A thread that asks the engine to stop at a moment of wall time: the realtime clock's alarm."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

_STAND_BY = 3600.0


class Ticker:
    """Calls ``ring`` once at each moment set, on a thread of its own that lives until ``close``."""

    def __init__(self, ring: Callable[[], None]) -> None:
        self._ring = ring
        self._condition = threading.Condition()
        self._when: float | None = None
        self._open = True
        self._thread = threading.Thread(target=self._work, name="vlab ticker", daemon=True)
        self._thread.start()

    def set(self, seconds: float) -> None:
        """Ring in ``seconds`` from now, instead of what was set before."""
        when = time.monotonic() + seconds
        with self._condition:
            earlier = self._when is None or when < self._when
            self._when = when
            if earlier:
                self._condition.notify()

    def hasten(self, seconds: float) -> None:
        """Ring in ``seconds`` from now, unless it is to ring before that anyway."""
        with self._condition:
            if self._when is None or self._when > time.monotonic() + seconds:
                self.set(seconds)

    def cancel(self) -> None:
        """Do not ring."""
        with self._condition:
            self._when = None

    def close(self) -> None:
        """End the thread, which may ring a last time; nobody waits for it here."""
        with self._condition:
            self._open = False
            self._condition.notify()

    def _work(self) -> None:
        while True:
            with self._condition:
                if not self._open:
                    return
                wait = _STAND_BY if self._when is None else self._when - time.monotonic()
                if wait > 0:
                    self._condition.wait(wait)
                    continue
                self._when = None
            self._ring()
