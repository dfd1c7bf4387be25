"""RDMSR and WRMSR: what is there, what it keeps, and each #GP."""

from __future__ import annotations

import pytest

from tests.machine.lab import CODE, Bench
from vlab.isa.msr import Msr
from vlab.isa.svm_exits import SvmExit
from vlab.machine.identity import SVM

GP = 13
NOT_CANONICAL = 0x0000_8000_0000_0000
CANONICAL = 0xFFFF_8000_0000_1234


def wrmsr(lab: Bench, number: int, value: int) -> int | None:
    """Execute WRMSR in 64-bit mode; None, or the error code of its #GP at the instruction."""
    lab.intercept(1 << GP)
    state = lab.long64()
    state.rcx, state.rax, state.rdx = number, value & 0xFFFFFFFF, value >> 32
    return outcome(lab, lab.run(state, "0f30 f4"))


def rdmsr(lab: Bench, number: int) -> int | None:
    """Execute RDMSR in 64-bit mode; its value, or None for #GP(0) at the instruction."""
    lab.intercept(1 << GP)
    state = lab.long64()
    state.rcx, state.rax, state.rdx = number, (1 << 64) - 1, (1 << 64) - 1
    if outcome(lab, lab.run(state, "0f32 f4")) is not None:
        return None
    words = lab.core.words
    assert words[0] >> 32 == words[2] >> 32 == 0  # the upper halves are cleared
    return words[2] << 32 | words[0]


def outcome(lab: Bench, code: int) -> int | None:
    if code == SvmExit.HLT:
        assert lab.core.rip == CODE + 2
        return None
    assert (code, lab.core.rip) == (SvmExit.EXCP_DE + GP, CODE)
    return lab.processor.info1


@pytest.mark.parametrize(
    "msr",
    [
        Msr.STAR, Msr.LSTAR, Msr.CSTAR, Msr.SFMASK, Msr.KERNEL_GS_BASE, Msr.SYSENTER_ESP, Msr.SYSENTER_EIP,
        Msr.FS_BASE, Msr.GS_BASE, Msr.MTRR_DEF_TYPE, Msr.MTRR_PHYS_BASE0, Msr.MTRR_FIX_64K_00000, Msr.HWCR,
        Msr.PATCH_LOADER,
    ],
)  # fmt: skip
def test_a_register_keeps_what_is_written(lab: Bench, msr: Msr) -> None:
    assert wrmsr(lab, msr, CANONICAL) is None
    assert lab.processor.msrs.read(msr) == CANONICAL


@pytest.mark.parametrize(
    ("msr", "reset"),
    [
        (Msr.EFER, 0x501), (Msr.PAT, 0x0007040600070406), (Msr.APIC_BASE, 0xFEE00900), (Msr.MTRR_CAP, 0x508),
        (Msr.MCG_CAP, 0), (Msr.SMBASE, 0x30000),
    ],
)  # fmt: skip
def test_a_register_has_its_reset_value(lab: Bench, msr: Msr, reset: int) -> None:
    assert rdmsr(lab, msr) == reset  # EFER as the bench enters long mode: LMA LME SCE


@pytest.mark.parametrize("number", [0x12345678, 0xC0000FFF, 0x40000000, 0xFFFFFFFF, 0xC0011FFF])
def test_a_number_that_does_not_exist_is_gp(lab: Bench, number: int) -> None:
    assert rdmsr(lab, number) is None
    assert wrmsr(lab, number, 0) == 0


@pytest.mark.parametrize("msr", [Msr.VM_CR, Msr.VM_HSAVE_PA, Msr.SVM_KEY])
def test_the_registers_of_amd_v_are_gp_on_a_processor_whose_cpuid_has_none(lab: Bench, msr: Msr) -> None:
    assert not lab.processor.identity.cpuid(0x80000001, 0)[2] & SVM
    assert rdmsr(lab, msr) is None
    assert wrmsr(lab, msr, 0) == 0


@pytest.mark.parametrize("msr", [Msr.MTRR_CAP, Msr.PATCH_LEVEL, Msr.MCG_CAP])
def test_writing_a_read_only_register_is_gp(lab: Bench, msr: Msr) -> None:
    assert wrmsr(lab, msr, 1) == 0
    assert rdmsr(lab, msr) is not None


def test_reading_a_write_only_register_is_gp(lab: Bench) -> None:
    assert rdmsr(lab, Msr.PRED_CMD) is None
    assert wrmsr(lab, Msr.PRED_CMD, 1) is None


@pytest.mark.parametrize(
    "msr", [Msr.LSTAR, Msr.CSTAR, Msr.KERNEL_GS_BASE, Msr.FS_BASE, Msr.GS_BASE, Msr.SYSENTER_EIP]
)
def test_an_address_that_is_not_canonical_is_gp(lab: Bench, msr: Msr) -> None:
    before = lab.processor.msrs.read(msr)
    assert wrmsr(lab, msr, NOT_CANONICAL) == 0
    assert lab.processor.msrs.read(msr) == before


@pytest.mark.parametrize("value", [0x2, 0x3, 0x0800000000000000, 0x80])
def test_a_memory_type_that_does_not_exist_is_gp_in_pat(lab: Bench, value: int) -> None:
    assert wrmsr(lab, Msr.PAT, value) == 0
    assert lab.core.pat == 0x0007040600070406


def test_pat_takes_the_memory_types_that_exist(lab: Bench) -> None:
    assert wrmsr(lab, Msr.PAT, 0x0007060504010700) is None
    assert lab.core.pat == 0x0007060504010700


@pytest.mark.parametrize("bit", [1, 5, 9, 12, 13, 14, 15, 16, 32, 63])
def test_a_reserved_bit_of_efer_is_gp(lab: Bench, bit: int) -> None:
    assert wrmsr(lab, Msr.EFER, 0x501 | 1 << bit) == 0


def test_efer_lme_cannot_change_under_paging(lab: Bench) -> None:
    assert wrmsr(lab, Msr.EFER, 0x401) == 0
    assert rdmsr(lab, Msr.EFER) == 0x501


def test_efer_lma_is_not_softwares(lab: Bench) -> None:
    assert wrmsr(lab, Msr.EFER, 0x101) is None
    assert lab.processor.msrs.read(Msr.EFER) == 0x501


def test_efer_nxe_takes_effect_at_once(lab: Bench) -> None:
    """NX is a reserved bit until EFER.NXE is set, and forbids execution afterwards."""
    lab.intercept(1 << 14)
    state = lab.long64()
    lab.poke(0x82000, (1 << 63 | 0x87).to_bytes(8, "little"))  # the low 2 MiB, with NX
    assert lab.run(state, "f4") == SvmExit.EXCP_PF
    assert lab.processor.info1 == 0x9  # reserved, present
    lab.processor.msrs.write(Msr.EFER, 0xD01)
    assert lab.processor.run() == SvmExit.EXCP_PF
    assert lab.processor.info1 == 0x11  # fetch, present


@pytest.mark.parametrize("value", [0xFEE00900 | 1 << 40, 0xFEE00901, 0xFEE00B00, 0xFEE00D00])
def test_a_reserved_bit_of_apic_base_is_gp(lab: Bench, value: int) -> None:
    assert wrmsr(lab, Msr.APIC_BASE, value) == 0


def test_apic_base_is_told_to_the_board(lab: Bench) -> None:
    told: list[int] = []
    lab.processor.msrs.on_apic_base = told.append
    assert wrmsr(lab, Msr.APIC_BASE, 0xFEE00100) is None
    assert told == [0xFEE00100]


def test_the_upper_half_of_tsc_aux_is_reserved(lab: Bench) -> None:
    assert wrmsr(lab, Msr.TSC_AUX, 0x1_0000_0000) == 0
    assert wrmsr(lab, Msr.TSC_AUX, 0xFFFFFFFF) is None


def test_the_time_stamp_counter_runs_on_from_what_is_written(lab: Bench) -> None:
    now = 1000
    lab.processor.now = lambda: now
    assert rdmsr(lab, Msr.TSC) == 1000
    assert wrmsr(lab, Msr.TSC, 50) is None
    now += 7
    assert rdmsr(lab, Msr.TSC) == 57
    lab.run(lab.long64(), "0f31 f4")
    assert lab.core.words[0] == 57


def test_msrs_need_ring_0(lab: Bench) -> None:
    lab.intercept(1 << GP)
    for code in ("0f30 f4", "0f32 f4"):
        assert lab.run(lab.long64(user=True), code) == SvmExit.EXCP_DE + GP
