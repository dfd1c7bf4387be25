"""The VMCB against the offsets of appendix B, its intercepts against the exit codes of appendix C."""

from __future__ import annotations

import pytest

from vlab.isa.state import Segment, TableRegister
from vlab.isa.svm_exits import SvmExit
from vlab.isa.vmcb import (
    VMCB_SIZE,
    EventInjection,
    InterceptMisc1,
    InterceptMisc2,
    InterceptMisc3,
    VmcbControl,
    VmcbSave,
)

# Typed from tables B-1 and B-2, apart from the declarations: offset and size in bytes.
CONTROL = {
    "intercept_cr_read": (0x000, 2),
    "intercept_cr_write": (0x002, 2),
    "intercept_dr_read": (0x004, 2),
    "intercept_dr_write": (0x006, 2),
    "intercept_exceptions": (0x008, 4),
    "intercept_misc1": (0x00C, 4),
    "intercept_misc2": (0x010, 4),
    "intercept_misc3": (0x014, 4),
    "pause_filter_threshold": (0x03C, 2),
    "pause_filter_count": (0x03E, 2),
    "iopm_base_pa": (0x040, 8),
    "msrpm_base_pa": (0x048, 8),
    "tsc_offset": (0x050, 8),
    "asid": (0x058, 4),
    "tlb_control": (0x05C, 1),
    "erap_ctl": (0x05D, 1),
    "int_ctl": (0x060, 8),
    "interrupt_state": (0x068, 8),
    "exitcode": (0x070, 8),
    "exitinfo1": (0x078, 8),
    "exitinfo2": (0x080, 8),
    "exitintinfo": (0x088, 8),
    "nested_ctl": (0x090, 8),
    "avic_apic_bar": (0x098, 8),
    "ghcb": (0x0A0, 8),
    "eventinj": (0x0A8, 8),
    "nested_cr3": (0x0B0, 8),
    "lbr_ctl": (0x0B8, 8),
    "clean_bits": (0x0C0, 4),
    "nrip": (0x0C8, 8),
    "bytes_fetched": (0x0D0, 1),
    "instruction_bytes": (0x0D1, 15),
    "avic_backing_page": (0x0E0, 8),
    "avic_logical_table": (0x0F0, 8),
    "avic_physical_table": (0x0F8, 8),
    "vmsa": (0x108, 8),
    "bus_lock_counter": (0x120, 2),
}
SAVE = {
    "cpl": (0x0CB, 1),
    "efer": (0x0D0, 8),
    "cr4": (0x148, 8),
    "cr3": (0x150, 8),
    "cr0": (0x158, 8),
    "dr7": (0x160, 8),
    "dr6": (0x168, 8),
    "rflags": (0x170, 8),
    "rip": (0x178, 8),
    "rsp": (0x1D8, 8),
    "s_cet": (0x1E0, 8),
    "ssp": (0x1E8, 8),
    "isst_addr": (0x1F0, 8),
    "rax": (0x1F8, 8),
    "star": (0x200, 8),
    "lstar": (0x208, 8),
    "cstar": (0x210, 8),
    "sfmask": (0x218, 8),
    "kernel_gs_base": (0x220, 8),
    "sysenter_cs": (0x228, 8),
    "sysenter_esp": (0x230, 8),
    "sysenter_eip": (0x238, 8),
    "cr2": (0x240, 8),
    "g_pat": (0x268, 8),
    "dbgctl": (0x270, 8),
    "br_from": (0x278, 8),
    "br_to": (0x280, 8),
    "last_excp_from": (0x288, 8),
    "last_excp_to": (0x290, 8),
    "dbgextnctl": (0x298, 8),
    "spec_ctrl": (0x2E0, 8),
}
SEGMENTS = {"es": 0, "cs": 0x10, "ss": 0x20, "ds": 0x30, "fs": 0x40, "gs": 0x50, "ldtr": 0x70, "tr": 0x90}


def test_the_control_area_has_the_offsets_of_table_b_1() -> None:
    assert {f.name: (f.offset, f.size) for f in VmcbControl.fields()} == CONTROL


def test_the_save_area_has_the_offsets_of_table_b_2_from_0x400() -> None:
    expected = {name: (0x400 + offset, size) for name, (offset, size) in SAVE.items()}
    for name, offset in SEGMENTS.items():
        expected[f"{name}_selector"] = (0x400 + offset, 2)
        expected[f"{name}_attributes"] = (0x402 + offset, 2)
        expected[f"{name}_limit"] = (0x404 + offset, 4)
        expected[f"{name}_base"] = (0x408 + offset, 8)
    for name, offset in (("gdtr", 0x60), ("idtr", 0x80)):
        expected[f"{name}_limit"] = (0x404 + offset, 4)
        expected[f"{name}_base"] = (0x408 + offset, 8)
    assert {f.name: (f.offset, f.size) for f in VmcbSave.fields()} == expected


@pytest.mark.parametrize(
    ("register", "first"), [(InterceptMisc1, 0x60), (InterceptMisc2, 0x80), (InterceptMisc3, 0xA0)]
)
def test_an_intercept_bit_has_the_name_of_its_exit_code(
    register: type[InterceptMisc1 | InterceptMisc2 | InterceptMisc3], first: int
) -> None:
    for field in register.fields():
        if field.width == 1:
            assert SvmExit(first + field.lo).name == field.name
    assert 0x80 + InterceptMisc2.CR_WRITE_TRAP.lo == SvmExit.CR0_WRITE_TRAP


@pytest.mark.parametrize("name", SEGMENTS)
def test_a_segment_goes_into_the_save_area_and_comes_back(name: str) -> None:
    memory = bytearray(2 * VMCB_SIZE)
    save = VmcbSave(memory, VMCB_SIZE)
    segment = Segment(0x1B, 0xFFFF_8000_0000_1000, 0xFFFFF, 0xCF3)
    save.set_segment(name, segment)
    assert save.segment(name) == segment
    assert getattr(save, f"{name}_selector").INDEX == 3
    assert getattr(save, f"{name}_attributes").DPL == 3
    assert getattr(save, f"{name}_limit") == 0xFFFFF
    assert getattr(save, f"{name}_base") == 0xFFFF_8000_0000_1000
    assert not any(memory[:VMCB_SIZE])


@pytest.mark.parametrize("name", ["gdtr", "idtr"])
def test_a_table_register_goes_into_the_save_area_and_comes_back(name: str) -> None:
    save = VmcbSave(bytearray(VMCB_SIZE))
    save.set_table(name, TableRegister(0xFFFF_FE00_0000_0000, 0xFFF))
    assert save.table(name) == TableRegister(0xFFFF_FE00_0000_0000, 0xFFF)
    assert getattr(save, f"{name}_limit") == 0xFFF


def test_only_sixteen_bits_of_a_table_limit_exist() -> None:
    save = VmcbSave(bytearray(VMCB_SIZE))
    save.gdtr_limit = 0x12345
    assert save.table("gdtr").limit == 0x2345


def test_injections_have_the_encoding_of_figure_15_5() -> None:
    assert EventInjection.interrupt(0x30) == 0x8000_0030
    assert EventInjection.nmi() == 0x8000_0202
    assert EventInjection.exception(6) == 0x8000_0306
    assert EventInjection.exception(13, 0x18) == 0x18_8000_0B0D
    assert EventInjection.software(0x80) == 0x8000_0480
    assert repr(EventInjection.exception(14, 2)) == (
        "EventInjection(0x280000b0e: ERRORCODE=2 V EV TYPE=exception VECTOR=0xe)"
    )
