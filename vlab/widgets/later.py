"""Doing something a moment later, once, however often it was asked for meanwhile."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable


class Later:
    """Calls a method of an object, which it does not keep, when nobody has asked for ``delay`` seconds."""

    def __init__(self, method: Callable[[], None], delay: float) -> None:
        self._method = weakref.WeakMethod(method)
        self._delay = delay
        self._timer: threading.Timer | None = None
        self._guard = threading.Lock()

    def ask(self) -> None:
        """Have it called, later than anybody else has asked for."""
        with self._guard:
            if self._timer is not None:
                self._timer.cancel()
            self._timer = threading.Timer(self._delay, self.now)
            self._timer.daemon = True
            self._timer.start()

    def now(self) -> None:
        """Call it now, and not later."""
        with self._guard:
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None
        method = self._method()
        if method is not None:
            method()
