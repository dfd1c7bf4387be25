"""What wakes a thread that sleeps while its guest is halted."""

from __future__ import annotations

from queue import Empty, SimpleQueue


class Bell:
    """A bell that any thread may ring, and a signal handler too.

    ``threading.Event`` would not do: a handler that runs in the thread that is about to wait, or while a
    finalizer interrupts it, would wait for a lock that this very thread holds.
    """

    def __init__(self) -> None:
        self._rings: SimpleQueue[None] = SimpleQueue()

    def ring(self) -> None:
        """Wake whoever waits, or the next one who does."""
        if self._rings.empty():
            self._rings.put(None)

    def silence(self) -> None:
        """Forget what rang before."""
        while not self._rings.empty():
            self.wait(0)

    def wait(self, seconds: float) -> None:
        """Sleep until it rings, at most so many seconds."""
        try:
            self._rings.get(timeout=max(0.0, seconds))
        except Empty:
            return
