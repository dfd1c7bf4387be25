"""Stopping exactly between two instructions, and counting blocks alike in C and in Python."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest

from tests.machine.lab import CODE, DATA, Bench
from vlab.isa.state import CpuState
from vlab.isa.svm_exits import SvmExit
from vlab.machine import helper
from vlab.machine.processor import STOPPED
from vlab.machine.stops import CompiledStops, PythonStops, WatchedStops

needs_helper = pytest.mark.skipif(helper.load() is None, reason=f"the compiled helper is {helper.status()}")

# A checksum over 256 bytes, EBP times over: loads, stores, calls, and flags that live across blocks.
# EAX is the sum.
#   outer: MOV ESI, DATA; MOV ECX, 64
#   inner: ROL EAX, 5; XOR EAX, [ESI]; CALL mix; ADC EAX, 1; MOV [ESI+100h], EAX; ADD ESI, 4; DEC ECX
#          JNZ inner
#          DEC EBP; JNZ outer; HLT
#   mix:   PUSH EAX; MUL EBX; POP EDI; ADD EAX, EDI; RET
CHECKSUM = (
    "be00000200 b940000000"
    "c1c005 3306 e81a000000 83d001 898600010000 83c604 49 75e7"
    "4d 75da f4 9090 9090909090"
    "90 50 f7e3 5f 01f8 c3"
)


@pytest.fixture(params=["compiled", "python", "watched"])
def stopping(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    """A machine with each way of stopping."""
    kind = request.param
    if kind == "compiled":
        if helper.load() is None:
            pytest.skip(f"the compiled helper is {helper.status()}")
    else:
        monkeypatch.setattr(helper, "load", lambda: None)
    made = Bench(counting=kind != "watched")
    expected = {"compiled": CompiledStops, "python": PythonStops, "watched": WatchedStops}[kind]
    assert isinstance(made.engine.stops, expected)
    yield made
    made.close()


def checksum(lab: Bench, rounds: int) -> CpuState:
    state = lab.flat32()
    lab.poke(DATA, bytes(n * 7 & 0xFF for n in range(256)))
    state.rax, state.rbx, state.rbp = 0x12345678, 0x9E3779B1, rounds
    lab.code(CHECKSUM)
    return state


def result(lab: Bench) -> tuple[int, bytes]:
    return lab.core.get_gpr(0), bytes(lab.ram[DATA : DATA + 0x200])


def uninterrupted(lab: Bench, rounds: int) -> tuple[int, bytes]:
    lab.engine.stops.arm((1 << 64) - 1)
    assert lab.run(checksum(lab, rounds)) == SvmExit.HLT
    return result(lab)


@needs_helper
def test_the_program_counts_the_same_blocks_in_c_and_in_python(monkeypatch: pytest.MonkeyPatch) -> None:
    counts = []
    for library in (helper.load(), None):
        monkeypatch.setattr(helper, "load", lambda library=library: library)
        lab = Bench()
        start = lab.engine.blocks
        seen = []
        lab.core.load(checksum(lab, 3))
        while True:
            lab.engine.stops.arm(lab.engine.blocks + 17)
            code = lab.processor.run()
            seen.append((lab.engine.blocks - start, lab.core.rip, lab.core.get_gpr(0), lab.core.rflags))
            if code != STOPPED:
                break
        counts.append(seen)
        lab.close()
    assert counts[0] == counts[1]
    assert len(counts[0]) > 20


def test_a_deadline_stops_before_the_block_after_it(lab: Bench) -> None:
    lab.core.load(lab.flat32())
    lab.code("43 ebfd")  # INC EBX; JMP to itself: one block a turn
    start = lab.engine.blocks
    lab.engine.stops.arm(start + 10)
    assert lab.processor.run() == STOPPED
    assert (lab.engine.blocks - start, lab.core.get_gpr(3), lab.core.rip) == (10, 10, CODE)


def test_stopping_and_going_on_leaves_no_mark_on_the_count(lab: Bench) -> None:
    whole = lab.engine.blocks
    uninterrupted(lab, 2)
    whole = lab.engine.blocks - whole
    start = lab.engine.blocks
    lab.core.load(checksum(lab, 2))
    while True:
        lab.engine.stops.arm(lab.engine.blocks + 3)
        if lab.processor.run() != STOPPED:
            break
    assert lab.engine.blocks - start == whole


def test_thousands_of_preemptions_from_another_thread_change_nothing(stopping: Bench) -> None:
    rounds = 200 if isinstance(stopping.engine.stops, PythonStops) else 4000
    expected = uninterrupted(stopping, rounds)
    stopping.core.load(checksum(stopping, rounds))
    stops, done = stopping.engine.stops, threading.Event()

    def disturb() -> None:
        while not done.is_set():
            stops.request()
            time.sleep(0)

    thread = threading.Thread(target=disturb)
    thread.start()
    preemptions = 0
    try:
        while True:
            stops.arm((1 << 64) - 1)
            code = stopping.processor.run()
            if code != STOPPED:
                break
            preemptions += 1
    finally:
        done.set()
        thread.join()
    assert code == SvmExit.HLT
    assert result(stopping) == expected
    assert preemptions > 50


def test_thousands_of_preemptions_at_every_block_change_nothing(lab: Bench) -> None:
    expected = uninterrupted(lab, 20)
    lab.core.load(checksum(lab, 20))
    preemptions = 0
    while True:
        lab.engine.stops.arm(lab.engine.blocks + 1)
        if lab.processor.run() != STOPPED:
            break
        preemptions += 1
    assert result(lab) == expected
    assert preemptions > 2000


def test_a_request_stays_until_it_is_withdrawn(stopping: Bench) -> None:
    stopping.core.load(stopping.flat32())
    stopping.code("40 f4")
    stopping.engine.stops.request()
    assert [stopping.processor.run() for _ in range(3)] == [STOPPED] * 3
    assert stopping.core.get_gpr(0) == 0
    stopping.engine.stops.arm((1 << 64) - 1)
    assert stopping.processor.run() == SvmExit.HLT


def test_arming_at_once_is_a_request(stopping: Bench) -> None:
    stopping.core.load(stopping.flat32())
    stopping.code("40 f4")
    stopping.engine.stops.arm(0)
    assert stopping.processor.run() == STOPPED


def test_watching_counts_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(helper, "load", lambda: None)
    lab = Bench(counting=False)
    assert lab.run(lab.flat32(), "90 eb00 eb00 f4") == SvmExit.HLT
    assert not lab.engine.stops.counts
    lab.close()


def test_an_endless_loop_is_left_on_request(stopping: Bench) -> None:
    stopping.core.load(stopping.flat32())
    stopping.code("ebfe")
    timer = threading.Timer(0.05, stopping.engine.stops.request)
    stopping.engine.stops.arm((1 << 64) - 1)
    timer.start()
    assert stopping.processor.run() == STOPPED
    timer.join()
    assert stopping.core.rip == CODE


def test_a_repeated_string_instruction_can_be_stopped_between_its_elements(lab: Bench) -> None:
    state = lab.flat32()
    state.rcx, state.rdi, state.rax = 1000, DATA, 0x5A
    lab.code("f3aa f4")
    lab.core.load(state)
    lab.engine.stops.arm(lab.engine.blocks + 100)
    assert lab.processor.run() == STOPPED
    left = lab.core.get_gpr(1)
    assert (lab.core.rip, lab.core.get_gpr(7)) == (CODE, DATA + 1000 - left)
    assert lab.ram[DATA + 999 - left] == 0x5A
    assert lab.ram[DATA + 1000 - left] == 0
    lab.be_patient()
    assert lab.processor.run() == SvmExit.HLT


def test_a_guest_that_only_faults_is_left_at_its_deadline(lab: Bench) -> None:
    """Its handlers cannot be fetched, so no block is ever entered."""
    state = lab.long64()
    lab.gate64(14, 0x40_0000)
    lab.poke(0x4000 + 4, (0x100000).to_bytes(8, "little"))
    state.rip = 0x40_0000
    state.rsp = 0x1F_0000
    lab.core.load(state)
    lab.engine.stops.arm(lab.engine.blocks + 50)
    assert lab.processor.run() == STOPPED
    lab.engine.stops.request()
    assert lab.processor.run() == STOPPED


def test_a_helper_of_another_make_is_refused(lab: Bench) -> None:
    class Other:
        @staticmethod
        def vlab_control_size() -> int:
            return 8

    with pytest.raises(ImportError, match="disagree on the size of their shared structure"):
        CompiledStops(lab.engine, Other())  # type: ignore[arg-type]
