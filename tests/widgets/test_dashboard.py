"""The dashboard: what a VM is displayed as, with its buttons; nothing is looked at that is not open."""

from __future__ import annotations

import gc
import subprocess
import sys
import time
import weakref
from collections.abc import Iterator
from typing import Any
from xml.etree import ElementTree

import pytest

import vlab
from tests.widgets.waiting import wait_for
from vlab.widgets.dashboard import Dashboard, dashboard_of
from vlab.widgets.screen import Screen
from vlab.widgets.showing import view_of


@pytest.fixture
def vm() -> Iterator[vlab.VM]:
    with vlab.VM("wren") as vm:
        vm.run(until="$ ", timeout=60)
        yield vm


def press(dashboard: Dashboard, kind: str, **more: Any) -> str:
    """Press a button as a browser would; give what it said."""
    dashboard._handle_custom_msg({"kind": kind, **more}, [])
    return dashboard.problem or dashboard.said


def test_a_vm_is_displayed_as_one_dashboard_however_often(vm: vlab.VM) -> None:
    made = view_of(vm)
    assert isinstance(made, Dashboard)
    assert made is dashboard_of(vm)
    assert made.terminal.vm is vm


def test_in_a_terminal_a_vm_is_its_repr_and_nothing_more() -> None:
    program = (
        "from IPython.terminal.interactiveshell import TerminalInteractiveShell\n"
        "shell = TerminalInteractiveShell.instance(simple_prompt=True)\n"
        "import vlab\n"
        "with vlab.VM('hello') as vm:\n"
        "    print(shell.display_formatter.format(vm)[0] == {'text/plain': repr(vm)})\n"
    )
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert run.stdout.split()[-1] == "True", run.stdout


def test_it_tells_what_the_vm_is_and_how(vm: vlab.VM) -> None:
    board = Dashboard(vm)
    assert (board.name, board.about) == ("wren", "under hardware/nested, 16 MiB, deterministic clock")
    assert (board.state, board.why) == ("paused", "what was waited for has happened")
    assert (board.exits, board.time) == (vm.exits.total, vm.virtual_time_ns)
    assert board.rate == 0


def test_the_guest_is_run_and_paused_and_its_pace_is_told(vm: vlab.VM) -> None:
    board = Dashboard(vm)
    assert press(board, "run") == ""
    wait_for(lambda: board.state == "running" and board.rate > 0)
    assert press(board, "run") == "run: this VM runs already; pause() or wait() for it first"
    press(board, "pause")
    assert (board.state, board.why, board.rate) == ("paused", "", 0)


def test_it_is_stepped_forth_and_back(vm: vlab.VM) -> None:
    board = Dashboard(vm)
    before = vm.exits.total
    assert press(board, "step") == f"after exit {before + 1}"
    assert board.exits == before + 1
    assert press(board, "back") == f"back at the state after exit {before}"
    assert board.exits == before


def test_a_snapshot_is_taken_and_gone_back_to(vm: vlab.VM) -> None:
    board = Dashboard(vm)
    said = press(board, "snapshot")
    assert said == f"snapshot {board.taken[0]}"
    assert board.taken[0].startswith("1: after exit 41, ")
    vm.send("echo abc\n")
    vm.run(until="abc\r", timeout=60)
    assert press(board, "restore", number=0) == f"back at snapshot {board.taken[0]}"
    assert vm.exits.total == board.exits == 41
    assert board.terminal.words() == "wren: hello\n$"


def test_an_end_has_its_whole_story_and_a_way_back() -> None:
    with vlab.VM("hello") as vm:
        board = Dashboard(vm)
        press(board, "snapshot")
        vm.run(timeout=20)
        board.refresh()
        assert (board.state, board.why) == ("ended", "the guest ended with status 0 (success)")
        press(board, "restore", number=0)
        assert (board.state, board.why) == ("paused", "the guest is back at an earlier moment")


def test_the_bare_machine_says_why_it_cannot_be_stepped() -> None:
    with vlab.VM("hello", monitor="none") as vm:
        assert Dashboard(vm).stuck == "the bare machine has no exits to step over"
    with vlab.VM("hello", trace="off") as vm:
        assert Dashboard(vm).stuck == "nothing counts exits at trace level 'off'"


def test_registers_and_screen_are_looked_at_only_while_they_are_open(vm: vlab.VM) -> None:
    board = Dashboard(vm)
    assert board.registers == []
    assert board.screen is None
    press(board, "open", part="registers", open=True)
    rows = {name: (kind, value) for name, kind, value in board.registers}
    state = vm.registers()
    assert rows["rip"] == ("", f"{state.rip:#010x}")
    assert rows["rflags"] == ("EFlags", f"{state.rflags:#010x}")
    assert rows["mode"] == ("", "protected 32-bit, CPL 0")
    assert rows["cs"][1].startswith(f"{state.cs.selector:#06x} base 0x0 ")
    assert board.kinds["EFlags"]["reference"] == "APM2 3.1.6"
    press(board, "open", part="registers", open=False)
    vm.step()
    board.refresh()
    assert board.registers == [[name, *rest] for name, rest in rows.items()]

    press(board, "open", part="screen", open=True)
    assert isinstance(board.screen, Screen)
    press(board, "open", part="screen", open=False)
    assert board.screen is None


def test_what_a_button_cannot_do_is_said(vm: vlab.VM) -> None:
    board = Dashboard(vm)
    assert press(board, "explode") == "dashboard: there is no button 'explode'; load the page again"
    vm.close()
    assert press(board, "run") in (
        "this VM is closed; make a new one", "the VM of this view is gone; run the cell that makes it again"
    )  # fmt: skip


def test_its_picture_and_words_tell_the_same(vm: vlab.VM) -> None:
    board = Dashboard(vm)
    ElementTree.fromstring(board.picture())
    data, _ = board._repr_mimebundle_()
    for fact in ("wren: hello", "41 exits", "under hardware/nested, 16 MiB"):
        assert fact in data["image/svg+xml"]
    assert data["text/plain"].startswith("<VM 'wren' under hardware/nested, 16 MiB, paused>\n41 exits, ")


def test_it_does_not_keep_its_vm_nor_the_snapshots_of_one_that_is_gone() -> None:
    vm = vlab.VM("hello")
    board, reference = dashboard_of(vm), weakref.ref(vm)
    press(board, "snapshot")
    del vm
    gc.collect()
    wait_for(lambda: reference() is None)
    wait_for(lambda: not board.alive)
    assert board.snapshots == []


def test_a_refresh_costs_a_running_guest_far_less_than_a_tenth(vm: vlab.VM) -> None:
    board = Dashboard(vm)
    press(board, "open", part="registers", open=True)
    press(board, "open", part="screen", open=True)
    assert board.screen is not None
    began = time.process_time()
    for _ in range(50):
        for view in (board, board.terminal, board.screen):
            view.refresh()
    assert (time.process_time() - began) / 50 < 0.01  # five times a second
