"""What a method of the VM cannot use is refused with its name, its value and what to give instead."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import vlab
from vlab.errors import UnusableInput
from vlab.guests.programs import CPUID, SPIN, guest
from vlab.session import VM, StopKind

BAD_OPTIONS: list[tuple[dict[str, object], str]] = [
    ({"guest": 3}, "guest: 3 is neither a guest's name nor a path; `vlab guests list` shows the names"),
    ({"guest": "a\0"}, "guest: 'a\\x00' is neither a guest's name nor a path"),
    ({"monitor": None}, "monitor: None is neither a monitor's name nor a class; write its name in quotes"),
    (
        {"paging": 3},
        "paging: 3 is neither a name nor a paging strategy, for it has no name; derive yours from",
    ),
    ({"initrd": 3}, "initrd: 3 is no path of a file; write it in quotes"),
    ({"disk": b"x"}, "disk: b'x' is no path of a file; write it in quotes"),
    ({"append": 3}, "append: 3 is no text; write it in quotes"),
    ({"clock": 3}, "clock: 3 is no text; write it in quotes"),
    ({"trace": "x"}, "trace: 'x' is not a level; write off, counters or full"),
    ({"trace": []}, "trace: [] is not a level; write off, counters or full"),
    ({"trace_capacity": 0}, "trace_capacity: 0 is no number of records to keep; give at least 1"),
    ({"trace_capacity": "x"}, "trace_capacity: 'x' is no number of records to keep; give at least 1"),
    ({"history": 1}, "history: 1 is neither True nor False; give one of them"),
    ({"machine": 3}, "machine: 3 is no machine; give a vlab.Machine(), or leave it out"),
]


@pytest.mark.parametrize(("options", "message"), BAD_OPTIONS)
def test_an_option_of_the_wrong_kind_is_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(UnusableInput) as refusal:
        vlab.VM(**{"guest": "spin", **options})  # type: ignore[arg-type]
    assert str(refusal.value).startswith(message)


_TIME = "is no time; give seconds as a number, or None for as long as it takes"
_ADDRESS = "is no linear address; give a whole number from 0 to 0xffffffffffffffff"
BAD_CALLS: list[tuple[Callable[..., object], object, str]] = [
    (lambda vm, x: vm.run(timeout=x), "x", f"timeout: 'x' {_TIME}"),
    (lambda vm, x: vm.run(timeout=x), float("nan"), f"timeout: nan {_TIME}"),
    (lambda vm, x: vm.run(exits=x), 1.5, "exits: 1.5 is no number of exits to wait for; give at least 1"),
    (lambda vm, x: vm.run(until=x), 3, "until: 3 is neither text nor a function of the VM"),
    (lambda vm, x: vm.run(until=x), "\ud800", "until: '\\ud800' holds half a character (a surrogate); leave"),
    (VM.step, 0, "exits: 0 is no number of exits to wait for; give at least 1"),
    (lambda vm, x: vm.start(timeout=x), "x", f"timeout: 'x' {_TIME}"),
    (VM.wait, True, f"timeout: True {_TIME}"),
    (VM.send, 3, "text: 3 is neither text nor bytes; write it in quotes"),
    (VM.restore, 3, "snapshot: 3 is no snapshot; give what vm.snapshot() gave"),
    (VM.snapshot, 3, "earlier: 3 is no snapshot; give what vm.snapshot() gave"),
    (VM.walk, "x", f"linear: 'x' {_ADDRESS}"),
    (VM.walk, -1, f"linear: -1 {_ADDRESS}"),
    (VM.walk, 1 << 64, f"linear: {1 << 64} {_ADDRESS}"),
    (VM.disassemble, 0, "count: 0 is no number of instructions to show; give at least 1"),
    (VM.save, 3, "path: 3 is no path of a file; write it in quotes"),
    (VM.save_trace, "a\0b", "path: 'a\\x00b' is no path of a file; write it in quotes"),
    (VM.run_back, 3, "predicate: 3 is no function of an exit, such as lambda exit: exit.reason == 'CPUID'"),
]


def test_an_argument_of_the_wrong_kind_is_refused(tmp_path: Path) -> None:
    with vlab.VM(guest(tmp_path, CPUID * 3 + SPIN), memory="4M") as vm:
        for call, value, message in BAD_CALLS:
            with pytest.raises(UnusableInput) as refusal:
                call(vm, value)
            assert str(refusal.value).startswith(message)
        assert not vm.running
        assert vm.step(2).kind == StopKind.EXPECTED
        assert vm.exits.total == 2


def test_a_file_to_load_is_a_path() -> None:
    with pytest.raises(UnusableInput, match=r"^path: 3 is no path of a file; write it in quotes$"):
        vlab.VM.load(3)  # type: ignore[arg-type]
    with pytest.raises(UnusableInput, match=r"^history: 'x' is neither True nor False"):
        vlab.VM.load("file", history="x")  # type: ignore[arg-type]


def test_numbers_of_numpy_and_endless_times_are_taken(tmp_path: Path) -> None:
    with vlab.VM(guest(tmp_path, CPUID + SPIN), memory="4M") as vm:
        assert vm.run(exits=np.int64(1), timeout=float("inf")).kind == StopKind.EXPECTED  # type: ignore[arg-type]
        assert vm.walk(np.uint64(0x1000)).physical == 0x1000  # type: ignore[arg-type]
        assert vm.run(timeout=np.float64(0.01)).kind == StopKind.TIMEOUT
        vm.start(timeout=0.01)
        stop = vm.wait(float("inf"))
        assert stop is not None
        assert stop.kind == StopKind.TIMEOUT


@pytest.mark.parametrize(
    ("monitor", "paging"),
    [("none", "direct"), ("hardware", "nested"), ("hardware", "shadow"), ("trap-emulate", "shadow")],
)
def test_the_reset_vector_is_disassembled_before_anything_ran(monitor: str, paging: str) -> None:
    with vlab.VM("hello", monitor=monitor, paging=paging) as vm:
        assert vm.disassemble(1) == ["0xfff0: ljmp 0xf000:0x4000"]
