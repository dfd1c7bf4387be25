"""Interrupts that arrive anywhere in translated code: at each boundary, held back, and from HLT."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.vmm.translation_lab import OUT, STACK, Lab, open_lab, program32, world32

LOOP = (
    "b9c8000000fbe82b0000009cfaff0500300000a108400000ff05043000003b05084000007406ff05083000009db87900"
    "0400ffd0eb0f5159c383050c30000001fa9c9dfbc3b88c000400ffe09cfb90fa9d4975b2a108400000a310300000fa"
)
"""200 times: calls, returns and jumps by register, flags saved and restored, and two regions with interrupts
off. OUT counts turns; OUT + 8 counts those in which TICKS changed between CLI and POPFD; OUT + 16 is TICKS.
"""
SHADOW = (
    "b928000000faa108400000bae02e00004a75fd3b05084000007522fb8b1d084000008b3508400000fa29c3011d003000"
    "0029c6013504300000e2caeb06ff0508300000"
)
"""40 times: wait with interrupts off, STI, and read TICKS with each of the next two instructions."""
HALT = "b905000000fbf4e2fcfaa108400000"


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    yield from open_lab(tmp_path_factory.mktemp("guest"))


def timer(count: int) -> bytes:
    """Set up the 8259s and channel 0 of the 8254, rate generator, ``count`` ticks."""
    ports = ((0x20, 0x11), (0x21, 0x20), (0x21, 4), (0x21, 1), (0x21, 0xFE), (0xA1, 0xFF), (0x43, 0x34))
    code = b"".join(bytes((0xB0, value, 0xE6, port)) for port, value in ports)
    code += bytes((0xB0, count & 0xFF, 0xE6, 0x40, 0xB0, count >> 8, 0xE6, 0x40))
    return code.ljust(54, b"\x90")


@pytest.mark.parametrize("count", range(20, 60))
def test_the_timer_may_arrive_anywhere_and_changes_nothing(lab: Lab, count: int) -> None:
    outcome = lab.run(program32(timer(count) + bytes.fromhex(LOOP)), "binary-translation", world32())
    turns, behind, changed, called, ticks = outcome.words(OUT, 5)
    assert outcome.stop.exit_code == 3, outcome.stop
    assert (turns, behind, changed, called) == (200, 200, 0, 200)
    assert ticks > 0
    assert outcome.state.rsp == STACK
    assert outcome.log == ()


@pytest.mark.parametrize("monitor", ["none", "binary-translation"])
def test_a_held_interrupt_comes_one_instruction_behind_sti(lab: Lab, monitor: str) -> None:
    outcome = lab.run(program32(timer(60) + bytes.fromhex(SHADOW)), monitor, world32())
    in_shadow, behind, leaked = outcome.words(OUT, 3)
    assert outcome.stop.exit_code == 3, outcome.stop
    assert (in_shadow, leaked) == (0, 0)
    assert 40 <= behind < 45


def test_an_interrupt_wakes_a_halted_kernel(lab: Lab) -> None:
    outcome = lab.twins(program32(timer(60) + bytes.fromhex(HALT)), world32())
    assert outcome.words(OUT + 0x40, 1) == (5,)
