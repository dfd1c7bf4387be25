"""Exit codes, what qualifies them, and the permission maps that decide on two of them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vlab.isa import svm_exits
from vlab.isa.permission_maps import (
    IOPM_SIZE,
    MSRPM_SIZE,
    io_intercepted,
    msr_intercepted,
    msr_position,
    set_io_intercept,
    set_msr_intercept,
)
from vlab.isa.svm_exits import (
    CrAccess,
    DrAccess,
    IoExitInfo,
    MsrAccess,
    NptFaultInfo,
    SvmExit,
    TaskSwitchInfo,
    layout,
    vector_of,
)
from vlab.isa.vectors import PageFaultError, SelectorError, Vector


def test_well_known_codes_have_the_values_of_table_c_1() -> None:
    known = {"READ_CR3": 0x03, "WRITE_CR3": 0x13, "READ_DR7": 0x27, "WRITE_DR0": 0x30, "INTR": 0x60}
    known |= {"VINTR": 0x64, "CPUID": 0x72, "IRET": 0x74, "SWINT": 0x75, "HLT": 0x78, "IOIO": 0x7B}
    known |= {"MSR": 0x7C, "SHUTDOWN": 0x7F, "VMRUN": 0x80, "VMMCALL": 0x81, "XSETBV": 0x8D, "NPF": 0x400}
    known |= {"CR15_WRITE_TRAP": 0x9F, "IDLE_HLT": 0xA6, "INVALID": 2**64 - 1}
    for name, code in known.items():
        assert SvmExit[name] == code


def test_codes_from_0_to_the_last_instruction_have_no_gap() -> None:
    assert [int(code) for code in SvmExit][:0xA7] == list(range(0xA7))


def test_an_exception_exit_is_0x40_plus_its_vector_and_has_its_name() -> None:
    for vector in Vector:
        code = SvmExit[f"EXCP_{vector.name}"]
        assert code == 0x40 + vector
        assert vector_of(code) == vector
    assert vector_of(SvmExit.CPUID) is None
    assert vector_of(SvmExit.WRITE_DR15) is None


def test_a_code_is_named_as_in_the_manual_and_an_unknown_one_by_number() -> None:
    assert svm_exits.name(0x72) == "CPUID"
    assert svm_exits.name(0x4E) == "EXCP_PF"
    assert svm_exits.name(0x333) == "exit 0x333"


def test_every_exit_says_what_its_qualifications_mean() -> None:
    assert layout(SvmExit.READ_CR0).info1 is CrAccess
    assert layout(SvmExit.WRITE_CR15).info1 is CrAccess
    assert layout(SvmExit.READ_DR0).info1 is DrAccess
    assert layout(SvmExit.WRITE_DR15).info1 is DrAccess
    assert layout(SvmExit.EXCP_DE).info1 is None
    assert layout(SvmExit.EXCP_GP).info1 is SelectorError
    assert layout(SvmExit.EXCP_PF).info1 is PageFaultError
    assert layout(SvmExit.EXCP_PF).meaning2 == "faulting linear address"
    assert layout(SvmExit.MSR).info1 is MsrAccess
    assert layout(SvmExit.TASK_SWITCH).info2 is TaskSwitchInfo
    assert layout(SvmExit.NPF).info1 is NptFaultInfo
    assert layout(0x333).meaning1 == "undefined"


@given(st.integers(0, 0xFFFF), st.sampled_from([1, 2, 4]), st.booleans(), st.booleans(), st.booleans())
def test_an_io_qualification_keeps_port_width_and_direction(
    port: int, size: int, is_in: bool, string: bool, rep: bool
) -> None:
    info = IoExitInfo.make(port, size, is_in=is_in, string=string, rep=rep)
    assert (info.PORT, info.operand_bytes) == (port, size)
    assert (is_in, string, rep) == (info.IN, info.STR, info.REP)


def test_an_io_qualification_decodes_a_value_from_the_manual() -> None:
    info = IoExitInfo(0x03F8_0C9D)
    assert (info.PORT, info.operand_bytes, info.address_bytes) == (0x3F8, 1, 2)
    assert repr(info) == "IoExitInfo(0x3f80c9d: PORT=0x3f8 SEG=DS A16 SZ8 REP STR IN)"
    assert IoExitInfo(1 << 9).address_bytes == 8


def test_an_impossible_port_width_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^size: 3 is not the width of a port access; give 1, 2 or 4$"):
        IoExitInfo.make(0x80, 3, is_in=True)


@given(st.integers(0, 0xFFFF), st.integers(0, 0xFFFF), st.sampled_from([1, 2, 4]))
def test_an_access_exits_when_one_of_its_ports_is_marked(marked: int, port: int, size: int) -> None:
    iopm = bytearray(IOPM_SIZE)
    set_io_intercept(iopm, marked)
    assert io_intercepted(iopm, port, size) == (port <= marked < port + size)
    set_io_intercept(iopm, marked, exits=False)
    assert not any(iopm)


@pytest.mark.parametrize(
    ("msr", "byte"), [(0, 0), (0x1FFF, 0x7FF), (0xC0000080, 0x820), (0xC0001FFF, 0xFFF), (0xC0010117, 0x1045)]
)
def test_an_msr_is_found_in_the_ranges_of_the_map(msr: int, byte: int) -> None:
    position = msr_position(msr)
    assert position is not None
    assert position >> 3 == byte


def test_reads_and_writes_of_an_msr_are_intercepted_apart() -> None:
    msrpm = bytearray(MSRPM_SIZE)
    set_msr_intercept(msrpm, 0xC0000080, read=False)
    assert not msr_intercepted(msrpm, 0xC0000080, write=False)
    assert msr_intercepted(msrpm, 0xC0000080, write=True)
    set_msr_intercept(msrpm, 0xC0000080, read=False, write=False)
    assert not any(msrpm)


def test_an_msr_outside_the_map_always_exits() -> None:
    assert msr_position(0x2000) is None
    assert msr_intercepted(bytearray(MSRPM_SIZE), 0x40000000, write=False)
    with pytest.raises(ValueError, match=r"^msr: 0x40000000 is outside the ranges of the MSR permission map"):
        set_msr_intercept(bytearray(MSRPM_SIZE), 0x40000000)
