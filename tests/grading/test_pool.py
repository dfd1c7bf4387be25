"""The workers: what they answer, what their death costs, and that nothing of them is left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path

import pytest

from tests.grading.classroom import GOOD, HALF, RELEASED, WRONG, make_labs
from vlab.errors import UnusableInput
from vlab.grading import cluster, pool
from vlab.grading.marker import NO_CELL, Job, marks_of
from vlab.grading.pool import Outcome, mark_all
from vlab.grading.result import ExerciseMark

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals are told in another way there")


@pytest.fixture(autouse=True)
def counter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where each marking leaves an x."""
    monkeypatch.setenv("VLAB_LABS", str(make_labs(tmp_path)))
    monkeypatch.setenv("CLASSROOM_COUNTER", str(tmp_path / "counter"))
    (tmp_path / "counter").touch()
    return tmp_path / "counter"


def says(text: str) -> dict[str, str]:
    return {"greet": f"# exercise: greet\ndef greeting():\n    return {text!r}\n"}


def job(number: int, cells: dict[str, str]) -> Job:
    return Job(number, "02", cells, f"secret/student{number}/02")


def by_number(outcomes: Iterable[Outcome]) -> dict[int, Outcome]:
    return {each.job.number: each for each in outcomes}


def marks(outcome: Outcome) -> tuple[ExerciseMark, ...]:
    assert outcome.answer is not None, outcome.error
    return marks_of(outcome.answer)[0]


def earned(outcome: Outcome) -> list[float]:
    return [round(each.earned, 3) for each in marks(outcome)]


def children() -> set[int]:
    return {
        int(each) for each in Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children").read_text().split()
    }


def test_each_submission_gets_its_own_marks() -> None:
    jobs = [job(0, GOOD), job(1, HALF), job(2, WRONG), job(3, RELEASED), job(4, {"greet": GOOD["greet"]})]
    found = by_number(mark_all(jobs, 2))
    assert {number: earned(each) for number, each in found.items()} == {
        0: [2.0, 0.3],
        1: [2.0, 0.1],
        2: [0.5, 0.0],
        3: [0.0, 0.0],
        4: [2.0, 0.0],
    }
    greet, double = marks(found[2])
    assert greet.invariants[0].why == "the guest did not write '<b>good bye</b>'"
    assert greet.invariants[0].trace is not None or greet.invariants[0].hint == "look at the boot sector"
    assert "ZeroDivisionError" in double.invariants[0].why
    assert "in line 4 of the cell" in double.invariants[0].why
    assert marks(found[4])[1].invariants[0].why == NO_CELL.format("double")


def test_a_job_travels_as_text_and_comes_back_the_same() -> None:
    one = job(7, {"greet": "# exercise: greet\n# ä \U0001f600 \x00"})
    assert Job.from_text(one.to_text()) == one


def test_the_death_of_a_worker_costs_only_its_submission(counter: Path) -> None:
    jobs = [job(0, GOOD), job(1, says("kill the worker")), job(2, GOOD), job(3, GOOD)]
    found = by_number(mark_all(jobs, 2))
    assert found[1].answer is None
    assert found[1].error == "grading failed 2 times: the worker process ended with signal 9"
    assert [earned(found[number])[0] for number in (0, 2, 3)] == [2.0] * 3
    assert len(counter.read_text()) == 5


def test_a_submission_whose_worker_died_by_accident_is_marked_the_second_time(counter: Path) -> None:
    found = by_number(mark_all([job(0, says("kill the worker once"))], 1))
    assert marks(found[0])[0].invariants[1].holds
    assert counter.read_text() == "xx"


def test_an_exception_of_ours_is_told_and_does_not_end_the_others() -> None:
    found = by_number(mark_all([job(0, says("fail the worker")), job(1, GOOD)], 1))
    assert found[0].error == "grading failed 2 times: RuntimeError: a bug of ours"
    assert earned(found[1])[0] == 2.0


@pytest.mark.slow
def test_a_worker_that_hangs_is_ended() -> None:
    found = by_number(mark_all([job(0, says("hang the worker")), job(1, GOOD)], 2, patience=4.0))
    assert found[0].error == "grading failed 2 times: it was not done after 4 seconds"
    assert earned(found[1])[0] == 2.0


def test_workers_are_replaced_when_they_grow_old(monkeypatch: pytest.MonkeyPatch) -> None:
    started = []
    start = pool._start

    def counted(place: int) -> pool._Worker:
        started.append(start(place))
        return started[-1]

    monkeypatch.setattr(pool, "_start", counted)
    assert len(by_number(mark_all([job(number, HALF) for number in range(5)], 1, recycled=2))) == 5
    assert len(started) == 3


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux lists children")
def test_nothing_is_left_of_a_grading_that_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    before = children()
    outcomes = mark_all([job(number, GOOD) for number in range(6)], 2)
    next(outcomes)
    assert len(children() - before) >= 2
    outcomes.close()
    assert not [each for each in children() - before if b"spawn_main" in _command(each)]


def _command(process: int) -> bytes:
    try:
        return Path(f"/proc/{process}/cmdline").read_bytes()
    except OSError:
        return b""


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux lists children")
def test_workers_end_with_a_parent_that_was_killed() -> None:
    code = (
        "from vlab.grading.pool import mark_all\nfrom vlab.grading.marker import Job\n"
        "if __name__ == '__main__':\n"
        f"    cells = {says('hang the worker')!r}\n"
        "    list(mark_all([Job(0, '02', cells, 's')], 1))\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", code])
    listed = Path(f"/proc/{parent.pid}/task/{parent.pid}/children")
    workers: set[int] = set()
    until = time.monotonic() + 30
    while time.monotonic() < until and not workers:
        workers = {each for each in map(int, listed.read_text().split()) if b"spawn_main" in _command(each)}
        time.sleep(0.1)
    time.sleep(2.0)
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    while time.monotonic() < until and any(b"spawn_main" in _command(each) for each in workers):
        time.sleep(0.1)
    assert workers
    assert not any(b"spawn_main" in _command(each) for each in workers)


# --- a cluster --------------------------------------------------------------------------------------------


def test_without_dask_the_message_says_which_extra_brings_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(
        UnusableInput, match=r"^cluster: Dask's distributed scheduler is not installed; pip inst"
    ):
        list(cluster.mark_all([], "tcp://127.0.0.1:1"))


def test_where_no_scheduler_answers_the_message_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("distributed")
    monkeypatch.setattr(cluster, "CONNECTING", 0.5)
    with pytest.raises(
        UnusableInput, match=r"no Dask scheduler answers at 'tcp://127\.0\.0\.1:9'; give its addr"
    ):
        list(cluster.mark_all([], "tcp://127.0.0.1:9"))


@pytest.mark.slow
def test_a_cluster_gives_the_same_marks(counter: Path) -> None:
    distributed = pytest.importorskip("distributed")
    jobs = [
        job(0, GOOD),
        job(1, HALF),
        job(2, says("fail the worker")),
        *(job(n, WRONG) for n in range(3, 9)),
    ]
    local = distributed.LocalCluster(
        n_workers=2, threads_per_worker=2, processes=True, dashboard_address=None, host="127.0.0.1"
    )
    with local:
        found = by_number(cluster.mark_all(jobs, local.scheduler_address))
    assert sorted(found) == list(range(9))
    assert (earned(found[0]), earned(found[1]), earned(found[8])) == ([2.0, 0.3], [2.0, 0.1], [0.5, 0.0])
    assert found[2].error == "grading failed 2 times: RuntimeError: a bug of ours"
