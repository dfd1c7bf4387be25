"""Far JMP and CALL to tasks, carried out for guests whose kernel runs deprivileged or translated.

Where the processor underneath does right the same guest runs bare beside it. Sections are those of AMD APM
vol. 2, rev. 3.42 (APM2).
"""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from tests.vmm.task_lab import (
    CALL,
    CODE,
    CODE16,
    DATA,
    DEBUGGER,
    EMPTY_SPACE,
    FIRST_SPACE,
    GATE,
    JMP,
    LDT,
    LDT_AT,
    NT,
    RESULTS,
    SECOND_SPACE,
    SPACE_AND_FLAGS,
    STACK2,
    TASK1,
    TASK2,
    TASK3,
    TASK_GATE,
    THERE,
    TO_USER,
    TSS1,
    TSS2,
    TSS3,
    World,
    far,
    interrupt_gate,
    keep,
    start,
    system,
    tss,
    u32,
)
from vlab.guests.programs import CODE as BEGIN
from vlab.guests.programs import leave
from vlab.isa.tss import Tss16
from vlab.vmm.stop import StopKind

BOTH = pytest.mark.parametrize("monitor", ["trap-emulate", "binary-translation"])
THROUGH_MEMORY = RESULTS + 0xE0
TF, RF = 0x100, 0x10000

# --- tasks of 32 bits, as bare ------------------------------------------------------------------------------

WAYS = {
    "jmp": (far(JMP, TSS2), far(JMP, TSS1)), "call": (far(CALL, TSS2), b"\xcf"),
    "jmp through a task gate": (far(JMP, GATE), far(JMP, TSS1)),
    "call through a task gate": (far(CALL, GATE), b"\xcf"),
    "jmp through memory": (b"\xff\x2d" + u32(THROUGH_MEMORY), far(JMP, TSS1)),
    "call through memory": (b"\xff\x1d" + u32(THROUGH_MEMORY), b"\xcf"),
    "call from ring 3": (far(CALL, GATE), b"\xcf"),
}  # fmt: skip


@BOTH
@pytest.mark.parametrize("way", WAYS)
def test_a_task_runs_in_its_own_space_and_the_first_one_goes_on(
    tmp_path: Path, way: str, monitor: str
) -> None:
    (there, back), user = WAYS[way], way.endswith("ring 3")
    code = start() + (TO_USER if user else b"") + b"\xbb" + u32(0xABCD) + there + leave(0)
    world = World(code, SPACE_AND_FLAGS + back, memory={THROUGH_MEMORY: u32(0, TSS2)})
    ours, nested = world.run(tmp_path, monitor), back == b"\xcf"
    assert (ours.stop.exit_code, ours.word(0), ours.word(1)) == (0, 0x2222, SECOND_SPACE), ours.stop.story
    assert (ours.word(2) & 8, bool(ours.word(3) & NT), ours.word(4)) == (8, nested, 0xB0B)
    assert ours.number(TASK2, 2) == (TSS1 if nested else 0)
    assert (ours.busy(TSS1), ours.busy(TSS2), ours.state.tr.selector) == (True, False, TSS1)
    assert (ours.state.rbx, ours.state.cr3, ours.state.cpl) == (0xABCD, FIRST_SPACE, 3 if user else 0)
    ours.check_as(world.run(tmp_path, "none"))


@BOTH
@pytest.mark.parametrize(("opcode", "busy", "link"), [(JMP, False, 0), (CALL, True, TSS1)])
def test_the_old_task_is_saved_behind_the_instruction(
    tmp_path: Path, opcode: str, busy: bool, link: int, monitor: str
) -> None:
    code = start() + bytes.fromhex("B9 11 00 00 00 6A 03 9D")  # mov ecx, 11h; push 3; popfd
    world = World(code + far(opcode, TSS2), leave(0))
    ours = world.run(tmp_path, monitor)
    task = ours.task(TASK1)
    assert ours.stop.exit_code == 0, ours.stop.story
    assert (task.eip, task.eflags & 1, task.ecx) == (BEGIN + len(code) + 7, 1, 0x11)
    assert (task.cs, task.ss, task.ds, task.fs) == (CODE, DATA, DATA, DATA)
    assert (ours.busy(TSS1), ours.busy(TSS2), ours.task(TASK2).link) == (busy, True, link)
    assert ours.state.tr.selector == TSS2
    ours.check_as(world.run(tmp_path, "none"))


@BOTH
def test_a_task_has_its_own_flags_ldt_and_no_local_breakpoints(tmp_path: Path, monitor: str) -> None:
    code = start() + bytes.fromhex("B8 55 06 00 00 0F 23 F8") + far(JMP, TSS2)  # mov eax, 655h; mov dr7, eax
    changes = {"ldt": LDT_AT, "cs": 0x14, "ds": 0x0C, "eflags": 0x3202}
    there = bytes.fromhex("0F 21 F8") + keep("eax", 6) + SPACE_AND_FLAGS + leave(0)  # mov eax, dr7
    world = World(code, there, changes=changes)
    ours = world.run(tmp_path, monitor)
    assert ours.stop.exit_code == 0, ours.stop.story
    state = ours.state
    assert (ours.word(6), state.rflags & 0x7200) == (0x600, 0x3200)
    assert (state.cs.selector, state.ds.selector, state.ldtr.selector) == (0x14, 0x0C, LDT_AT)
    assert (state.ldtr.base, state.ldtr.limit) == (LDT, 0x1F)
    ours.check_as(world.run(tmp_path, "none"))


@BOTH
@pytest.mark.parametrize("ring", [1, 3])
def test_a_task_of_an_outer_ring_is_entered_at_once(tmp_path: Path, ring: int, monitor: str) -> None:
    dpl = ring << 45
    descriptors = {0x38: 0xCF9B000000FFFF | dpl, 0x40: 0xCF93000000FFFF | dpl}
    data = 0x40 | ring
    changes = {"cs": 0x38 | ring, "ss": data, "ds": data, "es": data, "eflags": 0x3002}
    there = keep("ebx", 4) + leave(0)
    world = World(start() + far(JMP, TSS2), there, descriptors=descriptors, changes=changes)
    ours = world.run(tmp_path, monitor)
    assert (ours.stop.exit_code, ours.word(4), ours.state.cpl) == (0, 0xB0B, ring), ours.stop.story
    ours.check_as(world.run(tmp_path, "none"))


@BOTH
def test_without_paging_cr3_stays(tmp_path: Path, monitor: str) -> None:
    world = World(start(paging=False) + far(JMP, TSS2), SPACE_AND_FLAGS + leave(0))
    ours = world.run(tmp_path, monitor)
    assert (ours.stop.exit_code, ours.word(1), ours.state.tr.selector) == (0, 0, TSS2), ours.stop.story
    ours.check_as(world.run(tmp_path, "none"))


@BOTH
def test_a_virtual_8086_task_is_entered(tmp_path: Path, monitor: str) -> None:
    changes = {"eip": 0, "cs": THERE >> 4, "ss": 0xE00, "ds": 0x800, "es": 0, "esp": 0x600, "eflags": 0x23002}
    changes["iomap_base"] = 0x40  # where all is zero
    there = bytes.fromhex("C7 06 00 00 34 12") + leave(0)  # mov word [0], 1234h
    ours = World(start() + far(CALL, TSS2), there, changes=changes).run(tmp_path, monitor)
    assert (ours.stop.exit_code, ours.word(0)) == (0, 0x1234), ours.stop.story
    assert (ours.state.mode.value, ours.state.rflags & NT) == ("virtual-8086", NT)


# --- faults: APM2 12.3.2, 12.3.3 ----------------------------------------------------------------------------

NOT_PRESENT_CODE, NOT_PRESENT_DATA, SHORT = 0x38, 0x40, 0x50
BAD = {NOT_PRESENT_CODE: 0xCF1B000000FFFF, NOT_PRESENT_DATA: 0xCF13000000FFFF, SHORT: 0x9B0000000FFF}
OLD = {
    "a busy TSS": (TSS1, {}, 13, TSS1), "a TSS in the LDT": (0x1C, {}, 13, 0x1C),
    "a TSS that is not present": (TSS2, {TSS2: system(TASK2, 0x67, 0x09)}, 11, TSS2),
    "a TSS of 103 bytes": (TSS2, {TSS2: system(TASK2, 0x66, 0x89)}, 10, TSS2),
    "a TSS beyond the GDT": (0x100, {}, 13, 0x100),
    "a TSS of an inner ring by its RPL": (TSS2 | 1, {}, 13, TSS2),
    "a gate for inner rings": (GATE | 3, {GATE: TSS2 << 16 | 0xC5 << 40}, 13, GATE),
    "a gate that is not present": (GATE, {GATE: TSS2 << 16 | 0x65 << 40}, 11, GATE),
    "a gate to a busy TSS": (GATE, {GATE: TSS1 << 16 | 0xE5 << 40}, 13, TSS1),
    "a gate to data": (GATE, {GATE: DATA << 16 | 0xE5 << 40}, 13, DATA),
    "a gate to nothing": (GATE, {GATE: 0xE5 << 40}, 13, 0),
    "a gate into the LDT": (GATE, {GATE: 0x1C << 16 | 0xE5 << 40}, 13, 0x1C),
    "an interrupt gate": (GATE, {GATE: CODE << 16 | 0xEE << 40}, 13, GATE),
}  # fmt: skip
NEW = {
    "code that is not present": ({"cs": NOT_PRESENT_CODE}, 11, NOT_PRESENT_CODE),
    "code of another ring": ({"cs": CODE | 3}, 10, CODE), "data for code": ({"cs": DATA}, 10, DATA),
    "no code": ({"cs": 0}, 10, 0), "no stack": ({"ss": 0}, 10, 0),
    "a stack that is not present": ({"ss": NOT_PRESENT_DATA}, 12, NOT_PRESENT_DATA),
    "a stack of another ring": ({"ss": DATA | 3}, 10, DATA), "code for a stack": ({"ss": CODE}, 10, CODE),
    "data that is not present": ({"ds": NOT_PRESENT_DATA}, 11, NOT_PRESENT_DATA),
    "a TSS for data": ({"es": TSS1}, 10, TSS1), "an LDT in the LDT": ({"ldt": 0x0C}, 10, 0x0C),
    "data for an LDT": ({"ldt": DATA}, 10, DATA), "an LDT beyond the GDT": ({"ldt": 0x100}, 10, 0x100),
    "code beyond its limit": ({"cs": SHORT}, 13, 0),
}  # fmt: skip


@BOTH
@pytest.mark.parametrize("case", OLD)
def test_what_is_wrong_with_the_way_to_a_task_faults_in_the_old_one(
    tmp_path: Path, case: str, monitor: str
) -> None:
    selector, descriptors, vector, error = OLD[case]
    code = start()
    memory = {LDT + 0x18: struct.pack("<Q", system(TASK2, 0x67, 0x89))}
    lldt = bytes.fromhex("66 B8 38 00 0F 00 D0")
    world = World(
        code + lldt + far(JMP, selector), leave(1), descriptors=descriptors, gates={vector: TASK_GATE},
        memory=memory,
    )  # fmt: skip
    ours = world.run(tmp_path, monitor)
    assert (ours.stop.exit_code, ours.word(0)) == (7, error), ours.stop.story
    assert (ours.task(TASK3).link, ours.task(TASK1).eip) == (TSS1, BEGIN + len(code + lldt))
    assert ours.task(TASK1).eflags & RF
    assert ours.busy(TSS1)


@BOTH
@pytest.mark.parametrize("opcode", [JMP, CALL])
@pytest.mark.parametrize("case", NEW)
def test_what_is_wrong_with_a_task_faults_in_that_task(
    tmp_path: Path, case: str, opcode: str, monitor: str
) -> None:
    changes, vector, error = NEW[case]
    world = World(start() + far(opcode, TSS2), leave(1), BAD, changes, gates={vector: TASK_GATE})
    ours = world.run(tmp_path, monitor)
    assert (ours.stop.exit_code, ours.word(0)) == (7, error), ours.stop.story
    task = ours.task(TASK2)
    assert (ours.task(TASK3).link, task.eip, task.ebx) == (TSS2, THERE, 0xB0B)
    assert {name: getattr(task, name) for name in changes} == changes
    assert (ours.busy(TSS1), ours.busy(TSS2), ours.busy(TSS3)) == (opcode == CALL, True, True)


@BOTH
def test_a_space_without_the_descriptors_ends_a_task_at_its_start(tmp_path: Path, monitor: str) -> None:
    """And the guest, for nothing is mapped there at all."""
    ours = World(start() + far(JMP, TSS2), changes={"cr3": EMPTY_SPACE}).run(tmp_path, monitor)
    assert ours.stop.kind is StopKind.TRIPLE_FAULT
    assert (ours.state.tr.selector, ours.state.cr3, ours.state.rip) == (TSS2, EMPTY_SPACE, THERE)


@BOTH
def test_a_tss_that_is_not_mapped_faults_in_the_old_task(tmp_path: Path, monitor: str) -> None:
    descriptors = {TSS2: system(0x900000, 0x67, 0x89)}
    code = start()
    # 900000h: only the first 4 megabytes and those from 800000h on are mapped
    memory = {FIRST_SPACE: u32(0x87, 0, 0)}
    world = World(code + far(CALL, TSS2), leave(1), descriptors, gates={14: TASK_GATE}, memory=memory)
    ours = world.run(tmp_path, monitor)
    assert (ours.stop.exit_code, ours.word(0), ours.state.cr2) == (7, 0, 0x900000), ours.stop.story
    assert (ours.task(TASK3).link, ours.task(TASK1).eip) == (TSS1, BEGIN + len(code))


# --- the T bit: APM2 13.1.3 ---------------------------------------------------------------------------------

DEBUG_HANDLER = bytes.fromhex("58") + keep("eax", 0) + bytes.fromhex("58") + keep("eax", 1)
DEBUG_HANDLER += bytes.fromhex("58") + keep("eax", 2) + bytes.fromhex("0F 21 F0") + keep("eax", 3) + leave(5)
"""pop eax thrice, each kept; mov eax, dr6"""


@BOTH
@pytest.mark.parametrize("opcode", [JMP, CALL])
def test_the_t_bit_traps_before_the_first_instruction(tmp_path: Path, opcode: str, monitor: str) -> None:
    world = World(
        start() + far(opcode, TSS2), leave(1), changes={"debug_trap": 1, "eflags": 2 | RF},
        gates={1: interrupt_gate(DEBUGGER)}, memory={DEBUGGER: DEBUG_HANDLER},
    )  # fmt: skip
    ours = world.run(tmp_path, monitor)
    flags = 2 | RF | (NT if opcode == CALL else 0)
    assert ours.stop.exit_code == 5, ours.stop.story
    assert [ours.word(n) for n in range(4)] == [THERE, CODE, flags, 0xFFFF8FF0]
    assert ours.state.tr.selector == TSS2


@BOTH
def test_the_t_bit_traps_on_the_way_back_too(tmp_path: Path, monitor: str) -> None:
    code = start() + far(CALL, TSS2)
    world = World(
        code + leave(1), b"\xcf", first={"debug_trap": 1}, gates={1: interrupt_gate(DEBUGGER)},
        memory={DEBUGGER: DEBUG_HANDLER},
    )  # fmt: skip
    ours = world.run(tmp_path, monitor)
    assert (ours.stop.exit_code, ours.word(0), ours.word(3)) == (5, BEGIN + len(code), 0xFFFF8FF0)
    assert ours.state.tr.selector == TSS1


@BOTH
def test_a_single_step_into_a_task_ends_before_its_first_instruction(tmp_path: Path, monitor: str) -> None:
    set_tf = bytes.fromhex("68 02 01 00 00 9D")  # push 102h; popfd
    code = start() + set_tf + far(CALL, TSS2)
    world = World(
        code + leave(1), leave(1), gates={1: interrupt_gate(DEBUGGER)}, memory={DEBUGGER: DEBUG_HANDLER}
    )
    ours = world.run(tmp_path, monitor)
    assert (ours.stop.exit_code, ours.word(0), ours.word(3)) == (5, THERE, 0xFFFF4FF0), ours.stop.story
    assert ours.task(TASK1).eflags & TF
    ours.check_as(world.run(tmp_path, "none"))


# --- tasks of 16 bits, by the manual alone ------------------------------------------------------------------

TASK16 = {"ip": THERE, "flags": 2, "sp": STACK2, "cs": CODE16, "ss": DATA, "ds": DATA, "es": DATA}
LOOK16 = bytes.fromhex("A3 00 80 89 1E 04 80 66 89 26 08 80 66 9C 66 58 66 A3 0C 80 0F 20 D8 66 A3 10 80")
"""mov [8000h], ax; mov [8004h], bx; mov [8008h], esp; pushfd; pop eax; mov [800Ch], eax; the same with CR3"""


@BOTH
@pytest.mark.parametrize("gate", [False, True], ids=["TSS", "task gate"])
@pytest.mark.parametrize(("opcode", "back"), [(JMP, "EA 00 00 18 00"), (CALL, "CF")])
def test_a_16_bit_task_is_entered_and_left(
    tmp_path: Path, opcode: str, back: str, gate: bool, monitor: str
) -> None:
    task = tss(TASK16 | {"flags": 0x3002, "ax": 0xA11, "bx": 0xB22}, Tss16)
    there = LOOK16 + bytes.fromhex("BB 66 07") + bytes.fromhex(back)  # mov bx, 766h
    world = World(
        start() + b"\xbb" + u32(0xABCD1234) + far(opcode, GATE if gate else TSS2) + leave(0), there,
        {TSS2: system(TASK2, 0x2B, 0x81)}, memory={TASK2: task.ljust(0x68, b"\xee")},
    )  # fmt: skip
    ours, nested = world.run(tmp_path, monitor), opcode == CALL
    assert ours.stop.exit_code == 0, ours.stop.story
    assert [ours.word(n) & 0xFFFF for n in range(3)] == [0xA11, 0xB22, STACK2]
    assert (bool(ours.word(3) & NT), ours.word(4)) == (nested, FIRST_SPACE)
    left = Tss16(ours.memory, TASK2)
    assert (left.ip, left.bx, left.flags) == (THERE + len(there), 0x766, 0x3002)
    assert (left.link, left.cs) == (TSS1 if nested else 0, CODE16)
    assert ours.number(TASK2 + Tss16.SIZE, 2) == 0xEEEE
    assert (ours.state.rbx, ours.state.tr.selector, ours.busy(TSS2)) == (0xABCD1234, TSS1, False)


@BOTH
def test_a_16_bit_task_has_neither_fs_nor_gs(tmp_path: Path, monitor: str) -> None:
    task = tss(TASK16, Tss16)
    head = start() + bytes.fromhex("66 B8 10 00 8E E0 8E E8")  # mov ax, 10h; mov fs, ax; mov gs, ax
    world = World(head + far(JMP, TSS2), leave(0), {TSS2: system(TASK2, 0x2B, 0x81)}, memory={TASK2: task})
    ours = world.run(tmp_path, monitor)
    assert ours.stop.exit_code == 0, ours.stop.story
    assert (ours.task(TASK1).fs, ours.state.fs.selector, ours.state.gs.selector) == (DATA, 0, 0)


@BOTH
def test_a_16_bit_tss_that_is_cut_off_is_an_invalid_one(tmp_path: Path, monitor: str) -> None:
    world = World(
        start() + far(JMP, TSS2), leave(1), {TSS2: system(TASK2, 0x2A, 0x81)}, gates={10: TASK_GATE}
    )
    ours = world.run(tmp_path, monitor)
    assert (ours.stop.exit_code, ours.word(0), ours.task(TASK3).link) == (7, TSS2, TSS1), ours.stop.story
