"""Delivery out of virtual-8086 mode, through the protected-mode IDT."""

from __future__ import annotations

import pytest

from tests.machine.fake_core import (
    CODE1,
    CODE3,
    CONFORMING,
    DATA0,
    HANDLER,
    STACK0,
    gate32,
    virtual_8086_core,
)
from vlab.isa.descriptors import INTERRUPT_GATE_16, TRAP_GATE_32
from vlab.isa.state import Segment
from vlab.machine.delivery import Delivered, Intercepted, deliver
from vlab.machine.faults import Event, EventKind

IRQ = Event(EventKind.EXTERNAL, 0x20)
INT21 = Event(EventKind.SOFTWARE_INT, 0x21, instruction_length=2)


def test_an_interrupt_saves_all_segments_and_nulls_the_data_segments() -> None:
    core = virtual_8086_core()
    gate32(core, 0x20)
    assert deliver(core, IRQ) == Delivered()
    # IP CS FLAGS SP SS, then ES DS FS GS upwards
    assert core.frame(4, 9) == [0x56, 0x1000, 0x23202, 0x7800, 0x2000, 0x4000, 0x3000, 0x5000, 0x6000]
    assert (core.rip, core.rsp, core.cpl) == (HANDLER + 0x200, STACK0 - 36, 0)
    assert [core.segments[name] for name in ("ds", "es", "fs", "gs")] == [Segment(0, 0, 0, 0)] * 4
    assert core.segments["ss"].selector == DATA0
    assert core.rflags == 0x3002


def test_a_trap_gate_keeps_if_but_leaves_virtual_8086_mode() -> None:
    core = virtual_8086_core()
    gate32(core, 0x20, TRAP_GATE_32)
    deliver(core, IRQ)
    assert core.rflags == 0x3202


def test_an_error_code_lies_below_the_frame() -> None:
    core = virtual_8086_core()
    gate32(core, 13)
    deliver(core, Event(EventKind.EXCEPTION, 13, error_code=0))
    assert core.frame(4, 4) == [0, 0x56, 0x1000, 0x33202]


def test_a_16_bit_gate_pushes_nine_words() -> None:
    core = virtual_8086_core()
    gate32(core, 0x20, INTERRUPT_GATE_16)
    deliver(core, IRQ)
    assert core.frame(2, 9) == [0x56, 0x1000, 0x3202, 0x7800, 0x2000, 0x4000, 0x3000, 0x5000, 0x6000]


@pytest.mark.parametrize("selector", [CODE1, CODE3, CONFORMING])
def test_only_a_nonconforming_ring_0_handler_may_be_entered(selector: int) -> None:
    core = virtual_8086_core()
    gate32(core, 0x20, selector=selector)
    before = core.registers()
    outcome = deliver(core, IRQ, intercepts=lambda vector: True)
    assert isinstance(outcome, Intercepted)
    assert (outcome.fault.vector, outcome.fault.error_code) == (13, selector | 1)
    assert outcome.chain[0].why == f"virtual-8086 mode needs a ring 0 handler, not {selector:#06x}"
    assert core.registers() == before


def test_int_n_needs_iopl_3() -> None:
    core = virtual_8086_core()
    core.rflags = 0x22202
    gate32(core, 0x21, dpl=3)
    outcome = deliver(core, INT21, intercepts=lambda vector: True)
    assert isinstance(outcome, Intercepted)
    assert (outcome.fault.vector, outcome.fault.error_code) == (13, 0)
    assert outcome.chain[0].why == "INT n in virtual-8086 mode needs IOPL 3"


def test_int_n_with_iopl_3_goes_through_a_dpl_3_gate() -> None:
    core = virtual_8086_core()
    gate32(core, 0x21, dpl=3)
    deliver(core, INT21)
    assert core.frame(4, 1) == [0x58]


def test_int3_does_not_ask_for_iopl() -> None:
    core = virtual_8086_core()
    core.rflags = 0x20202
    gate32(core, 3, dpl=3)
    assert deliver(core, Event(EventKind.INT3, 3, instruction_length=1)) == Delivered()
