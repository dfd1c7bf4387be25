"""Hardware breakpoints, single steps, and debug exceptions of instructions that the microcode executes."""

from __future__ import annotations

import pytest

from tests.machine.lab import CODE, DATA, HANDLERS, Bench
from vlab.isa.state import CpuState
from vlab.isa.svm_exits import SvmExit

DB = 1
RF, TF = 1 << 16, 1 << 8
FIXED, STEP = 0xFFFF0FF0, 1 << 14


def armed(lab: Bench, dr7: int, *addresses: int) -> CpuState:
    """A flat program whose debug registers are set; #DB is the test's."""
    lab.intercept(1 << DB)
    for number, address in enumerate(addresses):
        lab.core.set_debug_register(number, address)
    state = lab.flat32()
    state.dr7 = dr7
    return state


def stop(lab: Bench) -> tuple[int, int]:
    """Run to #DB and give (RIP from CODE, bits of DR6)."""
    assert lab.processor.run() == SvmExit.EXCP_DB
    return lab.core.rip - CODE, lab.core.dr6 ^ FIXED


@pytest.mark.parametrize("enable", [1, 2, 3])
def test_an_instruction_breakpoint_is_met_before_the_instruction(lab: Bench, enable: int) -> None:
    lab.code("40 43 40 f4")
    lab.core.load(armed(lab, enable, CODE + 1))
    assert stop(lab) == (1, 1)
    assert (lab.core.get_gpr(0), lab.core.get_gpr(3)) == (1, 0)


def test_rf_lets_the_instruction_run_once(lab: Bench) -> None:
    lab.code("40 43 75fc f4")  # INC EAX; INC EBX; JNZ back to INC EAX
    lab.core.load(armed(lab, 1, CODE + 1))
    for turn in range(1, 4):
        assert stop(lab) == (1, 1)
        assert lab.core.get_gpr(3) == turn - 1
        lab.core.rflags |= RF


def test_an_iret_with_rf_passes_the_breakpoint_and_the_next_pass_meets_it(lab: Bench) -> None:
    """The guest's own handler counts in ESI and returns with RF set, as a debugger does."""
    lab.gate32(DB, HANDLERS)
    lab.poke(HANDLERS, "46 804c240a01 cf")  # INC ESI; OR byte [ESP+10], 1; IRET
    lab.code("b903000000 43 e2fd f4")  # MOV ECX, 3; INC EBX; LOOP
    state = armed(lab, 1, CODE + 5)
    lab.intercept()
    assert lab.run(state) == SvmExit.HLT
    assert (lab.core.get_gpr(6), lab.core.get_gpr(3)) == (3, 3)


def test_a_breakpoint_that_is_not_enabled_is_not_met(lab: Bench) -> None:
    state = armed(lab, 0, CODE + 1)
    assert lab.run(state, "40 43 f4") == SvmExit.HLT


def test_arming_in_the_program_itself_reaches_translated_code(lab: Bench) -> None:
    lab.code("e80a000000 6a03 58 0f23f8 e802000000 f4 90 43 c3")  # CALL; arm; CALL again: INC EBX; RET
    lab.core.load(armed(lab, 0, CODE + 18))
    assert stop(lab) == (18, 1)
    assert lab.core.get_gpr(3) == 1


@pytest.mark.parametrize(
    ("kind", "length", "address", "code", "hit"),
    [
        (1, 3, DATA, "a300000200", True), (1, 3, DATA, "a100000200", False), (3, 3, DATA, "a100000200", True),
        (1, 0, DATA + 3, "a300000200", True), (1, 0, DATA + 4, "a300000200", False),
        (1, 3, DATA + 2, "a300000200", True),  # the low bits of the address do not count
        (1, 1, DATA + 2, "66a300000200", False), (1, 1, DATA, "a201000200", True),
    ],
)  # fmt: skip
def test_a_data_breakpoint_is_met_after_the_access(
    lab: Bench, kind: int, length: int, address: int, code: str, hit: bool
) -> None:
    lab.code(code + "43 f4")
    lab.core.load(armed(lab, 1 | kind << 16 | length << 18, address))
    if hit:
        assert stop(lab) == (len(bytes.fromhex(code)), 1)
        assert lab.core.get_gpr(3) == 0
    assert lab.processor.run() == SvmExit.HLT


def test_each_element_of_a_string_is_an_access(lab: Bench) -> None:
    state = armed(lab, 1 | 1 << 16, DATA + 2)
    state.rcx, state.rdi = 4, DATA
    lab.code("f3aa f4")
    lab.core.load(state)
    assert stop(lab) == (0, 1)
    assert lab.core.get_gpr(1) == 1


def test_several_breakpoints_say_which(lab: Bench) -> None:
    state = armed(lab, 0x55 | 1 << 20, CODE + 5, DATA, CODE + 9, CODE + 5)
    lab.code("a300000200 43 f4")
    lab.core.load(state)
    assert stop(lab) == (5, 2)  # the data breakpoint, after its instruction
    assert stop(lab) == (5, 9)  # then those on the next one


def test_a_watched_page_that_is_mapped_later_is_watched(lab: Bench) -> None:
    state = lab.long64()
    lab.intercept(1 << DB)
    lab.core.set_debug_register(0, 0x40_0000)
    state.dr7 = 1 | 1 << 16 | 3 << 18
    lab.code("48a30000400000000000 f4")
    lab.core.load(state)
    lab.poke(state.cr3 + 0x2010, (0x87).to_bytes(8, "little"))
    assert stop(lab) == (10, 1)


def test_breakpoints_follow_the_registers_of_each_world(lab: Bench) -> None:
    """A register file that is put aside takes its breakpoints with it."""
    lab.code("40 43 f4")
    lab.core.load(armed(lab, 1, CODE + 1))
    with_breakpoint = bytes(lab.engine.bytes)
    lab.processor.load_registers(None)
    lab.intercept(1 << DB)
    assert lab.run(lab.flat32()) == SvmExit.HLT
    lab.processor.load_registers(with_breakpoint)
    assert stop(lab) == (1, 1)
    lab.processor.load_registers(None)


@pytest.mark.parametrize(
    ("code", "length"),
    [
        ("40", 1), ("0fa2", 2), ("0f31", 2), ("0f22d8", 3),
        ("0f20c0", 3), ("8ed8", 2), ("e480", 2), ("0f06", 2),
    ],
)  # fmt: skip
def test_a_single_step_stops_after_every_kind_of_instruction(lab: Bench, code: str, length: int) -> None:
    """Executed by the engine or by the microcode alike."""
    lab.intercept(1 << DB)
    state = lab.flat32()
    state.rflags |= TF
    state.rax = 0x10
    lab.code(code + "43 f4")
    lab.core.load(state)
    assert stop(lab) == (length, STEP)


def test_a_step_over_syscall_stops_at_its_target_unless_sfmask_clears_tf(lab: Bench) -> None:
    lab.intercept(1 << DB)
    state = lab.long64(user=True)
    state.star, state.lstar = 0x18 << 32, CODE + 0x100
    state.rflags |= TF
    lab.code("0f05")
    lab.code("43 f4", CODE + 0x100)
    lab.core.load(state)
    assert stop(lab) == (0x100, STEP)
    state.sfmask = TF
    lab.core.load(state)
    assert lab.processor.run() == SvmExit.HLT


def test_the_frame_of_a_step_holds_tf_and_its_handler_runs_without(lab: Bench) -> None:
    lab.gate32(DB, HANDLERS)
    lab.poke(HANDLERS, "f4")
    state = lab.flat32()
    state.rflags |= TF
    assert lab.run(state, "0fa2 f4") == SvmExit.HLT
    assert lab.core.rip == HANDLERS
    assert (lab.peek(lab.core.rsp, 4), lab.peek(lab.core.rsp + 8, 4) & TF) == (CODE + 2, TF)
    assert not lab.core.rflags & TF
