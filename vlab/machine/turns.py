"""Taking turns on one processor: a lock that is handed over in the order of asking."""

from __future__ import annotations

import threading
from collections import deque
from types import TracebackType


class Turns:
    """A re-entrant lock that serves threads first come, first served.

    ``wanted`` says whether somebody waits: who holds the processor for long gives way then.
    """

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._queue: deque[threading.Event] = deque()
        self._holder: int | None = None
        self._depth = 0

    @property
    def mine(self) -> bool:
        """Whether the calling thread has its turn."""
        return self._holder == threading.get_ident()

    @property
    def wanted(self) -> bool:
        """Whether another thread waits for its turn."""
        return bool(self._queue)

    def acquire(self) -> None:
        """Wait for the processor."""
        me = threading.get_ident()
        with self._guard:
            if self._holder == me:
                self._depth += 1
                return
            if self._holder is None:
                self._holder, self._depth = me, 1
                return
            turn = threading.Event()
            self._queue.append(turn)
        try:
            turn.wait()
        except BaseException:  # Ctrl-C: give the place in the queue up
            with self._guard:
                if turn in self._queue:
                    self._queue.remove(turn)
                    raise
                self._holder, self._depth = me, 1
            self.release()
            raise
        with self._guard:
            self._holder, self._depth = me, 1

    def release(self) -> None:
        """Let go of it; the longest waiting thread is next."""
        with self._guard:
            self._depth -= 1
            if self._depth:
                return
            if self._queue:
                self._holder = -1  # promised to the one woken here
                self._queue.popleft().set()
            else:
                self._holder = None

    def __enter__(self) -> Turns:
        self.acquire()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()
