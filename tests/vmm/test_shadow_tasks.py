"""Hardware task switches under shadow paging: they work, and they lead to no memory but the guest's own."""

from __future__ import annotations

import struct
from collections.abc import Iterator

import pytest

from tests.vmm.shadow_program import GDT, RW, STRATEGIES, P, Program, strategy
from vlab.errors import UnusableInput
from vlab.isa.paging import PagingMode
from vlab.isa.state import Mode
from vlab.machine.machine import Machine
from vlab.machine.memory import PAGE
from vlab.vmm.guest_memory import GuestMemory
from vlab.vmm.paging.shadow import FRAMES, VARIANTS
from vlab.vmm.paging.shadow.fence import TABLES, Fence
from vlab.vmm.paging.shadow.frames import FramePool
from vlab.vmm.stop import Stop, StopKind

ALL = P | RW | 4 | 0x80  # present, writable, user, large
TASK1, TASK2 = 0x3800, 0x3880
FIRST_SPACE, SECOND_SPACE = 0x4000, 0x6000
SECOND_CODE = 0x1400
SWITCH = {
    "jmp": "ea000000002000",
    "call": "9a000000002000",
    "jmp through a task gate": "ea000000002800",
    "call through a task gate": "9a000000002800",
    "iret with an NT flag of its own": "9c810c24004000009dcf",
}
BACK = {"call": "cf", "call through a task gate": "cf"}
JMP_BACK = "ea000000001800"
PAGING_ON = "b8100000000f22e0 b8004000000f22d8 0f20c00d000000800f22c0"
LTR = "66b818000f00d8"
LOOK_AGAIN = "a100008000a310200000 0f20d8a314200000 0f20c083e008a318200000"
THE_END = "31c0e6f4ebfe"
LOOK = "a100008000a300200000 0f20d8a304200000 0f20c083e008a308200000 9c58a30c200000"


def with_tasks(program: Program, kind: str, cr3: int = SECOND_SPACE, eflags: int = 2) -> Program:
    """Two tasks in two address spaces, which differ in what is at 0x800000."""
    busy = "8b" if kind.startswith("iret") else "89"
    program.write(GDT + 0x18, bytes.fromhex("6700003800890000 6700803800" + busy + "0000 0000200000850000"))
    program.write(TASK1, struct.pack("<I", 0x20 if busy == "8b" else 0))
    program.write(TASK2, bytes(0x68))
    program.write(TASK2 + 0x1C, struct.pack("<III", cr3, SECOND_CODE, eflags))
    program.write(TASK2 + 0x38, struct.pack("<I", 0x6800))
    program.write(TASK2 + 0x48, struct.pack("<HxxHxxHxxHxx", 0x10, 8, 0x10, 0x10))
    program.write(FIRST_SPACE, struct.pack("<III", ALL, 0, 0x400000 | ALL))
    program.write(SECOND_SPACE, struct.pack("<III", ALL, 0, ALL))
    program.write(0, struct.pack("<I", 0x22222222))
    program.write(0x400000, struct.pack("<I", 0x11111111))
    return program


@pytest.fixture
def programs() -> Iterator[list[Program]]:
    made: list[Program] = []
    yield made
    for program in made:
        program.close()


# --- they work ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", STRATEGIES)
@pytest.mark.parametrize("kind", SWITCH)
def test_a_task_runs_in_its_own_address_space_and_goes_back(
    kind: str, name: str, programs: list[Program]
) -> None:
    program = Program(strategy(name), PAGING_ON + LTR + SWITCH[kind] + LOOK_AGAIN + THE_END)
    programs.append(with_tasks(program, kind))
    program.write(SECOND_CODE, bytes.fromhex(LOOK + BACK.get(kind, JMP_BACK)))
    program.write(TASK1 + 0x1C, struct.pack("<I", FIRST_SPACE))  # the processor does not save CR3
    stop = program.run()
    assert (stop.kind, stop.exit_code) == (StopKind.EXIT, 0), stop
    there, cr3, ts, flags, here, first_cr3, still_ts = program.results(7)
    assert (there, cr3, ts) == (0x22222222, SECOND_SPACE, 8)
    assert bool(flags & 0x4000) is (kind in BACK), "nested"
    assert (here, first_cr3, still_ts) == (0x11111111, FIRST_SPACE, 8)
    seen = program.monitor.guest_state()
    assert (seen.cr3, seen.cr0 & 8, seen.tr.selector) == (FIRST_SPACE, 8, 0x18)


@pytest.mark.parametrize("kind", SWITCH)
def test_a_task_switch_takes_the_same_time_and_leaves_the_same_memory_under_every_paging(
    kind: str, programs: list[Program]
) -> None:
    ends = []
    for name in STRATEGIES:
        program = Program(strategy(name), PAGING_ON + LTR + SWITCH[kind] + LOOK_AGAIN + THE_END)
        programs.append(with_tasks(program, kind))
        program.write(SECOND_CODE, bytes.fromhex(LOOK + BACK.get(kind, JMP_BACK)))
        program.write(TASK1 + 0x1C, struct.pack("<I", FIRST_SPACE))
        program.run()
        ends.append((program.monitor.clock.now(), bytes(program.memory.ram), program.monitor.guest_state()))
    assert ends[0] == ends[1] == ends[2]


@pytest.mark.parametrize("name", STRATEGIES)
def test_without_paging_of_the_guests_a_task_switch_leaves_cr3_alone(
    name: str, programs: list[Program]
) -> None:
    program = Program(strategy(name), LTR + SWITCH["jmp"])
    programs.append(with_tasks(program, "jmp", cr3=0xDEAD000))
    program.write(SECOND_CODE, bytes.fromhex("0f20d8a300200000" + THE_END))
    stop = program.run()
    assert (stop.kind, stop.exit_code) == (StopKind.EXIT, 0), stop
    assert program.results(1) == (0,)


@pytest.mark.parametrize("name", STRATEGIES)
def test_a_virtual_8086_task_is_entered(name: str, programs: list[Program]) -> None:
    program = Program(strategy(name), PAGING_ON + LTR + SWITCH["jmp"])
    programs.append(with_tasks(program, "jmp", eflags=0x23002))
    program.write(TASK2 + 0x20, struct.pack("<I", 0))
    program.write(TASK2 + 0x4C, struct.pack("<HxxHxx", SECOND_CODE >> 4, 0x600))
    program.write(SECOND_CODE, bytes.fromhex("b800028ed8 c70600003412 30c0e6f4ebfe"))
    stop = program.run()
    assert (stop.kind, stop.exit_code) == (StopKind.EXIT, 0), stop
    assert program.results(1) == (0x1234,)
    assert program.monitor.guest_state().mode is Mode.V86


@pytest.mark.parametrize("name", VARIANTS)
def test_a_task_in_a_space_without_its_descriptors_faults_there(name: str, programs: list[Program]) -> None:
    """And without an IDT or stack there, that is the end."""
    program = Program(strategy(name), PAGING_ON + LTR + SWITCH["jmp"])
    programs.append(with_tasks(program, "jmp", cr3=0x7000))
    stop = program.run()
    assert stop.kind is StopKind.TRIPLE_FAULT
    assert "#PF" in stop.story
    assert "cr3=7000" in stop.story


# --- and lead nowhere else ----------------------------------------------------------------------------------

SECRET = b"the other guest's"
STOLEN, LINEAR = 0x700000, 0xC0000000


class Attack:
    """A guest that loads CR3 with ``cr3`` and, should that lead anywhere, reads and writes its victims."""

    def __init__(self, machine: Machine, name: str, targets: list[int]) -> None:
        self.program = Program(strategy(name), PAGING_ON + LTR + SWITCH["jmp"], machine=machine)
        self.base = self.program.memory.hpa
        self.targets = targets

    def tables(self, place: int, add: int) -> None:
        """Write tables in 64-bit format at ``place``: the guest at 0, the targets at LINEAR.

        add: what the guest takes for the difference between its addresses and the processor's.
        """
        write, pointers, directory, high = self.program.write, place, place + 0x1000, place + 0x2000
        last, low = place + 0x3000, place + 0x4000
        own = self.base + add
        write(pointers, struct.pack("<QQQQ", own + directory | 1, 0, 0, own + high | 1))
        write(directory, struct.pack("<Q", own + low | 7))
        write(high, struct.pack("<Q", own + last | 7))
        write(low, b"".join(struct.pack("<Q", own + PAGE * n | 7) for n in range(512)))
        write(last, b"".join(struct.pack("<Q", target + add | 7) for target in self.targets))

    def run(self, cr3: int) -> Stop:
        with_tasks(self.program, "jmp", cr3=cr3)
        code = ""
        for number in range(len(self.targets)):
            at = struct.pack("<I", LINEAR + PAGE * number).hex()
            here = struct.pack("<I", STOLEN - 0x600000 + 4 * number).hex()
            code += f"a1{at} a3{here} c705{at}efbeadde"
        self.program.write(SECOND_CODE, bytes.fromhex(code + THE_END))
        return self.program.run()


@pytest.mark.parametrize("aim", ["memory", "displaced", *range(8)])
@pytest.mark.parametrize("name", VARIANTS)
def test_a_cr3_from_a_tss_reaches_no_frame_of_others(name: str, aim: str | int) -> None:
    """The guest knows everything: where it is, where the others are, where the shadow tables are."""
    machine = Machine(48 << 20)
    victim = GuestMemory(machine, 4 << 20)
    victim.ram[: len(SECRET)] = SECRET
    victim.ram[0x200000 : 0x200000 + len(SECRET)] = SECRET
    targets = [victim.hpa, victim.hpa + 0x200000]
    attack = Attack(machine, name, targets)
    attack.targets += [attack.program.monitor.vmcb, machine.host.vmcb, machine.host.page_tables]
    space = attack.program.monitor.paging.space  # type: ignore[attr-defined]
    add = 0 if aim == "memory" else space.fence.memory
    attack.tables(0x10000, add)
    cr3 = attack.base + 0x10000
    if isinstance(aim, int):  # a shadow table, taken for directory pointers: they lead to the guest's pages
        cr3 = TABLES - FRAMES * PAGE + aim * PAGE
        for gpa in (0x1000, 0x2000):
            attack.program.write(gpa + 0x800, bytes(attack.program.memory.ram[0x11000:0x11800]))
    kept = {target: bytes(machine.memory.bytes[target : target + 64]) for target in targets}
    stop = attack.run(cr3)
    assert stop.kind in (StopKind.FAILED, StopKind.TRIPLE_FAULT), stop
    for target, content in kept.items():
        assert bytes(machine.memory.bytes[target : target + 64]) == content, f"{target:#x}"
    for target in attack.targets:
        assert machine.memory.read(target, 4) != 0xDEADBEEF
    assert SECRET[:4] not in bytes(attack.program.memory.ram)
    attack.program.close()
    machine.close()


def test_the_fence_lets_nothing_through_but_the_guests_own_frames() -> None:
    machine = Machine(64 << 20)
    machine.frames.allocate(3 * PAGE)
    memory = GuestMemory(machine, 8 << 20)
    memory.add_window(0xFEE00000, 1 << 38)
    pool = FramePool(machine, 64)
    fence = Fence(machine, memory, pool)
    allowed = [(memory.hpa, memory.size), (1 << 38, PAGE), (pool.base, pool.size)]
    mapped = list(leaves(machine, fence.root, 4, 0))
    assert sum(size for _, _, size, _ in mapped) > 8 << 20 > 0
    for address, frame, size, entry in mapped:
        assert any(start <= frame and frame + size <= start + length for start, length in allowed)
        assert not entry >> 63, "the emulator does not survive NX here"
        low = address < 1 << 32
        assert low is (pool.base <= frame < pool.base + pool.size), "32 bits name shadow tables alone"
    fence.close()
    machine.close()


def leaves(machine: Machine, table: int, level: int, address: int) -> Iterator[tuple[int, int, int, int]]:
    """All that the tables map: address, frame, bytes, entry."""
    for index in range(512):
        entry = machine.memory.read(table + 8 * index, 8)
        here, frame = address | index << 12 + 9 * (level - 1), entry & 0xFFFFFFFFFF000
        if not entry & 1:
            continue
        if level == 1 or (entry & 0x80 and level == 2):
            yield here, frame, 1 << 12 + 9 * (level - 1), entry
        else:
            yield from leaves(machine, frame, level - 1, here)


def test_a_fence_that_finds_no_frames_leaves_none_behind() -> None:
    machine = Machine(8 << 20)
    memory = GuestMemory(machine, 4 << 20)
    pool = FramePool(machine, 64)
    while machine.frames.largest > 4 * PAGE:
        machine.frames.allocate(PAGE)
    before = machine.frames.allocated
    with pytest.raises(UnusableInput, match="no free run"):
        Fence(machine, memory, pool)
    assert machine.frames.allocated == before
    machine.close()


def test_guests_do_not_see_the_fence_in_a_walk(programs: list[Program]) -> None:
    """What nested tables lead to is not guest-physical memory here, so a walk shows the guest's alone."""
    program = Program(strategy("write-protect"), PAGING_ON + LTR + THE_END)
    programs.append(with_tasks(program, "jmp"))
    program.run()
    walk = program.monitor.walk(0x800000)
    assert walk.mode is PagingMode.LEGACY
    assert walk.physical == 0x400000
    assert [reference.nested for reference in walk.references] == [()]
