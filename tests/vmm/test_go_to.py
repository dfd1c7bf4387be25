"""Going to an exit by its number, and finding the function that serves it."""

from __future__ import annotations

import inspect
from dataclasses import replace
from pathlib import Path

import pytest

import vlab
from tests.vmm.replay_lab import outcome
from vlab.errors import UnusableInput
from vlab.guests.programs import CPUID, SCRATCH, guest, increment, leave, out
from vlab.vmm.bare import BareMachine
from vlab.vmm.exits import Exit
from vlab.vmm.paging.nested import NestedPaging
from vlab.vmm.paravirtual.hypercalls import TABLE
from vlab.vmm.paravirtual.interface import Call
from vlab.vmm.paravirtual.monitor import ParavirtualMonitor
from vlab.vmm.stop import StopKind
from vlab.vmm.verdicts import Verdict

FIVE_EXITS = b"".join(increment(SCRATCH) + CPUID for _ in range(5)) + leave(0)


def test_go_to_reaches_the_state_after_any_exit_back_and_ahead(tmp_path: Path) -> None:
    with vlab.VM(guest(tmp_path, FIVE_EXITS), memory="4M") as vm:
        states = []
        for _ in range(5):
            vm.step()
            states.append(outcome(vm))
        for number in (2, 4, 1, 5, 3, 3):
            stop = vm.go_to(number)
            assert stop.kind is StopKind.EXPECTED
            assert outcome(vm) == states[number - 1]
        assert str(vm.go_to(1)) == "at the state after exit 1"
        vm.go_to(0)
        assert (vm.exits.total, vm.memory[SCRATCH]) == (0, 0)


def test_go_to_returns_from_between_two_exits_to_the_end_of_the_last(tmp_path: Path) -> None:
    with vlab.VM(guest(tmp_path, FIVE_EXITS), memory="4M") as vm:
        vm.step(5)
        there = outcome(vm)
        vm.run(timeout=20)
        assert vm.exits.total == 6
        vm.go_to(5)
        assert outcome(vm) == there


def test_go_to_says_what_it_cannot_do(tmp_path: Path) -> None:
    image = guest(tmp_path, FIVE_EXITS)
    with vlab.VM(image, memory="4M") as vm, vlab.VM(image, memory="4M") as other:
        with pytest.raises(UnusableInput, match="exit_number: -1 is no number of an exit; give at least 0"):
            vm.go_to(-1)
        vm.step(3)
        other.restore(vm.snapshot())
        other.step()
        with pytest.raises(UnusableInput, match="go_to: the history begins after exit 3; exit 1 is before"):
            other.go_to(1)
    with (
        vlab.VM(image, memory="4M", clock="realtime") as vm,
        pytest.raises(UnusableInput, match="go_to: under the realtime clock"),
    ):
        vm.go_to(0)


def test_busy_and_halted_tell_the_state_of_the_guest(tmp_path: Path) -> None:
    with vlab.VM(guest(tmp_path, FIVE_EXITS), memory="4M") as vm:
        assert not vm.busy
        assert not vm.halted
        seen: list[bool] = []

        def look(vm: vlab.VM) -> bool:
            seen.append(vm.busy)
            return True

        vm.run(look, timeout=20)
        assert seen[0]
        assert not vm.busy


def test_code_is_disassembled_at_an_address(tmp_path: Path) -> None:
    with vlab.VM(guest(tmp_path, FIVE_EXITS), memory="4M") as vm:
        vm.step(2)
        rip = vm.registers().rip
        assert vm.disassemble(1, at=rip - 2) == [f"{rip - 2:#x}: cpuid"]
        with pytest.raises(UnusableInput, match="at: 'x' is no linear address"):
            vm.disassemble(1, at="x")  # type: ignore[arg-type]


class MyPaging(NestedPaging):
    """A strategy of a student's own."""

    def handle(self, exit_: Exit) -> Verdict | None:
        """Mine."""
        return super().handle(exit_)


def test_the_function_that_serves_an_exit_is_found_also_in_a_strategy_of_ones_own(tmp_path: Path) -> None:
    code = CPUID + out(0x80, 0) + leave(0)
    with vlab.VM(guest(tmp_path, code), memory="4M", trace="full", paging=MyPaging()) as vm:
        vm.run(timeout=20)
        cpuid, port, *_ = vm.exits
        assert vm.handler_of(cpuid).__qualname__ == "HardwareMonitor._cpuid"
        assert vm.handler_of(port).__qualname__ == "ExitingMonitor._port_out"
        fault = replace(cpuid, reason="NPF", handler="paging")
        assert vm.handler_of(fault).__qualname__ == "MyPaging.handle"
        assert "Mine." in inspect.getsource(vm.handler_of(fault))
        with pytest.raises(UnusableInput, match="reason: there is no exit 'X'; choose one of CPUID, HLT"):
            vm.handler_of(replace(cpuid, reason="X"))


@pytest.mark.parametrize(
    ("way", "guest_name"),
    [("trap-emulate", "rings"), ("binary-translation", "rings"), ("paravirtual", "wren-paravirt")],
)
def test_every_exit_of_every_monitor_has_a_function_with_source(way: str, guest_name: str) -> None:
    with vlab.VM(guest_name, monitor=way, trace="full") as vm:
        vm.run(timeout=5, exits=400)
        for event in vm.exits:
            assert "def " in inspect.getsource(vm.handler_of(event))


def test_the_function_that_serves_a_hypercall_is_found_also_in_a_monitor_of_ones_own() -> None:
    def flush(monitor: ParavirtualMonitor, first: int, second: int) -> int:
        return TABLE[Call.FLUSH_ALL](monitor, first, second)

    class Mine(ParavirtualMonitor):
        hypercalls = {**TABLE, Call.FLUSH_ALL: flush}

    with vlab.VM("wren-paravirt", monitor=Mine, trace="full") as vm:
        vm.run(exits=1)
        call = replace(vm.exits[0], reason="VMMCALL", qualification=(int(Call.FLUSH_ALL), 0))
        assert vm.handler_of(call) is flush


def test_the_bare_machine_serves_no_exits() -> None:
    with vlab.VM("hello", trace="full") as vm, vlab.VM("hello", monitor="none") as bare:
        vm.run(exits=1)
        with pytest.raises(UnusableInput, match="the bare machine has no monitor to serve exits"):
            bare.handler_of(vm.exits[0])


def test_nor_does_a_bare_machine_of_ones_own() -> None:
    class Mine(BareMachine):
        name = "mine"

    with vlab.VM("hello", trace="full") as vm, vlab.VM("hello", monitor=Mine) as bare:
        vm.run(exits=1)
        with pytest.raises(UnusableInput, match="the bare machine has no monitor to serve exits"):
            bare.handler_of(vm.exits[0])
