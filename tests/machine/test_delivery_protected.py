"""Delivery through 16- and 32-bit gates of legacy protected mode."""

from __future__ import annotations

import pytest

from tests.machine.fake_core import (
    CODE0,
    CODE1,
    CODE3,
    CONFORMING,
    DATA0,
    DATA1,
    DATA3,
    GDT_BASE,
    HANDLER,
    IDT_BASE,
    STACK0,
    STACK1,
    STACK3,
    TSS,
    TSS_BASE,
    FakeCore,
    descriptor,
    enter_ring,
    gate32,
    protected_core,
    use_16_bit_tss,
)
from vlab.isa.descriptors import (
    CALL_GATE_32,
    INTERRUPT_GATE_16,
    INTERRUPT_GATE_32,
    TRAP_GATE_16,
    TRAP_GATE_32,
)
from vlab.isa.state import Segment, TableRegister
from vlab.machine.delivery import Delivered, FaultRecord, Intercepted, deliver
from vlab.machine.faults import Event, EventKind

IRQ = Event(EventKind.EXTERNAL, 0x20)
INT80 = Event(EventKind.SOFTWARE_INT, 0x80, instruction_length=2)
PAGE_FAULT = Event(EventKind.EXCEPTION, 14, error_code=7, address=0xDEAD_B000)


def fault_of(core: FakeCore, event: Event) -> FaultRecord:
    """Deliver with every exception intercepted and give the first fault; registers must not change."""
    before = core.registers()
    outcome = deliver(core, event, intercepts=lambda vector: True)
    assert isinstance(outcome, Intercepted), outcome
    assert outcome.during == event
    assert core.registers() == before
    (record,) = outcome.chain
    return record


def test_an_interrupt_at_ring_0_pushes_three_doublewords() -> None:
    core = protected_core()
    gate32(core, 0x20)
    assert deliver(core, IRQ) == Delivered()
    assert core.frame(4, 3) == [0x1234, CODE0, 0x202]
    assert (core.rip, core.rsp) == (HANDLER + 0x200, STACK0 - 0x100 - 12)
    assert core.segments["cs"] == Segment(CODE0, 0, 0xFFFF_FFFF, 0xC9B)


def test_an_interrupt_from_ring_3_switches_to_the_stack_of_the_tss() -> None:
    core = protected_core(ring=3)
    gate32(core, 0x20)
    deliver(core, IRQ)
    assert core.frame(4, 5) == [0x1234, CODE3 | 3, 0x202, STACK3 - 0x100, DATA3 | 3]
    assert core.rsp == STACK0 - 20
    assert core.cpl == 0
    assert core.segments["ss"] == Segment(DATA0, 0, 0xFFFF_FFFF, 0xC93)
    assert core.segments["ds"].selector == DATA3 | 3


def test_a_page_fault_pushes_its_error_code_last_and_sets_cr2_and_rf() -> None:
    core = protected_core(ring=3)
    gate32(core, 14)
    deliver(core, PAGE_FAULT)
    assert core.frame(4, 6) == [7, 0x1234, CODE3 | 3, 0x1_0202, STACK3 - 0x100, DATA3 | 3]
    assert core.cr2 == 0xDEAD_B000


@pytest.mark.parametrize(
    ("kind", "interrupts"), [(INTERRUPT_GATE_32, 0), (TRAP_GATE_32, 0x200)], ids=["interrupt", "trap"]
)
def test_only_an_interrupt_gate_clears_if(kind: int, interrupts: int) -> None:
    core = protected_core()
    core.rflags = 0x1_4FD7
    gate32(core, 0x20, kind)
    deliver(core, IRQ)
    assert core.rflags == 0x0CD7 & ~0x200 | interrupts
    assert core.frame(4, 3)[2] == 0x1_4FD7


@pytest.mark.parametrize(
    ("event", "image"),
    [
        (Event(EventKind.EXCEPTION, 6), 0x1_0202),
        (Event(EventKind.EXCEPTION, 1), 0x202),
        (Event(EventKind.EXCEPTION, 8, error_code=0), 0x202),
        (Event(EventKind.EXCEPTION, 3), 0x202),
        (IRQ, 0x202),
    ],
    ids=["#UD", "#DB", "#DF", "#BP", "interrupt"],
)
def test_rf_is_set_in_the_image_of_faults_alone(event: Event, image: int) -> None:
    core = protected_core()
    gate32(core, event.vector)
    deliver(core, event)
    assert core.frame(4, 4)[3 if event.error_code is not None else 2] == image


def test_a_software_interrupt_pushes_rf_clear_and_the_next_instruction() -> None:
    core = protected_core(ring=3)
    core.rflags |= 1 << 16
    gate32(core, 0x80, TRAP_GATE_32, dpl=3)
    deliver(core, INT80)
    assert core.frame(4, 3) == [0x1236, CODE3 | 3, 0x202]


@pytest.mark.parametrize("kind", [EventKind.SOFTWARE_INT, EventKind.INT3, EventKind.INTO])
def test_software_interrupts_need_a_gate_of_their_ring(kind: EventKind) -> None:
    core = protected_core(ring=3)
    gate32(core, 3, dpl=2)
    record = fault_of(core, Event(kind, 3, instruction_length=1))
    assert (record.fault.vector, record.error_code) == (13, 3 << 3 | 2)
    assert record.why == f"IDT entry 3 (#BP) at {IDT_BASE + 24:#x} has DPL 2, closed to INT at CPL 3"


@pytest.mark.parametrize("kind", [EventKind.EXTERNAL, EventKind.NMI, EventKind.EXCEPTION, EventKind.ICEBP])
def test_hardware_events_and_icebp_ignore_the_gate_dpl(kind: EventKind) -> None:
    core = protected_core(ring=3)
    gate32(core, 1, dpl=0)
    assert deliver(core, Event(kind, 1)) == Delivered()


def test_an_interrupt_that_carries_an_error_code_pushes_none() -> None:
    core = protected_core()
    gate32(core, 0x20)
    deliver(core, Event(EventKind.EXTERNAL, 0x20, error_code=5))
    assert core.rsp == STACK0 - 0x100 - 12


def test_a_short_idt_is_a_general_protection_fault_with_idt_and_ext() -> None:
    core = protected_core()
    core.idtr = TableRegister(IDT_BASE, 0x20 * 8 + 6)
    record = fault_of(core, IRQ)
    assert (record.fault.vector, record.error_code) == (13, 0x20 << 3 | 3)
    assert record.why == "the IDT limit 0x106 does not reach vector 0x20 at offset 0x100"


@pytest.mark.parametrize("kind", [0, CALL_GATE_32, 0x2, 0x9])
def test_an_entry_that_is_no_gate_is_a_general_protection_fault(kind: int) -> None:
    core = protected_core()
    gate32(core, 0x20, kind)
    record = fault_of(core, IRQ)
    assert (record.fault.vector, record.error_code) == (13, 0x20 << 3 | 3)
    assert f"has type {kind:#x}, no gate of this mode" in record.why


def test_an_entry_with_s_set_is_no_gate() -> None:
    core = protected_core()
    gate32(core, 0x20)
    core.poke(IDT_BASE + 0x105, b"\x9e")
    assert "has type 0x1e, no gate" in fault_of(core, IRQ).why


def test_an_absent_gate_is_segment_not_present() -> None:
    core = protected_core()
    gate32(core, 0x20, present=False)
    record = fault_of(core, IRQ)
    assert (record.fault.vector, record.error_code) == (11, 0x20 << 3 | 3)
    assert record.why == f"IDT entry 32 (vector 0x20) at {IDT_BASE + 0x100:#x} is not present"


def test_ext_is_clear_when_a_software_interrupt_meets_an_absent_gate() -> None:
    core = protected_core()
    gate32(core, 0x80, dpl=3, present=False)
    assert fault_of(core, INT80).error_code == 0x80 << 3 | 2


def test_an_unmapped_idt_is_a_page_fault() -> None:
    core = protected_core()
    core.unmapped.add(IDT_BASE >> 12)
    record = fault_of(core, IRQ)
    assert (record.fault.vector, record.fault.address) == (14, IDT_BASE + 0x100)
    assert record.why == f"IDT entry 32 at {IDT_BASE + 0x100:#x} is not mapped"


@pytest.mark.parametrize(
    ("selector", "attributes", "vector", "code", "why"),
    [
        (0x0003, None, 13, 1, "the gate's code segment selector is null"),
        (0x0FF8, None, 13, 0x0FF9, "the gate's code segment 0x0ff8 is outside the GDT (limit 0xff)"),
        (0x0108, None, 13, 0x0109, "is outside the GDT"),
        (DATA0, None, 13, DATA0 | 1, "names no code segment"),
        (TSS, None, 13, TSS | 1, "names no code segment"),
        (CODE3, None, 13, CODE3 | 1, "has DPL 3, less privileged than CPL 0"),
        (CODE0, 0xC1B, 11, CODE0 | 1, "the gate's code segment 0x0008 is not present"),
    ],
)
def test_a_bad_code_segment_faults_with_its_selector(
    selector: int, attributes: int | None, vector: int, code: int, why: str
) -> None:
    core = protected_core()
    if attributes is not None:
        descriptor(core, selector, 0, 0xFFFF_FFFF, attributes)
    gate32(core, 0x20, selector=selector)
    record = fault_of(core, IRQ)
    assert (record.fault.vector, record.error_code) == (vector, code)
    assert why in record.why


def test_a_code_segment_in_the_ldt_is_found_there() -> None:
    core = protected_core()
    descriptor(core, 0x0C, 0, 0xFFFF_FFFF, 0xC9B)
    gate32(core, 0x20, selector=0x0C)
    assert deliver(core, IRQ) == Delivered()
    assert core.segments["cs"].selector == 0x0C


def test_a_code_segment_in_an_absent_ldt_is_outside_it() -> None:
    core = protected_core()
    core.segments["ldtr"] = Segment(0, 0, 0xFFFF, 0)
    gate32(core, 0x20, selector=0x0C)
    assert "is outside the LDT (limit -0x1)" in fault_of(core, IRQ).why


def test_a_conforming_handler_runs_at_the_interrupted_ring() -> None:
    core = protected_core(ring=3)
    gate32(core, 0x20, selector=CONFORMING)
    deliver(core, IRQ)
    assert (core.cpl, core.segments["cs"].selector) == (3, CONFORMING | 3)
    assert core.rsp == STACK3 - 0x100 - 12
    assert ("write", core.rsp, 12, True) in core.accesses


def test_a_ring_1_handler_gets_the_second_stack() -> None:
    core = protected_core(ring=3)
    gate32(core, 0x20, selector=CODE1)
    deliver(core, IRQ)
    assert (core.cpl, core.rsp) == (1, STACK1 - 20)
    assert (core.segments["cs"].selector, core.segments["ss"].selector) == (CODE1 | 1, DATA1 | 1)


def test_the_handler_must_lie_within_its_segment() -> None:
    core = protected_core()
    descriptor(core, CODE0, 0, 0xFFFF, 0x49B)
    gate32(core, 0x20, offset=0x1_0000)
    record = fault_of(core, IRQ)
    assert (record.fault.vector, record.error_code) == (13, 1)
    assert record.why == "the handler's offset 0x10000 is beyond its segment's limit 0xffff"


def test_loading_segments_sets_their_accessed_bits() -> None:
    core = protected_core(ring=3)
    descriptor(core, CODE0, 0, 0xFFFF_FFFF, 0xC9A)
    descriptor(core, DATA0, 0, 0xFFFF_FFFF, 0xC92)
    gate32(core, 0x20)
    deliver(core, IRQ)
    assert (core.peek(GDT_BASE + CODE0 + 5, 1), core.peek(GDT_BASE + DATA0 + 5, 1)) == (0x9B, 0x93)
    assert (core.segments["cs"].attributes, core.segments["ss"].attributes) == (0xC9B, 0xC93)


@pytest.mark.parametrize(
    ("selector", "attributes", "vector", "code", "why"),
    [
        (0x0000, None, 10, 1, "the stack selector for ring 0 is null"),
        (0x0FF8, None, 10, 0x0FF9, "the stack segment 0x0ff8 is outside the GDT"),
        (DATA0 | 1, None, 10, DATA0 | 1, "has RPL 1 and DPL 0, not both 0"),
        (DATA3, None, 10, DATA3 | 1, "has RPL 0 and DPL 3, not both 0"),
        (CODE0, None, 10, CODE0 | 1, "is not writable data"),
        (DATA0, 0xC91, 10, DATA0 | 1, "the stack segment 0x0010 is not writable data"),
        (DATA0, 0xC82, 10, DATA0 | 1, "is not writable data"),
        (DATA0, 0xC13, 12, DATA0 | 1, "the stack segment 0x0010 is not present"),
    ],
)
def test_a_bad_inner_stack_segment_faults_with_its_selector(
    selector: int, attributes: int | None, vector: int, code: int, why: str
) -> None:
    core = protected_core(ring=3)
    if attributes is not None:
        descriptor(core, selector, 0, 0xFFFF_FFFF, attributes)
    core.poke(TSS_BASE + 8, selector.to_bytes(2, "little"))
    gate32(core, 0x20)
    record = fault_of(core, IRQ)
    assert (record.fault.vector, record.error_code) == (vector, code)
    assert why in record.why


@pytest.mark.parametrize(
    ("task", "why"),
    [
        (Segment(TSS, TSS_BASE, 0x0A, 0x8B), "the ring 0 stack lies beyond the TSS limit 0xa"),
        (Segment(TSS, TSS_BASE, 0x67, 0x82), "a ring 0 stack is needed, but TR (0x0028) holds no TSS"),
        (Segment(TSS, TSS_BASE, 0x04, 0x83), "the ring 0 stack lies beyond the TSS limit 0x4"),
    ],
)
def test_a_tss_without_the_stack_is_an_invalid_tss(task: Segment, why: str) -> None:
    core = protected_core(ring=3)
    core.segments["tr"] = task
    gate32(core, 0x20)
    record = fault_of(core, IRQ)
    assert (record.fault.vector, record.error_code, record.why) == (10, TSS | 1, why)


def test_an_unmapped_inner_stack_is_a_page_fault_at_the_first_push() -> None:
    core = protected_core(ring=3)
    core.unmapped.add((STACK0 - 1) >> 12)
    gate32(core, 0x20)
    record = fault_of(core, IRQ)
    assert (record.fault.vector, record.fault.address, record.error_code) == (14, STACK0 - 4, 2)
    assert record.why == f"the stack at {STACK0 - 4:#x} is not mapped"


def test_a_frame_across_two_pages_faults_in_the_upper_one_first() -> None:
    core = protected_core()
    core.rsp = 0x9004
    core.unmapped |= {8, 9}
    gate32(core, 0x20)
    assert fault_of(core, IRQ).fault.address == 0x9000


def test_a_frame_across_two_pages_faults_in_the_lower_one_when_the_upper_is_there() -> None:
    core = protected_core()
    core.rsp = 0x9004
    core.unmapped.add(8)
    gate32(core, 0x20)
    assert fault_of(core, IRQ).fault.address == 0x8FFC


def test_a_read_only_stack_is_told_from_an_unmapped_one() -> None:
    core = protected_core()
    core.read_only.add((STACK0 - 0x101) >> 12)
    gate32(core, 0x20)
    record = fault_of(core, IRQ)
    assert record.error_code == 3
    assert record.why.endswith("is on a page that does not allow the access")


def test_an_inner_stack_without_room_names_its_selector() -> None:
    core = protected_core(ring=3)
    descriptor(core, DATA0, 0, STACK0 - 8, 0x493)
    gate32(core, 0x20)
    record = fault_of(core, IRQ)
    assert (record.fault.vector, record.error_code) == (12, DATA0 | 1)
    assert record.why == "a push to 0010:7fec is outside the stack segment (limit 0x7ff8)"


def test_the_current_stack_without_room_names_no_selector() -> None:
    core = protected_core()
    core.segments["ss"] = Segment(DATA0, 0, 0x100, 0x493)
    gate32(core, 0x20)
    record = fault_of(core, IRQ)
    assert (record.fault.vector, record.error_code) == (12, 1)


def test_an_expand_down_stack_holds_only_what_lies_above_its_limit() -> None:
    core = protected_core()
    gate32(core, 0x20)
    core.segments["ss"] = Segment(DATA0, 0, STACK0 - 0x100 - 13, 0x497)
    assert deliver(core, IRQ) == Delivered()
    core = protected_core()
    gate32(core, 0x20)
    core.segments["ss"] = Segment(DATA0, 0, STACK0 - 0x100 - 12, 0x497)
    assert fault_of(core, IRQ).why.endswith("(limit 0x7ef4, expand-down)")


def test_a_16_bit_stack_moves_only_sp_and_wraps() -> None:
    core = protected_core()
    core.segments["ss"] = Segment(DATA0, 0x2_0000, 0xFFFF, 0x093)
    core.rsp = 0x5555_0004
    gate32(core, 0x20)
    assert deliver(core, IRQ) == Delivered()
    assert core.rsp == 0x5555_FFF8
    assert (core.peek(0x2_0000, 4), core.peek(0x2_FFFC, 4), core.peek(0x2_FFF8, 4)) == (0x202, CODE0, 0x1234)


def test_a_16_bit_gate_pushes_words_and_truncates_the_error_code() -> None:
    core = protected_core()
    core.rip = 0x1_1234
    gate32(core, 14, INTERRUPT_GATE_16)
    deliver(core, Event(EventKind.EXCEPTION, 14, error_code=0x5_0002, address=0))
    assert core.frame(2, 4) == [2, 0x1234, CODE0, 0x202]
    assert (core.rip, core.rsp) == (0x1E0, STACK0 - 0x100 - 8)
    assert not core.rflags & 0x200


def test_a_16_bit_trap_gate_keeps_if() -> None:
    core = protected_core()
    gate32(core, 0x20, TRAP_GATE_16)
    deliver(core, IRQ)
    assert core.rflags & 0x200


def test_a_16_bit_gate_from_ring_3_pushes_five_words() -> None:
    core = protected_core(ring=3)
    gate32(core, 0x20, INTERRUPT_GATE_16)
    deliver(core, IRQ)
    assert core.frame(2, 5) == [0x1234, CODE3 | 3, 0x202, STACK3 - 0x100, DATA3 | 3]
    assert core.rsp == STACK0 - 10


def test_a_16_bit_tss_gives_a_16_bit_stack_pointer() -> None:
    core = protected_core(ring=3)
    use_16_bit_tss(core)
    gate32(core, 0x20)
    deliver(core, IRQ)
    assert (core.segments["ss"].selector, core.rsp) == (DATA0, STACK0 - 20)


def test_addresses_wrap_at_4_gb() -> None:
    core = protected_core()
    core.idtr = TableRegister(0xFFFF_FF00, 0x7FF)
    core.poke(0, core.peek(IDT_BASE, 1).to_bytes(1, "little"))
    gate = (CODE0 << 16 | 0x8E00 << 32 | 0x4440).to_bytes(8, "little")
    core.poke(0x00, gate)
    assert deliver(core, IRQ) == Delivered()
    assert core.rip == 0x4440


def test_a_handler_in_the_same_ring_1_keeps_the_stack() -> None:
    core = protected_core()
    enter_ring(core, 1)
    gate32(core, 0x20, selector=CODE1)
    deliver(core, IRQ)
    assert (core.cpl, core.rsp) == (1, STACK1 - 0x100 - 12)


def test_a_ring_change_costs_four_reads_and_one_write() -> None:
    core = protected_core(ring=3)
    gate32(core, 0x20)
    deliver(core, IRQ)
    assert [(kind, size) for kind, _, size, _ in core.accesses] == [("read", 8)] * 4 + [("write", 20)]
