"""What the engine reports, and where: intercepts, exceptions, error codes. An upgrade that differs fails."""

from __future__ import annotations

import pytest

from tests.machine.lab import CODE, CODE32, DATA, DATA32, GDT, Bench
from vlab.isa.state import CpuState
from vlab.isa.svm_exits import SvmExit
from vlab.machine import registers as reg
from vlab.machine.engine import FAILED, STOPPED

HFLAGS_GUEST, HFLAGS2_NESTED = 1 << 21, 1 << 6
X = SvmExit


def test_the_engine_is_in_guest_mode_with_nested_paging_from_power_on(lab: Bench) -> None:
    assert lab.engine.words32[reg.HFLAGS] & HFLAGS_GUEST
    assert lab.engine.words32[reg.HFLAGS2] & HFLAGS2_NESTED
    assert lab.engine.u64(0) == lab.machine.host.vmcb


@pytest.mark.parametrize(
    ("code", "exit_code", "length"),
    [
        ("0f20c0", X.READ_CR0, 0), ("0f01e0", X.READ_CR0, 0),
        ("0f20d0", X.READ_CR0 + 2, 0), ("0f20d8", X.READ_CR0 + 3, 0),
        ("0f20e0", X.READ_CR0 + 4, 0), ("f00f20c0", X.READ_CR0 + 8, 0),
        ("0f22c0", X.WRITE_CR0, 0), ("0f06", X.WRITE_CR0, 0),
        ("0f01f0", X.WRITE_CR0, 0), ("0f22d0", X.WRITE_CR0 + 2, 0), ("0f22d8", X.WRITE_CR0 + 3, 0),
        ("0f22e0", X.WRITE_CR0 + 4, 0), ("f00f22c0", X.WRITE_CR0 + 8, 0), ("0f21c8", X.READ_DR0 + 1, 0),
        ("0f21f8", X.READ_DR0 + 7, 0), ("0f23d0", X.WRITE_DR0 + 2, 0), ("0f23f8", X.WRITE_DR0 + 7, 0),
        ("0f010e", X.IDTR_READ, 0), ("0f0106", X.GDTR_READ, 0),
        ("0f00c0", X.LDTR_READ, 0), ("0f00c8", X.TR_READ, 0),
        ("0f011e", X.IDTR_WRITE, 0), ("0f0116", X.GDTR_WRITE, 0),
        ("0f00d0", X.LDTR_WRITE, 0), ("0f00d8", X.TR_WRITE, 0),
        ("0f31", X.RDTSC, 0), ("0f01f9", X.RDTSCP, 0),
        ("0f33", X.RDPMC, 0), ("9c", X.PUSHF, 0), ("9d", X.POPF, 0),
        ("0fa2", X.CPUID, 0), ("0faa", X.RSM, 0), ("cf", X.IRET, 0), ("cd80", X.SWINT, 0),
        ("cc", X.EXCP_BP, 0),
        ("0f08", X.INVD, 0), ("f390", X.PAUSE, 0), ("f4", X.HLT, 0),
        ("0f0139", X.INVLPG, 0), ("0f01df", X.INVLPGA, 0),
        ("0f32", X.MSR, 0), ("0f30", X.MSR, 0), ("0f01d8", X.VMRUN, 0),
        ("0f01d9", X.VMMCALL, 0), ("0f01da", X.VMLOAD, 0),
        ("0f01db", X.VMSAVE, 0), ("0f01dc", X.STGI, 0),
        ("0f01dd", X.CLGI, 0), ("0f01de", X.SKINIT, 0), ("f1", X.ICEBP, 0),
        ("0f09", X.WBINVD, 0),
    ],
)  # fmt: skip
def test_every_intercept_arrives_at_its_instruction(
    lab: Bench, code: str, exit_code: SvmExit, length: int
) -> None:
    """With nothing done yet, and RIP at the instruction."""
    everything = [X.INTR + bit for bit in range(64)]
    lab.intercept(0xFFFFFFFF, *everything, crs=0xFFFFFFFF, drs=0xFFFFFFFF)
    state = lab.flat32()
    state.rsi = DATA
    before = state.copy()
    assert lab.run(state, "90" + code) == exit_code
    assert lab.core.rip == CODE + 1 + length
    after = lab.core.state()
    after.rip = CODE
    assert after == before


def test_an_intercepted_into_needs_overflow(lab: Bench) -> None:
    lab.intercept(1 << 4)
    state = lab.flat32()
    assert lab.run(state, "ce f4") == X.HLT
    state.rflags |= 1 << 11
    assert lab.run(state, "ce f4") == X.EXCP_OF


@pytest.mark.parametrize(
    ("code", "vector", "error_code"),
    [
        ("f7f3", 0, 0), ("624608", 5, 0), ("0f0b", 6, 0),
        ("8ed8", 13, 0xFFF8), ("8ed0", 13, 0xFFF8), ("ff2e", 13, 0xFFF8),
    ],
)  # fmt: skip
def test_an_exception_arrives_with_its_error_code(
    lab: Bench, code: str, vector: int, error_code: int
) -> None:
    lab.intercept(0xFFFFFFFF)
    state = lab.flat32()
    state.rax, state.rsi = 0xFFF8, DATA
    lab.poke(DATA, b"\1\0\0\0" + b"\xf8\xff\0\0")
    assert lab.run(state, code) == X.EXCP_DE + vector
    assert (lab.processor.info1, lab.core.rip) == (error_code, CODE)


def test_faults_arrive_for_ever(lab: Bench) -> None:
    """Outside guest mode the second contributory fault would be #DF, and the third would end it all."""
    lab.intercept(0xFFFFFFFF)
    lab.core.load(lab.flat32())
    lab.code("f7f3")
    assert [lab.processor.run() for _ in range(1000)] == [X.EXCP_DE] * 1000


def test_a_page_fault_has_its_address_in_exitinfo2_and_leaves_cr2_alone(lab: Bench) -> None:
    lab.intercept(1 << 14)
    state = lab.long64()
    state.cr2, state.rbx = 0x1111, 0x00007FFF_00000123
    assert lab.run(state, "48 8903") == X.EXCP_PF
    assert (lab.processor.info1, lab.processor.info2) == (2, 0x00007FFF_00000123)
    assert lab.core.cr2 == 0x1111
    assert lab.memory.read(lab.machine.host.vmcb + 0x80, 8) == 0x00007FFF_00000123


def test_x87_and_sse_errors_are_mf_and_xf(lab: Bench) -> None:
    lab.intercept(1 << 16 | 1 << 19)
    state = lab.flat32()
    state.cr0 |= 0x20
    state.rsi = DATA
    lab.poke(DATA, (0x0).to_bytes(4, "little"))
    # control word 0: nothing masked; FLDZ; FLD1; FDIV by zero; FWAIT
    assert lab.run(state, "d92e d9e8 d9ee def9 9b") == X.EXCP_DE + 16
    assert lab.core.rip == CODE + 8


def test_device_not_available_is_nm(lab: Bench) -> None:
    lab.intercept(1 << 7)
    state = lab.flat32()
    state.cr0 |= 8
    assert lab.run(state, "d9e8") == X.EXCP_DE + 7


@pytest.mark.parametrize(
    ("prefix", "code", "vector", "length"),
    [
        ("", "cd55", 0x55, 2), ("66", "cd55", 0x55, 3), ("", "cd03", 3, 2), ("", "cc", 3, 1),
        ("f3", "cc", 3, 2), ("", "ce", 4, 1), ("66", "ce", 4, 2),
    ],
)  # fmt: skip
def test_rip_is_at_a_software_interrupt_and_its_frame_is_past_it(
    lab: Bench, prefix: str, code: str, vector: int, length: int
) -> None:
    lab.gate32(vector, CODE + 0x100)
    lab.code("f4", CODE + 0x100)
    int_n = code.startswith("cd")
    lab.intercept(1 << 3 | 1 << 4, X.SWINT)
    state = lab.flat32()
    state.rflags |= 1 << 11  # OF, for INTO
    assert lab.run(state, prefix + code) == (X.SWINT if int_n else X.EXCP_DE + vector)
    assert (lab.core.rip, lab.processor.info1) == (CODE, vector if int_n else 0)
    lab.intercept()
    assert lab.run(state) == X.HLT
    assert lab.peek(lab.core.rsp, 4) == CODE + length


@pytest.mark.parametrize(
    ("code", "vector", "exceptions", "others"),
    [
        ("cc", 3, 0xFFFFFFFF & ~(1 << 3), (X.SWINT,)),
        ("ce", 4, 0xFFFFFFFF & ~(1 << 4), (X.SWINT,)),
        ("cd03", 3, 0xFFFFFFFF, ()),
        ("cd04", 4, 0xFFFFFFFF, ()),
    ],
)
def test_int3_and_into_are_intercepted_as_exceptions_and_int_n_as_itself(
    lab: Bench, code: str, vector: int, exceptions: int, others: tuple[SvmExit, ...]
) -> None:
    """APM2 15.12.4 and 15.12.5: each is delivered where the intercept of the other kind is all there is."""
    lab.gate32(vector, CODE + 0x100)
    lab.code("f4", CODE + 0x100)
    lab.intercept(exceptions, *others)
    state = lab.flat32()
    state.rflags |= 1 << 11
    assert lab.run(state, code) == X.HLT
    assert lab.core.rip == CODE + 0x100


def test_an_intercepted_int3_does_not_look_at_its_gate(lab: Bench) -> None:
    """An intercept comes before the delivery, and so before the gate's DPL is checked (APM2 15.12)."""
    lab.gate32(3, CODE + 0x100)
    state = lab.flat32()
    state.idtr.limit = 0
    lab.intercept(1 << 3 | 1 << 13)
    assert lab.run(state, "cc") == X.EXCP_BP
    assert lab.core.rip == CODE
    lab.intercept(1 << 13)
    assert lab.run(state, "cc") == X.EXCP_DE + 13
    assert (lab.core.rip, lab.processor.info1) == (CODE, 3 << 3 | 2)


def test_after_a_software_interrupt_exits_report_their_own_rip(lab: Bench) -> None:
    """An INT n that was not intercepted would leave a stale RIP in every later exit."""
    lab.gate32(0x80, CODE + 0x100)
    lab.code("cf", CODE + 0x100)
    lab.intercept(1 << 14)
    state = lab.flat32()
    state.cr3, state.cr4, state.cr0 = 0x90000, 0x10, 0x80000011
    lab.poke(0x90000, (0x87).to_bytes(4, "little"))
    assert lab.run(state, "cd80 40 a100004000") == X.EXCP_PF
    assert lab.core.rip == CODE + 3


def test_an_intercepted_msr_access_says_its_direction(lab: Bench) -> None:
    lab.intercept(0, X.MSR)
    state = lab.flat32()
    state.rcx = 0xC0000080
    for code, write in (("0f32", 0), ("0f30", 1)):
        assert lab.run(state, code) == X.MSR
        assert lab.processor.info1 == write


def test_reads_of_fs_gs_and_kernel_gs_bases_do_not_leave_the_engine(lab: Bench) -> None:
    lab.intercept(0, X.MSR)
    state = lab.long64()
    state.kernel_gs_base = 0x12345
    state.rcx = 0xC0000102
    assert lab.run(state, "0f32 f4") == X.HLT
    assert lab.core.get_gpr(0) == 0x12345


def test_an_exit_in_the_middle_of_a_block_shows_all_that_came_before(lab: Bench) -> None:
    state = lab.flat32()
    lab.intercept(0, X.CPUID)
    assert lab.run(state, "b805000000 83c003 50 39c0 0fa2") == X.CPUID
    core = lab.core
    assert (core.get_gpr(0), core.rsp, core.rflags & 0x8D5) == (8, state.rsp - 4, 0x44)
    assert lab.peek(core.rsp, 4) == 8


def test_memory_that_nothing_backs_is_a_failure_with_a_number(lab: Bench) -> None:
    """A monitor's mistake: its nested tables lead out of the machine's memory."""
    lab.map(0x500000, 1 << 36)
    lab.core.load(lab.flat32())
    lab.code("a100005000 f4")
    assert lab.engine.run() == FAILED
    assert lab.engine.error == 6  # UC_ERR_READ_UNMAPPED
    assert lab.processor.run() == X.SHUTDOWN
    assert lab.processor.failure == "the emulator gave up with error 6"
    lab.map(0x500000, lab.base)


def test_a_stop_that_is_asked_for_before_the_first_block_executes_nothing(lab: Bench) -> None:
    lab.core.load(lab.flat32())
    lab.code("40 f4")
    lab.engine.stops.request()
    assert lab.engine.run() == STOPPED
    assert (lab.core.rip, lab.core.get_gpr(0)) == (CODE, 0)


def test_far_transfers_and_segment_loads_are_done_by_the_engine(lab: Bench) -> None:
    """Accessed bits, LDT, conforming code: no exit on the way."""
    state = lab.flat32()
    lab.poke(GDT + 0x60, bytes.fromhex("ff0f005000820000"))  # LDT at 0x5000
    lab.poke(0x5000 + 8, bytes(lab.ram[GDT + DATA32 : GDT + DATA32 + 8]))
    lab.poke(0x5000 + 13, b"\x92")  # not accessed yet
    code = "66b86000 0f00d0 b80c000000 8ee8 ea" + (CODE + 0x100).to_bytes(4, "little").hex() + "0800"
    lab.code("f4", CODE + 0x100)
    assert lab.run(state, code) == X.HLT
    assert (lab.core.segment("gs").selector, lab.core.segment("cs").selector) == (0xC, CODE32)
    assert lab.peek(0x5000 + 13, 1) == 0x93


def test_two_engines_do_not_disturb_each_other(lab: Bench) -> None:
    other = Bench()
    try:
        mine, theirs = lab.flat32(), CpuState.real_mode(0x1000, 0)
        lab.core.load(mine)
        other.core.load(theirs)
        lab.code("40 0fa2 40 f4")
        other.code("43 f4")
        lab.intercept(0, X.CPUID)
        assert lab.processor.run() == X.CPUID
        assert other.processor.run() == X.HLT
        assert (lab.core.get_gpr(0), other.core.get_gpr(3)) == (1, 1)
    finally:
        other.close()
