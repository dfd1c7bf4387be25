"""Where the emulator gets RFLAGS wrong, and what the machine keeps it from doing with that.

The emulator works the arithmetic flags out late, from operands that it keeps together with a number for the
operation. CMPXCHG8B and a LOOPE whose counter runs out take the number of an earlier block with the operands
of this one; where the number says that the flags are there as they are, an operand stands for RFLAGS, with
all its bits. Of those the machine takes none but CF PF AF ZF SF OF. Sections are those of AMD APM vol. 3,
rev. 3.36.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.machine.lab import CODE, CODE32, DATA, HANDLERS, STACK, Bench
from vlab.isa.state import CpuState
from vlab.isa.svm_exits import SvmExit
from vlab.isa.vectors import Vector
from vlab.machine import helper
from vlab.machine.processor import STOPPED

CF, PF, AF, ZF, SF, IF, OF, RF, VM = 1, 1 << 2, 1 << 4, 1 << 6, 1 << 7, 1 << 9, 1 << 11, 1 << 16, 1 << 17
ARITHMETIC = CF | PF | AF | ZF | SF | OF
IOPL_3 = 3 << 12
GP = SvmExit.EXCP_DE + Vector.GP
X = SvmExit

ADD, PUSHF, HLT = "01cb", "9c", "f4"  # add ebx, ecx
CMPXCHG8B = "0fc70e"  # cmpxchg8b [esi]
ODD = 0x00FED000 | VM | IF | CF | OF  # for an operand: bits that are no arithmetic flags, and some that are


@pytest.fixture(params=["compiled", "python"])
def stopping(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    """A machine with each way of stopping that counts."""
    if request.param == "python":
        monkeypatch.setattr(helper, "load", lambda: None)
    elif helper.load() is None:
        pytest.skip(f"the compiled helper is {helper.status()}")
    made = Bench()
    yield made
    made.close()


def before_cmpxchg8b(lab: Bench, *, user: bool = False) -> CpuState:
    """EDX:EAX is what is in memory; ADD has two operands with no carry between them."""
    state = lab.flat32(user=user)
    state.rsi, state.rbx, state.rcx = DATA, 0, ODD
    return state


# --- CMPXCHG8B, CMPXCHG16B: ZF alone changes ----------------------------------------------------------------


@pytest.mark.parametrize("equal", [True, False])
def test_cmpxchg8b_at_the_start_of_a_block_changes_zf_alone(lab: Bench, equal: bool) -> None:
    state = before_cmpxchg8b(lab)
    state.rax = not equal
    state.rflags = CF | PF | SF | OF | 2
    assert lab.run(state, CMPXCHG8B + PUSHF + HLT) == X.HLT
    assert lab.peek(lab.core.rsp, 4) == state.rflags | (ZF if equal else 0)


@pytest.mark.parametrize("equal", [True, False])
def test_cmpxchg8b_behind_another_operation_shows_an_operand_in_pushf_but_zf_is_right(
    lab: Bench, equal: bool
) -> None:
    state = before_cmpxchg8b(lab)
    state.rax = not equal
    assert lab.run(state, ADD + CMPXCHG8B + PUSHF + HLT) == X.HLT
    zero = ZF if equal else 0
    assert lab.peek(lab.core.rsp, 4) == ODD & ~ZF | zero | 2  # it should be PF, and ZF if equal
    assert lab.core.rflags == ODD & ARITHMETIC & ~ZF | zero | 2


def test_cmpxchg16b_does_the_same(lab: Bench) -> None:
    state = lab.long64()
    state.rsi, state.rbx, state.rcx = DATA, 0, ODD
    assert lab.run(state, "4801cb 480fc70e" + PUSHF + HLT) == X.HLT
    assert lab.peek(lab.core.rsp, 8) == ODD | ZF | 2


def test_where_the_flags_are_worked_out_in_between_cmpxchg8b_is_right(lab: Bench) -> None:
    state = before_cmpxchg8b(lab)
    state.rcx = 3
    assert lab.run(state, ADD + PUSHF + CMPXCHG8B + HLT) == X.HLT
    assert lab.core.rflags == PF | ZF | 2
    lab.poke(DATA, bytes(8))
    assert lab.run(state, ADD + "eb00" + CMPXCHG8B + HLT) == X.HLT  # jmp to the next
    assert lab.core.rflags == PF | ZF | 2


# --- LOOPE, LOOPNE: no flag changes -------------------------------------------------------------------------

LOOPS = {"loopne": "e000", "loope": "e100", "loop": "e200", "jecxz": "e300"}


@pytest.mark.parametrize("name", LOOPS)
@pytest.mark.parametrize("count", [1, 2])
def test_a_loope_whose_counter_runs_out_loses_the_flags_of_its_block(
    lab: Bench, name: str, count: int
) -> None:
    """So a search by LOOPNE does not see that the last element is the one."""
    state = lab.flat32()
    state.rcx, state.rax, state.rbx = count, 5, 5
    assert lab.run(state, "39d8" + LOOPS[name] + HLT) == X.HLT  # cmp eax, ebx
    right = PF | ZF | 2
    lost = name in ("loopne", "loope") and count == 1
    assert (lab.core.rflags == right) is not lost
    assert not lab.core.rflags & ZF or not lost


@pytest.mark.parametrize("name", LOOPS)
def test_flags_from_another_block_survive_any_loop(lab: Bench, name: str) -> None:
    state = lab.flat32()
    state.rcx, state.rax, state.rbx = 1, 5, 5
    assert lab.run(state, "39d8 eb00" + LOOPS[name] + HLT) == X.HLT
    assert lab.core.rflags == PF | ZF | 2


# --- what comes of it ---------------------------------------------------------------------------------------

OPERAND = ODD.to_bytes(4, "little").hex()
LEAKS = {
    "cmpxchg8b": "81c3" + OPERAND + CMPXCHG8B,  # add ebx, ODD; cmpxchg8b [esi]
    "loopne": "b901000000 05" + OPERAND + LOOPS["loopne"],  # mov ecx, 1; add eax, ODD; loopne
}
"""Code that leaves ODD where the arithmetic flags should be."""


def leak(lab: Bench, name: str, then: str) -> int:
    """Run it in ring 3, and ``then`` behind it."""
    return lab.run(before_cmpxchg8b(lab, user=True), LEAKS[name] + then)


@pytest.mark.parametrize("name", LEAKS)
@pytest.mark.parametrize("then", ["fa", "0fa2 fa", "eb00 fa", "e480 fa"], ids=["", "cpuid", "jmp", "port"])
def test_ring_3_gets_no_privilege_from_an_operand(stopping: Bench, name: str, then: str) -> None:
    """CLI and IN are #GP as ever, though both bits of IOPL and VM are in the operand."""
    stopping.intercept(1 << Vector.GP)
    assert leak(stopping, name, then) == GP
    assert stopping.core.mode_code != 1  # virtual-8086 mode
    assert stopping.core.rflags & ~(ARITHMETIC | RF) == 2
    assert stopping.processor.run() == GP  # and after entering again


@pytest.mark.parametrize("name", LEAKS)
def test_a_stop_between_two_blocks_brings_no_operand_into_rflags(stopping: Bench, name: str) -> None:
    stopping.engine.stops.arm(stopping.engine.stops.words[0] + 20)
    assert leak(stopping, name, "ebfe") == STOPPED
    assert stopping.core.rflags & ~ARITHMETIC == 2


def test_an_exception_pushes_no_operand(lab: Bench) -> None:
    lab.gate32(Vector.UD, HANDLERS)
    lab.poke(HANDLERS, HLT)
    assert lab.run(before_cmpxchg8b(lab), ADD + CMPXCHG8B + "0f0b") == X.HLT
    assert lab.peek(lab.core.rsp + 8, 4) == ODD & ARITHMETIC | ZF | RF | 2


# --- RF -----------------------------------------------------------------------------------------------------


def behind_iret(lab: Bench) -> CpuState:
    """With an IRET at CODE that goes to the next instruction and sets RF."""
    state = lab.flat32()
    state.rsp = STACK - 12
    lab.poke(state.rsp, b"".join(item.to_bytes(4, "little") for item in (CODE + 1, CODE32, RF | 2)))
    return state


@pytest.mark.parametrize("between", ["", "90", "eb00"])
def test_pushf_shows_rf_behind_the_iret_that_set_it(lab: Bench, between: str) -> None:
    """RF should be gone after one instruction, and read as 0 in what PUSHF stores ("PUSHF")."""
    assert lab.run(behind_iret(lab), "cf" + between + PUSHF + HLT) == X.HLT
    assert lab.peek(lab.core.rsp, 4) == RF | 2


def test_rf_is_gone_behind_an_indirect_jump(lab: Bench) -> None:
    state = behind_iret(lab)
    jump = "b8" + (CODE + 8).to_bytes(4, "little").hex() + "ffe0"  # mov eax, CODE + 8; jmp eax
    assert lab.run(state, "cf" + jump + PUSHF + HLT) == X.HLT
    assert lab.peek(lab.core.rsp, 4) == 2


def test_the_frame_of_an_int_holds_no_rf(lab: Bench) -> None:
    lab.gate32(0x30, HANDLERS)
    lab.poke(HANDLERS, HLT)
    assert lab.run(behind_iret(lab), "cf 90 cd30") == X.HLT
    assert lab.peek(lab.core.rsp + 8, 4) == 2


def test_pushf_in_virtual_8086_mode_shows_vm(lab: Bench) -> None:
    """It should read as 0 there ("PUSHF")."""
    lab.intercept(1 << Vector.GP)
    items = (0x100, 0x1000, VM | IOPL_3 | 2, 0x200, 0x2000, 0, 0, 0, 0)
    lab.poke(STACK, b"".join(item.to_bytes(4, "little") for item in items))
    lab.poke(0x10100, "669c f4")  # pushfd
    assert lab.run(lab.flat32(), "cf") == GP
    assert lab.peek(0x20200 - 4, 4) == VM | IOPL_3 | 2
