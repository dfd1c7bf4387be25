"""POST code, debug console, debug exit, port 92h and port CF9h."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.devices.twins import Bench, check_twin, register_programs
from vlab.devices.debug_ports import DebugConsole, DebugExit, FastA20, PostCode, ResetControl
from vlab.devices.state import describe


def post_code(bench: Bench) -> PostCode:
    return PostCode(report=bench.pin("report"))


def console(bench: Bench) -> DebugConsole:
    return DebugConsole(transmit=bench.pin("transmit"))


def debug_exit(bench: Bench) -> DebugExit:
    return DebugExit(stop=bench.pin("stop"))


def fast_a20(bench: Bench) -> FastA20:
    return FastA20(a20=bench.pin("a20"), reset=bench.pin("reset"))


def reset_control(bench: Bench) -> ResetControl:
    return ResetControl(reset=bench.pin("reset"))


def test_a_post_code_is_reported_and_reads_back() -> None:
    bench = Bench(post_code)
    bench.device.write(0, 0x1AB)
    assert bench.log == [("report", 0xAB)]
    assert bench.device.read(0) == 0xAB


def test_the_debug_console_transmits_each_byte_and_announces_itself() -> None:
    bench = Bench(console)
    for byte in b"hi":
        bench.device.write(0, byte)
    assert bench.log == [("transmit", ord("h")), ("transmit", ord("i"))]
    assert bench.device.read(0) == 0xE9


@pytest.mark.parametrize(("size", "status"), [(1, 0x78), (2, 0x5678), (4, 0x12345678)])
def test_the_debug_exit_stops_with_the_written_value(size: int, status: int) -> None:
    bench = Bench(debug_exit)
    bench.device.write(0, 0x12345678, size)
    assert bench.log == [("stop", status)]


def test_port_92_drives_a20_and_starts_with_it_open() -> None:
    bench = Bench(fast_a20)
    assert bench.device.read(0) == 0x02
    bench.device.write(0, 0x00)
    bench.device.write(0, 0xFE)
    assert bench.log == [("a20", False), ("a20", True)]
    assert bench.device.read(0) == 0x02


def test_port_92_resets_once_for_each_rise_of_bit_0() -> None:
    bench = Bench(fast_a20)
    for value in (0x03, 0x03, 0x02, 0x03):
        bench.device.write(0, value)
    assert [entry for entry in bench.log if entry[0] == "reset"] == [("reset",), ("reset",)]


def test_port_cf9_resets_when_the_reset_bit_rises() -> None:
    bench = Bench(reset_control)
    bench.device.write(0, 0x02)
    assert bench.log == []
    bench.device.write(0, 0x06)
    bench.device.write(0, 0x06)
    assert bench.log == [("reset",)]
    assert bench.device.read(0) == 0x06


def test_restoring_port_92_drives_the_gate_but_does_not_reset() -> None:
    bench = Bench(fast_a20)
    bench.device.write(0, 0x01)
    twin = Bench(fast_a20)
    twin.device.restore(bench.device.save())
    assert twin.log == [("a20", False)]


def test_the_registers_are_shown_by_name() -> None:
    (shown,) = describe(Bench(fast_a20).device.save())
    assert shown.name == "control"
    assert repr(shown.register) == "SystemControlA(0x2: A20)"


@pytest.mark.parametrize("build", [post_code, console, debug_exit, fast_a20, reset_control])
@given(program=register_programs(st.integers(-4, 8)), cut=st.integers(0, 60))
def test_any_program_raises_nothing_and_a_snapshot_within_it_is_invisible(
    build: Any, program: Any, cut: int
) -> None:
    check_twin(build, program, cut)
