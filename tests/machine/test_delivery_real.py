"""Delivery in real mode: the interrupt vector table and the frame of three words."""

from __future__ import annotations

from tests.machine.fake_core import FakeCore, real_core, vector16
from vlab.isa.state import Segment, TableRegister
from vlab.machine.delivery import Delivered, Shutdown, deliver
from vlab.machine.faults import Event, EventKind

TIMER = Event(EventKind.EXTERNAL, 8)


def test_an_interrupt_pushes_flags_cs_ip_and_enters_the_vector() -> None:
    core = real_core()
    core.segments["cs"] = Segment(0x1234, 0x12340, 0xFFFF, 0x9B)
    vector16(core, 8, 0xF000, 0xFEA5)
    assert deliver(core, TIMER) == Delivered()
    assert core.frame(2, 3) == [0x7C12, 0x1234, 0x202]
    assert (core.rip, core.rsp) == (0xFEA5, 0x7000 - 6)
    assert core.segments["cs"] == Segment(0xF000, 0xF0000, 0xFFFF, 0x9B)


def test_an_interrupt_clears_if_tf_and_ac_and_keeps_the_rest() -> None:
    core = real_core()
    core.rflags = 0x47FD7
    vector16(core, 8, 0, 0x600)
    deliver(core, TIMER)
    assert core.rflags == 0x47FD7 & ~0x40300
    assert core.frame(2, 3)[2] == 0x7FD7


def test_a_software_interrupt_returns_behind_the_instruction() -> None:
    core = real_core()
    vector16(core, 0x10, 0xF000, 0x100)
    deliver(core, Event(EventKind.SOFTWARE_INT, 0x10, instruction_length=2))
    assert core.frame(2, 3)[0] == 0x7C14


def test_an_exception_pushes_no_error_code() -> None:
    core = real_core()
    vector16(core, 13, 0xF000, 0x100)
    deliver(core, Event(EventKind.EXCEPTION, 13, error_code=0))
    assert core.rsp == 0x7000 - 6


def test_the_vector_table_is_where_idtr_points() -> None:
    core = real_core()
    core.idtr = TableRegister(0x2_0000, 0x3FF)
    vector16(core, 8, 0x3000, 0x40)
    deliver(core, TIMER)
    assert (core.segments["cs"].base, core.rip) == (0x30000, 0x40)


def test_a_stack_pointer_of_zero_wraps_to_the_top_of_the_segment() -> None:
    core = real_core()
    core.rsp = 0xABCD_0002
    vector16(core, 8, 0, 0x600)
    deliver(core, TIMER)
    assert core.rsp == 0xABCD_FFFC
    assert core.peek(0x9000, 2) == 0x202
    assert (core.peek(0x9000 + 0xFFFE, 2), core.peek(0x9000 + 0xFFFC, 2)) == (0, 0x7C12)


def test_an_odd_stack_pointer_that_wraps_is_a_stack_fault_and_shuts_down() -> None:
    core = real_core()
    core.rsp = 1
    for vector in range(32):
        vector16(core, vector, 0xF000, 0x100)
    before = core.registers()
    outcome = deliver(core, TIMER)
    assert isinstance(outcome, Shutdown)
    assert [record.fault.vector for record in outcome.chain] == [12, 12, 12]
    assert outcome.chain[0].why == "a push to 0900:ffff is outside the stack segment (limit 0xffff)"
    assert core.registers() == before


def test_a_table_limit_of_zero_shuts_down_with_the_whole_chain() -> None:
    core = real_core()
    core.idtr = TableRegister(0, 0)
    outcome = deliver(core, Event(EventKind.EXCEPTION, 6))
    assert isinstance(outcome, Shutdown)
    assert [record.event.vector for record in outcome.chain] == [6, 13, 8]
    assert outcome.chain[0].why == "the interrupt table's limit 0x0 does not reach #UD"
    assert (outcome.chain[0].cs, outcome.chain[0].rip) == (0, 0x7C12)


def test_a_handler_beyond_the_cs_limit_is_a_general_protection_fault() -> None:
    core = real_core()
    core.segments["cs"] = Segment(0, 0, 0x7FFF, 0x9B)
    vector16(core, 8, 0, 0x9000)
    vector16(core, 13, 0, 0x500)
    outcome = deliver(core, TIMER)
    assert isinstance(outcome, Delivered)
    assert outcome.chain[0].why == "the handler's offset 0x9000 is beyond the CS limit 0x7fff"
    assert core.rip == 0x500


def test_a_big_stack_segment_uses_all_of_esp() -> None:
    core = real_core()
    core.segments["ss"] = Segment(0, 0, 0xFFFF_FFFF, 0xC93)
    core.rsp = 0x2_0000
    vector16(core, 8, 0, 0x600)
    deliver(core, TIMER)
    assert core.rsp == 0x2_0000 - 6


def test_real_mode_costs_one_read_and_one_write() -> None:
    core: FakeCore = real_core()
    vector16(core, 8, 0, 0x600)
    deliver(core, TIMER)
    assert core.accesses == [("read", 0x20, 4, False), ("write", 0x9000 + 0x6FFA, 6, False)]
