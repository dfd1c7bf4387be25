"""Far JMP and CALL through the call gates of long mode: carried out as the bare processor does.

Sections are those of AMD APM vol. 2, rev. 3.42 (APM2).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest

import vlab
from tests.machine import lab
from tests.vmm.emulated_lab import EDGE, Encoder, Outcome, Twins, twins
from vlab.guests.programs import CODE64, image64, leave
from vlab.isa.descriptors import (
    CALL_GATE_16,
    CALL_GATE_32,
    INTERRUPT_GATE_32,
    TASK_GATE,
    TSS_32_AVAILABLE,
    Gate64,
)
from vlab.isa.state import CpuState, Segment
from vlab.isa.vectors import Vector

SEED, CASES = 9_000, 150
BOTH = pytest.mark.parametrize("monitor", ["trap-emulate", "binary-translation"])
GATE, TARGETS, LAST = 0x60, 0x80, 0xF8

_LONG, _WIDE = 0xA, 0xC
CODES = (
    (_LONG, 0x9B), (_LONG, 0x9B), (_LONG, 0x9B), (_LONG, 0xFB), (_LONG, 0xFB), (_LONG, 0xFB), (_LONG, 0xFB),
    (_LONG, 0x9F), (_LONG, 0xFF), (_LONG, 0x1B), (_WIDE, 0x9B), (0xE, 0x9B), (_WIDE, 0x93), (_LONG, 0x89),
)  # fmt: skip
"""Flags and access bytes of what a gate may name: 64-bit code, conforming, absent; other things.

Not of rings 1 and 2, for which the bare processor loads a null SS of another DPL."""
CONFORMING, ABSENT = 7, 9


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Twins]:
    with twins(tmp_path_factory.mktemp("gates")) as made:
        yield made


# --- random gates -------------------------------------------------------------------------------------------


def put_gate(pair: Twins, random: Random, place: int, *, jump: bool) -> None:
    """Write a gate, mostly a good one, and all that it may lead to."""
    for number, (flags, access) in enumerate(CODES):
        if jump and number == ABSENT:
            access |= 0x80  # the bare JMP raises #GP there, not #NP
        if not jump and number == CONFORMING:
            access |= 0x60  # the bare CALL loads CS with the DPL for RPL
        raw = 0xFFFF | access << 40 | (0xF | flags << 4) << 48
        pair.bench.poke(lab.GDT + TARGETS + 8 * number, raw.to_bytes(8, "little"))
    kinds = (CALL_GATE_16, TASK_GATE, TSS_32_AVAILABLE, INTERRUPT_GATE_32)
    kind = CALL_GATE_32 if random.random() < 0.9 else random.choice(kinds)
    number = 0 if random.random() < 0.4 else random.randrange(len(CODES))
    target = TARGETS + 8 * number | random.randrange(4)
    if random.random() < 0.05:
        target = random.choice((0, 3, 0x100))
    offset = random.getrandbits(47) | random.choice((0, 0, 0, 0x1FFFF)) << 47
    gate = int(Gate64.make(kind, target, offset, random.choice((3, 3, 3, 3, 0, 2))))
    gate |= random.getrandbits(8) << 32 | (random.random() < 0.05) << 104
    if random.random() < 0.05:
        gate &= ~(1 << 47)
    pair.bench.poke(place, gate.to_bytes(16, "little"))


def transfer(pair: Twins, state: CpuState, random: Random) -> bytes:
    """Give a far JMP or CALL through the gate in the GDT, or through the same in the LDT."""
    jump = random.random() < 0.4
    if state.cpl:
        pair.edge(random.choice((0xE7, 0)) if jump else 0xE7)  # the bare CALL pushes as a supervisor
    selector, local = GATE | random.choice((0, 0, 0, 3)), random.random() < 0.2
    put_gate(pair, random, (lab.LDT if local else lab.GDT) + GATE, jump=jump)
    selector |= 4 if local else 0
    if random.random() < 0.04:
        selector = LAST
        put_gate(pair, random, lab.GDT + LAST, jump=jump)
    for ring in range(3):
        pointer = random.choice((lab.STACK - 0x1000, lab.STACK - 0x1003, EDGE + 12, EDGE, 0))
        pair.bench.poke(lab.TSS + 4 + 8 * ring, pointer.to_bytes(8, "little"))
    if random.random() < 0.15:
        state.tr.limit = random.choice((3, 10, 11))
    encoder = Encoder(pair.bench, state, random)
    pointer32 = random.randbytes(4) + selector.to_bytes(2, "little")
    if encoder.bits == 32 and random.random() < 0.5:
        return (b"\xea" if jump else b"\x9a") + pointer32
    offset = encoder.place(6, split=False)
    encoder.poke(offset, pointer32)
    return b"\xff" + encoder.memory(5 if jump else 3, offset)


@pytest.mark.parametrize("world", ["64", "64 user", "compat"])
def test_random_gates_lead_where_they_lead_the_bare_processor(pair: Twins, world: str) -> None:
    seen: set[int | None] = set()
    for seed in range(SEED, SEED + CASES):
        random = Random(f"{world} {seed}")
        state = pair.world(world, random)
        code = transfer(pair, state, random)
        found = pair.differences(state, code)
        assert not found, (seed, pair.instruction(state, code).text, found)
        fault = pair.emulated(state, code).fault
        seen.add(None if fault is None else fault[0])
    inward = {Vector.TS} if world == "64 user" else set()
    assert seen >= {None, Vector.GP, Vector.NP, Vector.PF} | inward


# --- where the bare processor departs from the manual -------------------------------------------------------


def through_gate(
    pair: Twins, code: str, *, target: tuple[int, int], offset: int, edge: int = 0xE7, **changes: int
) -> Outcome:
    """Go from ring 3 through the gate to a segment with these flags and access byte."""
    random = Random(SEED)
    state = pair.world("64 user", random)
    pair.edge(edge)
    state.rbx, state.rsp = lab.DATA, lab.STACK
    for name, value in changes.items():
        setattr(state, name, value)
    raw = 0xFFFF | target[1] << 40 | (0xF | target[0] << 4) << 48
    pair.bench.poke(lab.GDT + TARGETS, raw.to_bytes(8, "little"))
    gate = Gate64.make(CALL_GATE_32, TARGETS, offset, 3)
    pair.bench.poke(lab.GDT + GATE, int(gate).to_bytes(16, "little"))
    pair.bench.poke(lab.DATA, bytes(4) + GATE.to_bytes(2, "little"))
    for ring in range(3):
        pair.bench.poke(lab.TSS + 4 + 8 * ring, (lab.STACK - 0x1000 * ring - 0x800).to_bytes(8, "little"))
    return pair.emulated(state, bytes.fromhex(code))


CALL, JUMP = "FF1B", "FF2B"


@pytest.mark.parametrize("ring", [0, 1, 2])
def test_an_inner_ring_has_a_null_stack_segment_of_its_own_ring(pair: Twins, ring: int) -> None:
    access = 0x9B | ring << 5
    state = (outcome := through_gate(pair, CALL, target=(_LONG, access), offset=0x123456789ABC)).state
    assert outcome.fault is None
    assert (state.rip, state.cpl, state.cs.selector) == (0x123456789ABC, ring, TARGETS | ring)
    assert state.ss == Segment(ring, 0, 0, ring << 5)
    assert state.rsp == lab.STACK - 0x1000 * ring - 0x800 - 32
    frame = struct.unpack_from("<4Q", outcome.memory, state.rsp)
    assert frame[1:] == (lab.USER64, lab.STACK, lab.USER_DATA)


@pytest.mark.parametrize(("code", "below"), [(CALL, 16), (JUMP, 0)])
def test_conforming_code_runs_at_the_ring_of_its_caller(pair: Twins, code: str, below: int) -> None:
    state = through_gate(pair, code, target=(_LONG, 0x9F), offset=0x1000).state
    assert (state.rip, state.cpl, state.cs.selector) == (0x1000, 3, TARGETS | 3)
    assert (state.ss.selector, state.rsp) == (lab.USER_DATA, lab.STACK - below)


@pytest.mark.parametrize(
    ("code", "target", "offset", "changes", "fault"),
    [
        (JUMP, (_LONG, 0x7B), 0, {}, (Vector.NP, TARGETS)),
        (JUMP, (_LONG, 0x9B), 0, {}, (Vector.GP, TARGETS)),
        (JUMP, (_LONG, 0xFB), 1 << 60, {}, (Vector.GP, 0)),
        (CALL, (_LONG, 0x9B), 1 << 47, {}, (Vector.GP, 0)),
        (CALL, (_LONG, 0xFB), 0, {"rsp": 1 << 60}, (Vector.SS, 0)),
        (CALL, (_WIDE, 0xFB), 0, {}, (Vector.GP, TARGETS)),
    ],
)
def test_a_bad_way_through_a_gate_changes_nothing(
    pair: Twins, code: str, target: tuple[int, int], offset: int, changes: dict[str, int],
    fault: tuple[int, int],
) -> None:  # fmt: skip
    outcome = through_gate(pair, code, target=target, offset=offset, **changes)
    state = outcome.state
    assert outcome.fault == (*fault, 0)
    assert (state.cs.selector, state.cpl, state.rsp) == (lab.USER64, 3, changes.get("rsp", lab.STACK))


def test_a_call_in_ring_3_does_not_push_on_a_page_of_the_supervisors(pair: Twins) -> None:
    target = (_LONG, 0xFB)
    assert through_gate(pair, CALL, target=target, offset=0, edge=0xE7, rsp=EDGE + 16).fault is None
    outcome = through_gate(pair, CALL, target=target, offset=0, edge=0xE3, rsp=EDGE + 16)
    assert outcome.fault == (Vector.PF, 7, EDGE + 8)
    assert (outcome.state.rsp, outcome.state.cs.selector) == (EDGE + 16, lab.USER64)


# --- whole guests -------------------------------------------------------------------------------------------

GDT, TSS, RESULTS, POINTER = 0x9000, 0x9200, 0x8000, 0x9100
KERNEL, TABLES = 0x9800, 0x20000
TO_RING_3 = bytes.fromhex("6A 1B 68 00 EF 00 00 68 02 30 00 00 6A 23 E8 00 00 00 00 48 83 04 24 07 48 CF")
"""push 1Bh; push 0EF00h; push 3002h; push 23h; call next; next: add qword [rsp], 7; iretq"""


@BOTH
def test_a_program_calls_its_kernel_and_comes_back(tmp_path: Path, monitor: str) -> None:
    """A parameter count in the gate means nothing, and the kernel finds four quadwords (APM2 4.8.4)."""
    load = bytes.fromhex("0F 01 14 25 00 91 00 00 66 B8 28 00 0F 00 D8")  # lgdt [9100h]; mov ax, 28h; ltr ax
    load += bytes.fromhex("B8 00 00 02 00 0F 22 D8")  # mov eax, TABLES; mov cr3, rax
    call = bytes.fromhex("FF 1C 25 10 91 00 00")  # call far [9110h]
    code = load + TO_RING_3 + call + leave(0)
    look = b"".join(  # mov rax, [rsp + 8 n]; mov [RESULTS + 8 n], rax
        struct.pack("<IBHQ", 0x24448B48, 8 * n, 0xA348, RESULTS + 8 * n) for n in range(4)
    )
    code_64, data = 0x00AF9B000000FFFF, 0x00CF93000000FFFF
    tss = 0x890000000067 | TSS << 16
    gate = int(Gate64.make(CALL_GATE_32, 8, KERNEL, 3)) | 7 << 32
    user = 0x6000_0000_0000
    gdt = struct.pack("<7Q", 0, code_64, data, data | user, code_64 | user, tss, 0)
    gdt += gate.to_bytes(16, "little")
    content = {
        GDT: gdt, POINTER: struct.pack("<HQ6xIH", len(gdt) - 1, GDT, 0, 0x38),
        TSS + 4: struct.pack("<Q", 0xE000), KERNEL: look + b"\x48\xcb",
        TABLES: struct.pack("<Q", TABLES + 0x1007), TABLES + 0x1000: struct.pack("<Q", TABLES + 0x2007),
        TABLES + 0x2000: struct.pack("<2Q", 0x87, 0x200087),
    }  # fmt: skip
    image = tmp_path / "guest"
    image.write_bytes(image64(code))
    ends = []
    for name in (monitor, "none"):
        with vlab.VM(image, memory="4M", monitor=name) as vm:
            for address, data_there in content.items():
                vm.memory[address : address + len(data_there)] = data_there
            stop = vm.run(timeout=20)
            ends.append((stop.exit_code, vm.registers(), bytes(vm.memory[RESULTS:0xF000])))
            assert stop.exit_code == 0, stop.story
    back = CODE64 + len(load + TO_RING_3 + call)
    assert struct.unpack_from("<4Q", ends[0][2]) == (back, 0x23, 0xEF00, 0x1B)
    assert ends[0][1].cpl == 3
    assert ends[0] == ends[1]
