"""The keyboard controller, as the drivers of real kernels use it."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.devices.twins import VALUES, Bench, check_twin, register_programs
from vlab.devices.i8042 import COMMAND, DATA, I8042, CommandByte
from vlab.devices.state import describe

FULL, SYSTEM, WAS_COMMAND, UNLOCKED, MOUSE = 0x01, 0x04, 0x08, 0x10, 0x20


class Typed(I8042):
    """The controller with its keyboard's and mouse's inputs beside its own, for programs."""

    def type_text(self, text: str) -> None:
        self.keyboard.type_text(text)

    def move(self, dx: int, dy: int) -> None:
        self.mouse.move(dx, dy)


def build(bench: Bench) -> Typed:
    return Typed(
        irq_keyboard=bench.pin("irq1"),
        irq_mouse=bench.pin("irq12"),
        a20=bench.pin("a20"),
        reset=bench.pin("reset"),
    )


def command(bench: Bench, byte: int, *data: int) -> None:
    bench.device.write(COMMAND, byte)
    for each in data:
        bench.device.write(DATA, each)


def drain(bench: Bench) -> str:
    """Read port 60h while the status says that there is something, as a polling driver does."""
    found = bytearray()
    while bench.device.read(COMMAND) & FULL:
        found.append(bench.device.read(DATA))
    return found.hex()


def ask(bench: Bench, byte: int, *data: int) -> str:
    command(bench, byte, *data)
    return drain(bench)


def level(bench: Bench, line: str) -> bool:
    """The level that the line was last driven to."""
    return next((bool(entry[1]) for entry in reversed(bench.log) if entry[0] == line), False)


# --- controller commands ----------------------------------------------------------------------------------


def test_the_state_that_firmware_leaves() -> None:
    bench = Bench(build)
    assert bench.device.read(COMMAND) == SYSTEM | UNLOCKED
    assert ask(bench, 0x20) == "65"


@pytest.mark.parametrize(
    ("byte", "answer"), [(0xAA, "55"), (0xAB, "00"), (0xA9, "00"), (0xA4, "f1"), (0xC0, "a0"), (0xE0, "03")]
)
def test_a_command_with_a_fixed_answer(byte: int, answer: str) -> None:
    assert ask(Bench(build), byte) == answer


def test_the_status_tells_a_command_from_data() -> None:
    bench = Bench(build)
    bench.device.write(COMMAND, 0xAE)
    assert bench.device.read(COMMAND) & WAS_COMMAND
    bench.device.write(DATA, 0xEE)
    assert not bench.device.read(COMMAND) & WAS_COMMAND


def test_the_self_test_sets_the_system_flag() -> None:
    bench = Bench(build)
    command(bench, 0x60, 0x00)
    assert not bench.device.read(COMMAND) & SYSTEM
    assert ask(bench, 0xAA) == "55"
    assert bench.device.read(COMMAND) & SYSTEM


def test_the_command_byte_and_the_ram_read_back() -> None:
    bench = Bench(build)
    command(bench, 0x60, 0x47)
    assert ask(bench, 0x20) == "47"
    command(bench, 0x7F, 0xA5)
    assert ask(bench, 0x3F) == "a5"
    assert ask(bench, 0x21) == "00"


def test_enabling_and_disabling_a_port_shows_in_the_command_byte() -> None:
    bench = Bench(build)
    for byte, expected in ((0xA8, "45"), (0xAD, "55"), (0xA7, "75"), (0xAE, "65")):
        command(bench, byte)
        assert ask(bench, 0x20) == expected


def test_the_output_port_gates_a20_and_reads_back() -> None:
    bench = Bench(build)
    command(bench, 0xD1, 0xDD)
    assert bench.log[-1] == ("a20", False)
    assert ask(bench, 0xD0) == "c1"
    command(bench, 0xD1, 0xDF)
    assert bench.log[-1] == ("a20", True)
    assert ask(bench, 0xD0) == "c3"


def test_the_single_byte_a20_commands() -> None:
    bench = Bench(build)
    command(bench, 0xDD)
    command(bench, 0xDF)
    assert bench.log == [("a20", False), ("a20", True)]


@pytest.mark.parametrize("bytes_written", [(0xFE,), (0xF0,), (0xD1, 0xFE)])
def test_the_ways_to_reset(bytes_written: tuple[int, ...]) -> None:
    bench = Bench(build)
    command(bench, *bytes_written)
    assert bench.log.count(("reset",)) == 1


@pytest.mark.parametrize("byte", [0xFF, 0xF1, 0xFD])
def test_pulses_that_leave_the_reset_line_alone(byte: int) -> None:
    bench = Bench(build)
    command(bench, byte)
    assert ("reset",) not in bench.log


# --- output buffer and interrupts -------------------------------------------------------------------------


def test_a_typed_key_arrives_translated_with_an_edge_for_each_byte() -> None:
    bench = Bench(build)
    bench.device.keyboard.type_text("a")
    assert bench.device.read(COMMAND) & (FULL | MOUSE) == FULL
    assert level(bench, "irq1")
    bench.log.clear()
    assert bench.device.read(DATA) == 0x1E
    assert [entry for entry in bench.log if entry[0] == "irq1"] == [("irq1", False), ("irq1", True)]
    assert bench.device.read(DATA) == 0x9E
    assert not level(bench, "irq1")
    assert not bench.device.read(COMMAND) & FULL


def test_an_empty_buffer_reads_as_its_last_byte() -> None:
    bench = Bench(build)
    assert ask(bench, 0xAA) == "55"
    assert bench.device.read(DATA) == 0x55


def test_without_translation_the_codes_are_those_of_set_2() -> None:
    bench = Bench(build)
    command(bench, 0x60, 0x25)
    bench.device.keyboard.key("up")
    assert drain(bench) == "e075e0f075"


def test_extended_keys_are_translated_behind_their_prefix() -> None:
    bench = Bench(build)
    bench.device.keyboard.key("up")
    assert drain(bench) == "e048e0c8"


def test_a_disabled_keyboard_keeps_its_keys() -> None:
    bench = Bench(build)
    command(bench, 0xAD)
    bench.device.keyboard.type_text("a")
    assert not bench.device.read(COMMAND) & FULL
    command(bench, 0xAE)
    assert drain(bench) == "1e9e"


def test_the_interrupt_enables_gate_the_lines() -> None:
    bench = Bench(build)
    command(bench, 0x60, 0x44)
    bench.device.keyboard.type_text("a")
    assert not level(bench, "irq1")
    command(bench, 0x60, 0x45)
    assert level(bench, "irq1")


def test_the_controllers_answer_comes_before_the_next_scan_code() -> None:
    bench = Bench(build)
    bench.device.keyboard.type_text("a")
    command(bench, 0x20)
    assert drain(bench) == "1e" + "65" + "9e"


def test_an_answer_that_nobody_fetched_is_overwritten_by_the_next() -> None:
    bench = Bench(build)
    bench.device.keyboard.press("a")
    command(bench, 0x20)
    command(bench, 0xAA)
    assert drain(bench) == "1e" + "55"


def test_a_byte_written_into_the_keyboards_buffer_raises_its_interrupt() -> None:
    bench = Bench(build)
    command(bench, 0xD2, 0x42)
    assert level(bench, "irq1")
    assert ask(bench, 0xD0) == "42" + "d3"


def test_the_loop_of_the_mouse_port_by_which_drivers_find_it() -> None:
    bench = Bench(build)
    command(bench, 0x60, 0x47)
    command(bench, 0xD3, 0x5A)
    assert bench.device.read(COMMAND) & (FULL | MOUSE) == FULL | MOUSE
    assert level(bench, "irq12")
    assert not level(bench, "irq1")
    assert bench.device.read(DATA) == 0x5A
    assert not level(bench, "irq12")


def test_a_drivers_probe_of_the_keyboard() -> None:
    bench = Bench(build)
    bench.device.write(DATA, 0xFF)
    assert drain(bench) == "faaa"
    bench.device.write(DATA, 0xF2)
    assert drain(bench) == "faab41"
    for byte in (0xED, 0x02, 0xF3, 0x00, 0xF4):
        bench.device.write(DATA, byte)
        assert drain(bench) == "fa"
    assert bench.device.keyboard.leds.NUM_LOCK


def test_data_for_a_device_enables_its_port() -> None:
    bench = Bench(build)
    command(bench, 0xAD)
    bench.device.write(DATA, 0xEE)
    assert drain(bench) == "ee"
    assert ask(bench, 0x20) == "65"
    assert ask(bench, 0xD4, 0xF2) == "fa00"
    assert ask(bench, 0x20) == "45"


def test_the_mouse_reports_through_irq_12() -> None:
    bench = Bench(build)
    command(bench, 0x60, 0x47)
    assert ask(bench, 0xD4, 0xF4) == "fa"
    bench.device.mouse.move(1, 2)
    assert level(bench, "irq12")
    assert bench.device.read(COMMAND) & MOUSE
    assert drain(bench) == "080102"


def test_the_other_offsets_float() -> None:
    bench = Bench(build)
    bench.device.write(2, 0xFE)
    assert bench.device.read(2) == 0xFF
    assert bench.log == []


# --- states -----------------------------------------------------------------------------------------------


def test_a_restored_controller_raises_its_interrupt_and_drives_a20() -> None:
    bench = Bench(build)
    command(bench, 0xDD)
    bench.device.keyboard.type_text("ab")
    twin = Bench(build)
    twin.device.restore(bench.device.save())
    assert twin.log == [("a20", False), ("irq1", True), ("irq12", False)]
    assert drain(twin) == drain(bench) == "1e9e30b0"


def test_the_registers_are_shown_by_name() -> None:
    shown = {line.name: line.register for line in describe(Bench(build).device.save())}
    assert shown["command_byte"] == CommandByte(0x65)
    assert "keyboard.leds" in shown


OFFSETS = st.one_of(st.sampled_from([DATA, COMMAND]), st.integers(-2, 8))
COMMANDS = st.tuples(
    st.just("write"), st.just(COMMAND), st.one_of(st.integers(0x20, 0xFF), VALUES), st.just(1)
)
DATAS = st.tuples(st.just("write"), st.just(DATA), st.integers(0, 255), st.just(1))


TEXTS = st.tuples(st.just("type_text"), st.text("aB1 \n!", max_size=3))
MOVES = st.tuples(st.just("move"), st.integers(-600, 600), st.integers(-600, 600))


@given(program=register_programs(OFFSETS, COMMANDS, DATAS, TEXTS, MOVES), cut=st.integers(0, 60))
def test_any_program_raises_nothing_and_a_snapshot_within_it_is_invisible(program: Any, cut: int) -> None:
    check_twin(build, program, cut)


@given(program=register_programs(OFFSETS, COMMANDS, DATAS, TEXTS, MOVES))
def test_the_status_and_the_interrupt_lines_agree(program: Any) -> None:
    bench = Bench(build)
    for operation in program:
        bench.do(operation)
        status = bench.device.read(COMMAND)
        enables = bench.device.save().command_byte
        assert level(bench, "irq1") == (status & (FULL | MOUSE) == FULL and bool(enables & 1))
        assert level(bench, "irq12") == (status & (FULL | MOUSE) == FULL | MOUSE and bool(enables & 2))
