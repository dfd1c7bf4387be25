from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import vlab
from vlab.errors import UnusableInput, VlabError
from vlab.guests.programs import SPIN, guest, leave, say
from vlab.session import StopKind
from vlab.vmm import runner


@pytest.fixture
def vm(tmp_path: Path) -> Iterator[vlab.VM]:
    with vlab.VM(guest(tmp_path, SPIN), memory="4M") as one:
        yield one


def answer_on_another_thread(action: Callable[[], object]) -> object:
    answers: list[object] = []
    thread = threading.Thread(target=lambda: answers.append(action()))
    thread.start()
    thread.join(30)
    assert answers, "it did not come back"
    return answers[0]


def test_the_handler_of_ctrl_c_is_put_back_after_each_run(vm: vlab.VM) -> None:
    before = signal.getsignal(signal.SIGINT)
    vm.run(timeout=0.01)
    with pytest.raises(ZeroDivisionError):
        vm.run(until=lambda _vm: 1 // 0 > 0)
    vm.start()
    vm.pause()
    assert signal.getsignal(signal.SIGINT) is before


@pytest.mark.skipif(sys.platform == "win32", reason="sends SIGINT")
def test_ctrl_c_in_the_foreground_is_a_keyboard_interrupt(vm: vlab.VM) -> None:
    threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGINT)).start()
    with pytest.raises(KeyboardInterrupt):
        vm.run(timeout=20)
    assert not vm._runner.busy
    assert vm.run(timeout=0.01).kind == StopKind.TIMEOUT


@pytest.mark.skipif(sys.platform == "win32", reason="sends SIGINT")
def test_a_process_that_ignores_ctrl_c_is_not_interrupted(vm: vlab.VM) -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGINT)).start()
        assert vm.run(timeout=0.3).kind == StopKind.TIMEOUT
    finally:
        signal.signal(signal.SIGINT, before)


@pytest.mark.skipif(sys.platform == "win32", reason="sends SIGINT")
def test_ctrl_c_that_comes_before_the_first_block_is_not_lost(
    vm: vlab.VM, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin = vm._runner._begin

    def interrupted_begin(*, background: bool) -> object:
        os.kill(os.getpid(), signal.SIGINT)
        return begin(background=background)

    monkeypatch.setattr(vm._runner, "_begin", interrupted_begin)
    with pytest.raises(KeyboardInterrupt):
        vm.run(timeout=20)
    with pytest.raises(KeyboardInterrupt):
        vm.start()
    monkeypatch.undo()
    vm.pause()
    assert vm.run(timeout=0.01).kind == StopKind.TIMEOUT


def test_other_threads_do_not_touch_signal_handlers(vm: vlab.VM) -> None:
    stop = answer_on_another_thread(lambda: vm.run(timeout=0.05))
    assert stop == vlab.Stop(StopKind.TIMEOUT, "the time ran out: 0.05 seconds of wall time")


def test_a_call_is_answered_at_once_whoever_runs_the_guest(vm: vlab.VM) -> None:
    assert vm._runner.call(lambda: "idle") == "idle"
    vm.start()
    assert vm._runner.call(lambda: "running") == "running"
    with pytest.raises(KeyError, match="own"):
        vm._runner.call(lambda: {}["own"])
    vm.pause()
    done: list[object] = []
    timer = threading.Timer(0.05, lambda: done.append(vm._runner.call(lambda: "beside")))
    timer.start()
    vm.run(until=lambda _vm: bool(done), timeout=20)
    assert done == ["beside"]


def test_a_call_that_the_run_does_not_come_to_is_answered_after_it(tmp_path: Path) -> None:
    with vlab.VM(guest(tmp_path, say("x") + leave(0)), memory="4M") as vm:
        for _ in range(30):
            vm.start()
            assert vm.registers().rip
            vm.wait(10)


@pytest.fixture
def stuck(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[vlab.VM, threading.Event]]:
    """A VM whose console listener does not return until the event is set."""
    monkeypatch.setattr(runner, "_PATIENCE", 0.1)
    vm, release, there = vlab.VM(guest(tmp_path, say("x") + SPIN), memory="4M"), threading.Event(), []

    def listen(_data: bytes) -> None:
        there.append(True)
        release.wait(30)

    vm.console.subscribe(listen)
    vm.start()
    while not there:
        time.sleep(0.001)
    yield vm, release
    release.set()
    vm.close()


def test_a_handler_that_does_not_return_is_named_as_the_reason(
    stuck: tuple[vlab.VM, threading.Event],
) -> None:
    vm, release = stuck
    with pytest.raises(VlabError, match=r"pause: a handler of this VM has not returned for 0\.1 seconds"):
        vm.pause()
    release.set()
    stop = vm.wait(10)
    assert stop is not None
    assert stop.kind == StopKind.PAUSED


def test_a_vm_closed_while_a_handler_is_stuck_goes_when_it_returns(
    stuck: tuple[vlab.VM, threading.Event],
) -> None:
    vm, release = stuck
    vm.close()
    assert not vm.machine.closed
    with pytest.raises(UnusableInput, match="closed"):
        vm.run()
    release.set()
    while not vm.machine.closed:
        time.sleep(0.001)


def test_closing_twice_and_from_several_threads_gives_back_once(tmp_path: Path) -> None:
    vm = vlab.VM(guest(tmp_path, SPIN), memory="4M")
    released: list[int] = []
    release = vm._runner._release
    vm._runner._release = lambda: (released.append(1), release())  # type: ignore[assignment,func-returns-value]
    vm.start()
    threads = [threading.Thread(target=vm.close) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    vm.close()
    assert released == [1]


def test_waiting_from_the_guests_own_thread_does_not_wait_for_itself(tmp_path: Path) -> None:
    with vlab.VM(guest(tmp_path, say("x") + leave(0)), memory="4M") as vm:
        seen: list[object] = []
        vm.console.subscribe(lambda _data: seen.append((vm.wait(), vm.running)))
        vm.start()
        vm.wait(10)
        assert seen == [(None, True)]


def test_a_system_without_threads_to_give_leaves_the_vm_as_it_was(
    vm: vlab.VM, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        with pytest.raises(RuntimeError):
            vm.start()
    assert not vm.running
    assert vm.run(timeout=0.01).kind == StopKind.TIMEOUT
