"""SYSCALL and SYSENTER."""

from __future__ import annotations

import pytest

from tests.machine.fake_core import DATA0, STACK3, long_core, protected_core, real_core, virtual_8086_core
from vlab.isa.state import Segment
from vlab.machine.faults import CpuFault
from vlab.machine.system_calls import syscall, sysenter


def test_syscall_in_64_bit_mode_saves_rip_and_rflags_and_enters_lstar() -> None:
    core = long_core(ring=3)
    core.efer |= 1
    core.star, core.lstar, core.sfmask = 0x0023_0010_0000_0000, 0xFFFF_8000_0010_0000, 0x4_7700
    core.rip, core.rflags = 0x40_1000, 0x1_0247
    syscall(core)
    assert (core.gprs[1], core.gprs[11]) == (0x40_1002, 0x247)
    assert (core.rip, core.rflags, core.cpl) == (0xFFFF_8000_0010_0000, 0x47, 0)
    assert core.segments["cs"] == Segment(0x10, 0, 0xFFFF_FFFF, 0xA9B)
    assert core.segments["ss"] == Segment(0x18, 0, 0xFFFF_FFFF, 0xC93)
    assert core.rsp == STACK3 - 0x100
    assert core.accesses == []


def test_syscall_in_compatibility_mode_enters_cstar() -> None:
    core = long_core(ring=3)
    core.efer |= 1
    core.segments["cs"] = Segment(0x23, 0, 0xFFFF_FFFF, 0xCFB)
    core.rip, core.lstar, core.cstar = 0xFFFF_FFFF, 0x1000, 0x2000
    syscall(core)
    assert (core.rip, core.gprs[1]) == (0x2000, 1)
    assert core.segments["cs"].attributes == 0xA9B


def test_syscall_in_legacy_mode_enters_the_eip_of_star_with_interrupts_off() -> None:
    core = protected_core(ring=3)
    core.efer, core.star = 1, 0x0023_0013_0000_9000
    core.gprs[11] = 0x77
    syscall(core)
    assert (core.rip, core.gprs[1], core.gprs[11]) == (0x9000, 0x1236, 0x77)
    assert (core.rflags, core.cpl) == (2, 0)
    assert core.segments["cs"] == Segment(0x10, 0, 0xFFFF_FFFF, 0xC9B)
    assert core.segments["ss"].selector == 0x18


def test_the_selectors_of_syscall_wrap_at_16_bits() -> None:
    core = long_core(ring=3)
    core.efer |= 1
    core.star = 0xFFFF << 32
    syscall(core)
    assert (core.segments["cs"].selector, core.segments["ss"].selector) == (0xFFFC, 4)


def test_syscall_without_sce_is_an_invalid_opcode() -> None:
    core = long_core(ring=3)
    before = core.registers()
    with pytest.raises(CpuFault, match=r"#UD: SYSCALL needs EFER\.SCE"):
        syscall(core)
    assert core.registers() == before


@pytest.mark.parametrize("make", [real_core, virtual_8086_core])
def test_syscall_belongs_to_protected_mode(make: object) -> None:
    core = real_core() if make is real_core else virtual_8086_core()
    core.efer = 1
    with pytest.raises(CpuFault, match="#UD: SYSCALL is an instruction of protected mode"):
        syscall(core)


def test_sysenter_loads_everything_from_its_msrs() -> None:
    core = protected_core(ring=3)
    core.rflags = 0x1_3202
    core.sysenter_cs, core.sysenter_esp, core.sysenter_eip = 0x63, 0x1_0000_8000, 0xC010_0000
    sysenter(core)
    assert (core.rip, core.rsp, core.cpl) == (0xC010_0000, 0x8000, 0)
    assert core.segments["cs"] == Segment(0x60, 0, 0xFFFF_FFFF, 0xC9B)
    assert core.segments["ss"] == Segment(0x68, 0, 0xFFFF_FFFF, 0xC93)
    assert core.rflags == 0x3002


def test_sysenter_leaves_virtual_8086_mode() -> None:
    core = virtual_8086_core()
    core.sysenter_cs = 0x60
    sysenter(core)
    assert not core.rflags & 0x20000
    assert core.cpl == 0


@pytest.mark.parametrize("selector", [0, 3])
def test_sysenter_with_a_null_selector_is_a_general_protection_fault(selector: int) -> None:
    core = protected_core(ring=3)
    core.sysenter_cs = selector
    before = core.registers()
    with pytest.raises(CpuFault, match="#GP with error code 0x0: MSR SYSENTER_CS holds a null selector"):
        sysenter(core)
    assert core.registers() == before


def test_sysenter_in_real_mode_is_a_general_protection_fault() -> None:
    core = real_core()
    core.sysenter_cs = 0x60
    with pytest.raises(CpuFault, match="not available in real mode"):
        sysenter(core)


def test_sysenter_in_long_mode_is_an_invalid_opcode() -> None:
    core = long_core(ring=3)
    core.sysenter_cs = DATA0
    with pytest.raises(CpuFault, match="#UD: SYSENTER is not available in long mode on AMD"):
        sysenter(core)
