"""The hardware task switch: through task gates, back from there, and its second half alone."""

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
    LDT,
    LDT_BASE,
    STACK0,
    STACK3,
    STACK_IST,
    TSS,
    TSS2,
    TSS2_BASE,
    TSS_BASE,
    FakeCore,
    descriptor,
    gate32,
    protected_core,
    use_16_bit_tss,
)
from vlab.isa.descriptors import INTERRUPT_GATE_32, TASK_GATE, TSS_16_AVAILABLE
from vlab.isa.state import Segment
from vlab.isa.tss import Tss16, Tss32
from vlab.machine.delivery import (
    Cause,
    Delivered,
    FaultRecord,
    Intercepted,
    TaskSwitch,
    deliver,
    finish_task_switch,
    return_to_task,
    switch_task,
)
from vlab.machine.faults import CpuFault, Event, EventKind

IRQ = Event(EventKind.EXTERNAL, 0x20)
DF = Event(EventKind.EXCEPTION, 8, error_code=0)


def task_core(ring: int = 0, **changes: int) -> FakeCore:
    """A protected core with task gates 8 and 0x20 to the task of TSS2; `changes` are fields of its TSS."""
    core = protected_core(ring)
    core.cr0 |= 0x8000_0000
    core.cr3 = 0x1000
    core.gprs[:8] = [0x1_0000_0000 + 0x100 * n + 0xA for n in range(8)]
    for vector in (8, 0x20):
        gate32(core, vector, TASK_GATE, TSS2, offset=0)
    image = bytearray(Tss32.SIZE)
    tss = Tss32(image)
    tss.cr3, tss.eip, tss.eflags = 0x7000, 0x5000, 0x2
    tss.eax, tss.ecx, tss.edx, tss.ebx = 0x11, 0x22, 0x33, 0x44
    tss.esp, tss.ebp, tss.esi, tss.edi = STACK_IST, 0x66, 0x77, 0x88
    tss.cs, tss.ss, tss.ds, tss.es, tss.fs, tss.gs = CODE0, DATA0, DATA0, DATA3, 0, DATA0
    tss.ldt = LDT
    for name, value in changes.items():
        setattr(tss, name, value)
    core.poke(TSS2_BASE, bytes(image))
    return core


def fault_of(core: FakeCore, event: Event, switched: bool = False) -> FaultRecord:
    before = core.registers()
    outcome = deliver(core, event, intercepts=lambda vector: True)
    assert isinstance(outcome, Intercepted), outcome
    assert (core.registers() != before) == switched
    return outcome.chain[0]


def test_a_task_gate_loads_the_new_task() -> None:
    core = task_core(ring=3)
    assert deliver(core, IRQ) == Delivered()
    assert (core.rip, core.rsp, core.cpl, core.cr3) == (0x5000, STACK_IST, 0, 0x7000)
    assert core.gprs[:4] == [0x11, 0x22, 0x33, 0x44]
    assert core.gprs[5:8] == [0x66, 0x77, 0x88]
    assert [core.segments[n].selector for n in ("cs", "ss", "ds", "es", "fs", "gs", "ldtr", "tr")] == [
        *(CODE0, DATA0, DATA0, DATA3, 0, DATA0, LDT, TSS2)
    ]
    assert core.segments["cs"] == Segment(CODE0, 0, 0xFFFF_FFFF, 0xC9B)
    assert core.segments["tr"] == Segment(TSS2, TSS2_BASE, 0x67, 0x8B)
    assert core.segments["ldtr"] == Segment(LDT, LDT_BASE, 0xFF, 0x82)


def test_the_old_task_is_saved_in_its_tss() -> None:
    core = task_core(ring=3)
    deliver(core, IRQ)
    image = bytes(core.peek(TSS_BASE + n, 1) for n in range(Tss32.SIZE))
    tss = Tss32(image)
    assert (tss.eip, tss.eflags) == (0x1234, 0x202)
    assert (tss.eax, tss.edi, tss.esp) == (0xA, 0x70A, STACK3 - 0x100)
    assert (tss.cs, tss.ss, tss.ds, tss.gs) == (CODE3 | 3, DATA3 | 3, DATA3 | 3, DATA3 | 3)
    assert tss.cr3 == 0


def test_the_new_task_is_nested_and_both_are_busy() -> None:
    core = task_core()
    deliver(core, IRQ)
    assert core.rflags == 0x4002
    assert core.peek(TSS2_BASE, 2) == TSS
    assert core.peek(GDT_BASE + TSS2 + 5, 1) == 0x8B
    assert core.peek(GDT_BASE + TSS + 5, 1) == 0x8B


def test_ts_is_set_and_local_breakpoints_are_off() -> None:
    core = task_core()
    core.dr7 = 0x7FF
    deliver(core, IRQ)
    assert core.cr0 & 8
    assert core.dr7 == 0x7FF & ~0x155


def test_without_paging_cr3_stays() -> None:
    core = task_core()
    core.cr0 &= 0x7FFF_FFFF
    deliver(core, IRQ)
    assert core.cr3 == 0x1000


def test_the_error_code_goes_on_the_new_stack() -> None:
    core = task_core()
    deliver(core, Event(EventKind.EXCEPTION, 8, error_code=0x1_0042))
    assert core.rsp == STACK_IST - 4
    assert core.frame(4, 1) == [0x1_0042]


def test_a_fault_saves_rf_and_a_software_interrupt_the_next_instruction() -> None:
    core = task_core()
    gate32(core, 13, TASK_GATE, TSS2, offset=0)
    deliver(core, Event(EventKind.EXCEPTION, 13, error_code=0))
    assert core.peek(TSS_BASE + 0x24, 4) == 0x1_0202
    core = task_core(ring=3)
    gate32(core, 0x80, TASK_GATE, TSS2, offset=0, dpl=3)
    deliver(core, Event(EventKind.SOFTWARE_INT, 0x80, instruction_length=2))
    assert core.peek(TSS_BASE + 0x20, 4) == 0x1236


def test_a_ring_3_task_runs_at_ring_3() -> None:
    core = task_core(cs=CODE3 | 3, ss=DATA3 | 3, ds=DATA3 | 3, gs=0)
    assert deliver(core, DF) == Delivered()
    assert core.cpl == 3
    assert ("write", STACK_IST - 4, 4, True) in core.accesses


def test_a_virtual_8086_task_has_real_mode_segments() -> None:
    core = task_core(eflags=0x20002, cs=0x1000, ss=0x2000, ds=0x3000, esp=0x100)
    assert deliver(core, IRQ) == Delivered()
    assert (core.cpl, core.rflags) == (3, 0x24002)
    assert core.segments["cs"] == Segment(0x1000, 0x10000, 0xFFFF, 0xF3)
    assert core.segments["ss"].base == 0x20000


def test_segments_of_the_new_task_may_lie_in_its_ldt() -> None:
    core = task_core(cs=0x0C, ss=DATA0)
    core.segments["ldtr"] = Segment(0, 0, 0, 0)
    descriptor(core, 0x0C, 0, 0xFFFF_FFFF, 0xC9B)
    assert deliver(core, IRQ) == Delivered()
    assert core.segments["cs"].selector == 0x0C


def test_a_16_bit_task_switches_too() -> None:
    core = task_core()
    descriptor(core, TSS2, TSS2_BASE, 0x2B, 0x80 | TSS_16_AVAILABLE)
    image = bytearray(Tss16.SIZE)
    tss = Tss16(image)
    tss.ip, tss.flags, tss.ax, tss.sp = 0x400, 0x2, 0x99, 0x4000
    tss.cs, tss.ss, tss.ds, tss.es = CODE0, DATA0, DATA0, DATA0
    core.poke(TSS2_BASE, bytes(image))
    assert deliver(core, DF) == Delivered()
    assert (core.rip, core.rsp, core.gprs[0], core.cr3) == (0x400, 0x4000 - 2, 0x99, 0x1000)
    assert core.segments["fs"] == Segment(0, 0, 0, 0)
    assert core.segments["tr"].attributes == 0x83


def test_leaving_a_16_bit_task_saves_words() -> None:
    core = task_core()
    use_16_bit_tss(core)
    deliver(core, IRQ)
    image = bytes(core.peek(TSS_BASE + n, 1) for n in range(Tss16.SIZE))
    tss = Tss16(image)
    assert (tss.ip, tss.flags, tss.ax, tss.sp, tss.cs) == (0x1234, 0x202, 0xA, STACK0 - 0x100, CODE0)


@pytest.mark.parametrize(
    ("selector", "attributes", "limit", "vector", "why"),
    [
        (0, None, 0, 13, "the task gate's selector 0x0000 is null or in the LDT"),
        (TSS2 | 4, None, 0, 13, "the task gate's selector 0x0034 is null or in the LDT"),
        (0x0FF8, None, 0, 13, "the task gate's TSS 0x0ff8 is outside the GDT"),
        (CODE0, None, 0, 13, "the task gate's selector 0x0008 names no available TSS"),
        (TSS, None, 0, 13, "the task gate's selector 0x0028 names no available TSS"),
        (TSS2, 0x09, 0x67, 11, "the TSS 0x0030 is not present"),
        (TSS2, 0x89, 0x66, 10, "the TSS 0x0030 has a limit of 0x66, too small"),
        (TSS2, 0x81, 0x2A, 10, "the TSS 0x0030 has a limit of 0x2a, too small"),
    ],
)
def test_a_bad_tss_faults_in_the_old_task(
    selector: int, attributes: int | None, limit: int, vector: int, why: str
) -> None:
    core = task_core()
    gate32(core, 0x20, TASK_GATE, selector, offset=0)
    if attributes is not None:
        descriptor(core, TSS2, TSS2_BASE, limit, attributes)
    record = fault_of(core, IRQ)
    assert (record.fault.vector, record.error_code) == (vector, selector | 1)
    assert record.why.startswith(why)


def test_without_a_tss_for_the_old_task_there_is_no_switch() -> None:
    core = task_core()
    core.segments["tr"] = Segment(TSS, TSS_BASE, 0x20, 0x8B)
    record = fault_of(core, IRQ)
    assert (record.fault.vector, record.error_code) == (10, TSS | 1)
    assert record.why == "TR (0x0028) holds no TSS to save the task in"


@pytest.mark.parametrize(
    ("changes", "vector", "code", "why"),
    [
        ({"ldt": 0x0C}, 10, 0x0D, "the new task's LDT selector 0x000c is in the LDT"),
        ({"ldt": DATA0}, 10, DATA0 | 1, "names no present LDT"),
        ({"ldt": 0x0FF8}, 10, 0x0FF9, "the new task's LDT 0x0ff8 is outside the GDT"),
        ({"cs": 0}, 10, 1, "the new task's CS is null"),
        ({"cs": DATA0}, 10, DATA0 | 1, "the new task's CS 0x0010 is no code segment"),
        ({"cs": CODE3}, 10, CODE3 | 1, "the new task's CS 0x0018 has DPL 3 but RPL 0"),
        ({"cs": CODE1 | 3}, 10, CODE1 & ~3 | 1, "has DPL 1 but RPL 3"),
        ({"cs": 0x58}, 11, 0x59, "the new task's CS 0x0058 is not present"),
        ({"ss": 0}, 10, 1, "the stack selector for ring 0 is null"),
        ({"ss": DATA1 | 1}, 10, DATA1 | 1, "has RPL 1 and DPL 1, not both 0"),
        ({"ss": 0x60}, 12, 0x61, "the stack segment 0x0060 is not present"),
        ({"ds": TSS}, 10, TSS | 1, "the new task's DS 0x0028 is not readable"),
        ({"ds": DATA0 | 3}, 10, DATA0 | 1, "the new task's DS 0x0013 has DPL 0, too privileged"),
        ({"gs": 0x68}, 10, 0x69, "the new task's GS 0x0068 is not readable"),
        ({"es": 0x60}, 11, 0x61, "the new task's ES 0x0060 is not present"),
    ],
)
def test_a_bad_segment_faults_in_the_new_task(
    changes: dict[str, int], vector: int, code: int, why: str
) -> None:
    core = task_core(**changes)
    descriptor(core, 0x58, 0, 0xFFFF_FFFF, 0xC1B)
    descriptor(core, 0x60, 0, 0xFFFF_FFFF, 0xC13)
    descriptor(core, 0x68, 0, 0xFFFF_FFFF, 0xC98)  # execute-only
    record = fault_of(core, IRQ, switched=True)
    assert (record.fault.vector, record.error_code) == (vector, code)
    assert why in record.why
    assert (record.rip, core.segments["tr"].selector) == (0x5000, TSS2)


def test_conforming_code_is_readable_from_every_ring() -> None:
    core = task_core(cs=CODE3 | 3, ss=DATA3 | 3, ds=CONFORMING | 3, gs=0)
    assert deliver(core, IRQ) == Delivered()
    assert core.segments["ds"].selector == CONFORMING | 3


def test_an_eip_beyond_the_new_cs_is_a_fault_of_the_new_task() -> None:
    core = task_core(cs=0x58, eip=0x2_0000)
    descriptor(core, 0x58, 0, 0xFFFF, 0x49B)
    record = fault_of(core, IRQ, switched=True)
    assert (record.fault.vector, record.error_code) == (13, 1)
    assert record.why == "the new task's EIP 0x20000 is beyond its CS limit"


def test_a_new_stack_without_room_for_the_error_code_is_a_stack_fault() -> None:
    core = task_core(ss=0x58)
    descriptor(core, 0x58, 0, 0xFF, 0x493)
    record = fault_of(core, DF, switched=True)
    assert (record.fault.vector, record.error_code) == (12, 1)


@pytest.mark.parametrize("page", [TSS_BASE >> 12, LDT_BASE >> 12, (STACK_IST - 1) >> 12])
def test_a_page_fault_leaves_the_old_task_and_the_switch_can_be_repeated(page: int) -> None:
    core = task_core(cs=0x0C)
    descriptor(core, 0x0C, 0, 0xFFFF_FFFF, 0xC9B)
    core.unmapped.add(page)
    record = fault_of(core, DF)
    assert record.fault.vector == 14
    core.unmapped.clear()
    assert deliver(core, DF) == Delivered()


def test_an_intercepted_task_switch_changes_nothing() -> None:
    core = task_core()
    before = core.registers()
    assert deliver(core, DF, intercept_task_switch=True) == TaskSwitch(TSS2, DF)
    assert core.registers() == before


def test_an_intercepted_task_switch_on_the_way_keeps_the_chain() -> None:
    core = task_core()
    outcome = deliver(core, Event(EventKind.EXCEPTION, 14, 0, 0), intercept_task_switch=True)
    assert isinstance(outcome, TaskSwitch)
    assert outcome.during == DF
    assert [record.fault.vector for record in outcome.chain] == [13]


def test_a_double_fault_task_survives_a_broken_stack() -> None:
    core = task_core()
    core.segments["ss"] = Segment(0, 0, 0, 0)
    gate32(core, 13)
    outcome = deliver(core, Event(EventKind.EXCEPTION, 13, error_code=0))
    assert isinstance(outcome, Delivered)
    assert (core.rip, core.segments["tr"].selector) == (0x5000, TSS2)


def test_a_new_tss_that_is_not_mapped_is_a_page_fault_of_the_old_task() -> None:
    core = task_core()
    descriptor(core, TSS2, 0xC000, 0x67, 0x89)
    core.unmapped.add(0xC)
    record = fault_of(core, IRQ)
    assert (record.fault.vector, record.fault.address) == (14, 0xC000)
    assert record.why == "the TSS of the new task at 0xc000 is not mapped"


# --- the second half of a switch that the processor has begun -----------------------------------------------


def switched_core(**changes: int) -> FakeCore:
    """What is there after the first half: the old task saved, TR and CR0.TS and EFLAGS of the new one."""
    core = task_core(ring=3, **changes)
    core.segments["tr"] = Segment(TSS2, TSS2_BASE, 0x67, 0x8B)
    core.cr0 |= 8
    core.rflags = core.peek(TSS2_BASE + 0x24, 4)
    return core


def test_the_second_half_loads_the_task_of_tr() -> None:
    core = switched_core()
    finish_task_switch(core)
    assert (core.rip, core.rsp, core.cpl, core.cr3) == (0x5000, STACK_IST, 0, 0x7000)
    assert core.gprs[:4] == [0x11, 0x22, 0x33, 0x44]
    assert core.segments["cs"] == Segment(CODE0, 0, 0xFFFF_FFFF, 0xC9B)
    assert core.segments["ldtr"] == Segment(LDT, LDT_BASE, 0xFF, 0x82)
    assert core.segments["tr"] == Segment(TSS2, TSS2_BASE, 0x67, 0x8B)


def test_the_second_half_writes_neither_tss_nor_busy_bits() -> None:
    core = switched_core()
    before = [core.peek(base, 0x68) for base in (TSS_BASE, TSS2_BASE)]
    finish_task_switch(core)
    assert [core.peek(base, 0x68) for base in (TSS_BASE, TSS2_BASE)] == before
    assert core.peek(GDT_BASE + TSS2 + 5, 1) == 0x89


@pytest.mark.parametrize("nested", [0, 0x4000])
def test_the_second_half_keeps_the_nested_flag_that_the_first_has_set(nested: int) -> None:
    core = switched_core()
    core.rflags |= nested
    finish_task_switch(core)
    assert core.rflags == 2 | nested


def test_the_second_half_reads_descriptors_in_the_new_address_space_and_the_tss_in_the_old() -> None:
    core = switched_core()
    spaces: dict[int, int] = {}
    read, read_bytes = core.read, core.read_bytes

    def noted(linear: int, size: int, *, user: bool = False) -> int:
        spaces[linear & ~0x7FF] = core.cr3
        return read(linear, size, user=user)

    def noted_bytes(linear: int, size: int) -> bytes:
        spaces[linear] = core.cr3
        return read_bytes(linear, size)

    core.read, core.read_bytes = noted, noted_bytes  # type: ignore[method-assign]
    finish_task_switch(core)
    assert spaces[TSS2_BASE] == 0x1000
    assert spaces[GDT_BASE] == 0x7000


def test_the_second_half_leaves_cr3_alone_without_paging_and_for_a_16_bit_task() -> None:
    core = switched_core()
    core.cr0 &= 0x7FFF_FFFF
    finish_task_switch(core)
    assert core.cr3 == 0x1000
    core = switched_core()
    image = bytearray(Tss16.SIZE)
    tss = Tss16(image)
    tss.ip, tss.flags, tss.sp = 0x400, 0x2, 0x4000
    tss.cs, tss.ss, tss.ds, tss.es = CODE0, DATA0, DATA0, DATA0
    core.poke(TSS2_BASE, bytes(image))
    core.segments["tr"] = Segment(TSS2, TSS2_BASE, 0x2B, 0x83)
    finish_task_switch(core)
    assert (core.rip, core.cr3, core.segments["ss"].selector) == (0x400, 0x1000, DATA0)


def test_the_second_half_enters_a_virtual_8086_task() -> None:
    core = switched_core(eflags=0x20002, cs=0x1000, ss=0x2000, ds=0x3000, esp=0x100)
    finish_task_switch(core)
    assert (core.cpl, core.rflags) == (3, 0x20002)
    assert core.segments["cs"] == Segment(0x1000, 0x10000, 0xFFFF, 0xF3)


@pytest.mark.parametrize(
    ("changes", "unmapped", "vector", "code"),
    [
        ({"cs": 0}, None, 10, 0),
        ({"ldt": DATA0}, None, 10, DATA0),
        ({"ds": TSS}, None, 10, TSS),
        ({"eip": 0x2_0000, "cs": 0x58}, None, 13, 0),
        ({"ldt": 0}, GDT_BASE >> 12, 14, 0),
    ],
)
def test_what_is_wrong_with_the_new_task_is_a_fault_of_the_new_task(
    changes: dict[str, int], unmapped: int | None, vector: int, code: int
) -> None:
    core = switched_core(**changes)
    descriptor(core, 0x58, 0, 0xFFFF, 0x49B)
    core.unmapped |= set() if unmapped is None else {unmapped}
    with pytest.raises(CpuFault) as caught:
        finish_task_switch(core)
    assert (caught.value.vector, caught.value.error_code) == (vector, code)
    assert (core.rip, core.cr3, core.segments["tr"].selector) == (changes.get("eip", 0x5000), 0x7000, TSS2)


# --- the T bit, and switches by JMP and CALL ---------------------------------------------------------------


def test_the_t_bit_traps_behind_the_switch_of_an_event() -> None:
    core = task_core(debug_trap=1)
    gate32(core, 1, INTERRUPT_GATE_32, CODE0, offset=0x6000)
    outcome = deliver(core, IRQ)
    assert isinstance(outcome, Delivered)
    assert [str(record.why) for record in outcome.chain] == ["the T bit of the TSS 0x0030 is set"]
    assert (core.rip, core.frame(4, 3)) == (0x6000, [0x5000, CODE0, 0x4002])
    assert core.dr6 & 1 << 15
    assert core.segments["tr"].selector == TSS2


def test_a_fault_of_the_new_tasks_comes_before_its_t_bit() -> None:
    core = task_core(debug_trap=1, ds=CODE3 | 4)
    assert fault_of(core, IRQ, switched=True).fault.vector == 10
    assert not core.dr6 & 1 << 15


@pytest.mark.parametrize(
    ("cause", "flags", "link", "busy"), [(Cause.JMP, 2, 0, 0x89), (Cause.CALL, 0x4002, TSS, 0x8B)]
)
def test_a_call_nests_and_a_jmp_leaves_the_old_task_available(
    cause: Cause, flags: int, link: int, busy: int
) -> None:
    core = task_core()
    switch_task(core, TSS2, ext=0, next_rip=0x1239, flags=0x202, error_code=None, cause=cause)
    assert (core.rip, core.rflags, core.peek(TSS2_BASE, 2)) == (0x5000, flags, link)
    assert (core.peek(GDT_BASE + TSS + 5, 1), core.peek(GDT_BASE + TSS2 + 5, 1)) == (busy, 0x8B)
    assert (core.peek(TSS_BASE + 0x20, 4), core.peek(TSS_BASE + 0x24, 4)) == (0x1239, 0x202)


@pytest.mark.parametrize("cause", [Cause.JMP, Cause.CALL])
def test_a_page_fault_behind_the_saving_of_the_old_task_is_the_new_ones(cause: Cause) -> None:
    core = task_core(ldt=0, cs=0x1FF8)
    core.gdtr.limit = 0xFFFF
    core.unmapped.add(GDT_BASE + 0x1FF8 >> 12)
    with pytest.raises(CpuFault) as caught:
        switch_task(core, TSS2, ext=0, next_rip=0x1239, flags=0x202, error_code=None, cause=cause)
    assert (caught.value.vector, caught.value.address) == (14, GDT_BASE + 0x1FF8)
    assert (core.rip, core.cr3, core.segments["tr"].selector) == (0x5000, 0x7000, TSS2)


# --- IRET with NT set ---------------------------------------------------------------------------------------


def nested_core() -> FakeCore:
    """The task of TSS2, entered from the one of TSS through a task gate, about to return."""
    core = task_core(ring=3)
    assert deliver(core, IRQ) == Delivered()
    core.poke(TSS_BASE + 0x1C, (0x1000).to_bytes(4, "little"))  # the processor does not save CR3
    core.gprs[0], core.rip = 0xABCD, 0x5040
    return core


def test_the_task_before_goes_on_where_it_was() -> None:
    core = nested_core()
    return_to_task(core, next_rip=0x5041)
    assert (core.rip, core.rsp, core.cpl, core.rflags, core.cr3) == (0x1234, STACK3 - 0x100, 3, 0x202, 0x1000)
    assert core.gprs[:3] == [0xA, 0x10A, 0x20A]
    assert core.segments["cs"].selector == CODE3 | 3
    assert core.segments["tr"] == Segment(TSS, TSS_BASE, 0x67, 0x8B)
    assert core.cr0 & 8, "the x87 state still belongs to the task that was left"


def test_the_task_that_is_left_is_available_and_no_longer_nested() -> None:
    core = nested_core()
    return_to_task(core, next_rip=0x5041)
    tss = Tss32(bytes(core.peek(TSS2_BASE + n, 1) for n in range(Tss32.SIZE)))
    assert (tss.eip, tss.eflags, tss.eax) == (0x5041, 2, 0xABCD)
    assert core.peek(GDT_BASE + TSS2 + 5, 1) == 0x89
    assert core.peek(GDT_BASE + TSS + 5, 1) == 0x8B


def test_a_task_can_be_entered_again_after_it_has_returned() -> None:
    core = nested_core()
    return_to_task(core, next_rip=0x5041)
    assert deliver(core, IRQ) == Delivered()
    assert (core.rip, core.gprs[0]) == (0x5041, 0xABCD)


def test_a_16_bit_task_is_returned_to() -> None:
    core = task_core()
    use_16_bit_tss(core)
    descriptor(core, TSS, TSS_BASE, 0x2B, 0x83)
    core.segments["ldtr"] = Segment(0, 0, 0, 0)
    deliver(core, IRQ)
    return_to_task(core, next_rip=0x5041)
    assert (core.rip, core.gprs[0], core.cr3) == (0x1234, 0xA, 0x7000)
    assert core.segments["tr"].attributes == 0x83


@pytest.mark.parametrize(
    ("link", "attributes", "limit", "vector", "why"),
    [
        (0, None, 0, 10, "the back link 0x0000 is null or in the LDT"),
        (TSS | 4, None, 0, 10, "the back link 0x002c is null or in the LDT"),
        (0x0FF8, None, 0, 10, "the back link's TSS 0x0ff8 is outside the GDT"),
        (CODE0, None, 0, 10, "the back link 0x0008 names no busy TSS"),
        (TSS, 0x89, 0x67, 10, "the back link 0x0028 names no busy TSS"),
        (TSS, 0x0B, 0x67, 11, "the TSS 0x0028 is not present"),
        (TSS, 0x8B, 0x66, 10, "the TSS 0x0028 has a limit of 0x66, too small"),
    ],
)
def test_a_bad_back_link_faults_in_the_task_that_wants_to_return(
    link: int, attributes: int | None, limit: int, vector: int, why: str
) -> None:
    core = nested_core()
    core.poke(TSS2_BASE, link.to_bytes(2, "little"))
    if attributes is not None:
        descriptor(core, TSS, TSS_BASE, limit, attributes)
    before, tss = core.registers(), core.peek(TSS2_BASE, 0x68)
    with pytest.raises(CpuFault) as caught:
        return_to_task(core, next_rip=0x5041)
    assert (caught.value.vector, caught.value.error_code) == (vector, link & 0xFFFC)
    assert caught.value.why.startswith(why)
    assert (core.registers(), core.peek(TSS2_BASE, 0x68)) == (before, tss)


def test_a_page_fault_on_the_way_back_leaves_the_task_and_the_return_can_be_repeated() -> None:
    core = nested_core()
    before = core.registers()
    core.unmapped.add(TSS_BASE >> 12)
    with pytest.raises(CpuFault) as caught:
        return_to_task(core, next_rip=0x5041)
    assert caught.value.vector == 14
    assert core.registers() == before
    core.unmapped.clear()
    return_to_task(core, next_rip=0x5041)
    assert core.rip == 0x1234


def test_a_bad_segment_of_the_task_before_is_its_own_fault() -> None:
    core = nested_core()
    core.poke(TSS_BASE + 0x54, DATA0.to_bytes(2, "little"))  # DS, for ring 3
    with pytest.raises(CpuFault) as caught:
        return_to_task(core, next_rip=0x5041)
    assert (caught.value.vector, caught.value.error_code) == (10, DATA0)
    assert (core.rip, core.segments["tr"].selector) == (0x1234, TSS)
