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
from typing import Final, TypeVar

from vlab.errors import UnusableInput, VlabError
from vlab.vmm.monitor import Monitor
from vlab.vmm.stop import Stop, StopKind

T = TypeVar("T")
_PATIENCE: Final = 30.0
"""Seconds after which a handler that does not return is taken for stuck."""
_CLOSED: Final = "this VM is closed; make a new one"


class _Run:
    """One run, from its beginning to ``over``, with its ``stop`` or the ``problem`` that a handler raised."""

    def __init__(self, *, background: bool) -> None:
        self.background = background
        self.thread = 0 if background else threading.get_ident()
        self.over = threading.Event()
        self.stop: Stop | None = None
        self.problem: BaseException | None = None


class Runner:
    """Runs one monitor. All methods may be called from any thread, and from what the run itself calls.

    release: gives the monitor's resources back; called once, when it is closed and does not run any more.
    ``on_begin``: called at the start of each run. ``last_stop``: the end of the last one, if it had one.
    """

    def __init__(self, monitor: Monitor, release: Callable[[], None]) -> None:
        self.monitor = monitor
        self._release = release
        self.on_begin: Callable[[], None] = lambda: None
        self._guard = threading.Lock()
        self._current: _Run | None = None
        self._background: _Run | None = None
        self.last_stop: Stop | None = None
        self._closing = False

    @property
    def running(self) -> bool:
        """Whether a background run is going on."""
        run = self._current
        return run is not None and run.background

    @property
    def busy(self) -> bool:
        """Whether any run is going on."""
        return self._current is not None

    # --- running ----------------------------------------------------------------------------------------

    def run(self, reached: Callable[[], bool], timeout: float | None, exits: int | None = None) -> Stop:
        """Run in this thread until ``reached``, the timeout (seconds of wall time), so many exits or the
        guest's end.

        Ctrl-C and the notebook's interrupt raise KeyboardInterrupt between two blocks of guest code.
        """

        def interrupt() -> None:
            self.monitor.request_stop(Stop(StopKind.PAUSED, "interrupted"))

        with _catching_interrupts(interrupt) as pressed:
            run = self._begin(background=False)
            if pressed:
                interrupt()  # it came too early for this run to notice
            try:
                run.stop = self._run(reached, timeout, exits)
            finally:
                self._end(run)
        return run.stop

    def start(self, reached: Callable[[], bool], timeout: float | None) -> None:
        """Run in a thread of its own; ``wait`` gives its end."""
        with _catching_interrupts(lambda: None):
            run = self._begin(background=True)

            def work() -> None:
                run.thread = threading.get_ident()
                try:
                    run.stop = self._run(reached, timeout, None)
                except BaseException as problem:  # handed to whoever waits
                    run.problem = problem
                finally:
                    self._end(run)

            try:
                threading.Thread(target=work, name="vlab guest", daemon=True).start()
            except RuntimeError:  # the system gives no more threads
                self._end(run)
                raise

    def _run(self, reached: Callable[[], bool], timeout: float | None, exits: int | None) -> Stop:
        deadline = None if timeout is None else time.monotonic() + timeout
        monitor = self.monitor

        def look() -> Stop | None:
            if reached():
                return Stop(StopKind.EXPECTED, "what was waited for has happened")
            if deadline is not None and time.monotonic() >= deadline:
                return Stop(StopKind.TIMEOUT, f"the time ran out: {timeout:g} seconds of wall time")
            return None

        self.on_begin()
        monitor.at_block = look
        monitor.exit_goal = None if exits is None else monitor.recorder.total + exits
        try:
            return monitor.run()
        finally:
            monitor.at_block = monitor.exit_goal = None

    def _begin(self, *, background: bool) -> _Run:
        with self._guard:
            if self._closing:
                raise UnusableInput(_CLOSED)
            if self._current is not None:
                raise UnusableInput("run: this VM runs already; pause() or wait() for it first")
            self.monitor.forget_request()
            run = self._current = _Run(background=background)
            if background:
                self._background = run
            return run

    def _end(self, run: _Run) -> None:
        with self._guard:
            self._current, self.last_stop = None, run.stop
            closing = self._closing
        try:
            if closing:
                self._release()
        finally:
            run.over.set()

    # --- from beside it ---------------------------------------------------------------------------------

    def wait(self, timeout: float | None = None) -> Stop | None:
        """Wait for the background run and give its end; None when ``timeout`` seconds pass first.

        Raises what a handler of the run raised.
        """
        run = self._background
        if run is None or run.thread == threading.get_ident() or not run.over.wait(timeout):
            return None
        problem, run.problem = run.problem, None
        if problem is not None:
            raise problem
        return run.stop

    def pause(self) -> Stop | None:
        """Stop the run, whichever thread it is in, between two blocks, and give its end.

        None when there was none, or when the run itself calls this: it stops as soon as that returns. Raises
        what a handler of the background run raised, and VlabError when one does not return.
        """
        with self._guard:
            run = self._current
            if run is not None:
                self.monitor.request_stop(Stop(StopKind.PAUSED, "paused"))
        if run is None:
            return self.wait(0)
        if run.thread == threading.get_ident():
            return None
        if not run.over.wait(_PATIENCE):
            raise VlabError(
                f"pause: a handler of this VM has not returned for {_PATIENCE:g} seconds; "
                "interrupt what it waits for"
            )
        return self.wait(0) if run.background else run.stop

    def call(self, action: Callable[[], T]) -> T:
        """Call ``action`` while the guest stands still, and give its result. Raises UnusableInput once
        closed.
        """
        run, lock = self._current, self.monitor.machine.lock
        if run is None or run.thread == threading.get_ident() or lock.mine:
            with lock:
                return self._perform(action)
        done = threading.Event()
        results: list[T] = []
        problems: list[BaseException] = []

        def perform() -> None:
            try:
                results.append(self._perform(action))
            except BaseException as problem:  # handed to the caller
                problems.append(problem)
            finally:
                done.set()

        self.monitor.post(perform)
        while not done.wait(0.05):
            if run.over.is_set():  # it ended before it came to this
                with lock:
                    self.monitor.run_inbox()
        if problems:
            raise problems[0]
        return results[0]

    def _perform(self, action: Callable[[], T]) -> T:
        if self._closing:
            raise UnusableInput(_CLOSED)
        return action()

    def close(self) -> None:
        """Stop the run and give everything back, at the latest when the handler that it is in returns."""
        with self._guard:
            first, self._closing = not self._closing, True
            run = self._current
            if run is not None:
                self.monitor.request_stop(Stop(StopKind.PAUSED, "closed"))
        if run is not None and run.thread != threading.get_ident():
            run.over.wait(_PATIENCE)
        elif run is None and first:
            self._release()


@contextmanager
def _catching_interrupts(interrupt: Callable[[], None]) -> Iterator[list[int]]:
    """Put KeyboardInterrupt off to the end of the block; ``interrupt`` is called at once, to bring it
    about. A process that ignores Ctrl-C goes on doing so.
    """
    main = threading.current_thread() is threading.main_thread()
    if not main or signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        yield []
        return
    pressed: list[int] = []

    def handler(number: int, _frame: FrameType | None) -> None:
        pressed.append(number)
        interrupt()

    before = signal.signal(signal.SIGINT, handler)
    try:
        yield pressed
    finally:
        signal.signal(signal.SIGINT, signal.SIG_DFL if before is None else before)
    if pressed:
        raise KeyboardInterrupt
