"""Where the emulator would abort the process: the guest gets #UD, by the compiled helper.

Of all instructions that the fuzzer tried only one kind does it: LOCK BT, BTS, BTR or BTC with a register for
operand, which is #UD on hardware (AMD APM vol. 3, rev. 3.36, 1.2.5). The emulator's translator reads an
address there that it has not computed. Nothing comes between it and the bytes, so the abort itself is caught.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.machine.lab import HANDLERS, Bench
from vlab.isa.svm_exits import SvmExit
from vlab.isa.vectors import Vector
from vlab.machine import helper

UD = SvmExit.EXCP_DE + Vector.UD
ROOT = Path(__file__).parents[2]
LOCKED = (
    "f0 0f a3 c8",
    "f0 0f ab c8",
    "f0 0f b3 c8",
    "f0 0f bb c8",
    "f0 0f ba e0 05",
    "66 f0 0f ba fa 05",
    "f0 66 0f ab c8",
)
BEFORE = "31 c0 83 c0 07"  # xor eax, eax; add eax, 7

guarded = pytest.mark.skipif(
    sys.platform == "win32" or helper.load() is None, reason=f"needs the compiled helper: {helper.status()}"
)


@guarded
@pytest.mark.parametrize("mode", ["flat32", "long64"])
@pytest.mark.parametrize("code", LOCKED)
def test_a_locked_bit_test_of_a_register_is_an_undefined_instruction(
    lab: Bench, code: str, mode: str
) -> None:
    state = getattr(lab, mode)()
    lab.intercept(1 << Vector.UD)
    assert lab.run(state, BEFORE + code + "eb fe") == UD
    assert (lab.core.rip, lab.core.get_gpr(0)) == (
        state.rip + 5,
        7,
    )  # precisely: what stands before it was done
    assert not lab.engine.took_abort()
    assert lab.processor.run() == UD  # and again, as a fault
    assert lab.core.rip == state.rip + 5


@guarded
def test_its_handler_can_go_on_behind_it(lab: Bench) -> None:
    lab.gate32(Vector.UD, HANDLERS)
    lab.poke(HANDLERS, "83 04 24 04 42 cf")  # add dword [esp], 4; inc edx; iret
    state = lab.flat32()
    assert lab.run(state, "31 d2" + "f0 0f a3 c8 41" * 5 + "f4") == SvmExit.HLT  # 41: inc ecx
    assert (lab.core.get_gpr(2), lab.core.get_gpr(1)) == (5, 5)


@guarded
def test_with_a_memory_operand_it_runs(lab: Bench) -> None:
    assert lab.run(lab.flat32(), "f0 0f ab 05 00 00 02 00 f4") == SvmExit.HLT  # lock bts [20000h], eax
    assert lab.peek(0x20000, 4) == 1


DIES = """
import os, sys
from tests.machine.lab import Bench
bench = Bench()
bench.processor.on_port_out = lambda port, size, value: os.abort()
bench.run(bench.flat32(), sys.argv[1])
"""


def status_of(code: str, **environment: str) -> int:
    """Give the status of a process whose guest runs ``code``."""
    command = [sys.executable, "-c", DIES, code]
    return subprocess.run(
        command, cwd=ROOT, env={**os.environ, **environment}, check=False, capture_output=True
    ).returncode


@pytest.mark.skipif(sys.platform == "win32", reason="there are no signals there")
def test_without_the_helper_the_emulator_still_aborts() -> None:
    assert status_of(LOCKED[0] + "f4", VLAB_HELPER="off") == -signal.SIGABRT
    assert status_of("90 f4", VLAB_HELPER="off") == 0


@guarded
def test_an_abort_of_somebody_else_still_ends_the_process() -> None:
    assert status_of("e6 80") == -signal.SIGABRT  # out 80h, al; its callback aborts
    assert status_of(LOCKED[0] + "f4") == 0  # nobody handles the #UD: a triple fault, of the guest
