"""SYSCALL and SYSENTER, which the engine notices and the microcode executes; SYSRET and IRET, in C."""

from __future__ import annotations

import pytest

from tests.machine.lab import CODE, CODE32, HANDLERS, USER32, USER64, Bench
from vlab.isa.state import CpuState, Mode, Segment
from vlab.isa.svm_exits import SvmExit
from vlab.machine.engine import SYSCALL, SYSENTER

UD, GP = 6, 13
TARGET = CODE + 0x100


def caller(lab: Bench) -> CpuState:
    """A 64-bit user program about to call; the kernel's entry is at TARGET."""
    state = lab.long64(user=True)
    state.star, state.lstar, state.sfmask = (USER32 & ~3) << 48 | 0x18 << 32, TARGET, 0x300
    state.rflags = 0x8D7 | 0x200
    lab.code("f4", TARGET)
    return state


@pytest.mark.parametrize(("code", "number"), [("0f05", SYSCALL), ("0f34", SYSENTER)])
def test_the_engine_leaves_rip_at_the_instruction(lab: Bench, code: str, number: int) -> None:
    """The library itself goes past it; the engine puts RIP back."""
    state = lab.flat32(user=True)
    state.efer, state.sysenter_cs = 1, CODE32
    lab.core.load(state)
    lab.code("90" + code + "90 f4")
    assert lab.engine.run() == number
    assert lab.core.rip == CODE + 1
    assert lab.engine.run() == number


def test_syscall_enters_ring_0_with_masked_flags_and_leaves_its_way_back(lab: Bench) -> None:
    assert lab.run(caller(lab), "90 0f05") == SvmExit.HLT
    core = lab.core
    assert (core.rip, core.cpl, core.mode) == (TARGET, 0, Mode.LONG64)
    assert (core.get_gpr(1), core.get_gpr(11)) == (CODE + 3, 0xAD7)
    assert core.rflags == 0x8D7
    assert (core.segment("cs"), core.segment("ss")) == (
        Segment(0x18, 0, 0xFFFFFFFF, 0xA9B), Segment(0x20, 0, 0xFFFFFFFF, 0xC93),
    )  # fmt: skip


def test_sysret_goes_back_where_syscall_came_from(lab: Bench) -> None:
    state = caller(lab)
    lab.code("480f07", TARGET)
    lab.intercept(1 << GP)
    assert lab.run(state, "90 0f05 f4") == SvmExit.EXCP_GP  # the HLT, at CPL 3 again
    core = lab.core
    assert (core.rip, core.cpl, core.mode) == (CODE + 3, 3, Mode.LONG64)
    assert core.rflags == state.rflags
    assert (core.segment("cs").selector, core.segment("ss").selector) == (USER64, USER32 + 8)


def test_sysret_to_32_bit_code(lab: Bench) -> None:
    state = lab.long64()
    state.star, state.rcx, state.r11 = (USER32 & ~3) << 48, TARGET, 0x202
    lab.code("0fa2", TARGET)
    lab.intercept(0, SvmExit.CPUID)
    assert lab.run(state, "0f07") == SvmExit.CPUID
    assert (lab.core.mode, lab.core.cpl, lab.core.rip) == (Mode.COMPAT, 3, TARGET)


def test_syscall_from_compatibility_mode_goes_to_cstar(lab: Bench) -> None:
    state = caller(lab)
    state.cs = Segment(USER32, 0, 0xFFFFFFFF, 0xCFB)
    state.cstar = TARGET
    state.lstar = 0
    assert lab.run(state, "0f05") == SvmExit.HLT
    assert (lab.core.mode, lab.core.get_gpr(1)) == (Mode.LONG64, CODE + 2)


def test_legacy_syscall_and_sysret(lab: Bench) -> None:
    state = lab.flat32(user=True)
    state.efer, state.rflags = 1, 0x202
    state.star = (USER32 & ~3) << 48 | CODE32 << 32 | TARGET
    lab.code("0f07", TARGET)
    lab.intercept(1 << GP)
    assert lab.run(state, "0f05 f4") == SvmExit.EXCP_GP
    assert (lab.core.rip, lab.core.cpl, lab.core.rflags) == (CODE + 2, 3, 0x202)


def test_syscall_without_sce_is_ud(lab: Bench) -> None:
    state = caller(lab)
    state.efer &= ~1
    lab.intercept(1 << UD)
    assert lab.run(state, "90 0f05") == SvmExit.EXCP_UD
    assert lab.core.rip == CODE + 1


def test_sysret_without_sce_is_ud_and_at_cpl_3_gp(lab: Bench) -> None:
    lab.intercept(1 << UD | 1 << GP)
    state = lab.long64()
    state.efer &= ~1
    assert lab.run(state, "480f07") == SvmExit.EXCP_UD
    assert lab.run(lab.long64(user=True), "480f07") == SvmExit.EXCP_GP


def test_sysenter_and_sysexit_make_a_round_trip(lab: Bench) -> None:
    state = lab.flat32(user=True)
    state.sysenter_cs, state.sysenter_eip, state.sysenter_esp = CODE32, TARGET, 0x30000
    state.rflags = 0x202
    lab.code("89e0 b900f00300 ba" + (CODE + 3).to_bytes(4, "little").hex() + "0f35", TARGET)
    lab.intercept(1 << GP)
    assert lab.run(state, "90 0f34 f4") == SvmExit.EXCP_GP
    core = lab.core
    assert (core.rip, core.rsp, core.cpl, core.get_gpr(0)) == (CODE + 3, 0x3F000, 3, 0x30000)
    assert (core.segment("cs").selector, core.segment("ss").selector) == (CODE32 + 16 | 3, CODE32 + 24 | 3)
    assert core.rflags == 2  # SYSENTER cleared IF, and SYSEXIT does not set it


@pytest.mark.parametrize(("cs", "vector"), [(0, GP), (3, GP)])
def test_sysenter_with_a_null_selector_is_gp(lab: Bench, cs: int, vector: int) -> None:
    state = lab.flat32(user=True)
    state.sysenter_cs = cs
    lab.intercept(1 << vector)
    assert lab.run(state, "0f34") == SvmExit.EXCP_DE + vector


@pytest.mark.parametrize("compatible", [False, True])
def test_sysenter_in_long_mode_is_ud_on_amd(lab: Bench, compatible: bool) -> None:
    state = caller(lab)
    state.sysenter_cs = CODE32
    if compatible:
        state.cs = Segment(USER32, 0, 0xFFFFFFFF, 0xCFB)
    lab.intercept(1 << UD)
    assert lab.run(state, "0f34") == SvmExit.EXCP_UD
    assert lab.core.rip == CODE


def test_iret_in_c_undoes_a_delivery_in_python(lab: Bench) -> None:
    """32-bit: from ring 3 into ring 0 and back, with every flag."""
    state = lab.flat32(user=True)
    state.rflags = 0x8D7 | 0x200 | 0x400
    lab.gate32(0x80, HANDLERS, dpl=3)
    lab.poke(HANDLERS, "31c0 fc cf")  # XOR EAX, EAX; CLD; IRET
    lab.intercept(0, SvmExit.CPUID)
    assert lab.run(state, "cd80 0fa2") == SvmExit.CPUID
    after = lab.core.state()
    after.rip = CODE
    state.tr.attributes = 0x8B
    assert after == state


def test_iretq_in_c_undoes_a_delivery_in_python(lab: Bench) -> None:
    state = lab.long64(user=True)
    state.rflags = 0x8D7 | 0x200
    lab.gate64(0x80, HANDLERS, dpl=3)
    lab.poke(HANDLERS, "31c0 48cf")
    lab.intercept(0, SvmExit.CPUID)
    assert lab.run(state, "cd80 0fa2") == SvmExit.CPUID
    after = lab.core.state()
    after.rip = CODE
    assert after == state


def test_iretq_within_ring_0_takes_the_stack_back_too(lab: Bench) -> None:
    state = lab.long64()
    state.rsp -= 5  # delivery aligns the stack
    lab.gate64(0x80, HANDLERS)
    lab.poke(HANDLERS, "48cf")
    lab.intercept(0, SvmExit.CPUID)
    assert lab.run(state, "cd80 0fa2") == SvmExit.CPUID
    assert lab.core.rsp == state.rsp
