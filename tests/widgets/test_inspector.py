"""The inspector: the guest is taken to an exit, and what is there is told: registers, code, handler."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import fromstring

import pytest

import vlab
from vlab.errors import UnusableInput
from vlab.guests.programs import CPUID, SCRATCH, guest, increment, leave, out
from vlab.trace.exits import Exits
from vlab.trace.file import TraceFileError, dump, load, loads
from vlab.trace.storage import freeze
from vlab.vmm.exits import Exit
from vlab.vmm.paging.nested import NestedPaging
from vlab.vmm.verdicts import Verdict
from vlab.widgets import place
from vlab.widgets.exits_view import ExitsView
from vlab.widgets.inspector import Inspector
from vlab.widgets.showing import view_of
from vlab.widgets.together import Together

CPUIDS = b"".join(increment(SCRATCH) + CPUID for _ in range(5)) + leave(0)


def ask(view: Inspector, **wish: Any) -> None:
    """Send what the browser would."""
    view._asked(view, wish, [])


def changed(view: Inspector) -> dict[str, tuple[str, str]]:
    return {name: (before, value) for name, value, before, _ in view.place["registers"] if before}


def test_the_guest_goes_to_an_exit_and_its_changes_are_marked(tmp_path: Path) -> None:
    with vlab.VM(guest(tmp_path, CPUIDS), memory="4M", trace="full") as vm:
        vm.run(timeout=20)
        view = Inspector(vm)
        ask(view, do="go", number=3)
        assert view.problem == ""
        assert (view.here, vm.exits.total, vm.memory[SCRATCH]) == (3, 3, 3)
        seen = view.place
        assert (seen["number"], seen["before"]) == (3, 2)
        assert changed(view)["rip"][1] == f"{vm.registers().rip:08x}"
        assert "rsp" not in changed(view)
        assert [mark for _, _, mark in seen["code"][:2]] == ["the exit", "now"]
        assert seen["code"][0][1] == "cpuid"
        assert seen["handler"]["name"] == "HardwareMonitor._cpuid"
        assert seen["handler"]["file"].startswith("vlab/vmm/hardware.py, line ")
        assert "self.identity.cpuid(" in seen["handler"]["source"]


def test_steps_go_both_ways_and_the_way_ahead_is_kept(tmp_path: Path) -> None:
    with vlab.VM(guest(tmp_path, CPUIDS), memory="4M", trace="full") as vm:
        vm.run(timeout=20)
        view = Inspector(vm)
        whole = view.trace
        for wish, number in (("back", 5), ("back", 4), ("step", 5), ("back", 4)):
            ask(view, do=wish)
            assert (view.here, view.problem) == (number, "")
            view.refresh()
        assert view.trace is whole
        ask(view, do="go", number=0)
        assert view.place["before"] is None
        ask(view, do="back")
        assert "there is no exit before this place" in view.problem
        ask(view, do="go", number=99)
        assert view.problem == "number: exit 99 is not in the trace; it ends with 6, so step there"


def test_a_guest_that_goes_another_way_has_its_trace_sent_anew(tmp_path: Path) -> None:
    with vlab.VM("wren", trace="full") as vm:
        vm.run(until="$ ", timeout=20)
        view = Inspector(vm)
        short = view.trace
        vm.send("primes 5\n")
        vm.run(until="$ ", timeout=20)
        view.refresh()
        assert len(view.trace) > len(short)
        longer = view.trace
        ask(view, do="go", number=41)
        vm.run(timeout=0.05)
        vm.send("x\n")
        vm.run(until="$ ", timeout=20)
        view.refresh()
        assert view.trace != longer


def test_exits_of_one_block_share_a_stop_and_it_is_said(tmp_path: Path) -> None:
    code = CPUID + out(0x80, 1) + out(0x80, 2) + out(0x80, 3) + CPUID + leave(0)
    with vlab.VM(guest(tmp_path, code), memory="4M", trace="full") as vm:
        vm.run(timeout=20)
        view = Inspector(vm)
        reasons = [event.reason for event in vm.exits]
        assert reasons[:5] == ["CPUID", "IOIO", "IOIO", "IOIO", "CPUID"]
        ask(view, do="go", number=2)
        total = vm.exits.total
        if total > 2:
            assert view.place["stop"] == (
                f"exits 2 to {total} are of one block, and the guest stops behind the last"
            )
        assert view.place["before"] == 1


class MyPaging(NestedPaging):
    """A student's strategy."""

    def handle(self, exit_: Exit) -> Verdict | None:
        """Written by a student."""
        return super().handle(exit_)


def test_the_source_of_a_strategy_of_ones_own_is_shown(tmp_path: Path) -> None:
    with vlab.VM(guest(tmp_path, CPUIDS), memory="4M", trace="full", paging=MyPaging()) as vm:
        vm.run(exits=2)
        fault = replace(vm.exits[0], reason="NPF", handler="paging")
        seen = place.describe(vm, vm.registers(), fault, None, "")
        assert seen["handler"]["name"] == "MyPaging.handle"
        assert "Written by a student." in seen["handler"]["source"]
        assert seen["handler"]["file"].startswith("test_inspector.py, line ")


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"monitor": "none"}, "the bare machine has no exits to go to; use monitor='hardware'"),
        (
            {"clock": "realtime"},
            "under the realtime clock a guest does not do the same twice; use clock='deterministic'",
        ),
    ],
)
def test_a_guest_that_cannot_be_taken_anywhere_says_why(options: dict[str, str], why: str) -> None:
    with vlab.VM("hello", trace="full", **options) as vm:  # type: ignore[arg-type]
        vm.run(timeout=2)
        view = Inspector(vm)
        assert view.stuck == why
        ask(view, do="step")
        assert view.problem == why


def test_a_running_guest_is_not_taken_anywhere() -> None:
    with vlab.VM("wren", trace="full") as vm:
        view = Inspector(vm)
        vm.start()
        ask(view, do="step")
        assert view.problem == "this VM runs; pause() or wait() for it first"
        vm.pause()
        view.refresh()
        assert view.stuck == ""


@pytest.mark.parametrize(
    ("monitor", "name"),
    [("trap-emulate", "rings"), ("binary-translation", "rings"), ("paravirtual", "wren-paravirt")],
)
def test_every_monitor_can_be_inspected(monitor: str, name: str) -> None:
    with vlab.VM(name, monitor=monitor, trace="full") as vm:
        vm.run(exits=60, timeout=10)
        view = Inspector(vm)
        ask(view, do="go", number=10)
        assert view.problem == ""
        assert view.here >= 10
        assert view.place["handler"]["source"]
        assert view.sections["VMMCALL"] == "hypercall by INT 82h, APM3 INT n"


def test_a_trace_file_is_inspected_without_a_vm(tmp_path: Path) -> None:
    with vlab.VM(guest(tmp_path, CPUIDS), memory="4M", trace="full") as vm:
        vm.run(timeout=20)
        vm.save_trace(tmp_path / "run.vlabtrace")
    view = Inspector(load(tmp_path / "run.vlabtrace"))
    assert not view.live
    assert view.trace
    assert "IOIO" in view.words()
    assert "info1 15:0: port = 0xf4" in view.words()
    ask(view, do="go", number=1)
    assert view.problem == "this view shows a recorded trace; there is no VM behind it"
    with pytest.raises(UnusableInput, match="subject: 3 has no exits to show"):
        Inspector(3)  # type: ignore[arg-type]


def test_words_tell_the_exit_and_the_place(tmp_path: Path) -> None:
    with vlab.VM(guest(tmp_path, CPUIDS), memory="4M", trace="full") as vm:
        vm.run(timeout=20)
        view = Inspector(vm)
        view.go_to(2)
        data, _ = view._repr_mimebundle_()
        words = data["text/plain"]
        assert "CPUID with EAX and ECX\n" in words
        assert "the guest is at the state after exit 2: protected 32-bit mode, ring 0" in words
        assert "changed since exit 1: " in words
        assert "cpuid  <- the exit" in words
        assert "served by HardwareMonitor._cpuid (vlab/vmm/hardware.py" in words


def test_a_vm_without_single_exits_still_shows_where_it_is() -> None:
    with vlab.VM("hello") as vm:
        vm.run(timeout=20)
        view = Inspector(vm)
        assert view.note.startswith("the trace level 'counters' keeps no single exits")
        assert view.place["handler"] is None
        assert view.words() == view.note


# --- opened at an exit, and drawn -----------------------------------------------------------------------


def drawn(view: Inspector | Together) -> str:
    """Give the words of a view's picture, a line each; fails where it is no XML."""
    picture = view.picture()
    assert picture is not None
    return "\n".join(fromstring(picture).itertext())


def test_a_loaded_trace_is_displayed_as_the_inspector_and_its_exits_as_the_exits(tmp_path: Path) -> None:
    with vlab.VM(guest(tmp_path, CPUIDS), memory="4M", trace="full") as vm:
        vm.run(timeout=20)
        vm.save_trace(tmp_path / "run.vlabtrace")
    trace = load(tmp_path / "run.vlabtrace")
    assert isinstance(view_of(trace), Inspector)
    assert isinstance(view_of(trace.exits), ExitsView)
    with vlab.VM("hello", trace="counters") as vm:
        vm.run(timeout=20)
        vm.save_trace(tmp_path / "counted.vlabtrace")
    assert isinstance(view_of(load(tmp_path / "counted.vlabtrace")), ExitsView)


def test_show_opens_a_vm_its_exits_and_a_trace_at_an_exit(tmp_path: Path) -> None:
    with vlab.VM(guest(tmp_path, CPUIDS), memory="4M", trace="full") as vm:
        vm.run(timeout=20)
        vm.save_trace(tmp_path / "run.vlabtrace")
        made = vlab.show(vm, vm.exits, load(tmp_path / "run.vlabtrace"), at=2)
        assert [(isinstance(each, Inspector), each.at) for each in made.children] == [(True, 2)] * 3
        assert vm.exits.total == 6  # the guest stays where it is
        for view in made.children:
            assert f"RIP\n{vm.exits[1].rip:#x}" in drawn(view)
            assert "Exit 2 of 6: CPUID. CPUID with EAX and ECX" in drawn(view)
            assert view.words().splitlines()[0] == str(vm.exits[1])
        assert drawn(made).count("Exit 2 of 6: CPUID") == 3
        data = made._repr_mimebundle_()
        assert data["image/svg+xml"] == made.picture()
        assert data["text/plain"].count(str(vm.exits[1])) == 3


@pytest.mark.parametrize(
    ("at", "why"),
    [
        (0, "at: exit 0 is not in the trace; it has exits 1 to 6"),
        (7, "at: exit 7 is not in the trace; it has exits 1 to 6"),
        ("3", "at: '3' is no exit's number; give a whole number from 1 on"),
        (True, "at: True is no exit's number; give a whole number from 1 on"),
    ],
)
def test_an_exit_that_is_not_there_is_refused(tmp_path: Path, at: int, why: str) -> None:
    with vlab.VM(guest(tmp_path, CPUIDS), memory="4M", trace="full") as vm:
        vm.run(timeout=20)
        with pytest.raises(UnusableInput, match=f"^{why}$"):
            vlab.show(vm, at=at)


def test_opening_at_an_exit_says_what_it_needs() -> None:
    with vlab.VM("hello") as vm:
        vm.run(timeout=20)
        with pytest.raises(
            UnusableInput, match="at: there is no exit 1; the trace level 'counters' keeps no"
        ):
            vlab.show(vm, at=1)
        with pytest.raises(
            UnusableInput, match=r"subject: .* has no exits to show; give a VM, its vm\.exits"
        ):
            vlab.show(vm.screen, at=1)


def test_an_exit_is_called_by_its_own_number_where_older_ones_were_dropped(tmp_path: Path) -> None:
    with vlab.VM(guest(tmp_path, CPUIDS), memory="4M", trace="full") as vm:
        vm.run(timeout=20)
        frozen = freeze(vm.exits.source)
        late = Exits(replace(frozen, table=frozen.table[4:], dropped=4))
    view = Inspector(late, 6)
    assert "Exit 6 of 6: IOIO" in drawn(view)
    with pytest.raises(UnusableInput, match="at: exit 4 is not in the trace; it has exits 5 to 6"):
        view.look_at(4)


def test_the_picture_has_the_exit_decoded_the_changes_and_the_code(tmp_path: Path) -> None:
    with vlab.VM(guest(tmp_path, CPUIDS), memory="4M", trace="full") as vm:
        vm.run(timeout=20)
        view = Inspector(vm, 6)
        assert "port = 0xf4" in drawn(view)
        view.go_to(2)
        words = drawn(view)
        assert view.at == 2  # the cursor went along
        assert "Exit 2 of 6: CPUID" in words  # and what is ahead is still there
        assert "The guest, after exit 2: protected 32-bit mode, ring 0" in words
        assert "Registers; ≠ marks changes since exit 1" in words
        before, value = changed(view)["rip"]
        assert f"rip\n{value}\n≠ was {before}" in words
        assert "cpuid\n◂ the exit" in words
        assert "Served by HardwareMonitor._cpuid\nvlab/vmm/hardware.py, line " in words
        data, _ = view._repr_mimebundle_()
        assert data["image/svg+xml"] == view.picture()


def test_a_view_without_exits_has_a_picture_that_says_so() -> None:
    with vlab.VM("hello") as vm:
        assert "the trace level 'counters' keeps no single exits" in drawn(Inspector(vm))


def test_bytes_of_a_trace_are_read_as_the_file_is(tmp_path: Path) -> None:
    with vlab.VM(guest(tmp_path, CPUIDS), memory="4M", trace="full") as vm:
        vm.run(timeout=20)
        found = loads(dump(vm.exits, {"guest": "cpuids"}))
        assert found.exits.digest() == vm.exits.digest()
        assert found.metadata == {"guest": "cpuids"}
    with pytest.raises(TraceFileError, match=r"^the trace: this is no vlab trace: it is empty"):
        loads(b"")
    with pytest.raises(TraceFileError, match=r"^answer: the trace is cut short"):
        loads(b"\x8fvlabtr\n", "answer")
