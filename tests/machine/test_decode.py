"""The processor's own decoding: prefixes, software interrupts, system instructions and their operands."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.machine.lab import CODE, DATA16, SEGMENTS, Bench
from vlab.isa.state import Segment
from vlab.isa.svm_exits import SvmExit
from vlab.isa.vectors import Vector
from vlab.machine.decode_assist import MOV, decode, exit_info
from vlab.machine.faults import EventKind
from vlab.machine.instructions import PREFIXES, REX, prefix_count, software_interrupt


@given(st.lists(st.sampled_from(sorted(PREFIXES)), max_size=14), st.booleans())
def test_legacy_prefixes_are_counted_in_every_mode(prefixes: list[int], long_mode: bool) -> None:
    assert prefix_count(bytes([*prefixes, 0x90]), long_mode=long_mode) == len(prefixes)


@given(st.sampled_from(sorted(REX)))
def test_rex_is_a_prefix_in_64_bit_mode_alone(rex: int) -> None:
    assert prefix_count(bytes([0x66, rex, 0x90]), long_mode=True) == 2
    assert prefix_count(bytes([0x66, rex, 0x90]), long_mode=False) == 1


@pytest.mark.parametrize(
    ("code", "kind", "vector", "length"),
    [
        ("cd80", EventKind.SOFTWARE_INT, 0x80, 2), ("cc", EventKind.INT3, Vector.BP, 1),
        ("ce", EventKind.INTO, Vector.OF, 1), ("6626cd21", EventKind.SOFTWARE_INT, 0x21, 4),
        ("f3cc", EventKind.INT3, Vector.BP, 2), ("cd03", EventKind.SOFTWARE_INT, 3, 2),
    ],
)  # fmt: skip
def test_software_interrupts_have_vector_and_length(
    code: str, kind: EventKind, vector: int, length: int
) -> None:
    event = software_interrupt(bytes.fromhex(code))
    assert (event.kind, event.vector, event.instruction_length) == (kind, vector, length)


def test_a_rex_prefix_before_int_counts(lab: Bench) -> None:
    assert software_interrupt(bytes.fromhex("48cd80"), long_mode=True).instruction_length == 3


# Instructions with memory operands, for the same address worked out by the engine with LEA or by hand.
_OPERANDS_32 = ("38", "7810", "b811223344", "3c48", "3c8d44332211", "7c2410", "3d44332211", "7d08", "7c15fc")
_GENERAL = ("rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi", *(f"r{n}" for n in range(8, 16)))
_OPERANDS_64 = ("38", "7810", "bc48112233ff", "3d11223344", "3c2511223344", "7c24f0", "7d80")


def linear_of(lab: Bench, code: str) -> int:
    """Give EXITINFO1 of an intercepted INVLPG."""
    lab.intercept(0, SvmExit.INVLPG)
    lab.code(code)
    assert lab.processor.run() == SvmExit.INVLPG
    return lab.processor.info1


def by_lea(lab: Bench, prefix: str, operand: str) -> int:
    """Let the engine work the address out: LEA, whose reg field is that of INVLPG, into EDI or RDI."""
    lab.code(prefix + "8d" + operand + "f4")
    assert lab.processor.run() == SvmExit.HLT
    return lab.core.get_gpr(7)


@pytest.mark.parametrize("operand", _OPERANDS_32)
@pytest.mark.parametrize("prefix", ["", "67"])
def test_a_32_bit_operand_is_where_the_engine_finds_it(lab: Bench, operand: str, prefix: str) -> None:
    if prefix:  # a 16-bit address has another form
        operand = {"38": "38", "7810": "7810"}.get(operand, "be3412")
    state = lab.flat32()
    for n, name in enumerate(("rax", "rcx", "rdx", "rbx", "rbp", "rsi", "rdi")):
        setattr(state, name, 0x1000_0123 * (n + 3) & 0xFFFFFFFF)
    lab.core.load(state)
    expected = by_lea(lab, prefix, operand)
    lab.core.load(state)
    assert linear_of(lab, prefix + "0f01" + operand) == expected


@pytest.mark.parametrize("operand", _OPERANDS_64)
@pytest.mark.parametrize("prefix", ["48", "49", "4a", "4b", "6748"])
def test_a_64_bit_operand_is_where_the_engine_finds_it(lab: Bench, operand: str, prefix: str) -> None:
    state = lab.long64()
    for n in range(16):
        if n not in (4, 7):
            setattr(state, _GENERAL[n], 0x0000_1234_5678_9ABC * (n + 1) & (1 << 47) - 1)
    lab.core.load(state)
    expected = by_lea(lab, prefix, operand)
    lab.core.load(state)
    shift = -0 if operand != "3d11223344" else 1  # RIP counts from the end, and 0F is a byte more
    assert linear_of(lab, prefix + "0f01" + operand) == expected + shift


@pytest.mark.parametrize(("prefix", "base"), [("", 0x100), ("36", 0x2000), ("65", 0x3000), ("26", 0x4000)])
def test_the_segment_counts_in_32_bit_code(lab: Bench, prefix: str, base: int) -> None:
    state = lab.flat32()
    for name, value in (("ds", 0x100), ("ss", 0x2000), ("gs", 0x3000), ("es", 0x4000)):
        setattr(state, name, Segment(0x10, value, 0xFFFFFFFF, 0xC93))
    state.rax = 0x50
    lab.core.load(state)
    assert linear_of(lab, prefix + "0f0138") == base + 0x50


def test_bp_and_sp_mean_the_stack_segment(lab: Bench) -> None:
    state = lab.flat32()
    state.ss = Segment(0x10, 0x2000, 0xFFFFFFFF, 0xC93)
    state.rbp, state.rsp = 0x10, 0x20
    lab.core.load(state)
    assert linear_of(lab, "0f017d00") == 0x2010
    lab.core.load(state)
    assert linear_of(lab, "0f013c24") == 0x2020


def test_64_bit_code_has_bases_for_fs_and_gs_alone(lab: Bench) -> None:
    state = lab.long64()
    state.fs, state.ds = Segment(0, 0x7000, 0, 0), Segment(0x10, 0x9000, 0xFFFFFFFF, 0xC93)
    state.rax = 0x50
    lab.core.load(state)
    assert linear_of(lab, "640f0138") == 0x7050
    lab.core.load(state)
    assert linear_of(lab, "3e0f0138") == 0x50


@pytest.mark.parametrize(
    ("operand", "expected"),
    [
        ("38", 0x30), ("39", 0x50), ("3a", 0x120), ("3b", 0x140),
        ("3c", 0x20), ("3d", 0x40), ("3e3412", 0x1234),
        ("3f", 0x10), ("7e10", 0x110), ("ba00ff", 0x20),
    ],
)  # fmt: skip
def test_16_bit_operands_add_their_registers(lab: Bench, operand: str, expected: int) -> None:
    state = lab.real()
    state.ds = state.ss = Segment(0x2000, 0x20000)
    state.rbx, state.rbp, state.rsi, state.rdi = 0x10, 0x100, 0x20, 0x40
    lab.core.load(state)
    assert linear_of(lab, "0f01" + operand) == 0x20000 + expected


@pytest.mark.parametrize(
    ("code", "register"),
    [("0f22d8", 0), ("0f20db", 3), ("440f20c7", 7), ("410f22d9", 9), ("0f2219", 1)],
)  # fmt: skip
def test_a_control_register_access_names_its_general_register(lab: Bench, code: str, register: int) -> None:
    lab.intercept(crs=0xFFFFFFFF)
    lab.run(lab.long64(), code)
    assert lab.processor.info1 == MOV | register


@pytest.mark.parametrize("code", ["0f06", "0f01f0", "0f01e0"])
def test_clts_lmsw_and_smsw_are_no_mov(lab: Bench, code: str) -> None:
    lab.intercept(crs=0xFFFFFFFF)
    assert lab.run(lab.flat32(), code) in (SvmExit.READ_CR0, SvmExit.WRITE_CR0)
    assert lab.processor.info1 == 0


def test_a_debug_register_access_names_its_general_register(lab: Bench) -> None:
    lab.intercept(drs=0xFFFFFFFF)
    assert lab.run(lab.flat32(), "0f23f9") == SvmExit.WRITE_DR0 + 7
    assert lab.processor.info1 == 1


@pytest.mark.parametrize("code", ["", "0f", "0f01", "0f013d1122", "90", "66666666666666666666666666666666"])
def test_what_is_cut_short_or_something_else_is_none(lab: Bench, code: str) -> None:
    lab.core.load(lab.flat32())
    assert decode(lab.core, bytes.fromhex(code)) is None
    assert exit_info(SvmExit.INVLPG, None) == 0


def test_a_16_bit_code_segment_has_16_bit_operands(lab: Bench) -> None:
    state = lab.flat32()
    state.cs, state.ds = SEGMENTS[0x50].copy(), SEGMENTS[DATA16].copy()
    state.rip, state.rsi = 0, 0x1_0020
    state.cs.base = CODE
    lab.core.load(state)
    assert linear_of(lab, "0f013c") == 0x20
