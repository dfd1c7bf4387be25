"""The I/O APIC against the 82093AA data sheet."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.devices.twins import VALUES, Bench, check_twin, register_programs
from vlab.devices.io_apic import PINS, IoApic, RedirectionEntry
from vlab.devices.state import describe

EDGE = 0
LEVEL = RedirectionEntry.LEVEL.mask
MASKED = RedirectionEntry.MASKED.mask
LOW = RedirectionEntry.ACTIVE_LOW.mask
REMOTE_IRR = RedirectionEntry.REMOTE_IRR.mask


def build(bench: Bench) -> IoApic:
    return IoApic(deliver=bench.pin("deliver"), identity=2)


def build_82093aa(bench: Bench) -> IoApic:
    return IoApic(deliver=bench.pin("deliver"), version=0x11)


def get(chip: IoApic, index: int) -> int:
    chip.write(0x00, index, 4)
    return chip.read(0x10, 4)


def put(chip: IoApic, index: int, value: int) -> None:
    chip.write(0x00, index, 4)
    chip.write(0x10, value, 4)


def program_pin(bench: Bench, pin: int, low: int) -> None:
    put(bench.device, 0x10 + 2 * pin, low)


def test_the_identity_version_and_arbitration_registers() -> None:
    chip = Bench(build).device
    assert get(chip, 0) == 0x0200_0000
    assert get(chip, 1) == 0x0017_0020
    put(chip, 0, 0xFFFF_FFFF)
    assert get(chip, 0) == get(chip, 2) == 0x0F00_0000
    put(chip, 1, 0)
    assert get(chip, 1) == 0x0017_0020


def test_every_entry_starts_masked() -> None:
    chip = Bench(build).device
    assert [get(chip, 0x10 + n) for n in range(2 * PINS)] == [MASKED, 0] * PINS
    assert get(chip, 0x40) == 0


def test_an_entry_keeps_its_writable_bits_alone() -> None:
    chip = Bench(build).device
    put(chip, 0x10, 0xFFFF_FFFF)
    put(chip, 0x11, 0xFFFF_FFFF)
    assert get(chip, 0x10) == 0x0001_AFFF
    assert get(chip, 0x11) == 0xFF00_0000


def test_the_index_register_reads_back() -> None:
    chip = Bench(build).device
    chip.write(0x00, 0x1FF, 4)
    assert chip.read(0x00, 4) == 0xFF


def test_a_narrow_write_of_the_window_is_lost() -> None:
    chip = Bench(build).device
    chip.write(0x00, 0x10, 1)
    chip.write(0x10, 0x31, 1)
    assert get(chip, 0x10) == MASKED


def test_a_rising_edge_sends_one_message() -> None:
    bench = Bench(build)
    program_pin(bench, 4, EDGE | 0x24)
    bench.device.set_line(4, True)
    bench.device.set_line(4, True)
    bench.device.set_line(4, False)
    assert bench.log == [("deliver", 0x24, 0, False)]
    bench.device.set_line(4, True)
    assert len(bench.log) == 2


def test_an_edge_on_a_masked_pin_is_lost() -> None:
    bench = Bench(build)
    program_pin(bench, 4, EDGE | MASKED | 0x24)
    bench.device.set_line(4, True)
    program_pin(bench, 4, EDGE | 0x24)
    assert bench.log == []


def test_a_level_on_a_masked_pin_is_sent_when_it_is_unmasked() -> None:
    bench = Bench(build)
    program_pin(bench, 9, LEVEL | MASKED | 0x39)
    bench.device.set_line(9, True)
    assert bench.log == []
    program_pin(bench, 9, LEVEL | 0x39)
    assert bench.log == [("deliver", 0x39, 0, True)]


def test_a_level_interrupt_waits_for_its_eoi_and_then_comes_again() -> None:
    bench = Bench(build)
    program_pin(bench, 9, LEVEL | 0x39)
    bench.device.set_line(9, True)
    bench.device.set_line(9, True)
    assert len(bench.log) == 1
    assert get(bench.device, 0x22) & REMOTE_IRR
    bench.device.eoi(0x38)
    assert len(bench.log) == 1
    bench.device.eoi(0x39)
    assert len(bench.log) == 2
    bench.device.set_line(9, False)
    bench.device.eoi(0x39)
    assert len(bench.log) == 2
    assert not get(bench.device, 0x22) & REMOTE_IRR


def test_an_active_low_pin_interrupts_while_it_is_low() -> None:
    bench = Bench(build)
    bench.device.set_line(9, True)
    program_pin(bench, 9, LEVEL | LOW | 0x39)
    assert bench.log == []
    bench.device.set_line(9, False)
    assert bench.log == [("deliver", 0x39, 0, True)]


def test_an_active_low_edge_is_a_falling_one() -> None:
    bench = Bench(build)
    bench.device.set_line(3, True)
    program_pin(bench, 3, EDGE | LOW | 0x33)
    bench.device.set_line(3, False)
    bench.device.set_line(3, True)
    assert bench.log == [("deliver", 0x33, 0, False)]


@pytest.mark.parametrize("mode", [2, 4, 5, 7])
def test_modes_other_than_fixed_are_edges_even_when_programmed_as_level(mode: int) -> None:
    bench = Bench(build)
    program_pin(bench, 2, LEVEL | mode << 8 | 0x20)
    bench.device.set_line(2, True)
    assert bench.log == [("deliver", 0x20, mode, False)]
    assert not get(bench.device, 0x14) & REMOTE_IRR


def test_lowest_priority_is_delivered_like_fixed() -> None:
    bench = Bench(build)
    program_pin(bench, 2, LEVEL | 1 << 8 | 0x41)
    bench.device.set_line(2, True)
    assert bench.log == [("deliver", 0x41, 1, True)]
    assert get(bench.device, 0x14) & REMOTE_IRR


def test_the_eoi_register_ends_an_interrupt_on_version_20() -> None:
    bench = Bench(build)
    program_pin(bench, 9, LEVEL | 0x39)
    bench.device.set_line(9, True)
    bench.device.set_line(9, False)
    bench.device.write(0x40, 0x39, 4)
    assert not get(bench.device, 0x22) & REMOTE_IRR


def test_the_82093aa_has_no_eoi_register_but_clears_remote_irr_in_edge_mode() -> None:
    bench = Bench(build_82093aa)
    program_pin(bench, 9, LEVEL | 0x39)
    bench.device.set_line(9, True)
    bench.device.set_line(9, False)
    bench.device.write(0x40, 0x39, 4)
    assert get(bench.device, 0x22) & REMOTE_IRR
    program_pin(bench, 9, MASKED | EDGE | 0x39)
    program_pin(bench, 9, MASKED | LEVEL | 0x39)
    assert not get(bench.device, 0x22) & REMOTE_IRR


@pytest.mark.parametrize("pin", [-1, 24])
def test_a_pin_that_is_not_there_is_named_in_the_error(pin: int) -> None:
    with pytest.raises(ValueError, match=rf"^pin: {pin} is not a pin of the I/O APIC; give 0\.\.23$"):
        Bench(build).device.set_line(pin, True)


def test_the_entries_are_shown_by_name() -> None:
    bench = Bench(build)
    program_pin(bench, 1, LEVEL | 0x31)
    shown = {line.name: line.register for line in describe(bench.device.save())}
    assert repr(shown["redirections[1].entry"]) == "RedirectionEntry(0x8031: LEVEL VECTOR=0x31)"


OFFSETS = st.one_of(st.sampled_from([0, 0x10, 0x40]), st.integers(-4, 0x1010))
LINES = st.tuples(st.just("set_line"), st.integers(0, PINS - 1), st.booleans())
EOIS = st.tuples(st.just("eoi"), st.integers(0, 255))
ENTRY_WRITES = st.tuples(st.just("write"), st.just(0x10), VALUES, st.just(4))


@given(program=register_programs(OFFSETS, LINES, EOIS, ENTRY_WRITES), cut=st.integers(0, 60))
def test_any_program_raises_nothing_and_a_snapshot_within_it_is_invisible(program: Any, cut: int) -> None:
    check_twin(build, program, cut)
