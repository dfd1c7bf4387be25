"""Where the emulator lets a program into a ring that is not its own: the machine does not.

MOV SS with a null selector in 64-bit mode takes the CPL from the null descriptor, ring 0, and IRET goes to
virtual-8086 mode from any ring, while processors do so from ring 0 alone (Intel SDM vol. 2A, "MOV", "IRET").
"""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.machine.lab import CODE, SEGMENTS, STACK, USER32, USER_DATA, Bench
from vlab.isa.state import CpuState, Segment
from vlab.isa.svm_exits import SvmExit
from vlab.isa.vectors import Vector

GP = SvmExit.EXCP_DE + Vector.GP
VM, IOPL_3, IF = 1 << 17, 3 << 12, 1 << 9


def in_ring(lab: Bench, state: CpuState, ring: int) -> CpuState:
    """The same state in another ring, with segments that its GDT would give."""
    for name in ("cs", "ss"):
        segment = getattr(state, name)
        attributes = segment.attributes & ~0x60 | ring << 5
        setattr(state, name, replace(segment, selector=segment.selector | ring, attributes=attributes))
    return state


@pytest.mark.parametrize("ring", [1, 2])
def test_a_null_stack_segment_leaves_64_bit_code_in_its_ring(lab: Bench, ring: int) -> None:
    lab.intercept(1 << Vector.GP)
    state = in_ring(lab, lab.long64(), ring)
    code = "31 c0 8e d0 eb 00 b9 01 00 00 00 fa"  # xor eax, eax; mov ss, eax; jmp next; mov ecx, 1; cli
    assert lab.run(state, code) == GP  # CLI is not for this ring
    assert (lab.core.rip, lab.core.cpl, lab.core.get_gpr(1)) == (CODE + 11, ring, 1)


def test_ring_0_keeps_its_null_stack_segment(lab: Bench) -> None:
    assert lab.run(lab.long64(), "31 c0 8e d0 eb 00 fa f4") == SvmExit.HLT
    assert (lab.core.cpl, lab.core.segment("ss").selector) == (0, 0)


def frame(lab: Bench, flags: int) -> None:
    """What IRET pops: EIP, CS, EFLAGS, and for virtual-8086 mode ESP, SS, ES, DS, FS, GS."""
    items = (0x100, 0x1000, flags, 0x200, 0x2000, 0, 0, 0, 0)
    lab.poke(STACK, b"".join(item.to_bytes(4, "little") for item in items))


@pytest.mark.parametrize("ring", [1, 2, 3])
def test_iret_takes_no_outer_ring_to_virtual_8086_mode(lab: Bench, ring: int) -> None:
    state = in_ring(lab, lab.flat32(user=ring == 3), ring)
    frame(lab, VM | IOPL_3 | IF | 2)
    lab.poke(0x10100, "fa eb fe")  # cli, which IOPL 3 would allow
    assert lab.run(state, "cf") == SvmExit.SHUTDOWN
    assert lab.processor.failure.startswith("IRET outside ring 0 led to virtual-8086 mode")
    assert lab.core.rip == 0x100  # before anything ran there


def test_iret_takes_ring_0_to_virtual_8086_mode(lab: Bench) -> None:
    lab.intercept(1 << Vector.GP)
    frame(lab, VM | 2)
    lab.poke(0x10100, "fa eb fe")
    assert lab.run(lab.flat32(), "cf") == GP  # CLI, without IOPL 3
    assert (lab.core.rip, lab.core.cpl) == (0x100, 3)


def test_a_call_gate_still_leads_inwards(lab: Bench) -> None:
    gate = (CODE + 0x100 & 0xFFFF) | 0x08 << 16 | 0xEC00 << 32 | (CODE + 0x100 & 0xFFFF0000) << 32
    lab.poke(0x1000 + 0x60, gate.to_bytes(8, "little"))
    lab.poke(CODE + 0x100, "fa f4")
    state = lab.flat32(user=True)
    assert state.cs == SEGMENTS[USER32]
    assert state.ss == SEGMENTS[USER_DATA]
    state.gdtr.limit = 0xFF
    assert lab.run(state, "9a 00 00 00 00 60 00") == SvmExit.HLT
    assert (lab.core.cpl, lab.core.segment("cs")) == (0, Segment(0x08, 0, 0xFFFFFFFF, 0xC9B))
