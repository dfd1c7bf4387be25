"""Addresses are read as people write them, the same by every view and magic."""

from __future__ import annotations

import re

import pytest

import vlab
from vlab.addresses import REGISTERS, held_in, read_address
from vlab.errors import UnusableInput
from vlab.isa.state import Mode


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("0x1000", 0x1000), ("4096", 4096), (" 0XC010_0000 ", 0xC0100000), ("0xffff`8000", 0xFFFF8000),
        ("0b101", 5), ("0o17", 15), ("0x" + "f" * 16, 2**64 - 1), ("cr2", 0xDEAD), ("Rip", 0x10), ("idtr", 0),
    ],
)  # fmt: skip
def test_numbers_and_registers_are_read(text: str, address: int) -> None:
    assert read_address(text, {"CR2": 0xDEAD, "RIP": 0x10}) == address


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("c0100000", "or as one of RIP, RSP, CR2, GDTR, IDTR; did you mean 0xc0100000?"),
        (
            "main",
            "there: 'main' is no address; write it in hexadecimal as 0xc0100000, in decimal, or as one of",
        ),
        ("-1", "there: '-1' is not between 0 and 0xffffffffffffffff; a linear address has 64 bits"),
        ("0x1" + "0" * 16, "a linear address has 64 bits"),
        ("", "there: '' is no address"),
    ],
)
def test_what_is_no_address_is_refused_with_what_to_write(text: str, message: str) -> None:
    with pytest.raises(UnusableInput, match=re.escape(message)):
        read_address(text, {}, "there")


def test_a_segment_begins_where_its_base_is_but_in_64_bit_mode() -> None:
    with vlab.VM("longmode") as vm:
        state = vm.registers()
        state.cs.base, state.rip, state.ss.base, state.rsp = 0x7000, 0x1_0000_0C00, 0x9000, 0x10
        held = held_in(state)
        assert tuple(held) == REGISTERS
        assert (held["RIP"], held["RSP"]) == (0x7C00, 0x9010)
        vm.run(until=lambda vm: vm.registers().mode is Mode.LONG64, timeout=20)
        state = vm.registers()
        state.cs.base, state.ss.base = 0x7000, 0x9000
        held = held_in(state)
    assert (held["RIP"], held["RSP"], held["GDTR"]) == (state.rip, state.rsp, state.gdtr.base)
