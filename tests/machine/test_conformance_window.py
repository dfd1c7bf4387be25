"""The interrupt window: VMEXIT_VINTR before the first instruction at which an interrupt can be taken."""

from __future__ import annotations

import pytest

from tests.machine.lab import CODE, DATA, HANDLERS, Bench
from vlab.isa.svm_exits import SvmExit


def window(lab: Bench, code: str, flags: int = 2) -> int | None:
    """Run with the window wanted; RIP where it opened, from CODE, or None when it never did before HLT."""
    state = lab.flat32()
    state.rflags = flags
    lab.core.load(state)
    lab.code(code)
    lab.engine.request_window(True)
    exit_code = lab.processor.run()
    lab.engine.request_window(False)
    if exit_code == SvmExit.HLT:
        return None
    assert exit_code == SvmExit.VINTR
    return lab.core.rip - CODE


@pytest.mark.parametrize(
    ("code", "opens"),
    [
        ("90 fb 90 90 f4", 3),  # STI: after one more instruction
        ("90 fb f4", 2 + 1),  # ... which may be HLT: its exit comes first
        ("90 fb fb 90 90 f4", 3),  # a second STI does not prolong the shadow
        ("6802020000 9d 90 f4", 6),  # POPF: at once
        ("fb 8cd0 8ed0 90 f4", 3),  # MOV SS casts its shadow too; the one of STI has ended
        ("90 90 f4", None),
    ],
)  # fmt: skip
def test_the_window_opens_where_interrupts_are_enabled(lab: Bench, code: str, opens: int | None) -> None:
    if code == "90 fb f4":
        assert window(lab, code) is None
        assert lab.core.interrupt_shadow
        return
    assert window(lab, code) == opens
    if opens is not None:
        assert lab.core.interrupts_enabled


def test_the_window_is_open_at_once_when_interrupts_are_on(lab: Bench) -> None:
    assert window(lab, "90 f4", 0x202) == 0


@pytest.mark.parametrize("code", ["8ed0", "17"])
def test_the_instruction_after_a_load_of_ss_is_not_interrupted(lab: Bench, code: str) -> None:
    """MOV SS and POP SS, with interrupts on all the time and the wish coming while the shadow is there."""
    lab.intercept(0, SvmExit.CPUID)
    state = lab.flat32()
    state.rflags, state.rax = 0x202, 0x10
    lab.poke(state.rsp, (0x10).to_bytes(4, "little"))
    assert lab.run(state, code + "0fa2 90 90 f4") == SvmExit.CPUID
    assert lab.core.interrupt_shadow
    assert not lab.core.interrupts_enabled
    lab.intercept()
    lab.engine.request_window(True)
    assert lab.processor.run() == SvmExit.VINTR
    assert lab.core.rip == CODE + len(bytes.fromhex(code)) + 2


def test_iret_opens_the_window_at_its_target(lab: Bench) -> None:
    target = CODE + 0x40
    code = "6802020000 6a08 68" + target.to_bytes(4, "little").hex() + "cf"
    lab.code("90 f4", target)
    assert window(lab, code) == 0x40


def test_sysret_opens_the_window(lab: Bench) -> None:
    state = lab.long64()
    state.star, state.rcx, state.r11 = 0x20 << 48, CODE + 0x40, 0x202
    lab.core.load(state)
    lab.code("480f07")
    lab.code("90", CODE + 0x40)
    lab.engine.request_window(True)
    assert lab.processor.run() == SvmExit.VINTR
    assert lab.core.rip == CODE + 0x40


@pytest.mark.parametrize("jump", ["c3", "ffe0", "eb00"])
@pytest.mark.parametrize("warm", [False, True])
def test_an_indirect_jump_to_known_code_does_not_miss_the_window(lab: Bench, jump: str, warm: bool) -> None:
    """The emulator does not look for interrupts on its way to a block that it has translated before."""
    target = CODE + 0x40
    lab.code("43 43 f4", target)
    if warm:
        state = lab.flat32()
        state.rip = target
        lab.run(state)
    lab.core.load(lab.flat32())
    lab.core.set_gpr(0, target)
    lab.poke(lab.core.rsp, target.to_bytes(4, "little"))
    lab.ram[CODE : CODE + 3] = b"\xfb" + bytes.fromhex(jump).ljust(2, b"\x90")
    if jump == "eb00":
        lab.ram[CODE : CODE + 3] = b"\xfb\xeb\x3d"
    lab.engine.request_window(True)
    assert lab.processor.run() == SvmExit.VINTR
    assert (lab.core.rip, lab.core.get_gpr(3)) == (target, 2 if warm else 0) or lab.core.rip == target


def test_the_wish_is_withdrawn_by_the_exit(lab: Bench) -> None:
    assert window(lab, "90 90 f4", 0x202) == 0
    assert lab.processor.run() == SvmExit.HLT


def test_a_loop_with_interrupts_off_is_not_slowed_to_single_blocks(lab: Bench) -> None:
    state = lab.flat32()
    state.rcx = 100_000
    lab.core.load(state)
    lab.code("49 75fd f4")
    lab.engine.request_window(True)
    assert lab.processor.run() == SvmExit.HLT
    lab.engine.request_window(False)
    assert lab.core.get_gpr(1) == 0


def test_a_delivered_interrupt_ends_the_shadow_and_closes_the_window(lab: Bench) -> None:
    from vlab.machine.faults import Event, EventKind

    lab.gate32(0x30, HANDLERS)
    lab.poke(HANDLERS, "a300000200 f4")
    assert window(lab, "fb 90 90 f4") == 2
    assert lab.processor.inject(Event(EventKind.EXTERNAL, 0x30)) is None
    lab.engine.request_window(True)
    assert lab.processor.run() == SvmExit.HLT  # the handler runs with interrupts off
    lab.engine.request_window(False)
    assert lab.core.rip == HANDLERS + 5
    assert DATA
