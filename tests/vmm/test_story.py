from __future__ import annotations

from collections.abc import Iterator

import pytest

from vlab.isa.state import CpuState
from vlab.machine.machine import Machine
from vlab.machine.processor import Processor
from vlab.vmm import story
from vlab.vmm.stop import Stop, StopKind

CODE = 0x4000
TABLES = 0x10000
MOVE = bytes.fromhex("B8 78 56 34 12 90")  # 32-bit: mov eax, 12345678h; nop


@pytest.fixture
def processor() -> Iterator[Processor]:
    machine = Machine(4 << 20)
    words = machine.memory.bytes[TABLES : TABLES + 3 * 4096].cast("Q")
    words[0], words[512], words[1024] = TABLES + 0x1000 | 7, TABLES + 0x2000 | 7, 0x87
    machine.processor.set_intercepts(0, 0, 0, 0, None)
    yield machine.processor
    del words
    machine.close()


@pytest.mark.parametrize(
    ("state", "lines"),
    [
        (CpuState.real_mode(CODE >> 4, 0), ["0x0: mov ax, 0x5678", "0x3: xor al, 0x12"]),
        (CpuState.flat32(CODE), ["0x4000: mov eax, 0x12345678", "0x4005: nop"]),
        (CpuState.long64(CODE, TABLES), ["0x4000: mov eax, 0x12345678", "0x4005: nop"]),
    ],
    ids=["16", "32", "64"],
)
def test_instructions_are_read_as_the_processor_would(
    processor: Processor, state: CpuState, lines: list[str]
) -> None:
    processor.memory.bytes[CODE : CODE + len(MOVE)] = MOVE
    processor.core.load(state)
    assert story.disassemble(processor, 2) == lines


def test_bytes_that_are_no_instruction_are_shown(processor: Processor) -> None:
    processor.memory.bytes[CODE : CODE + 16] = b"\x0f\xff" * 8
    processor.core.load(CpuState.flat32(CODE))
    lines = story.disassemble(processor, 1)
    assert len(lines) == 1
    assert lines[0].startswith("0x4000: ")
    assert "ud0" in lines[0] or "no instruction: 0f ff 0f ff" in lines[0]


def test_code_that_is_not_mapped_is_said_to_be_so(processor: Processor) -> None:
    processor.core.load(CpuState.long64(0x7F_0000_0000, TABLES))
    assert story.disassemble(processor) == ["0x7f00000000: (no instruction: nothing is mapped there)"]


def test_registers_fit_the_mode(processor: Processor) -> None:
    state = CpuState.flat32(CODE)
    state.rax, state.rsp = 0xFFFF_FFFF_1234_5678, 0x9000
    processor.core.load(state)
    lines = story.registers(processor.core.state())
    assert len(lines) == 3
    assert lines[0].startswith("rax=12345678 rcx=00000000")
    assert "r8=" not in "".join(lines)
    assert "mode: protected 32-bit, CPL 0" in lines[-1]
    processor.core.load(CpuState.long64(CODE, TABLES))
    lines = story.registers(processor.core.state())
    assert len(lines) == 5
    assert "r15=0000000000000000" in lines[3]
    assert "efer=500" in lines[-1]


def test_what_could_not_be_done_is_told_with_the_place(processor: Processor) -> None:
    processor.memory.bytes[CODE : CODE + len(MOVE)] = MOVE
    processor.core.load(CpuState.flat32(CODE))
    stop = story.failed_story(processor, "the well is dry")
    assert stop.kind == StopKind.FAILED
    lines = stop.story.splitlines()
    assert lines[:2] == ["the guest cannot go on: the well is dry", "at 0x4000: mov eax, 0x12345678"]
    assert story.shutdown_story(processor, (), "").story.startswith(
        "the guest cannot go on: the processor shut down"
    )


def test_a_halt_and_a_reset_are_told(processor: Processor) -> None:
    processor.core.load(CpuState.flat32(CODE))
    assert story.halted_story(processor.core.state()).story.startswith(
        "the guest halted at 0x4000 with interrupts"
    )
    assert story.reset_story("port 99h") == Stop(
        StopKind.RESET, "the guest reset the machine through port 99h"
    )


@pytest.mark.parametrize("kind", StopKind)
def test_a_stop_is_final_unless_the_caller_or_time_brought_it_about(kind: StopKind) -> None:
    stop = Stop(kind, "so it was")
    assert stop.final is (kind not in ("expected", "paused", "timeout"))
    assert str(stop) == "so it was"
