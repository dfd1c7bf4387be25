"""The live register file against the library's answers, and the digest of the mode against the engine's."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from dataclasses import fields

import pytest
from unicorn import x86_const as uc
from unicorn.unicorn_py3.unicorn import uclib

from tests.machine.lab import CODE, CODE16, CODE32, CODE64, DATA, DATA16, DATA32, GDT, TABLES, Bench
from vlab.isa.state import CpuState, Mode, Segment, TableRegister
from vlab.isa.svm_exits import SvmExit
from vlab.machine import registers as reg
from vlab.machine.core import SEGMENT_NAMES

_read = uclib["uc_reg_read"]
_read.argtypes = (ctypes.c_void_p, ctypes.c_int, ctypes.c_void_p)
_GENERAL = (
    "RAX", "RCX", "RDX", "RBX", "RSP", "RBP", "RSI", "RDI",
    "R8", "R9", "R10", "R11", "R12", "R13", "R14", "R15",
)  # fmt: skip


class _Table(ctypes.Structure):
    _fields_ = [
        ("selector", ctypes.c_uint16), ("base", ctypes.c_uint64),
        ("limit", ctypes.c_uint32), ("flags", ctypes.c_uint32),
    ]  # fmt: skip


def ask(lab: Bench, name: str) -> int:
    value = ctypes.c_uint64()
    _read(lab.engine.handle, getattr(uc, f"UC_X86_REG_{name}"), ctypes.byref(value))
    return value.value


def odd(lab: Bench) -> CpuState:
    """A state in which no two registers are alike."""
    state = lab.long64()
    number = 0x1111_2222_0000_0000
    for field in fields(CpuState):
        number += 0x0000_0101_0001_0203
        if (field.name.startswith("r") and field.name not in ("rip", "rflags")) or field.name in (
            "cr2",
            "star",
            "lstar",
        ):
            setattr(state, field.name, number)
    for place, name in enumerate(("es", "ds", "fs", "gs")):
        setattr(state, name, Segment(0x11 * place + 3, 0x1000 * place + 5, 0xFFFF0 + place, 0xC93))
    state.gdtr, state.idtr = TableRegister(0x12345678, 0x321), TableRegister(0xFFFF8000_00001000, 0xFFF)
    state.rflags = 0x246
    return state


def test_registers_are_where_the_library_has_them(lab: Bench) -> None:
    state = odd(lab)
    lab.core.load(state)
    for index, name in enumerate(_GENERAL):
        assert ask(lab, name) == lab.core.get_gpr(index) == getattr(state, name.lower())
    for name in ("CR0", "CR2", "CR3", "CR4"):
        assert ask(lab, name) == getattr(state, name.lower())
    assert ask(lab, "RIP") == CODE
    for name in ("ES", "CS", "SS", "DS", "FS", "GS"):
        assert ask(lab, name) & 0xFFFF == getattr(state, name.lower()).selector
    assert (ask(lab, "FS_BASE"), ask(lab, "GS_BASE")) == (state.fs.base, state.gs.base)
    for name, table in (("GDTR", state.gdtr), ("IDTR", state.idtr)):
        value = _Table()
        _read(lab.engine.handle, getattr(uc, f"UC_X86_REG_{name}"), ctypes.byref(value))
        assert (value.base, value.limit) == (table.base, table.limit)
    for number in (0, 1, 2, 3, 6, 7):
        assert ask(lab, f"DR{number}") == lab.core.debug_register(number)


def test_a_state_that_is_loaded_reads_back(lab: Bench) -> None:
    state = odd(lab)
    lab.core.load(state)
    assert lab.core.state() == state
    for other in (lab.flat32(), lab.real(), CpuState.reset()):
        lab.core.load(other)
        read = lab.core.state()
        read.tr.attributes = other.tr.attributes  # TR is always busy
        assert read == other


@pytest.mark.parametrize(
    "flags", [0x2, 0x3, 0x46, 0x8D7, 0x400 | 2, 0xCD7, 0x3202, 0x4202, 0x40202, 0x200202]
)
def test_flags_survive_the_way_into_the_engine_and_back(lab: Bench, flags: int) -> None:
    """Arithmetic flags and DF are kept lazily while the engine runs."""
    state = lab.flat32()
    state.rflags = flags
    assert lab.run(state, "9c 58 f4") == SvmExit.HLT  # PUSHF; POP EAX
    assert lab.core.get_gpr(0) == lab.core.rflags == ask(lab, "EFLAGS") == flags


@pytest.mark.parametrize(
    ("code", "flags"),
    [("b001 3c01", 0x46), ("31c0 40", 0x2), ("b0ff 0401", 0x57), ("fd", 0x402), ("b080 00c0", 0x847)],
)
def test_lazy_flags_are_worked_out_at_an_exit(lab: Bench, code: str, flags: int) -> None:
    assert lab.run(lab.flat32(), code + "f4") == SvmExit.HLT
    seen = lab.core.rflags
    assert lab.run(lab.flat32(), code + "9c f4") == SvmExit.HLT
    assert seen == lab.peek(lab.core.rsp, 4)


def test_flags_that_are_set_between_runs_steer_the_next_branch(lab: Bench) -> None:
    lab.intercept(0, SvmExit.CPUID)
    assert lab.run(lab.flat32(), "0fa2 7201 43 f4") == SvmExit.CPUID  # JC over INC EBX
    lab.core.rflags |= 1
    lab.processor.skip(2)
    assert lab.processor.run() == SvmExit.HLT
    assert lab.core.get_gpr(3) == 0


def test_a_flag_that_the_guest_clears_does_not_linger(lab: Bench) -> None:
    """IOPL, TF and VM are joined into the digest by the engine: a copy there would outlive the flag."""
    state = lab.flat32(user=True)
    state.rflags = 0x3202
    lab.core.load(state)
    lab.core.rflags = 0x202
    lab.core.refresh()
    lab.intercept(1 << 13)
    assert lab.run(None, "fa") == SvmExit.EXCP_GP  # CLI at CPL 3 with IOPL 0
    lab.core.load(lab.flat32())
    lab.core.rflags |= 0x100
    lab.core.refresh()
    lab.core.rflags &= ~0x100
    lab.intercept(1 << 1)
    lab.code("40 f4")
    assert lab.processor.run() == SvmExit.HLT


# --- the digest ---------------------------------------------------------------------------------------------


def selector_jump(offset: int, selector: int, width: int = 4) -> str:
    return "ea" + offset.to_bytes(width, "little").hex() + selector.to_bytes(2, "little").hex()


def stay(lab: Bench) -> CpuState:
    lab.code("90 f4")
    return lab.flat32()


def to_16_bit(lab: Bench) -> CpuState:
    lab.code(selector_jump(CODE + 0x10, CODE16), CODE)
    lab.poke(GDT + CODE16, bytes(lab.ram[GDT + CODE32 : GDT + CODE32 + 6]) + b"\x8f\0")  # 4 GiB, 16-bit
    lab.code("f4", CODE + 0x10)
    return lab.flat32()


def to_small_stack(lab: Bench) -> CpuState:
    lab.code(f"b8{DATA16:02x}000000 8ed0 90 f4")
    return lab.flat32()


def to_based_data(lab: Bench) -> CpuState:
    lab.poke(GDT + DATA16, bytes.fromhex("ffff00100093cf00"))
    lab.code(f"b8{DATA16:02x}000000 8ed8 f4")
    return lab.flat32()


def to_user(lab: Bench) -> CpuState:
    lab.code("6a2b 6800f00300 6802020000 6a23 68" + (CODE + 0x100).to_bytes(4, "little").hex() + "cf")
    lab.code("0fa2", CODE + 0x100)
    return lab.flat32()


def real_to_protected(lab: Bench) -> CpuState:
    """LGDT; MOV CR0; far jump; data segments."""
    lab.poke(DATA, b"\xff\0" + GDT.to_bytes(4, "little"))
    lab.code(
        "660f0116 0000 660f20c0 6683c801 0f22c0 66".replace(" ", "") + selector_jump(CODE + 0x100, CODE32)
    )
    lab.code(f"66b8{DATA32:02x}00 8ed8 8ec0 8ed0 90 f4", CODE + 0x100)
    return lab.real()


def to_long(lab: Bench) -> CpuState:
    state = lab.flat32()
    state.cr3, state.cr4, state.efer = lab.identity_tables(), 0x20, 0x100
    lab.code("0f20c0 0d00000080 0f22c0" + selector_jump(CODE + 0x100, CODE64))
    lab.code("f4", CODE + 0x100)
    return state


def to_compatibility(lab: Bench) -> CpuState:
    state = lab.long64()
    lab.code(f"6a{CODE32:02x} 68" + (CODE + 0x100).to_bytes(4, "little").hex() + "48cb")
    lab.code("f4", CODE + 0x100)
    return state


def long_to_user(lab: Bench) -> CpuState:
    state = lab.long64()
    state.star, state.rcx, state.r11 = 0x23 << 48, CODE + 0x100, 0x202
    lab.code("480f07")
    lab.code("0fa2", CODE + 0x100)
    return state


def to_virtual_8086(lab: Bench) -> CpuState:
    code = "".join(
        f"68{value.to_bytes(4, 'little').hex()}" for value in (0, 0, DATA >> 4, 0, DATA >> 4, 0xFF00, 0x23202)
    )
    lab.code(code + f"68{(CODE >> 4).to_bytes(4, 'little').hex()} 6800010000 cf")
    lab.code("0fa2", CODE + 0x100)
    return lab.flat32()


def back_to_real(lab: Bench) -> CpuState:
    lab.code("0f20c0 24fe 0f22c0 f4")
    return lab.flat32()


def x87_bits(lab: Bench) -> CpuState:
    lab.code("0f20c0 0c0e 0f22c0 0f20e0 0d00060000 0f22e0 f4")
    return lab.flat32()


@pytest.mark.parametrize(
    ("path", "mode"),
    [
        (stay, Mode.PROTECTED32), (to_16_bit, Mode.PROTECTED16), (to_small_stack, Mode.PROTECTED32),
        (to_based_data, Mode.PROTECTED32), (to_user, Mode.PROTECTED32), (real_to_protected, Mode.PROTECTED32),
        (to_long, Mode.LONG64), (to_compatibility, Mode.COMPAT), (long_to_user, Mode.LONG64),
        (to_virtual_8086, Mode.V86), (back_to_real, Mode.REAL), (x87_bits, Mode.PROTECTED32),
    ],
)  # fmt: skip
def test_the_digest_is_the_one_that_the_engine_has_made_itself(
    lab: Bench, path: Callable[[Bench], CpuState], mode: Mode
) -> None:
    state = path(lab)
    lab.intercept(0, SvmExit.CPUID)
    assert lab.run(state) in (SvmExit.HLT, SvmExit.CPUID)
    assert lab.core.mode is mode
    own = lab.engine.words32[reg.HFLAGS]
    lab.core.refresh()
    assert lab.engine.words32[reg.HFLAGS] == own
    copy = lab.core.state()
    lab.core.load(copy)
    assert lab.engine.words32[reg.HFLAGS] == own
    assert lab.core.cpl == copy.cpl


def test_segments_hold_what_the_engine_loads(lab: Bench) -> None:
    state = lab.flat32()
    lab.poke(GDT + 0x68, bytes.fromhex("3412785634f29a12"))  # base 12345678, limit 21A34 in pages...
    lab.code("b868000000 8ee0 f4")
    lab.run(state)
    raw = lab.peek(GDT + 0x68, 8)
    segment = lab.core.segment("fs")
    assert segment.base == (raw >> 16 & 0xFFFFFF) | (raw >> 56) << 24
    limit = raw & 0xFFFF | raw >> 32 & 0xF0000
    assert segment.limit == (limit << 12 | 0xFFF if raw >> 55 & 1 else limit)
    assert segment.attributes == (raw >> 40 & 0xFF | 1) | (raw >> 52 & 0xF) << 8


def test_all_segments_are_named(lab: Bench) -> None:
    assert SEGMENT_NAMES == ("es", "cs", "ss", "ds", "fs", "gs", "ldtr", "tr")
    assert TABLES % 0x1000 == 0
