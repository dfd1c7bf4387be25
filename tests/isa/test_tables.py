"""Vectors, MSRs, descriptors, task-state segments and the register file."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vlab.isa import msr, vectors
from vlab.isa.control import EFER
from vlab.isa.descriptors import (
    CALL_GATE_16,
    INTERRUPT_GATE_16,
    INTERRUPT_GATE_32,
    TSS_32_BUSY,
    Gate,
    Gate64,
    SegmentAttributes,
    SegmentDescriptor,
    Selector,
    SystemDescriptor64,
    attributes_of,
    pack_segment,
    unpack_segment,
)
from vlab.isa.msr import Msr
from vlab.isa.state import CpuState, Mode, Segment, TableRegister
from vlab.isa.tss import Tss64, io_allowed
from vlab.isa.vectors import Combination, FaultClass, Vector, class_of, double_fault, has_error_code

# --- vectors


def test_the_vectors_that_push_an_error_code_are_those_of_table_8_1() -> None:
    assert {str(v) for v in Vector if has_error_code(v)} == {"#DF", "#TS", "#NP", "#SS", "#GP", "#PF", "#AC"}
    assert not has_error_code(0x20)


@pytest.mark.parametrize(
    ("first", "second", "outcome"),
    [
        (Vector.DB, Vector.GP, Combination.SERIAL),
        (0x20, Vector.PF, Combination.SERIAL),
        (Vector.NMI, Vector.NP, Combination.SERIAL),
        (Vector.GP, Vector.DB, Combination.SERIAL),
        (Vector.GP, Vector.GP, Combination.DOUBLE),
        (Vector.DE, Vector.NP, Combination.DOUBLE),
        (Vector.GP, Vector.PF, Combination.SERIAL),
        (Vector.PF, Vector.PF, Combination.DOUBLE),
        (Vector.PF, Vector.SS, Combination.DOUBLE),
        (Vector.PF, Vector.UD, Combination.SERIAL),
        (Vector.DF, Vector.GP, Combination.SHUTDOWN),
        (Vector.DF, Vector.PF, Combination.SHUTDOWN),
        (Vector.DF, Vector.DB, Combination.SERIAL),
    ],
)
def test_two_faults_combine_as_the_table_says(first: int, second: int, outcome: Combination) -> None:
    assert double_fault(first, second) is outcome


def test_external_interrupts_and_aborts_are_benign() -> None:
    assert {class_of(v) for v in (Vector.NMI, Vector.MC, Vector.MF, Vector.AC, 0x20, 0xFF)} == {
        FaultClass.BENIGN
    }
    assert class_of(Vector.PF) is FaultClass.PAGE_FAULT


def test_vectors_have_names_for_a_reader() -> None:
    assert vectors.name(14) == "#PF"
    assert vectors.name(2) == "NMI"
    assert vectors.name(0x30) == "vector 0x30"
    assert Vector.GP.meaning == "general protection"


# --- MSRs


def test_an_msr_knows_number_meaning_reset_and_register() -> None:
    assert int(Msr.EFER) == 0xC0000080
    assert Msr.EFER.register is EFER
    assert Msr.PAT.reset == 0x0007040600070406
    assert Msr.APIC_BASE.reset == 0xFEE00900
    assert msr.find(0xC0010117) is Msr.VM_HSAVE_PA
    assert msr.find(0x12345) is None
    assert (msr.name(0xC0000082), msr.name(0x12345)) == ("LSTAR", "MSR 0x12345")


def test_the_reset_of_an_msr_fits_its_register() -> None:
    for entry in Msr:
        assert entry.meaning
        if entry.register is not None:
            assert not entry.register(entry.reset) & entry.register.reserved_mask()


# --- descriptors


def test_the_flat_code_segment_of_every_tutorial_unpacks() -> None:
    raw = 0x00CF9A000000FFFF
    assert unpack_segment(raw, 0x08) == Segment(0x08, 0, 0xFFFFFFFF, 0xC9A)
    assert SegmentDescriptor(raw).limit == 0xFFFFFFFF
    assert SegmentDescriptor(raw).attributes == SegmentAttributes(0xC9A)
    assert repr(SegmentAttributes(attributes_of(raw))) == "SegmentAttributes(0xc9a: G DB P S TYPE=0xa)"


@given(
    st.integers(0, 0xFFFFFFFF),
    st.integers(0, 0xFFFFF),
    st.integers(0, 0xFFF),
    st.integers(0, 0xFFFF),
)
def test_a_segment_survives_being_packed_and_unpacked(
    base: int, limit: int, attributes: int, selector: int
) -> None:
    if attributes & SegmentAttributes.G.mask:
        limit = limit << 12 | 0xFFF
    segment = Segment(selector, base, limit, attributes)
    raw = pack_segment(segment)
    assert unpack_segment(raw, selector) == segment
    assert (raw.base, raw.limit) == (base, limit)
    assert (attributes & 15, attributes >> 5 & 3, attributes >> 7 & 1) == (raw.TYPE, raw.DPL, raw.P)


@pytest.mark.parametrize(
    ("segment", "text"),
    [
        (
            Segment(limit=0x100000),
            r"^segment\.limit: 0x100000 does not fit in 20 bits; set G to count pages$",
        ),
        (Segment(limit=0x1234, attributes=0xC93), r"^segment\.limit: 0x1234 with G set must end in 0xfff$"),
        (
            Segment(base=1 << 32),
            r"^segment\.base: 0x100000000 does not fit the 32 bits of an 8-byte descriptor$",
        ),
    ],
)
def test_a_segment_that_no_descriptor_can_hold_is_refused(segment: Segment, text: str) -> None:
    with pytest.raises(ValueError, match=text):
        pack_segment(segment)


def test_a_long_mode_system_descriptor_has_a_base_of_64_bits() -> None:
    raw = 0xFFFFFE00 << 64 | int(pack_segment(Segment(0, 0x12345678, 0x67, 0x08B)))
    descriptor = SystemDescriptor64(raw)
    assert descriptor.base == 0xFFFFFE0012345678
    assert (descriptor.limit, descriptor.TYPE) == (0x67, TSS_32_BUSY)
    assert unpack_segment(raw, 0x40) == Segment(0x40, 0xFFFFFE0012345678, 0x67, 0x08B)


@given(st.integers(0, 0xFFFFFFFF), st.integers(0, 0xFFFF), st.integers(0, 3))
def test_a_32_bit_gate_gives_back_its_target(offset: int, selector: int, dpl: int) -> None:
    gate = Gate.make(INTERRUPT_GATE_32, selector, offset, dpl=dpl)
    assert (gate.offset, gate.SELECTOR, gate.DPL, gate.P, gate.S) == (offset, selector, dpl, 1, 0)


def test_a_16_bit_gate_ignores_the_upper_half_of_the_offset() -> None:
    gate = Gate.make(INTERRUPT_GATE_16, 0x08, 0xABCD1234)
    assert gate.offset == 0x1234
    assert Gate.make(CALL_GATE_16, 0x08, 0x10, count=5).COUNT == 5


@given(st.integers(0, 2**64 - 1), st.integers(0, 7))
def test_a_64_bit_gate_gives_back_its_target_and_stack(offset: int, ist: int) -> None:
    gate = Gate64.make(INTERRUPT_GATE_32, 0x10, offset, dpl=3, ist=ist)
    assert (gate.offset, gate.IST, gate.DPL) == (offset, ist, 3)


def test_a_selector_finds_its_descriptor() -> None:
    selector = Selector(0x1F)
    assert (selector.INDEX, selector.TI, selector.RPL, selector.table_offset) == (3, 1, 3, 0x18)


# --- task-state segments


def test_the_io_bitmap_denies_a_port_whose_bit_is_set() -> None:
    tss = bytearray(104 + 9)
    tss[104:112] = b"\x00" * 8
    tss[104 + 2] = 0b0000_0001  # port 0x10
    tss[112] = 0xFF
    assert io_allowed(tss.__getitem__, 112, 104, 0x0F, 1)
    assert not io_allowed(tss.__getitem__, 112, 104, 0x10, 1)
    assert not io_allowed(tss.__getitem__, 112, 104, 0x0F, 2)
    assert not io_allowed(tss.__getitem__, 112, 104, 0x0D, 4)
    assert io_allowed(tss.__getitem__, 112, 104, 0x0C, 4)
    assert io_allowed(tss.__getitem__, 112, 104, 0x11, 4)


def test_a_port_beyond_the_limit_is_denied_and_nothing_is_read() -> None:
    def never(offset: int) -> int:
        raise AssertionError(f"read at {offset}")

    assert not io_allowed(never, 103, 104, 0, 1)
    assert not io_allowed(never, 104, 104, 0, 1)  # the second byte of the pair is missing
    assert not io_allowed(never, 0x67, 0xFFFF, 0x80, 1)


@given(st.binary(min_size=34, max_size=34), st.integers(0, 255), st.sampled_from([1, 2, 4]))
def test_every_port_of_an_access_needs_a_clear_bit(bitmap: bytes, port: int, size: int) -> None:
    allowed = all(not bitmap[p >> 3] >> (p & 7) & 1 for p in range(port, port + size))
    assert io_allowed(bitmap.__getitem__, 33, 0, port, size) == allowed


def test_the_stacks_of_a_64_bit_tss_are_where_the_manual_draws_them() -> None:
    memory = bytearray(range(104))
    tss = Tss64(memory)
    assert tss.rsp0 == int.from_bytes(memory[4:12], "little")
    assert tss.ist7 == int.from_bytes(memory[0x54:0x5C], "little")
    assert tss.iomap_base == 0x6766


# --- the register file


def test_reset_is_the_state_of_table_14_1() -> None:
    state = CpuState.reset()
    assert (state.cs.base + state.rip, state.cs.selector) == (0xFFFFFFF0, 0xF000)
    assert (state.cr0, state.rflags, state.dr6, state.dr7) == (0x60000010, 2, 0xFFFF0FF0, 0x400)
    assert (state.cs.attributes, state.ss.attributes) == (0x9A, 0x92)
    assert (state.ldtr.attributes, state.tr.attributes) == (0x82, 0x83)
    assert state.idtr == TableRegister(0, 0xFFFF)
    assert state.mode is Mode.REAL
    assert state.cpl == 0


def test_real_mode_starts_at_segment_and_offset() -> None:
    state = CpuState.real_mode(0x07C0, 0x10)
    assert (state.cs.selector, state.cs.base, state.rip) == (0x07C0, 0x7C00, 0x10)
    assert state.idtr.limit == 0x3FF
    with pytest.raises(ValueError, match=r"^real_mode\(0x10000, 0x0\): segment and ip are 16-bit numbers$"):
        CpuState.real_mode(0x10000, 0)


def test_flat32_is_protected_mode_at_ring_0() -> None:
    state = CpuState.flat32(0x100000)
    assert (state.mode, state.cpl, state.cs.limit) == (Mode.PROTECTED32, 0, 0xFFFFFFFF)
    with pytest.raises(ValueError, match=r"^flat32\(0x100000000\): the entry point must be below 4 GB$"):
        CpuState.flat32(1 << 32)


def test_long64_is_64_bit_mode_over_the_given_tables() -> None:
    state = CpuState.long64(0xFFFFFFFF81000000, 0x1000)
    assert (state.mode, state.cr3, state.cpl) == (Mode.LONG64, 0x1000, 0)
    assert EFER(state.efer).LMA


def test_the_mode_and_the_ring_follow_the_registers() -> None:
    state = CpuState.flat32(0)
    state.ss.attributes |= 3 << 5
    assert state.cpl == 3
    state.cs.attributes &= ~SegmentAttributes.DB.mask
    assert (state.mode, state.cpl) == (Mode.PROTECTED16, 3)
    state.rflags |= 1 << 17
    assert (state.mode, state.cpl) == (Mode.V86, 3)
    state.efer = 0x500
    assert (state.mode, state.cpl) == (Mode.COMPAT, 3)


def test_two_states_share_nothing_and_a_copy_is_independent() -> None:
    first, second = CpuState(), CpuState()
    first.cs.base = 5
    assert second.cs.base == 0
    first.r15, first.pat = 15, 1
    twin = first.copy()
    assert twin == first
    twin.cs.base, twin.gdtr.limit, twin.rax = 6, 1, 7
    assert (first.cs.base, first.gdtr.limit, first.rax) == (5, 0xFFFF, 0)
