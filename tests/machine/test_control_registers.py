"""MOV to CR0, CR4, CR8 and the debug registers, LMSW and CLTS: what is checked, and what changes."""

from __future__ import annotations

import pytest

from tests.machine.lab import CODE, CODE64, DATA, SEGMENTS, Bench
from vlab.isa.state import CpuState, Mode
from vlab.isa.svm_exits import SvmExit

GP, UD = 13, 6
PE, TS, ET, NW, CD, PG = 1, 8, 0x10, 1 << 29, 1 << 30, 1 << 31


def execute(lab: Bench, state: CpuState, code: str, length: int = 3) -> int | None:
    """Run one instruction and HLT; None, or the vector of its fault."""
    lab.intercept(1 << GP | 1 << UD)
    start = state.rip
    exit_code = lab.run(state, code + "f4")
    if exit_code == SvmExit.HLT:
        assert lab.core.rip == start + length
        return None
    assert lab.core.rip == start
    return exit_code - SvmExit.EXCP_DE


@pytest.mark.parametrize(
    ("value", "faults"),
    [
        (PE | ET, False), (PE, False), (0, False), (PG | PE, False), (PG, True), (PE | NW, True),
        (PE | NW | CD, False), (PE | CD, False), (PE | TS | 0x50026, False),
    ],
)  # fmt: skip
def test_cr0_takes_only_values_that_exist(lab: Bench, value: int, faults: bool) -> None:
    state = lab.flat32()
    state.rax, state.cr3, state.cr4 = value, 0x90000, 0x10
    lab.poke(0x90000, (0x87).to_bytes(4, "little"))
    assert execute(lab, state, "0f22c0") == (GP if faults else None)
    assert lab.core.cr0 == (PE | ET if faults else value | ET)


def test_bits_of_cr0_that_do_not_exist_read_as_zero(lab: Bench) -> None:
    state = lab.flat32()
    state.rax = 0x0FFA_FFC1
    assert execute(lab, state, "0f22c0") is None
    assert lab.core.cr0 == PE | ET


def test_the_upper_half_of_cr0_is_reserved(lab: Bench) -> None:
    state = lab.long64()
    state.rax = 1 << 32 | PG | PE
    assert execute(lab, state, "0f22c0") == GP


def test_a_32_bit_program_moves_32_bits(lab: Bench) -> None:
    state = lab.flat32()
    state.rax = 0xFFFF_FFFF_0000_0001
    assert execute(lab, state, "0f22c0") is None


def test_paging_cannot_be_turned_off_in_64_bit_mode(lab: Bench) -> None:
    state = lab.long64()
    state.rax = PE
    assert execute(lab, state, "0f22c0") == GP
    assert lab.core.mode is Mode.LONG64


def enter_long_mode(lab: Bench, *, efer: int = 0x100, cr4: int = 0x20, cs: int | None = None) -> CpuState:
    state = lab.flat32()
    state.cr3, state.cr4, state.efer, state.rax = lab.identity_tables(), cr4, efer, PG | PE
    if cs is not None:
        state.cs = SEGMENTS[cs].copy()
    return state


def test_setting_pg_with_lme_begins_long_mode_and_clearing_it_ends_it(lab: Bench) -> None:
    assert execute(lab, enter_long_mode(lab), "0f22c0") is None
    assert (lab.core.mode, lab.core.efer & 0x500) == (Mode.COMPAT, 0x500)
    state = lab.core.state()
    state.rip, state.rax = CODE, PE
    assert execute(lab, state, "0f22c0") is None
    assert (lab.core.mode, lab.core.efer & 0x500) == (Mode.PROTECTED32, 0x100)


def test_long_mode_needs_pae(lab: Bench) -> None:
    assert execute(lab, enter_long_mode(lab, cr4=0), "0f22c0") == GP
    assert lab.core.efer & 0x400 == 0


def test_long_mode_does_not_begin_in_a_64_bit_code_segment(lab: Bench) -> None:
    assert execute(lab, enter_long_mode(lab, cs=CODE64), "0f22c0") == GP


def test_pg_without_lme_is_legacy_paging(lab: Bench) -> None:
    state = enter_long_mode(lab, efer=0, cr4=0x10)
    lab.poke(0x90000, (0x87).to_bytes(4, "little"))
    state.cr3 = 0x90000
    assert execute(lab, state, "0f22c0") is None
    assert lab.core.mode is Mode.PROTECTED32


def test_leaving_protected_mode_ends_in_real_mode_at_cpl_0(lab: Bench) -> None:
    state = lab.flat32()
    state.rax = 0
    assert execute(lab, state, "0f22c0") is None
    assert (lab.core.mode, lab.core.cpl) == (Mode.REAL, 0)


@pytest.mark.parametrize("bit", [0, 1, 11, 12, 13, 14, 15, 17, 18, 21, 22, 23, 31])
def test_a_bit_of_cr4_without_its_feature_is_reserved(lab: Bench, bit: int) -> None:
    state = lab.flat32()
    state.rax = 1 << bit
    assert execute(lab, state, "0f22e0") == GP
    assert lab.core.cr4 == 0


@pytest.mark.parametrize("bit", [2, 3, 4, 5, 6, 7, 8, 9, 10, 16, 20])
def test_a_bit_of_cr4_that_exists_is_kept(lab: Bench, bit: int) -> None:
    state = lab.flat32()
    state.rax = 1 << bit
    assert execute(lab, state, "0f22e0") is None
    assert lab.core.cr4 == 1 << bit


def test_pae_cannot_be_cleared_in_long_mode(lab: Bench) -> None:
    state = lab.long64()
    state.rax = 0
    assert execute(lab, state, "0f22e0") == GP
    assert lab.core.cr4 == 0x20


def test_cr4_smep_takes_effect_at_once(lab: Bench) -> None:
    state = lab.long64()  # its tables map everything for users
    state.rax = 0x100020
    lab.intercept(1 << 14)
    assert lab.run(state, "0f22e0 f4") == SvmExit.EXCP_PF
    assert lab.processor.info1 == 0x11


def test_cr8_is_the_task_priority(lab: Bench) -> None:
    state = lab.long64()
    state.rax = 9
    assert execute(lab, state, "440f22c0", 4) is None
    state.rbx = 0xFFFF
    assert execute(lab, state, "440f20c3", 4) is None  # MOV RBX, CR8
    assert lab.core.get_gpr(3) == 9


def test_lock_mov_cr0_is_mov_cr8_in_32_bit_code(lab: Bench) -> None:
    written: list[int] = []
    lab.processor.write_task_priority = written.append
    state = lab.flat32()
    state.rax = 5
    assert execute(lab, state, "f00f22c0", 4) is None
    assert (written, lab.core.cr0) == ([5], PE | ET)


def test_cr8_has_four_bits(lab: Bench) -> None:
    state = lab.long64()
    state.rax = 16
    assert execute(lab, state, "440f22c0") == GP


def test_clts_clears_ts_and_x87_runs_again(lab: Bench) -> None:
    state = lab.flat32()
    state.cr0 |= TS
    assert execute(lab, state, "0f06", 2) is None
    assert lab.core.cr0 == PE | ET
    state.cr0 &= ~TS
    assert execute(lab, state, "d9e8", 2) is None


@pytest.mark.parametrize("code", ["0f01f0", "670f0134", "0f013500000200"])
def test_lmsw_sets_pe_and_changes_mp_em_ts_alone(lab: Bench, code: str) -> None:
    """From AX, and from memory with 16- and 32-bit addresses."""
    lab.poke(DATA, (0xFFF0 | 0xB).to_bytes(2, "little"))
    state = lab.flat32()
    state.cr0, state.rax = PE | ET | 4 | 0x10000, 0xFFF0 | 0xB
    if code.startswith("67"):  # LMSW [SI]
        state.ds.base, state.rsi = DATA, 0
    length = len(bytes.fromhex(code))
    assert execute(lab, state, code, length) is None
    assert lab.core.cr0 == PE | ET | 0xA | 0x10000


def test_lmsw_cannot_clear_pe(lab: Bench) -> None:
    state = lab.flat32()
    state.rax = 0
    assert execute(lab, state, "0f01f0") is None
    assert lab.core.cr0 == PE | ET


def test_a_memory_operand_of_lmsw_that_faults_is_a_page_fault(lab: Bench) -> None:
    lab.intercept(1 << 14)
    state = lab.long64()
    state.rax = 0x400000
    assert lab.run(state, "0f0130 f4") == SvmExit.EXCP_PF
    assert (lab.processor.info2, lab.core.rip) == (0x400000, CODE)


@pytest.mark.parametrize("register", [0, 1, 2, 3])
def test_breakpoint_addresses_are_kept(lab: Bench, register: int) -> None:
    state = lab.long64()
    state.rax = 0xFFFF_8000_0000_1234
    assert execute(lab, state, f"0f23{0xC0 | register << 3:02x}") is None
    assert lab.core.debug_register(register) == 0xFFFF_8000_0000_1234


@pytest.mark.parametrize(
    ("number", "written", "read"), [(6, 0, 0xFFFF0FF0), (7, 0, 0x400), (7, 0x401, 0x401)]
)
def test_fixed_bits_of_dr6_and_dr7_read_as_one(lab: Bench, number: int, written: int, read: int) -> None:
    state = lab.flat32()
    state.rax = written
    assert execute(lab, state, f"0f23{0xC0 | number << 3:02x}") is None
    assert lab.core.debug_register(number) == read
    lab.core.set_debug_register(7, 0)


@pytest.mark.parametrize("number", [6, 7])
def test_the_upper_half_of_dr6_and_dr7_is_reserved(lab: Bench, number: int) -> None:
    state = lab.long64()
    state.rax = 1 << 32
    assert execute(lab, state, f"0f23{0xC0 | number << 3:02x}") == GP


@pytest.mark.parametrize(("number", "same"), [(4, 6), (5, 7)])
def test_dr4_and_dr5_are_dr6_and_dr7_until_cr4_de(lab: Bench, number: int, same: int) -> None:
    state = lab.flat32()
    state.rax = 0xFFFF0FF1 if same == 6 else 0x402
    code = f"0f23{0xC0 | number << 3:02x}"
    assert execute(lab, state, code) is None
    assert lab.core.debug_register(same) == state.rax
    state.cr4 = 8
    assert execute(lab, state, code) == UD
    lab.core.set_debug_register(7, 0)


def test_cr0_writes_that_matter_are_an_exit_of_their_own(lab: Bench) -> None:
    lab.intercept(0, SvmExit.CR0_SEL_WRITE)
    state = lab.flat32()
    state.rax = PE | ET | TS | 2
    assert lab.run(state, "0f22c0 f4") == SvmExit.HLT  # TS and MP do not count
    state.rax |= 4
    assert lab.run(state, "0f22c0 f4") == SvmExit.CR0_SEL_WRITE
    assert lab.core.rip == CODE
