"""Running a monitor beside other work: in the caller's thread or in one of its own, stoppable at any
moment.
"""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TypeVar

from vlab.vmm.monitor import Monitor
from vlab.vmm.stop import Stop, StopKind

T = TypeVar("T")
_PATIENCE = 30.0
"""Seconds after which a machine that does not answer is taken for broken."""


class Runner:
    """Runs one monitor. All methods may be called from any thread."""

    def __init__(self, monitor: Monitor) -> None:
        self.monitor = monitor
        self._thread: threading.Thread | None = None
        self._result: Stop | None = None
        self._problem: BaseException | None = None
        self._guard = threading.RLock()

    @property
    def running(self) -> bool:
        """Whether a background run is going on."""
        return self._alive()

    def _alive(self) -> bool:
        thread = self._thread
        return thread is not None and thread.is_alive()

    def run(self, reached: Callable[[], bool], timeout: float | None) -> Stop:
        """Run in this thread until ``reached``, the timeout (seconds of wall time) or the guest's end.

        Ctrl-C and the notebook's interrupt raise KeyboardInterrupt between two blocks of guest code.
        """
        interrupted = threading.Event()

        def interrupt() -> None:
            interrupted.set()
            self.monitor.request_stop(Stop(StopKind.PAUSED, "interrupted"))

        with _catching_interrupts(interrupt):
            stop = self._run(reached, timeout)
        if interrupted.is_set():
            raise KeyboardInterrupt
        return stop

    def _run(self, reached: Callable[[], bool], timeout: float | None) -> Stop:
        deadline = None if timeout is None else time.monotonic() + timeout

        def look() -> Stop | None:
            if reached():
                return Stop(StopKind.EXPECTED, "what was waited for has happened")
            if deadline is not None and time.monotonic() >= deadline:
                return Stop(StopKind.TIMEOUT, f"the time ran out: {timeout:g} seconds of wall time")
            return None

        self.monitor.at_block = look
        try:
            return self.monitor.run()
        finally:
            self.monitor.at_block = None

    def start(self, reached: Callable[[], bool], timeout: float | None) -> None:
        """Run in a thread of its own; ``wait`` gives its end."""

        def work() -> None:
            try:
                self._result = self._run(reached, timeout)
            except BaseException as problem:  # handed to whoever waits
                self._problem = problem

        with self._guard:
            self._result = self._problem = None
            self._thread = threading.Thread(target=work, name="vlab guest", daemon=True)
            self._thread.start()

    def wait(self, timeout: float | None = None) -> Stop | None:
        """Wait for the background run and give its end; None when ``timeout`` seconds pass first.

        Raises what a handler of the run raised.
        """
        thread = self._thread
        if thread is None:
            return self._result
        thread.join(timeout)
        if thread.is_alive():
            return None
        problem, self._problem = self._problem, None
        if problem is not None:
            raise problem
        return self._result

    def pause(self) -> Stop | None:
        """Stop the background run between two blocks; its end, or None when there was none."""
        if not self.running:
            return self._result
        self.monitor.request_stop(Stop(StopKind.PAUSED, "paused"))
        return self.wait(_PATIENCE)

    def call(self, action: Callable[[], T]) -> T:
        """Call ``action`` while the guest stands still, and give its result."""
        if not self.running or threading.current_thread() is self._thread:
            with self.monitor.machine.lock:
                return action()
        done = threading.Event()
        results: list[T] = []
        problems: list[BaseException] = []

        def perform() -> None:
            try:
                results.append(action())
            except BaseException as problem:  # handed to the caller
                problems.append(problem)
            finally:
                done.set()

        self.monitor.post(perform)
        while not done.wait(0.05):
            if not self._alive():  # it ended before it came to this
                with self.monitor.machine.lock:
                    self.monitor.run_inbox()
        if problems:
            raise problems[0]
        return results[0]


@contextmanager
def _catching_interrupts(interrupt: Callable[[], None]) -> Iterator[None]:
    """Turn SIGINT into a call of ``interrupt`` while guest code runs in the main thread."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def handler(_signal: int, _frame: FrameType | None) -> None:
        interrupt()

    before = signal.signal(signal.SIGINT, handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
