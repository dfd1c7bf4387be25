"""Faults that arise while an event is delivered: serial, double, triple, and a hypervisor's intercepts."""

from __future__ import annotations

import pytest

from tests.machine.fake_core import (
    CODE0,
    HANDLER,
    IDT_BASE,
    STACK0,
    STACK_IST,
    FakeCore,
    gate32,
    gate64,
    long_core,
    protected_core,
)
from vlab.isa.state import TableRegister
from vlab.isa.vectors import Combination
from vlab.machine.delivery import Delivered, Intercepted, Shutdown, combine, deliver
from vlab.machine.faults import CpuFault, Event, EventKind

IRQ = Event(EventKind.EXTERNAL, 0x20)
DE = Event(EventKind.EXCEPTION, 0)
GP = Event(EventKind.EXCEPTION, 13, error_code=0)
PF = Event(EventKind.EXCEPTION, 14, error_code=2, address=0x1111_0000)
STACK_PAGE = (STACK0 - 1) >> 12


def test_an_interrupt_without_a_gate_becomes_a_general_protection_fault() -> None:
    core = protected_core()
    gate32(core, 13)
    outcome = deliver(core, IRQ)
    assert isinstance(outcome, Delivered)
    (record,) = outcome.chain
    assert record.combination is Combination.SERIAL
    assert core.rip == HANDLER + 13 * 16
    assert core.frame(4, 4) == [0x20 << 3 | 3, 0x1234, CODE0, 0x1_0202]


def test_a_failed_int_n_resumes_at_the_instruction_itself() -> None:
    core = protected_core(ring=3)
    gate32(core, 0x30)
    gate32(core, 13)
    deliver(core, Event(EventKind.SOFTWARE_INT, 0x30, instruction_length=2))
    assert core.frame(4, 2) == [0x30 << 3 | 2, 0x1234]


def test_a_page_fault_without_a_gate_becomes_a_double_fault() -> None:
    core = long_core()
    gate64(core, 8, ist=1)
    outcome = deliver(core, PF)
    assert isinstance(outcome, Delivered)
    assert [(r.event.vector, r.fault.vector, r.combination) for r in outcome.chain] == [
        (14, 13, Combination.DOUBLE)
    ]
    assert (core.rip, core.frame(8, 1)) == (HANDLER + 8 * 16, [0])
    assert core.rsp == STACK_IST - 48
    assert core.cr2 == 0x1111_0000


def test_a_stack_overflow_into_an_unmapped_page_is_a_double_fault_on_its_own_stack() -> None:
    core = long_core()
    core.unmapped.add(STACK_PAGE)
    gate64(core, 14)
    gate64(core, 8, ist=1)
    outcome = deliver(core, PF)
    assert isinstance(outcome, Delivered)
    assert core.rip == HANDLER + 8 * 16
    # the second page fault overwrites CR2 even though it ends as a double fault
    assert core.cr2 == outcome.chain[0].fault.address == STACK0 - 0x108
    assert outcome.chain[0].cr2 == core.cr2


def test_a_page_fault_during_a_contributory_fault_is_serial() -> None:
    core = long_core(ring=3)
    gate64(core, 13)
    gate64(core, 14, ist=1)
    core.unmapped.add(STACK_PAGE)
    outcome = deliver(core, GP)
    assert isinstance(outcome, Delivered)
    assert outcome.chain[0].combination is Combination.SERIAL
    assert core.rip == HANDLER + 14 * 16
    assert core.cr2 == STACK0 - 8


def test_gp_then_pf_then_gp_is_a_double_fault() -> None:
    core = long_core(ring=3)
    core.unmapped.add(STACK_PAGE)
    gate64(core, 13)
    gate64(core, 8, ist=1)
    outcome = deliver(core, GP)
    assert isinstance(outcome, Delivered)
    assert [record.fault.vector for record in outcome.chain] == [14, 13]
    assert core.rip == HANDLER + 8 * 16


def test_an_empty_idt_shuts_down_and_tells_the_whole_story() -> None:
    core = long_core(ring=3)
    core.idtr = TableRegister(IDT_BASE, 0)
    before = core.registers()
    outcome = deliver(core, Event(EventKind.EXCEPTION, 6))
    assert isinstance(outcome, Shutdown)
    assert [(r.event.vector, r.fault.vector) for r in outcome.chain] == [(6, 13), (13, 13), (8, 13)]
    assert [r.combination for r in outcome.chain] == [
        Combination.SERIAL,
        Combination.DOUBLE,
        Combination.SHUTDOWN,
    ]
    assert outcome.chain[-1].why == "the IDT limit 0x0 does not reach #DF at offset 0x80"
    assert outcome.chain[0].describe() == (
        "delivering #UD raised #GP with error code 0x33 because the IDT limit 0x0 does not reach #UD at"
        " offset 0x60 (cs:rip 001b:ffff800000001234, ss:rsp 0023:9f00) -> deliver the second"
    )
    assert core.registers() == before


def test_a_page_fault_while_a_double_fault_is_delivered_shuts_down_and_sets_cr2() -> None:
    core = long_core()
    core.unmapped |= {STACK_PAGE, (STACK_IST - 1) >> 12}
    gate64(core, 14)
    gate64(core, 8, ist=1)
    before = core.registers()
    outcome = deliver(core, PF)
    assert isinstance(outcome, Shutdown)
    assert [record.event.vector for record in outcome.chain] == [14, 8]
    assert core.cr2 == STACK_IST - 8
    assert core.registers() == before


def test_an_unmapped_idt_page_shuts_down() -> None:
    core = protected_core()
    core.unmapped.add(IDT_BASE >> 12)
    outcome = deliver(core, IRQ)
    assert isinstance(outcome, Shutdown)
    assert [record.fault.vector for record in outcome.chain] == [14, 14, 14]
    assert [record.event.vector for record in outcome.chain] == [0x20, 14, 8]


@pytest.mark.parametrize(
    "event",
    [
        Event(EventKind.SOFTWARE_INT, 13, instruction_length=2),
        Event(EventKind.EXTERNAL, 14),
        Event(EventKind.NMI, 2),
        Event(EventKind.SOFTWARE_INT, 8, instruction_length=2),
        Event(EventKind.EXCEPTION, 6),
    ],
)
def test_interrupts_are_benign_whatever_their_vector(event: Event) -> None:
    assert combine(event, GP) is Combination.SERIAL


def test_two_contributory_faults_are_a_double_fault() -> None:
    assert combine(DE, GP) is Combination.DOUBLE
    assert combine(PF, PF) is Combination.DOUBLE
    assert combine(Event(EventKind.EXCEPTION, 8, 0), PF) is Combination.SHUTDOWN


def test_an_intercepted_second_fault_stops_before_it_is_combined() -> None:
    core = long_core(ring=3)
    core.unmapped.add(STACK_PAGE)
    gate64(core, 14)
    before = core.registers()
    outcome = deliver(core, PF, intercepts=lambda vector: vector == 14)
    assert isinstance(outcome, Intercepted)
    assert outcome.fault == Event(EventKind.EXCEPTION, 14, error_code=2, address=STACK0 - 8)
    assert outcome.during == PF
    assert core.registers() == before
    assert core.cr2 == PF.address  # not the address of the intercepted fault


def test_the_same_delivery_succeeds_once_the_hypervisor_has_mapped_the_page() -> None:
    core = long_core(ring=3)
    core.unmapped.add(STACK_PAGE)
    gate64(core, 0x20)
    outcome = deliver(core, IRQ, intercepts=lambda vector: vector == 14)
    assert isinstance(outcome, Intercepted)
    core.unmapped.clear()
    assert deliver(core, outcome.during) == Delivered()
    assert core.frame(8, 1) == [0xFFFF_8000_0000_1234]


def test_an_intercepted_double_fault_names_the_event_that_was_delivered() -> None:
    core = long_core()
    outcome = deliver(core, PF, intercepts=lambda vector: vector == 8)
    assert isinstance(outcome, Intercepted)
    assert (outcome.fault, outcome.during) == (Event(EventKind.EXCEPTION, 8, 0), PF)
    assert outcome.chain[0].combination is Combination.DOUBLE


def test_a_serial_fault_that_is_intercepted_later_names_its_predecessor() -> None:
    core = long_core(ring=3)
    core.unmapped.add(STACK_PAGE)
    gate64(core, 13)
    outcome = deliver(core, IRQ, intercepts=lambda vector: vector == 14)
    assert isinstance(outcome, Intercepted)
    assert outcome.during == Event(EventKind.EXCEPTION, 13, error_code=0x103)


def test_intercepts_are_not_asked_about_the_event_itself() -> None:
    core = long_core()
    gate64(core, 14)
    asked: list[int] = []

    def intercepts(vector: int) -> bool:
        asked.append(vector)
        return True

    assert deliver(core, PF, intercepts=intercepts) == Delivered()
    assert asked == []


class Misaligned(FakeCore):
    """A processor on which every push raises a benign exception."""

    def write(self, linear: int, size: int, value: int, *, user: bool = False) -> None:
        raise CpuFault(17, 0)


def test_benign_faults_without_end_shut_down() -> None:
    core = protected_core()
    core.__class__ = Misaligned
    gate32(core, 17)
    gate32(core, 0x20)
    outcome = deliver(core, IRQ)
    assert isinstance(outcome, Shutdown)
    assert len(outcome.chain) == 8
    assert outcome.chain[-1].why == f"the stack at {STACK0 - 0x104:#x} raised #AC"


class Elsewhere(FakeCore):
    """A processor whose stack lies in a page that the host has to bring in first."""

    def write(self, linear: int, size: int, value: int, *, user: bool = False) -> None:
        raise KeyError(linear)


def test_other_exceptions_pass_through_and_leave_the_registers() -> None:
    core = protected_core()
    gate32(core, 0x20)
    core.__class__ = Elsewhere
    before = core.registers()
    with pytest.raises(KeyError):
        deliver(core, IRQ)
    assert core.registers() == before


def test_a_fault_says_what_it_is() -> None:
    fault = CpuFault(14, 2, 0x1000, why="the stack at 0x1000 is not mapped")
    assert str(fault) == "#PF with error code 0x2 for address 0x1000: the stack at 0x1000 is not mapped"
    assert IRQ.describe() == "external interrupt (vector 0x20)"
