"""Ten thousand random instruction streams: none raises, none ends the process, each ends the same way again.

A crash of the emulator would take pytest along, so a worker process (``fuzz``) runs them and names each
before it starts. What fails can be run alone: ``python -m tests.machine.fuzz SEED``.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.machine import streams
from tests.machine.fuzz import Fuzzer
from vlab.isa.svm_exits import SvmExit
from vlab.machine.processor import STOPPED

ROOT = Path(__file__).parents[2]
STREAMS = 10_000
FIRST = 400
"""Streams of the batch that `make quick` runs."""
BATCH = 1_600
SAMPLE = 120
"""Streams whose end state is compared."""
TIMEOUT = 300
"""Seconds for one batch, which takes about ten."""


GUESTS = 300
"""Streams that run as guests of a ``vlab.VM`` besides, under its monitors."""
FIRST_GUESTS = 40
TIMEOUT = 300
"""Seconds for one batch, which takes about ten."""


def batches(first: int, size: int, end: int) -> list[object]:
    """Split streams into a batch for every day and slow ones."""
    rest = [(start, min(size, end - start)) for start in range(first, end, size)]
    return [
        pytest.param(start, count, marks=[pytest.mark.slow] if start else [])
        for start, count in ((0, first), *rest)
    ]


def work(first: int, count: int, *options: str, **environment: str) -> list[str]:
    """Have a worker run streams; give what it said of each. Fails with the stream that it died of."""
    command = [
        sys.executable,
        "-X",
        "faulthandler",
        "-m",
        "tests.machine.fuzz",
        str(first),
        str(count),
        *options,
    ]
    with subprocess.Popen(
        command,
        cwd=ROOT,
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
    ) as worker:
        try:
            told, problem = worker.communicate(timeout=TIMEOUT)
        except subprocess.TimeoutExpired:
            worker.kill()
            told, problem = worker.communicate()
            problem += f"\nIt took more than {TIMEOUT} s"
    said = [line.split(" ", 1) for line in told.splitlines()]
    if worker.returncode or [line[0] for line in said] != [str(seed) for seed in range(first, first + count)]:
        pytest.fail(obituary(int(said[-1][0]) if said else first, options, worker.returncode, problem))
    return [line[1] for line in said]


def obituary(seed: int, options: tuple[str, ...], status: int, problem: str) -> str:
    """Say which stream it was, of what it is made, and how to run it alone."""
    stream = streams.make(seed)
    return (
        f"stream {seed} ({stream.mode}) ended the worker with status {status}.\n"
        f"Alone: {' '.join((sys.executable, '-m', 'tests.machine.fuzz', str(seed), *options))}\n"
        f"Code at {streams.CODE:#x}: {stream.memory[streams.CODE].hex(' ')}\n{stream.state}\n{problem}"
    )


@pytest.mark.parametrize(("first", "count"), batches(FIRST, BATCH, STREAMS))
def test_random_streams_end_in_a_shutdown_or_at_their_deadline(first: int, count: int) -> None:
    assert set(work(first, count)) == {f"{STOPPED}", f"{SvmExit.SHUTDOWN}"}


@pytest.mark.parametrize(("first", "count"), batches(FIRST_GUESTS, GUESTS, GUESTS))
def test_random_guests_end_in_a_stop_under_every_monitor(first: int, count: int) -> None:
    ends = set(work(first, count, "--guests"))
    assert {"triple-fault", "halted"} < ends
    assert ends <= {"expected", "timeout", "triple-fault", "halted", "failed", "reset", "exit", "powered-off"}


def test_a_stream_ends_alike_whatever_ran_before_and_without_the_helper() -> None:
    expected = work(0, SAMPLE, "--digests")
    assert work(0, SAMPLE, "--digests", VLAB_HELPER="off") == expected
    fuzzer = Fuzzer()
    try:
        for seed in reversed(range(SAMPLE)):
            assert f"{fuzzer.run(seed)} {fuzzer.digest():08x}" == expected[seed], seed
    finally:
        fuzzer.bench.close()


def test_the_stream_that_a_worker_dies_of_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    died = r"(?s)stream 7 \(.*\) ended the worker with status -?\d+\.\nAlone: .*fuzz 7\n.*ZeroDivisionError"
    with pytest.raises(pytest.fail.Exception, match=died):
        work(5, 4, VLAB_FUZZ_DIES_AT="7")


def test_streams_are_the_same_for_ever_and_of_every_mode() -> None:
    assert streams.make(1234) == streams.make(1234)
    assert {streams.make(seed).mode for seed in range(len(streams.MODES))} == set(streams.MODES)
