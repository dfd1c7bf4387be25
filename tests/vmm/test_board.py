from __future__ import annotations

import dataclasses
from itertools import pairwise

import pytest

from vlab.devices.state import DeviceState
from vlab.machine.clock import DeterministicClock
from vlab.vmm.board import IO_APIC_BASE, LOCAL_APIC_BASE, Board

LAPIC_SPURIOUS, LAPIC_EOI = LOCAL_APIC_BASE + 0xF0, LOCAL_APIC_BASE + 0xB0
LAPIC_LINT0 = LOCAL_APIC_BASE + 0x350


@pytest.fixture
def board() -> Board:
    return Board(DeterministicClock(memoryview(bytearray(8)).cast("Q")), memoryview(bytearray(1 << 20)))


def start_pics(board: Board, mask: int = 0x00) -> None:
    """Program both 8259s: vectors 20h and 28h."""
    for port, value in ((0x20, 0x11), (0x21, 0x20), (0x21, 4), (0x21, 1), (0x21, mask)):
        board.ports.write(port, 1, value)
    for port, value in ((0xA0, 0x11), (0xA1, 0x28), (0xA1, 2), (0xA1, 1), (0xA1, 0)):
        board.ports.write(port, 1, value)


def route(board: Board, pin: int, vector: int) -> None:
    """Have the I/O APIC deliver a pin, by its edge, to the local APIC, which is switched on."""
    write = board.memory_windows.write
    write(LAPIC_SPURIOUS, 4, 0x1FF)
    for register, value in ((0x10 + 2 * pin, vector), (0x11 + 2 * pin, 0)):
        write(IO_APIC_BASE, 4, register)
        write(IO_APIC_BASE + 0x10, 4, value)


@pytest.mark.parametrize(("line", "vector"), [(0, 0x20), (4, 0x24), (8, 0x28), (12, 0x2C)])
def test_a_line_reaches_the_processor_through_the_8259s_as_firmware_leaves_the_board(
    board: Board, line: int, vector: int
) -> None:
    start_pics(board)
    raise_, told = board.irq(line), []
    board.events.attention = lambda: told.append(True)
    assert not board.interrupt
    raise_(True)
    assert (board.interrupt, told) == (True, [True])
    assert board.acknowledge() == vector
    assert not board.interrupt


@pytest.mark.parametrize(("line", "pin"), [(0, 2), (1, 1), (4, 4), (9, 9)])
def test_a_line_reaches_the_processor_through_the_io_apic_too(board: Board, line: int, pin: int) -> None:
    board.memory_windows.write(LAPIC_LINT0, 4, 1 << 16)  # the 8259s are masked
    route(board, pin, 0x51)
    board.irq(line)(True)
    assert board.interrupt
    assert board.acknowledge() == 0x51
    board.memory_windows.write(LAPIC_EOI, 4, 0)
    assert not board.interrupt


def test_with_the_local_apic_switched_off_the_8259_is_wired_to_the_processor(board: Board) -> None:
    start_pics(board)
    board.switch_local_apic(False)
    board.irq(1)(True)
    assert board.interrupt
    assert board.acknowledge() == 0x21
    board.ports.write(0x20, 1, 0x20)
    board.irq(1)(False)
    board.irq(1)(True)
    board.switch_local_apic(True)
    assert board.interrupt


def test_the_address_line_is_low_only_while_both_gates_hold_it_low(board: Board) -> None:
    levels: list[bool] = []
    board.events.a20 = levels.append
    board.ports.write(0x92, 1, 0)
    board.ports.write(0x64, 1, 0xD1)
    board.ports.write(0x60, 1, 0xDD)
    assert levels[-1] is False
    board.ports.write(0x92, 1, 2)
    assert levels[-1] is True


@pytest.mark.parametrize(
    ("port", "value", "words"),
    [(0x64, 0xFE, "keyboard controller"), (0xCF9, 0x06, "CF9h"), (0x92, 0x01, "port A (92h)")],
)
def test_each_way_to_reset_names_itself(board: Board, port: int, value: int, words: str) -> None:
    reasons: list[str] = []
    board.events.reset = reasons.append
    board.ports.write(port, 1, value)
    assert len(reasons) == 1
    assert words in reasons[0]


def test_events_may_be_wired_after_the_board_is_made(board: Board) -> None:
    heard: list[object] = []
    board.events.output = board.events.debug_output = board.events.post_code = heard.append
    board.events.debug_exit = heard.append
    for port, value in ((0x3F8, 0x41), (0xE9, 0x42), (0x80, 0x43), (0xF4, 0x44)):
        board.ports.write(port, 1, value)
    assert heard == [0x41, 0x42, 0x43, 0x44]


def test_a_timer_sets_an_alarm_and_its_line_rises_when_it_is_due(board: Board) -> None:
    start_pics(board)
    for port, value in ((0x43, 0x30), (0x40, 100), (0x40, 0)):  # one shot after 100 pulses of 838 ns
        board.ports.write(port, 1, value)
    when = board.alarms.next
    assert 80_000 < when < 90_000
    board.clock.skip(when - 1)
    board.alarms.run_due()
    assert not board.interrupt
    board.clock.skip(1)
    board.alarms.run_due()
    assert board.interrupt
    assert board.acknowledge() == 0x20


def test_every_chip_with_a_state_is_saved(board: Board) -> None:
    chips = {name: chip for name, chip in vars(board).items() if hasattr(chip, "restore")}
    with_state = {name for name, chip in chips.items() if dataclasses.fields(chip.save())}
    assert with_state == set(board.devices)
    assert all(isinstance(state, DeviceState) for state in board.save().values())


def test_restoring_sets_alarms_and_lines_again(board: Board) -> None:
    start_pics(board)
    for port, value in ((0x43, 0x34), (0x40, 0), (0x40, 0x10)):
        board.ports.write(port, 1, value)
    board.irq(1)(True)
    states, due = board.save(), board.alarms.next
    other = Board(DeterministicClock(memoryview(bytearray(8)).cast("Q")), memoryview(bytearray(1 << 20)))
    other.restore(states)
    assert (other.interrupt, other.alarms.next) == (True, due)
    assert other.acknowledge() == 0x21


def test_the_disk_reaches_memory_and_nothing_beyond_it() -> None:
    from vlab.vmm.board import _Dma

    memory, wrote = bytearray(4096), []
    dma = _Dma(memoryview(memory), lambda gpa, size: wrote.append((gpa, size)))
    assert dma.write(0xFF0, b"x" * 16)
    assert not dma.write(0xFF1, b"x" * 16)
    assert (dma.read(0xFF0, 16), dma.read(0xFF1, 16)) == (b"x" * 16, None)
    assert wrote == [(0xFF0, 16)]


def test_no_two_chips_answer_at_one_port(board: Board) -> None:
    windows = board.ports.windows
    assert all(one.last < other.first for one, other in pairwise(windows))
    with pytest.raises(ValueError, match="overlaps 8254 timer"):
        board.ports.add(0x41, 1, "mine", lambda _o, _s: 0, lambda _o, _v, _s: None)
