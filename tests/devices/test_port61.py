"""Port 61h: gate and output of counter 2, the speaker, and the refresh bit."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from tests.devices.twins import Bench, check_twin, register_programs
from vlab.devices.pit8254 import Pit8254
from vlab.devices.pit_channel import time_of
from vlab.devices.port61 import Port61
from vlab.devices.state import describe


class Board:
    """A timer and the port, wired as on a PC."""

    def __init__(self) -> None:
        self.time = 0
        self.timer = Pit8254(now=self.now, schedule=lambda due: None, irq0=lambda level: None)
        self.port = Port61(now=self.now, set_gate2=self.timer.set_gate2, out2=self.timer.out2)

    def now(self) -> int:
        return self.time


def test_the_written_bits_read_back_and_the_others_do_not() -> None:
    board = Board()
    board.timer.write(3, 0xB0)
    board.port.write(0, 0xFF)
    assert board.port.read() == 0x0F


def test_the_output_of_counter_2_is_bit_5() -> None:
    """Linux's slow calibration: gate up, speaker off, mode 0, wait for bit 5."""
    board = Board()
    board.port.write(0, board.port.read() & ~0x02 | 0x01)
    for offset, value in ((3, 0xB0), (2, 0x9C), (2, 0x2E)):
        board.timer.write(offset, value)
    assert board.port.read() & 0x20 == 0
    board.time = time_of(0x2E9C)
    assert board.port.read() & 0x20 == 0
    board.time = time_of(0x2E9D)
    assert board.port.read() & 0x20


def test_the_gate_stops_counter_2() -> None:
    board = Board()
    for offset, value in ((3, 0xB0), (2, 10), (2, 0)):
        board.timer.write(offset, value)
    board.time = 1_000_000
    assert board.port.read() & 0x20 == 0
    board.port.write(0, 1)
    board.time = 2_000_000
    assert board.port.read() & 0x20


def test_the_refresh_bit_changes_every_18_pulses() -> None:
    board = Board()
    bits = []
    for refresh in range(6):
        for pulse in (0, 17):
            board.time = time_of(18 * refresh + pulse)
            bits.append(board.port.read() >> 4 & 1)
    assert bits == [0, 0, 1, 1, 0, 0, 1, 1, 0, 0, 1, 1]


def test_bit_1_connects_the_speaker() -> None:
    board = Board()
    assert not board.port.speaker
    board.port.write(0, 3)
    assert board.port.speaker


def test_the_display_names_the_bits() -> None:
    board = Board()
    board.port.write(0, 3)
    (line,) = describe(board.port.save())
    assert repr(line.register) == "SystemControlB(0x3: SPEAKER GATE2)"


def build(bench: Bench) -> Port61:
    return Port61(now=bench.now, set_gate2=bench.pin("gate2"), out2=lambda: bool(bench.time & 1))


@given(
    register_programs(st.integers(-1, 2), st.tuples(st.just("wait"), st.integers(0, 10**6))),
    st.integers(0, 60),
)
def test_a_snapshot_is_invisible_to_any_program(program: list[Any], cut: int) -> None:
    check_twin(build, program, cut)
