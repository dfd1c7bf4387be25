"""Delivery through 64-bit gates in long mode."""

from __future__ import annotations

import pytest

from tests.machine.fake_core import (
    CODE0,
    CODE1,
    CODE3,
    CONFORMING,
    DATA0,
    DATA3,
    GDT_BASE,
    HANDLER,
    IDT_BASE,
    STACK0,
    STACK1,
    STACK3,
    STACK_IST,
    TSS,
    TSS_BASE,
    FakeCore,
    descriptor,
    gate64,
    long_core,
)
from vlab.isa.descriptors import INTERRUPT_GATE_16, TASK_GATE, TRAP_GATE_32
from vlab.isa.state import Segment, TableRegister
from vlab.machine.delivery import Delivered, FaultRecord, Intercepted, deliver
from vlab.machine.faults import Event, EventKind

IRQ = Event(EventKind.EXTERNAL, 0x20)
PAGE_FAULT = Event(EventKind.EXCEPTION, 14, error_code=6, address=0x7FFF_0000_1000)
RIP = 0xFFFF_8000_0000_1234


def fault_of(core: FakeCore, event: Event) -> FaultRecord:
    before = core.registers()
    outcome = deliver(core, event, intercepts=lambda vector: True)
    assert isinstance(outcome, Intercepted), outcome
    assert core.registers() == before
    (record,) = outcome.chain
    return record


def test_an_interrupt_at_ring_0_pushes_five_quadwords_too() -> None:
    core = long_core()
    gate64(core, 0x20)
    assert deliver(core, IRQ) == Delivered()
    assert core.frame(8, 5) == [RIP, CODE0, 0x202, STACK0 - 0x100, DATA0]
    assert (core.rip, core.rsp) == (HANDLER + 0x200, STACK0 - 0x100 - 40)
    assert core.segments["ss"].selector == DATA0
    assert core.rflags == 2


def test_the_stack_is_aligned_to_16_bytes_before_the_push() -> None:
    core = long_core()
    core.rsp = STACK0 - 0x101
    gate64(core, 0x20)
    deliver(core, IRQ)
    assert core.rsp == STACK0 - 0x110 - 40
    assert core.frame(8, 4)[3] == STACK0 - 0x101


def test_an_interrupt_from_ring_3_takes_rsp0_and_a_null_ss() -> None:
    core = long_core(ring=3)
    gate64(core, 0x20)
    deliver(core, IRQ)
    assert core.frame(8, 5) == [RIP, CODE3 | 3, 0x202, STACK3 - 0x100, DATA3 | 3]
    assert (core.rsp, core.cpl) == (STACK0 - 40, 0)
    assert core.segments["ss"] == Segment(0, 0, 0, 0)
    assert core.segments["cs"] == Segment(CODE0, 0, 0xFFFF_FFFF, 0xA9B)


def test_a_page_fault_from_ring_3_pushes_its_error_code_and_sets_cr2() -> None:
    core = long_core(ring=3)
    gate64(core, 14)
    deliver(core, PAGE_FAULT)
    assert core.frame(8, 4) == [6, RIP, CODE3 | 3, 0x1_0202]
    assert core.rsp == STACK0 - 48
    assert core.cr2 == 0x7FFF_0000_1000


def test_a_ring_1_handler_takes_rsp1_and_the_null_selector_1() -> None:
    core = long_core(ring=3)
    gate64(core, 0x20, selector=CODE1)
    deliver(core, IRQ)
    assert (core.rsp, core.cpl) == (STACK1 - 40, 1)
    assert core.segments["ss"] == Segment(1, 0, 0, 1 << 5)


@pytest.mark.parametrize("ring", [0, 3])
def test_ist_switches_the_stack_whatever_the_ring(ring: int) -> None:
    core = long_core(ring)
    gate64(core, 2, ist=1)
    deliver(core, Event(EventKind.NMI, 2))
    assert core.rsp == STACK_IST - 40
    assert core.segments["ss"].selector == (DATA0 if ring == 0 else 0)


def test_compatibility_mode_is_interrupted_into_64_bit_mode() -> None:
    core = long_core(ring=3)
    core.segments["cs"] = Segment(0x23, 0, 0xFFFF_FFFF, 0xCFB)
    core.rip, core.rsp = 0x0804_8000, 0xFFFF_0004
    gate64(core, 0x80, dpl=3)
    deliver(core, Event(EventKind.SOFTWARE_INT, 0x80, instruction_length=2))
    assert core.frame(8, 4) == [0x0804_8002, 0x23, 0x202, 0xFFFF_0004]
    assert core.segments["cs"].attributes == 0xA9B


def test_a_trap_gate_keeps_if() -> None:
    core = long_core()
    core.rflags = 0x1_4302
    gate64(core, 0x20, TRAP_GATE_32)
    deliver(core, IRQ)
    assert core.rflags == 0x202


def test_a_conforming_handler_stays_at_ring_3_on_the_users_stack() -> None:
    core = long_core(ring=3)
    gate64(core, 0x20, selector=CONFORMING)
    deliver(core, IRQ)
    assert (core.cpl, core.rsp) == (3, STACK3 - 0x100 - 40)
    assert core.segments["ss"].selector == DATA3 | 3
    assert core.accesses[-1] == ("write", core.rsp, 40, True)


@pytest.mark.parametrize("kind", [0, TASK_GATE, INTERRUPT_GATE_16, 0xC])
def test_legacy_gates_are_no_gates_in_long_mode(kind: int) -> None:
    core = long_core()
    gate64(core, 0x20, kind)
    record = fault_of(core, IRQ)
    assert (record.fault.vector, record.error_code) == (13, 0x20 << 3 | 3)
    assert f"has type {kind:#x}, no gate of this mode" in record.why


def test_the_idt_limit_counts_16_bytes_an_entry() -> None:
    core = long_core()
    core.idtr = TableRegister(IDT_BASE, 0x20 * 16 + 14)
    record = fault_of(core, IRQ)
    assert record.why == "the IDT limit 0x20e does not reach vector 0x20 at offset 0x200"


def test_an_absent_gate_is_segment_not_present() -> None:
    core = long_core()
    gate64(core, 14, present=False)
    record = fault_of(core, PAGE_FAULT)
    assert (record.fault.vector, record.error_code) == (11, 14 << 3 | 3)
    assert record.why == f"IDT entry 14 (#PF) at {IDT_BASE + 0xE0:#x} is not present"


def test_int_n_from_ring_3_needs_a_dpl_3_gate() -> None:
    core = long_core(ring=3)
    gate64(core, 0x80)
    record = fault_of(core, Event(EventKind.SOFTWARE_INT, 0x80, instruction_length=2))
    assert (record.fault.vector, record.error_code) == (13, 0x80 << 3 | 2)


@pytest.mark.parametrize(
    ("selector", "attributes", "vector", "code", "why"),
    [
        (0, None, 13, 1, "the gate's code segment selector is null"),
        (0x0FF8, None, 13, 0x0FF9, "is outside the GDT"),
        (DATA0, None, 13, DATA0 | 1, "names no code segment"),
        (CODE3, None, 13, CODE3 | 1, "has DPL 3, less privileged than CPL 0"),
        (CODE0, 0xC9B, 13, CODE0 | 1, "is not a 64-bit one (L=1, D=0)"),
        (CODE0, 0xE9B, 13, CODE0 | 1, "is not a 64-bit one (L=1, D=0)"),
        (CODE0, 0xA1B, 11, CODE0 | 1, "is not present"),
    ],
)
def test_a_bad_code_segment_faults_with_its_selector(
    selector: int, attributes: int | None, vector: int, code: int, why: str
) -> None:
    core = long_core()
    if attributes is not None:
        descriptor(core, selector, 0, 0xFFFF_FFFF, attributes)
    gate64(core, 0x20, selector=selector)
    record = fault_of(core, IRQ)
    assert (record.fault.vector, record.error_code) == (vector, code)
    assert why in record.why


def test_a_non_canonical_handler_is_a_general_protection_fault() -> None:
    core = long_core()
    gate64(core, 0x20, offset=0x8000_0000_0000)
    record = fault_of(core, IRQ)
    assert (record.fault.vector, record.error_code) == (13, 1)
    assert record.why == "the handler's address 0x800000000000 is not canonical"


@pytest.mark.parametrize("top", [0xFFFF_8000_0000_0010, 0x0000_8000_0000_0010, 0x10])
def test_a_stack_that_leaves_the_canonical_range(top: int) -> None:
    core = long_core(ring=3)
    core.poke(TSS_BASE + 4, top.to_bytes(8, "little"))
    gate64(core, 0x20)
    if top == 0x10:  # pushes wrap around zero, into the canonical top half
        assert deliver(core, IRQ) == Delivered()
        assert core.rsp == (1 << 64) - 24
    else:
        record = fault_of(core, IRQ)
        assert (record.fault.vector, record.error_code) == (12, 1)
        assert record.why.endswith("is not canonical")


def test_a_stack_at_the_very_top_of_the_low_half_works() -> None:
    core = long_core(ring=3)
    core.poke(TSS_BASE + 4, (1 << 47).to_bytes(8, "little"))
    gate64(core, 0x20)
    assert deliver(core, IRQ) == Delivered()


@pytest.mark.parametrize(
    ("task", "ist", "why"),
    [
        (Segment(TSS, TSS_BASE, 0x0A, 0x8B), 0, "RSP0 lies beyond the TSS limit 0xa"),
        (Segment(TSS, TSS_BASE, 0x2A, 0x8B), 1, "IST1 lies beyond the TSS limit 0x2a"),
        (Segment(TSS, TSS_BASE, 0x67, 0x83), 0, "RSP0 is needed, but TR (0x0028) holds no 64-bit TSS"),
        (Segment(TSS, TSS_BASE, 0x67, 0x0B), 0, "RSP0 is needed, but TR (0x0028) holds no 64-bit TSS"),
    ],
)
def test_a_tss_without_the_stack_is_an_invalid_tss(task: Segment, ist: int, why: str) -> None:
    core = long_core(ring=3)
    core.segments["tr"] = task
    gate64(core, 0x20, ist=ist)
    record = fault_of(core, IRQ)
    assert (record.fault.vector, record.error_code, record.why) == (10, TSS | 1, why)


def test_an_unmapped_ist_stack_is_a_page_fault_at_the_first_push() -> None:
    core = long_core(ring=3)
    core.unmapped.add((STACK_IST - 1) >> 12)
    gate64(core, 8, ist=1)
    record = fault_of(core, Event(EventKind.EXCEPTION, 8, error_code=0))
    assert record.fault.address == STACK_IST - 8
    assert record.why == f"the stack at {STACK_IST - 8:#x} is not mapped"


def test_an_unmapped_tss_is_told() -> None:
    core = long_core(ring=3)
    core.unmapped.add(TSS_BASE >> 12)
    gate64(core, 0x20)
    assert fault_of(core, IRQ).why == f"RSP0 in the TSS at {TSS_BASE + 4:#x} is not mapped"


def test_an_unmapped_gdt_is_told() -> None:
    core = long_core()
    core.unmapped.add(GDT_BASE >> 12)
    gate64(core, 0x20)
    assert fault_of(core, IRQ).why == f"GDT entry 1 at {GDT_BASE + 8:#x} is not mapped"


def test_loading_cs_sets_its_accessed_bit() -> None:
    core = long_core()
    descriptor(core, CODE0, 0, 0xFFFF_FFFF, 0xA9A)
    gate64(core, 0x20)
    deliver(core, IRQ)
    assert core.peek(GDT_BASE + CODE0 + 5, 1) == 0x9B
    assert core.segments["cs"].attributes == 0xA9B


def test_an_accessed_bit_that_cannot_be_set_is_a_page_fault() -> None:
    core = long_core()
    descriptor(core, CODE0, 0, 0xFFFF_FFFF, 0xA9A)
    core.read_only.add(GDT_BASE >> 12)
    gate64(core, 0x20)
    why = "the descriptor's accessed bit at 0x100d is on a page that does not allow the access"
    assert fault_of(core, IRQ).why == why


def test_a_system_call_gate_costs_three_reads_and_one_write() -> None:
    core = long_core(ring=3)
    gate64(core, 14)
    deliver(core, PAGE_FAULT)
    assert [(kind, size) for kind, _, size, _ in core.accesses] == [
        ("read", 16),
        ("read", 8),
        ("read", 8),
        ("write", 48),
    ]
