"""Workers elsewhere: the same function, mapped over an existing Dask cluster by its scheduler's address.

What travels is text: the job as JSON there, the marks as JSON back. Each of the cluster's workers needs vlab
of the same version, and marks in a jail as a local worker does.
"""

from __future__ import annotations

import importlib
from collections.abc import Generator, Iterable, Iterator
from itertools import islice
from types import ModuleType
from typing import Any, Final

from vlab import __version__
from vlab.errors import UnusableInput
from vlab.grading.marker import Job, mark_here
from vlab.grading.pool import ATTEMPTS, Outcome

__all__ = ["mark_all"]

CONNECTING: Final = 15.0
"""Seconds that the scheduler has to answer."""
AHEAD: Final = 4
"""Jobs for each thread of the cluster that are with the scheduler at a time."""


def mark_all(jobs: Iterable[Job], address: str) -> Generator[Outcome, None, None]:
    """Mark the jobs on the cluster; give each outcome as it comes, in no order.

    address: the scheduler's, such as ``tcp://10.0.0.1:8786``. Raises UnusableInput when nothing answers
    there, or a worker's vlab is of another version.
    """
    dask = _distributed()
    client = _connect(dask, address)
    try:
        _check(client, address)
        yield from _map(dask, client, jobs)
    finally:
        client.close()


def _distributed() -> ModuleType:
    try:
        return importlib.import_module("distributed")
    except ImportError as error:
        raise UnusableInput(
            "cluster: Dask's distributed scheduler is not installed; pip install 'vlab[grade]'"
        ) from error


def _connect(dask: ModuleType, address: str) -> Any:
    try:
        return dask.Client(address, timeout=CONNECTING, set_as_default=False)
    except (OSError, TimeoutError, ValueError) as error:
        raise UnusableInput(
            f"cluster: no Dask scheduler answers at '{address}'; give its address, such as tcp://HOST:8786"
        ) from error


def _version() -> str:
    return __version__


def _check(client: Any, address: str) -> None:
    """Make sure that there are workers, and that they would mark as this process does."""
    try:
        versions: dict[str, str] = client.run(_version)
    except ImportError as error:
        raise UnusableInput(
            f"cluster: the workers at '{address}' lack vlab; install vlab {__version__} there"
        ) from error
    if not versions:
        raise UnusableInput(f"cluster: the scheduler at '{address}' has no workers; start some")
    other = next((each for each in versions.items() if each[1] != __version__), None)
    if other is not None:
        raise UnusableInput(
            f"cluster: {other[0]} has vlab {other[1]}, and here is {__version__}; make them one"
        )


def _map(dask: ModuleType, client: Any, jobs: Iterable[Job]) -> Iterator[Outcome]:
    waiting = iter(jobs)
    threads = max(1, sum(client.nthreads().values()))
    at_work: dict[Any, tuple[Job, int]] = {}
    answers = dask.as_completed(loop=client.loop)

    def give(job: Job, attempt: int) -> None:
        # not pure: a job that is tried again is to be marked again, not looked up
        future = client.submit(mark_here, job.to_text(), pure=False)
        at_work[future] = (job, attempt)
        answers.add(future)

    for job in islice(waiting, AHEAD * threads):
        give(job, 1)
    while at_work:
        future = next(answers)
        job, attempt = at_work.pop(future)
        error = None if future.status == "finished" else future.exception()
        if error is None:
            yield Outcome(job, str(future.result()))
        elif attempt < ATTEMPTS:
            give(job, attempt + 1)
            continue
        else:
            said = " ".join(str(error).split())
            yield Outcome(job, None, f"grading failed {ATTEMPTS} times: {type(error).__name__}: {said}")
        for following in islice(waiting, 1):
            give(following, 1)
