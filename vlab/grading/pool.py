"""Local workers: processes of ours that mark submissions side by side, replaced when they die or grow old.

A worker gets one submission at a time, as JSON, and answers with JSON. Its death costs the submission that it
was at and nothing else: that one is tried once more, by a fresh worker, then reported as an error of ours.
The parent never runs student code, and never unpickles what came from a worker.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import threading
import time
from collections import deque
from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from typing import Final

from vlab.grading.marker import Job

__all__ = ["Outcome", "cores", "mark_all"]

RECYCLED: Final = 250
"""Submissions after which a worker is replaced: whatever a library keeps, it keeps no longer than that."""
PATIENCE: Final = 300.0
"""Seconds that one submission may take in all; its student's code is stopped long before by the jail."""
ATTEMPTS: Final = 2
_spawn = multiprocessing.get_context("spawn")


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a job. answer: the marks as JSON, None after an error. error: what went wrong, of ours."""

    job: Job
    answer: str | None
    error: str = ""


def cores() -> int:
    """Give the number of processors that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def mark_all(
    jobs: Iterable[Job], workers: int, *, patience: float = PATIENCE, recycled: int = RECYCLED
) -> Generator[Outcome, None, None]:
    """Mark the jobs by so many workers; give each outcome as it comes, in no order.

    Closing the generator, or an exception where it is used, ends the workers.
    """
    waiting = deque(_Task(job) for job in jobs)
    at_work: list[_Worker] = []
    try:
        while waiting or any(each.task for each in at_work):
            while waiting and (free := _free_worker(at_work, workers, recycled)):
                free.give(waiting.popleft())
            for worker in _ready(at_work):
                outcome = worker.take()
                if outcome is not None:
                    yield outcome
            for worker in [each for each in at_work if each.lost(patience)]:
                at_work.remove(worker)
                worker.end()
                task = worker.task
                assert task is not None, "a worker without work is not lost"
                if task.attempts < ATTEMPTS:
                    waiting.append(task)
                else:
                    yield Outcome(task.job, None, f"grading failed {ATTEMPTS} times: {worker.why}")
    finally:
        for worker in at_work:
            worker.end()


@dataclass(slots=True)
class _Task:
    job: Job
    attempts: int = 0


@dataclass(slots=True)
class _Worker:
    """A process and the parent's end of its pipe.

    place: its number among those at work. done: submissions so far. why: what is wrong with it.
    """

    process: SpawnProcess
    pipe: Connection
    place: int
    task: _Task | None = None
    since: float = 0.0
    done: int = 0
    why: str = ""

    def give(self, task: _Task) -> None:
        task.attempts += 1
        self.task, self.since = task, time.monotonic()
        try:
            self.pipe.send_bytes(task.job.to_text().encode("utf-8"))
        except OSError:
            self.why = self._death()

    def take(self) -> Outcome | None:
        """Take an answer. None when the worker is dead, or failed: then ``why`` says so."""
        if self.task is None:
            return None
        try:
            answer = json.loads(self.pipe.recv_bytes())
        except (EOFError, OSError):
            self.why = self._death()
            return None
        if answer["error"]:
            self.why = answer["error"]
            return None
        job, self.task, self.done = self.task.job, None, self.done + 1
        return Outcome(job, answer["answer"])

    def lost(self, patience: float) -> bool:
        if self.task and not self.why and time.monotonic() - self.since > patience:
            self.why = f"it was not done after {patience:g} seconds"
        return bool(self.why)

    def end(self) -> None:
        """End the process."""
        self.pipe.close()
        if self.task is None:
            self.process.join(2.0)
        if self.process.is_alive():
            self.process.kill()
        self.process.join()
        self.process.close()

    def _death(self) -> str:
        self.process.join(5.0)
        code = self.process.exitcode
        how = f"signal {-code}" if code is not None and code < 0 else f"status {code}"
        return f"the worker process ended with {how}"


def _free_worker(at_work: list[_Worker], most: int, recycled: int) -> _Worker | None:
    """Give a worker without work: one that is there, or a new one where there is room."""
    for worker in [each for each in at_work if not each.task and each.done >= recycled]:
        at_work.remove(worker)
        worker.end()
    idle = next((each for each in at_work if not each.task and not each.why), None)
    if idle is None and len(at_work) < most:
        taken = {each.place for each in at_work}
        idle = _start(next(place for place in range(most) if place not in taken))
        at_work.append(idle)
    return idle


def _ready(at_work: list[_Worker]) -> list[_Worker]:
    ready = wait([each.pipe for each in at_work if each.task and not each.why], timeout=1.0)
    return [each for each in at_work if each.pipe in ready]


def _start(place: int) -> _Worker:
    ours, theirs = _spawn.Pipe()
    arguments = (theirs, os.getpid(), place)
    process = _spawn.Process(target=_work, args=arguments, name="vlab-grade", daemon=True)
    with _deaf():
        process.start()
    theirs.close()
    return _Worker(process, ours, place)


@contextmanager
def _deaf() -> Iterator[None]:
    """Let what is started here inherit that Ctrl-C is ignored: it is the parent that ends the workers."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        # None: a handler that was not set from Python, which cannot be set again from here
        signal.signal(signal.SIGINT, signal.default_int_handler if before is None else before)


# --- in the worker -----------------------------------------------------------------------------------------


def _hold_to_one_processor(place: int) -> None:
    """Stay with the jails on one processor, where the two ends of a pipe wake each other much quicker."""
    if hasattr(os, "sched_setaffinity"):
        there = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, {there[place % len(there)]})


def _work(pipe: Connection, parent: int, place: int) -> None:
    """Answer jobs until the parent's end of the pipe is closed, by it or by its death."""
    from vlab.grading.marker import mark_here, prepare

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    _hold_to_one_processor(place)
    prepare()
    while True:
        try:
            text = pipe.recv_bytes().decode("utf-8")
        except (EOFError, OSError):
            return
        try:
            answer = {"answer": mark_here(text), "error": ""}
        except Exception as error:
            said = " ".join(str(error).split())
            answer = {"answer": "", "error": f"{type(error).__name__}: {said}"}
        try:
            pipe.send_bytes(json.dumps(answer).encode("utf-8"))
        except OSError:
            return


def _end_with(parent: int) -> None:
    """End this process when its parent is gone, also in the middle of a submission."""
    while os.getppid() == parent:
        time.sleep(1.0)
    os._exit(1)
