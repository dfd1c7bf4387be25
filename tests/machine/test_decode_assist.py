"""The processor's own decoding of system instructions, against another decoder and by hand."""

from __future__ import annotations

import capstone
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vlab.isa.state import Segment
from vlab.isa.svm_exits import SvmExit
from vlab.machine import decode_assist
from vlab.machine.decode_assist import MOV, decode, exit_info

REAL, PROTECTED32, LONG64 = 0, 3, 5
MODES = {REAL: capstone.CS_MODE_16, PROTECTED32: capstone.CS_MODE_32, LONG64: capstone.CS_MODE_64}
BASES = {"cs": 0x10000, "ss": 0x20000, "ds": 0x30000, "es": 0x40000, "fs": 0x50000, "gs": 0x7000_0000_0000}


class Core:
    """As much of a processor as decoding asks for; each general register holds its own value."""

    def __init__(self, mode: int) -> None:
        self.mode_code = mode
        self.rip = 0x401000
        self.words = [0x1_0000_0000 * (n + 1) + 0x1110 * (n + 1) for n in range(16)]

    def segment(self, name: str) -> Segment:
        base = BASES[name] if self.mode_code == LONG64 else BASES[name] & 0xFFFFF
        return Segment(8, base, 0xFFFFFFFF, 0xC9B if self.mode_code == PROTECTED32 else 0x09B)


def decoded(code: str, mode: int = PROTECTED32) -> decode_assist.SystemInstruction:
    instruction = decode(Core(mode), bytes.fromhex(code))  # type: ignore[arg-type]
    assert instruction is not None
    return instruction


@pytest.mark.parametrize(
    ("code", "mode", "exit_code", "info"),
    [
        ("0f20c3", PROTECTED32, SvmExit.READ_CR0, MOV | 3),  # mov ebx, cr0
        ("0f22df", LONG64, SvmExit.WRITE_CR3, MOV | 7),  # mov cr3, rdi
        ("410f22da", LONG64, SvmExit.WRITE_CR3, MOV | 10),  # mov cr3, r10
        ("0f2218", PROTECTED32, SvmExit.WRITE_CR3, MOV | 0),  # the mod field is ignored
        ("0f06", PROTECTED32, SvmExit.WRITE_CR0, 0),  # clts
        ("0f01f0", PROTECTED32, SvmExit.WRITE_CR0, 0),  # lmsw ax
        ("0f01e0", PROTECTED32, SvmExit.READ_CR0, 0),  # smsw ax
        ("0f013d44332211", PROTECTED32, SvmExit.INVLPG, 0x30000 + 0x11223344),
        ("0f013f", LONG64, SvmExit.INVLPG, 0x8_0000_8880),  # invlpg [rdi]
    ],
)
def test_exit_info_is_what_the_manual_says(code: str, mode: int, exit_code: int, info: int) -> None:
    assert exit_info(exit_code, decoded(code, mode)) == info


@pytest.mark.parametrize(
    ("code", "mode", "linear"),
    [
        ("0f0138", PROTECTED32, 0x30000 + 0x1110),  # [eax]
        ("0f017d08", PROTECTED32, 0x20000 + 0x1110 * 6 + 8),  # [ebp+8] is in SS
        ("0f013c24", PROTECTED32, 0x20000 + 0x1110 * 5),  # [esp]
        ("0f013c8d00000100", PROTECTED32, 0x30000 + 0x1110 * 2 * 4 + 0x10000),  # [ecx*4+10000h]
        ("640f0138", PROTECTED32, 0x50000 + 0x1110),  # fs:[eax]
        ("0f017bff", PROTECTED32, 0x30000 + 0x1110 * 4 - 1),  # [ebx-1]
        ("670f013f", PROTECTED32, 0x30000 + 0x1110 * 4),  # [bx]
        ("0f013a", REAL, 0x20000 + (0x1110 * (6 + 7) & 0xFFFF)),  # [bp+si]
        ("0f013e3412", REAL, 0x30000 + 0x1234),  # [1234h]
        ("0f013d10000000", LONG64, 0x401000 + 7 + 0x10),  # [rip+10h]
        ("650f0138", LONG64, 0x7000_0000_0000 + 0x1_0000_1110),  # gs:[rax]
        ("2e0f0138", LONG64, 0x1_0000_1110),  # CS has no base in 64-bit mode
        ("670f0138", LONG64, 0x1110),  # [eax]
        ("430f013c2c", LONG64, 0xD_0000_DDD0 + 0xE_0000_EEE0),  # [r12+r13]
        ("0f013c2500100000", LONG64, 0x1000),  # [1000h], no base and no index
    ],
)
def test_linear_addresses_of_memory_operands(code: str, mode: int, linear: int) -> None:
    instruction = decoded(code, mode)
    assert instruction.linear == linear
    assert instruction.length == len(code) // 2


def test_operand_sizes() -> None:
    assert [decoded(code, mode).operand_size for code, mode in (
        ("0f01e0", REAL), ("660f01e0", REAL), ("0f01e0", PROTECTED32), ("660f01e0", PROTECTED32),
        ("0f01e0", LONG64), ("480f01e0", LONG64), ("0f20c0", PROTECTED32), ("0f20c0", LONG64),
    )] == [2, 4, 4, 2, 4, 8, 4, 8]  # fmt: skip


@given(
    st.sampled_from(sorted(MODES)),
    st.binary(max_size=3),
    st.integers(0, 0xBF),
    st.binary(min_size=9, max_size=9),
)
@settings(max_examples=400)
def test_lengths_agree_with_another_decoder(mode: int, prefixes: bytes, modrm: int, rest: bytes) -> None:
    known = bytes((0x26, 0x2E, 0x36, 0x3E, 0x64, 0x65, 0x66, 0x67))
    kept = bytes(known[byte % len(known)] for byte in prefixes)
    code = kept + bytes((0x0F, 0x01, modrm & 0xC7 | 0x38)) + rest  # INVLPG
    expected = next(capstone.Cs(capstone.CS_ARCH_X86, MODES[mode]).disasm(code, 0, 1))
    instruction = decode(Core(mode), code)  # type: ignore[arg-type]
    assert expected.mnemonic == "invlpg"
    assert instruction is not None
    assert instruction.length == expected.size


@pytest.mark.parametrize("code", ["", "0f", "0f01", "0f013d44", "0f017c", "66", "9090"])
def test_what_is_cut_short_or_something_else_is_not_decoded(code: str) -> None:
    assert decode(Core(PROTECTED32), bytes.fromhex(code)) is None  # type: ignore[arg-type]
