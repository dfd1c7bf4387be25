"""A computer with a victim on it, and hostile guests beside: what they reach, and what they get to see.

Around an attack the whole of the machine's memory is compared, frame by frame. The free frames hold a
pattern, the victim stands still in the middle of its work, and all that the processor's tables lead an
attacker to is listed.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

import vlab
from tests.vmm.state_differences import byte_differences, state_differences
from tests.vmm.trap_emulate_cases import (
    EMPTY,
    ENTRIES,
    FIRST_RANDOM,
    HANDLER,
    SLOT_BASE,
    SLOT_SIZE,
    USER_CODE,
    USER_DATA,
    USER_STACK,
    Case,
    handler,
    start,
    u32,
)
from vlab.guests.programs import TICKS, count_down, guest, increment, leave, timer
from vlab.isa.paging import PagingMode
from vlab.isa.paging_modes import LEVELS
from vlab.isa.state import CpuState
from vlab.machine import registers as reg
from vlab.machine.machine import Read, Write
from vlab.machine.memory import PAGE
from vlab.vmm.stop import StopKind

FIRST, LAST = 0x500, 0x80000
"""Memory of the attacker's that is compared with the bare machine's."""
MEMORY = 2 << 20
PATTERN = 0xA5A5A5A5A5A5A5A5
SECRET = b"the other guest's"
DIRECTORY = 0xC000
DONE = EMPTY


@dataclass(frozen=True)
class Attack:
    """Pieces of code, each for a slot of ``trap_emulate_cases``; a fault leads to the next slot.

    world: "flat" without paging, or "paged" by one page of 4 MiB. memory: what else is there, by address.
    same: whether the guest is to see what it sees on the bare machine; stale translations it need not.
    """

    name: str
    slots: tuple[bytes, ...]
    world: str = "paged"
    memory: dict[int, bytes] = field(default_factory=dict)
    descriptors: tuple[int, ...] = ()
    same: bool = True


@dataclass(frozen=True)
class Ending:
    """How an attack ended, in which registers, and what was in the attacker's lower memory then."""

    stop: tuple[str, int | None]
    state: CpuState
    memory: bytes
    silent: bool
    story: str

    def differences(self, other: Ending) -> list[str]:
        """Tell what is not the same in another ending, in a few lines."""
        found = [] if self.stop == other.stop else [f"end: {self.stop} {other.stop} {other.story}"]
        found += state_differences(self.state, other.state)
        return found + byte_differences(self.memory, other.memory, FIRST)


def restoring_handler() -> bytes:
    """The handler of ``trap_emulate_cases``, which first loads CR3 anew."""
    return b"\x50\xb8" + u32(DIRECTORY) + b"\x0f\x22\xd8\x58" + handler()  # push eax; ..; pop eax


def user(slot: int, code: bytes, flags: int = 2) -> bytes:
    """Go to ring 3 from slot number ``slot``, and run code there, which begins at USER_OFFSET of the slot."""
    here = SLOT_BASE + slot * SLOT_SIZE + 26
    frame = USER_DATA | 3, USER_STACK, flags, USER_CODE | 3, here
    data = b"\x66\xb8" + bytes((USER_DATA | 3, 0)) + b"\x8e\xd8\x8e\xc0"  # mov ax, ..; mov ds, ax; mov es, ax
    return b"".join(b"\x68" + u32(word) for word in frame) + b"\xcf" + data + code


USER_OFFSET = 34


# --- the computer -------------------------------------------------------------------------------------------


class Fortress:
    """One computer, the victim, and attackers one after the other."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.machine = vlab.Machine("16M")
        work = timer(then=count_down(400_000, increment(TICKS + 8)) + b"\xfa" + leave(0), hertz=1000)
        self._work = guest(directory, work, "victim")
        frames = self.machine.frames
        frames.allocate(MEMORY, MEMORY)  # no attacker is where its guest-physical addresses would be right
        room = frames.allocate(2 * MEMORY, MEMORY)
        self.victim = vlab.VM(self._work, memory=MEMORY, machine=self.machine)
        frames.free(room)
        self.victim_hpa = self.victim.vmm.memory.hpa
        for place in (0x20000, 0x100000 + PAGE, 0x1F0000):
            self.victim.memory[place : place + len(SECRET)] = SECRET
        assert self.victim.run(lambda vm: vm.virtual_time_ns > 2_000_000).kind is StopKind.EXPECTED
        self._frames = np.frombuffer(self.machine.memory.bytes, np.uint64).reshape(-1, PAGE // 8)
        self._before = np.empty_like(self._frames)
        self._differs = np.empty(self._frames.shape, bool)
        self.taken: set[int] = set()
        allocate = self.machine.frames.allocate

        def recorded(size: int = PAGE, align: int = PAGE, use: str = "") -> int:
            address = allocate(size, align, use)
            self.taken.update(range(address // PAGE, -(-(address + size) // PAGE)))
            return address

        self.machine.frames.allocate = recorded  # type: ignore[method-assign]
        self.windows: set[int] = set()
        self.foreign: set[int] = set()
        window = self.machine.window

        def noted(read: Read, write: Write) -> int:
            address = window(read, write)
            self.windows.add(address // PAGE)
            return address

        self.machine.window = noted  # type: ignore[method-assign]

    def paint(self) -> None:
        """Fill all free frames with the pattern."""
        end, start = self.machine.host.base // PAGE, 0
        for address, size in sorted(self.machine.frames.allocated.items()):
            self._frames[start : address // PAGE] = PATTERN
            start = (address + size) // PAGE
        self._frames[start:end] = PATTERN

    @contextmanager
    def attacker(self, attack: Attack, monitor: str, paging: str) -> Iterator[vlab.VM]:
        """Make an attacker's VM; what is taken from now on is its monitor's."""
        case = Case(attack.world, list(attack.slots), list(attack.descriptors))
        case.descriptors += [0] * (ENTRIES - FIRST_RANDOM - len(case.descriptors))
        memory = case.memory() | {HANDLER: restoring_handler()} | attack.memory
        path = guest(self.directory, start(attack.world))
        with self.vm(path, monitor=monitor, paging=paging) as vm:
            for address, content in memory.items():
                vm.memory[address : address + len(content)] = content
            yield vm

    @contextmanager
    def vm(self, path: Path, **options: str) -> Iterator[vlab.VM]:
        """Make a VM beside the victim."""
        self.begin()
        with vlab.VM(path, memory=MEMORY, machine=self.machine, **options) as vm:  # type: ignore[arg-type]
            yield vm

    def begin(self) -> None:
        """Paint the free frames, and note from now on what is taken."""
        self.paint()
        self.taken.clear()
        self.windows.clear()

    def run(self, vm: vlab.VM, timeout: float = 5) -> vlab.Stop:
        """Run an attacker; fail if anything changed that is not its own."""
        vm.registers()  # on the processor: what it had of the victim is saved now
        np.copyto(self._before, self._frames)
        stop = vm.run(timeout=timeout)
        self.check(vm)
        return stop

    def attack(self, attack: Attack, monitor: str, paging: str) -> Ending:
        """Let an attacker run to its end."""
        with self.attacker(attack, monitor, paging) as vm:
            stop = self.run(vm)
            state = vm.registers()
            if not state.ldtr.selector & 0xFFFC:
                state.ldtr.attributes = 0  # the emulator keeps a part of what was there
            memory = bytes(vm.memory[FIRST:LAST])
            assert SECRET not in memory
            return Ending((stop.kind, stop.exit_code), state, memory, bool(vm.silent), stop.story)

    def check(self, vm: vlab.VM) -> None:
        """What changed, and what the processor's tables lead to, is the attacker's or its monitor's.

        Where guests see tables without others behind, ``foreign`` keeps where they show the monitor's frames.
        """
        host = self.machine.host
        own = self.taken | {host.vmcb // PAGE, host.save_area // PAGE}
        np.not_equal(self._frames, self._before, out=self._differs)
        changed = set(np.flatnonzero(self._differs.any(axis=1)).tolist())
        assert changed <= own, f"changed: {[hex(frame * PAGE) for frame in sorted(changed - own)]}"
        memory = vm.vmm.memory
        ram = range(memory.hpa // PAGE, (memory.hpa + memory.size) // PAGE)
        nested, pages = vm.vmm.on_processor(lambda _: mappings(self.machine))
        for linear, frame, size in pages:
            frames = set(range(frame // PAGE, (frame + size) // PAGE))
            assert frames <= self.windows or frames <= set(ram) or frames <= self.taken, (
                f"the processor's tables map {linear:#x} to {frame:#x}"
            )
            if not nested and not frames <= self.windows and not frames <= set(ram):
                self.foreign.add(linear)

    def finish(self) -> tuple[object, ...]:
        """Let the victim do the rest of its work."""
        stop = self.victim.run(timeout=60)
        return stop.exit_code, self.victim.virtual_time_ns, self.victim.state_hash()

    def undisturbed(self) -> tuple[object, ...]:
        """What becomes of a victim that nobody attacks."""
        with vlab.VM(self._work, memory=MEMORY) as vm:
            for place in (0x20000, 0x100000 + PAGE, 0x1F0000):
                vm.memory[place : place + len(SECRET)] = SECRET
            vm.run(lambda vm: vm.virtual_time_ns > 2_000_000)
            stop = vm.run(timeout=60)
            return stop.exit_code, vm.virtual_time_ns, vm.state_hash()

    def close(self) -> None:
        self.victim.close()
        del self._frames
        self.machine.close()


# --- what the processor's tables lead to --------------------------------------------------------------------

_NESTED = 1 << 6
_PAE, _LMA = 1 << 5, 1 << 10


def mappings(machine: vlab.Machine) -> tuple[bool, list[tuple[int, int, int]]]:
    """Give address, host-physical frame and bytes of every page that the tables in use map.

    Over nested tables (True) these are the nested ones: nothing that lies behind them is reached otherwise.
    """
    processor = machine.processor
    engine, core = processor.engine, processor.core
    if engine.words32[reg.HFLAGS2] & _NESTED:
        return True, list(_below(machine, PagingMode.LONG, 0, engine.u64(reg.NESTED_CR3), 0))
    mode = PagingMode.LONG if core.efer & _LMA else PagingMode.PAE if core.cr4 & _PAE else PagingMode.LEGACY
    assert core.cr0 >> 31 & 1, "without nested tables paging keeps a guest in"
    top = core.cr3 & (0xFFFFFFFE0 if mode is PagingMode.PAE else ~0xFFF)
    return False, list(_below(machine, mode, 0, top, 0))


def _below(
    machine: vlab.Machine, mode: PagingMode, depth: int, table: int, linear: int
) -> Iterator[tuple[int, int, int]]:
    row, size = LEVELS[mode][depth], 4 if mode is PagingMode.LEGACY else 8
    entries = machine.memory.bytes[table : table + size * (row.index_mask + 1)].cast(
        "I" if size == 4 else "Q"
    )
    for index, entry in enumerate(entries):
        if not entry & 1:
            continue
        here, frame = linear | index << row.shift, entry & 0xFFFFFFFFFF000
        if row.level == 1 or (row.large is not None and entry & 0x80):
            yield here, frame & -(1 << row.shift), 1 << row.shift
        else:
            yield from _below(machine, mode, depth + 1, frame, here)
