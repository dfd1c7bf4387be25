"""LTR, and what an unusable TR or LDTR does."""

from __future__ import annotations

import pytest

from tests.machine.lab import CODE, DATA, GDT, TSS, TSS_SELECTOR, USER32, Bench
from vlab.isa.descriptors import pack_segment
from vlab.isa.state import Segment
from vlab.isa.svm_exits import SvmExit

GP, NP, TS = 13, 11, 10
SPARE = 0x68
BOTH = 1 << GP | 1 << NP


def describe(lab: Bench, selector: int, attributes: int, base: int = TSS, high: int = 0) -> None:
    raw = int(pack_segment(Segment(0, base, 0x67, attributes)))
    lab.poke(GDT + selector, raw.to_bytes(8, "little") + high.to_bytes(8, "little"))


def ltr(lab: Bench, selector: int, *, long: bool = False) -> tuple[int, int] | None:
    """Execute LTR AX; None, or (vector, error code)."""
    lab.intercept(BOTH)
    state = lab.long64() if long else lab.flat32()
    state.rax = selector
    code = lab.run(state, "0f00d8 f4")
    if code == SvmExit.HLT:
        assert lab.core.rip == CODE + 3
        return None
    assert lab.core.rip == CODE
    return code - SvmExit.EXCP_DE, lab.processor.info1


@pytest.mark.parametrize("attributes", [0x81, 0x89, 0xE9])
def test_an_available_tss_is_loaded_and_marked_busy(lab: Bench, attributes: int) -> None:
    describe(lab, SPARE, attributes, 0x4800)
    assert ltr(lab, SPARE) is None
    assert lab.core.segment("tr") == Segment(SPARE, 0x4800, 0x67, attributes | 2)
    assert lab.peek(GDT + SPARE + 5, 1) == attributes | 2


def test_a_64_bit_tss_has_a_64_bit_base(lab: Bench) -> None:
    describe(lab, SPARE, 0x89, 0x12345678, 0xFFFF8000)
    assert ltr(lab, SPARE, long=True) is None
    assert lab.core.segment("tr").base == 0xFFFF800012345678


@pytest.mark.parametrize(
    ("selector", "attributes", "fault"),
    [
        (0, 0x89, (GP, 0)), (3, 0x89, (GP, 0)),
        (SPARE | 4, 0x89, (GP, SPARE | 4)), (SPARE, 0x8B, (GP, SPARE)),
        (SPARE, 0x83, (GP, SPARE)), (SPARE, 0x82, (GP, SPARE)),
        (SPARE, 0x93, (GP, SPARE)), (SPARE, 0x09, (NP, SPARE)),
        (0xFFF8, 0x89, (GP, 0xFFF8)),
    ],
)  # fmt: skip
def test_anything_else_faults_and_leaves_tr_alone(
    lab: Bench, selector: int, attributes: int, fault: tuple[int, int]
) -> None:
    describe(lab, SPARE, attributes)
    assert ltr(lab, selector) == fault
    assert lab.core.segment("tr").selector == TSS_SELECTOR


@pytest.mark.parametrize("attributes", [0x81, 0x83, 0x8B])
def test_long_mode_has_one_kind_of_tss(lab: Bench, attributes: int) -> None:
    describe(lab, SPARE, attributes)
    assert ltr(lab, SPARE, long=True) == (GP, SPARE)


def test_the_upper_half_of_a_64_bit_descriptor_is_checked(lab: Bench) -> None:
    describe(lab, SPARE, 0x89, high=0x0000_0100_0000_0000)
    assert ltr(lab, SPARE, long=True) == (GP, SPARE)
    describe(lab, SPARE, 0x89, high=0x8000)
    assert ltr(lab, SPARE, long=True) == (GP, SPARE)  # a base that is not canonical
    describe(lab, 0xF8, 0x89)
    assert ltr(lab, 0xF8, long=True) == (GP, 0xF8)  # the upper half is beyond the limit


def test_ltr_takes_its_selector_from_memory_too(lab: Bench) -> None:
    describe(lab, SPARE, 0x89)
    lab.poke(DATA + 4, SPARE.to_bytes(2, "little"))
    state = lab.flat32()
    state.rbx, state.rsi = DATA, 1
    assert lab.run(state, "0f001cb3 f4") == SvmExit.HLT  # LTR [EBX+ESI*4]
    assert lab.core.segment("tr").selector == SPARE
    assert lab.core.rip == CODE + 4


def call_gate(lab: Bench, *, long: bool) -> None:
    """A call gate at SPARE that leads from ring 3 into ring 0."""
    selector = 0x18 if long else 8
    raw = CODE & 0xFFFF | selector << 16 | 0xEC00 << 32 | CODE >> 16 << 48
    lab.poke(GDT + SPARE, raw.to_bytes(16, "little"))


@pytest.mark.parametrize("attributes", [0, 0x82, 0x93, 0x0B, 0x80])
@pytest.mark.parametrize("long", [False, True])
def test_a_call_gate_without_a_usable_tr_is_ts_and_not_the_end_of_the_process(
    lab: Bench, attributes: int, long: bool
) -> None:
    """The emulator calls abort() when it looks for a stack in a TR that holds no TSS."""
    lab.intercept(1 << TS | 1 << GP)
    state = lab.long64(user=True) if long else lab.flat32(user=True)
    state.tr = Segment(TSS_SELECTOR, TSS, 0xFFFF, attributes)
    call_gate(lab, long=long)
    lab.poke(DATA, (SPARE << 32).to_bytes(8, "little"))
    state.rbx = DATA
    assert lab.run(state, "ff1b f4") == SvmExit.EXCP_DE + TS  # CALL FAR [RBX]
    assert lab.processor.info1 == TSS_SELECTOR
    assert lab.core.segment("tr").limit == 0


def test_a_call_gate_with_a_busy_tss_from_a_vmcb_works(lab: Bench) -> None:
    """TR is busy as LTR left it; the emulator would take that for an invalid TSS."""
    state = lab.flat32(user=True)
    state.tr = Segment(TSS_SELECTOR, TSS, 0x67, 0x8B)
    call_gate(lab, long=False)
    lab.code("f4", CODE)
    lab.code(bytes.fromhex("9a00000000") + SPARE.to_bytes(2, "little"), CODE + 0x100)
    state.rip = CODE + 0x100
    assert lab.run(state) == SvmExit.HLT
    assert (lab.core.cpl, lab.core.rip) == (0, CODE)


def test_an_ldtr_that_is_not_present_is_not_read_through(lab: Bench) -> None:
    lab.intercept(1 << GP)
    state = lab.flat32()
    state.ldtr = Segment(0, GDT, 0xFFFF, 0x02)
    state.rax = 0x14
    assert lab.run(state, "8ed8 f4") == SvmExit.EXCP_DE + GP
    assert lab.processor.info1 == 0x14


def test_a_user_program_cannot_load_tr(lab: Bench) -> None:
    lab.intercept(1 << GP)
    state = lab.flat32(user=True)
    assert state.cs.selector == USER32
    assert lab.run(state, "0f00d8") == SvmExit.EXCP_DE + GP
