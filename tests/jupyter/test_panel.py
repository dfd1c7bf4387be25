"""The kernel's half of the side panel: reports, actions, lines."""

from __future__ import annotations

import gc
import sys
import threading
import time
import types
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import vlab
from tests.widgets.waiting import wait_for
from vlab.errors import UnusableInput
from vlab.jupyter import panel
from vlab.session import VM, open_vms


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No VM of another test is open, and reports come fast."""
    gc.collect()
    for vm in open_vms():
        vm.close()
    monkeypatch.setattr(panel, "PERIOD", 0.02)
    yield
    for vm in open_vms():
        vm.close()


class FakeComm:
    """A line whose other end is the test."""

    def __init__(self) -> None:
        self.sent: list[dict[str, Any]] = []
        self.hear: Callable[[dict[str, Any]], None]
        self.close: Callable[[dict[str, Any]], None]

    def send(self, data: Any) -> None:
        self.sent.append(data)

    def on_msg(self, callback: Callable[[dict[str, Any]], None]) -> None:
        self.hear = callback

    def on_close(self, callback: Callable[[dict[str, Any]], None]) -> None:
        self.close = callback

    def say(self, **data: Any) -> None:
        self.hear({"content": {"data": data}})

    def answer(self) -> dict[str, Any]:
        """Wait for what came of the last action, and forget it."""
        wait_for(lambda: any("said" in each for each in self.sent))
        found = next(each for each in self.sent if "said" in each)
        self.sent.remove(found)
        return found


def told(number: int) -> dict[str, Any]:
    return next(each for each in panel.reports() if each["number"] == number)


def test_a_report_tells_what_the_machine_is_and_does() -> None:
    with vlab.VM("wren", trace="full") as vm:
        number = panel.number_of(vm)
        assert panel.number_of(vm) == number
        before = told(number)
        assert {key: before[key] for key in ("guest", "monitor", "paging", "state", "exits")} == {
            "guest": "wren", "monitor": "hardware", "paging": "nested", "state": "paused", "exits": 0,
        }  # fmt: skip
        assert before["memory"] == vm.memory_bytes
        vm.run(until="$ ", timeout=60)
        vm.start()
        now = told(number)
        assert (now["state"], now["inCell"]) == ("running", False)
        vm.pause()
        assert told(number)["exits"] == vm.exits.total > 0


def test_a_report_tells_of_a_run_in_a_cell_and_of_the_end() -> None:
    with vlab.VM("wren") as vm:
        run = threading.Thread(target=vm.run, kwargs={"timeout": 60})
        run.start()
        wait_for(lambda: vm.busy)
        assert told(panel.number_of(vm))["inCell"] is True
        vm.pause()
        run.join()
    with vlab.VM("hello") as vm:
        vm.run(timeout=20)
        found = told(panel.number_of(vm))
        assert found["state"] == "ended"
        assert found["ending"] == str(vm.ended)
    assert panel.reports() == []


def test_variables_name_their_machines(monkeypatch: pytest.MonkeyPatch) -> None:
    with vlab.VM("hello") as vm:
        shell = types.SimpleNamespace(user_ns={"_": vm, "mine": vm, "x": 1})
        monkeypatch.setitem(sys.modules, "IPython", types.SimpleNamespace(get_ipython=lambda: shell))
        assert told(panel.number_of(vm))["name"] == "mine"


def test_exits_a_second_are_told_while_a_machine_runs() -> None:
    with vlab.VM("wren") as vm:
        assert panel.report(vm, {}, 10.0)["rate"] == 0
        vm.start()
        panel.report(vm, {}, 11.0)
        wait_for(lambda: vm.exits.total > 100)
        assert panel.report(vm, {}, 12.0)["rate"] > 0
        vm.pause()
        assert panel.report(vm, {}, 13.0)["rate"] == 0


def test_the_panel_does_what_its_buttons_say() -> None:
    with vlab.VM("wren", trace="full") as vm:
        vm.run(until="$ ", timeout=60)
        number, exits = panel.number_of(vm), vm.exits.total
        assert panel.act("step", number) == f"wren: stepped; {exits + 1} exits so far"
        assert panel.act("step-back", number) == f"wren: went back; {exits} exits so far"
        assert "snapshot 1 is taken" in panel.act("snapshot", number)
        assert [each.time_ns for each in panel.snapshots(vm)] == [vm.virtual_time_ns]
        panel.act("resume", number)
        assert vm.running
        assert panel.act("pause", None) == "pause: 1 virtual machine"
        assert not vm.busy
        assert panel.act("restore", number) == "wren: is at snapshot 1 again"
        assert vm.exits.total == exits
        with vlab.VM("hello"):
            assert panel.act("stop", None) == "stop: 2 virtual machines"
        assert vm.closed


def test_what_cannot_be_done_is_told_with_what_to_do() -> None:
    with vlab.VM("hello") as vm:
        with pytest.raises(UnusableInput, match=r"restore: the panel has taken no snapshot of this"):
            panel.act("restore", panel.number_of(vm))
        with pytest.raises(UnusableInput, match=r"action: 'jump' is none of pause, resume, step, step-back"):
            panel.act("jump", panel.number_of(vm))
    with pytest.raises(UnusableInput, match=r"number: there is no open virtual machine 999 in this kernel"):
        panel.show(999)


def test_a_line_reports_and_answers() -> None:
    comm = FakeComm()
    panel.opened(comm, {})
    wait_for(lambda: len(comm.sent) > 2)
    assert comm.sent[0] == {"vms": []}
    with vlab.VM("hello") as vm:
        wait_for(lambda: comm.sent[-1]["vms"])
        comm.say(action="snapshot", number=panel.number_of(vm))
        answer = comm.answer()
        assert (answer["problem"], answer["vms"][0]["snapshots"]) == (False, 1)
        comm.say(action="restore", number=12345)
        answer = comm.answer()
        assert answer["problem"]
        assert "12345" in answer["said"]
    comm.close({})
    time.sleep(0.1)
    before = len(comm.sent)
    time.sleep(0.1)
    assert len(comm.sent) == before


def test_a_panel_that_says_nothing_any_more_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(panel, "LEASE", 0.3)
    comm = FakeComm()
    panel.opened(comm, {})
    for _ in range(8):
        time.sleep(0.1)
        comm.say()
    assert len(comm.sent) > 8
    time.sleep(0.6)
    still = len(comm.sent)
    time.sleep(0.2)
    assert len(comm.sent) == still


def test_the_panel_keeps_no_machine_alive() -> None:
    comm = FakeComm()
    panel.opened(comm, {})
    vm: VM | None = vlab.VM("hello")
    assert vm is not None
    panel.act("snapshot", panel.number_of(vm))
    wait_for(lambda: comm.sent[-1]["vms"])
    reference = weakref.ref(vm)
    vm = None
    wait_for(lambda: gc.collect() is not None and reference() is None)
    wait_for(lambda: comm.sent[-1]["vms"] == [])
    comm.close({})
