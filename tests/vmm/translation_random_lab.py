"""Random programs in kernel mode, as guests that log what they did: many in one guest.

A program is a row of *slots* of code, each of which is a list of *units*: one or a few instructions that only
make sense together. It runs ``PASSES`` times, from different registers, so that the second time finds the
translations of the first. ``translation_driver`` starts one program after the other and logs what every one
of its interrupts saw; ``translation_blocks`` makes them.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, NamedTuple

import vlab
from tests.vmm import translation_driver as driver
from tests.vmm.translation_driver import SLOT
from vlab.guests.programs import image, image64
from vlab.isa.descriptors import pack_segment
from vlab.isa.state import CpuState, Segment
from vlab.vmm.stop import StopKind

RAM = 4 << 20
GDT, IDT, TSS, LDT, TABLE_REGISTERS = 0x1000, 0x2000, 0x3000, 0x3800, 0x3F00
STARTS, ROOM, ROOM_SIZE = 0x10000, 0x200000, 0x3000
"""Records to start programs from, and the memory of each program: code, data, stack."""
PASSES = 2
FLAT_CODE, FLAT_DATA, TASK, LOCAL, ABSENT, READ_ONLY, OWN = 0x08, 0x10, 0x18, 0x28, 0x38, 0x40, 0x80
"""Selectors. From OWN on, each program has those at CODE_AT, DATA_AT, STACK_AT and FAR_AT."""
CODE_AT, DATA_AT, STACK_AT, FAR_AT = 0, 8, 16, 24
_PAGED, _UNPAGED = 0x80010011, 0x11
_FXSAVE: Final = struct.pack("<HHHHIIIIII", 0x37F, 0, 0, 0, 0, 0, 0, 0, 0x1F80, 0xFFFF).ljust(
    160, b"\0"
) + bytes(n * 37 & 0xFF for n in range(352))
_ACCESSED = 0x20


class Fix(NamedTuple):
    """A place in a unit that holds an address: ``target`` and ``times`` the offset in CS of byte ``end``."""

    offset: int
    size: int
    target: int
    end: int
    times: int = -1


class Unit(NamedTuple):
    """Instructions that belong together."""

    code: bytes
    fixes: tuple[Fix, ...] = ()

    def at(self, place: int) -> bytes:
        """Give the bytes for an offset in CS."""
        code = bytearray(self.code)
        for fix in self.fixes:
            value = fix.target + fix.times * (place + fix.end) & (1 << 8 * fix.size) - 1
            code[fix.offset : fix.offset + fix.size] = value.to_bytes(fix.size, "little")
        return bytes(code)


@dataclass(frozen=True)
class World:
    """What the programs of one guest have in common.

    bits: of their code. paged: whether CR0.PG is set. alias: what is added to RAM's addresses where their
    code runs: for 32-bit code a place that the translation cache takes, for 64-bit code that or where kernels
    are. based: their segments have other bases than 0.
    """

    name: str
    bits: int
    paged: bool = True
    alias: int = 0
    based: bool = False

    @property
    def window(self) -> bool:
        """Whether the code runs where the translation cache is, in which not all instructions reach data."""
        return self.alias in (0xFF000000, 0xFFFFFFFF_E0000000)


WORLDS: Final = (
    World("flat", 32),
    World("flat, no paging", 32, paged=False),
    World("based", 32, based=True),
    World("based, no paging", 32, paged=False, based=True),
    World("in the window", 32, alias=0xFF000000),
    World("16-bit", 16, based=True),
    World("16-bit, no paging", 16, paged=False, based=True),
    World("64-bit", 64),
    World("64-bit, high", 64, alias=0xFFFFFFFF_80000000),
    World("64-bit, in the window", 64, alias=0xFFFFFFFF_E0000000),
)


@dataclass(frozen=True)
class Program:
    """One program. number: which of its guest's, and so where it is. first: offset in CS of its first slot.

    data: to be put into its room beforehand, by address. bases: of CS, DS, SS and the far segment. stack: RSP
    to begin with. starts: for each pass the general registers in their order, and RFLAGS.
    """

    seed: int
    number: int
    world: World
    slots: tuple[tuple[Unit, ...], ...]
    first: int
    bases: tuple[int, int, int, int]
    wide_stack: bool
    stack: int
    data: dict[int, bytes] = field(default_factory=dict)
    starts: tuple[tuple[int, ...], ...] = ()

    @property
    def own(self) -> int:
        """The first of its selectors."""
        return OWN + 32 * self.number

    def slot_at(self, number: int) -> int:
        """Give the offset in CS of a slot."""
        return self.first + number * SLOT

    def code(self) -> bytes:
        """Assemble it: each slot goes on to the next."""
        out = b""
        for number, units in enumerate(self.slots):
            code = b""
            for unit in units:
                code += unit.at(self.slot_at(number) + len(code))
            assert len(code) <= SLOT, f"slot {number} of program {self.seed} has {len(code)} bytes"
            out += code.ljust(SLOT, b"\x90")
        return out + bytes((0xCD, driver.FINISH))

    def memory(self) -> dict[int, bytes]:
        """Give what it puts into memory, by physical address."""
        mask = 0xFFFFFFFF if self.world.bits < 64 else (1 << 64) - 1
        return {**self.data, self.bases[0] + self.first - self.world.alias & mask: self.code()}

    def descriptors(self) -> bytes:
        """Give its segments, for the GDT from OWN on."""
        code = {16: 0x09B, 32: 0xC9B, 64: 0xA9B}[self.world.bits]
        limit = 0xFFFF if self.world.bits == 16 else 0xFFFFFFFF
        stack = (0xFFFFFFFF, 0xC93) if self.wide_stack else (0xFFFF, 0x093)
        kinds = ((limit, code), (0xFFFFFFFF, 0xC93), stack, (0xFFFFFFFF, 0xC93))
        segments = (
            Segment(0, base & 0xFFFFFFFF if self.world.bits < 64 else 0, *kind)
            for base, kind in zip(self.bases, kinds, strict=True)
        )
        return b"".join(int(pack_segment(segment)).to_bytes(8, "little") for segment in segments)

    def start(self, number: int) -> bytes:
        """Give the record to start a pass from."""
        registers, flags, own = self.starts[number][:-1], self.starts[number][-1], self.own
        if self.world.bits == 64:
            rax, rcx, rdx, rbx, _, *rest = registers
            head = struct.pack("<4H", FLAT_DATA, own + DATA_AT, own + FAR_AT, own + DATA_AT)
            head += struct.pack("<3Q", self.bases[3], self.bases[1], 0x1234_5678_9ABC)
            last = (self.first, own + CODE_AT, flags, self.stack, own + STACK_AT)
            return head + struct.pack("<20Q", rax, rcx, rdx, rbx, *rest, *last)
        segments = (own + STACK_AT, self.stack, own + DATA_AT, own + FAR_AT, own + DATA_AT, own + DATA_AT)
        words = (*segments, *(word & 0xFFFFFFFF for word in reversed(registers)))
        return struct.pack("<17I", *words, self.first, own + CODE_AT, flags) + bytes(12)


# --- one guest of many programs -----------------------------------------------------------------------------


def _tables(world: World) -> dict[int, bytes]:
    """Map RAM onto itself, but for the pages from FIX on, and where ``World.alias`` says."""
    size = 8 if world.bits == 64 else 4

    def table(entries: dict[int, int]) -> bytes:
        page = bytearray(0x1000)
        for number, entry in entries.items():
            page[size * number : size * (number + 1)] = entry.to_bytes(size, "little")
        return bytes(page)

    places = {page: page << 12 | 0x67 for page in range(RAM >> 12)}
    for page in range(driver.FIX >> 12, (driver.MISSING >> 12) + 6):
        places[page] = 0
    at = driver.TABLES
    if world.bits < 64:
        return {at: table({0: at + 0x1007, world.alias >> 22: at + 0x1007}), at + 0x1000: table(places)}
    halves = ({n - start: e for n, e in places.items() if start <= n < start + 512} for start in (0, 512))
    leaves = {0: at + 0x3007, 1: at + 0x4007}
    return {
        at: table({0: at + 0x1007, 511: at + 0x5007}),
        at + 0x1000: table({0: at + 0x2007}),
        at + 0x2000: table(leaves),
        **{at + 0x3000 + 0x1000 * n: table(half) for n, half in enumerate(halves)},
        at + 0x5000: table({510: at + 0x2007, 511: at + 0x6007}),
        at + 0x6000: table({0x100 + n: entry for n, entry in leaves.items()}),
    }


def _fixed(world: World) -> dict[int, bytes]:
    """Give what the guests of a world have in memory whatever their programs are."""
    code = 0xA9B if world.bits == 64 else 0xC9B
    flat, absent = (
        [int(pack_segment(Segment(0, 0, 0xFFFFFFFF, kind))) for kind in kinds]
        for kinds in ((code, 0xC93), (0xC13, 0xC91))
    )
    task, local = (int(pack_segment(Segment(0, *place))) for place in ((TSS, 0x67, 0x89), (LDT, 31, 0x82)))
    control = _PAGED if world.paged else _UNPAGED, 0x620 if world.bits == 64 else 0x610
    idt, address = driver.gates(FLAT_CODE, world.bits), "Q" if world.bits == 64 else "I"
    registers = struct.pack(f"<H{address}H{address}", 0xFFF, GDT, len(idt) - 1, IDT)
    return {
        GDT: struct.pack("<9Q", 0, *flat, task, 0, local, 0, *absent),
        IDT: idt,
        LDT: struct.pack("<4Q", 0, *flat, flat[1]),
        TSS: bytes(0x66) + b"\x68\0",
        TABLE_REGISTERS: registers,
        driver.LOG_POINTER: struct.pack("<8I", driver.LOG, 0, STARTS, 0, driver.STEPS_AT_ONCE, 0, *control),
        driver.FPU: _FXSAVE,
        driver.STUBS: driver.stubs(),
        driver.HANDLER: driver.HANDLER64 if world.bits == 64 else driver.HANDLER32,
        **_tables(world),
    }


def _boot(world: World) -> bytes:
    """Load the tables, turn on what ``CONTROL`` says, and finish what has not begun."""
    word = struct.Struct("<I").pack
    middle, sib = (4, b"\x25") if world.bits == 64 else (5, b"")
    size = 10 if world.bits == 64 else 6
    code = b"\x0f\x01" + bytes((middle | 0x10,)) + sib + word(TABLE_REGISTERS)  # lgdt
    code += b"\x0f\x01" + bytes((middle | 0x18,)) + sib + word(TABLE_REGISTERS + size)  # lidt
    code += bytes.fromhex("66 B8 10 00 8E D8 8E C0 8E D0 BC 00 70 00 00")  # ds, es, ss: flat; mov esp, 7000h
    code += bytes.fromhex("66 B8 18 00 0F 00 D8 66 B8 28 00 0F 00 D0")  # ltr; lldt
    load = b"\x8b" + bytes((middle,)) + sib  # mov eax, [...]
    code += load + word(driver.CONTROL + 4) + b"\x0f\x22\xe0"  # mov cr4, eax
    code += b"\xb8" + word(driver.TABLES) + b"\x0f\x22\xd8"  # mov cr3, TABLES
    return code + load + word(driver.CONTROL) + b"\x0f\x22\xc0" + bytes((0xCD, driver.FINISH))


@dataclass
class Ending:
    """How a guest ended: with which registers, what was logged, and what was in its memory."""

    stop: tuple[StopKind, int | None]
    state: CpuState
    log: bytes
    memory: bytes


class Guests:
    """Runs guests made of programs, on one machine."""

    def __init__(self, directory: Path, machine: vlab.Machine) -> None:
        self._machine = machine
        self._path = directory / "random.bin"

    def run(self, programs: Sequence[Program], monitor: str, paging: str | None = None) -> Ending:
        """Run a guest; all programs are of the same world."""
        world, place = programs[0].world, STARTS
        self._path.write_bytes((image64 if world.bits == 64 else image)(_boot(world)))
        with vlab.VM(
            self._path, monitor=monitor, paging=paging, memory=RAM, machine=self._machine, trace="off"
        ) as vm:
            memory, contents = vm.memory, _fixed(world)
            for program in programs:
                contents |= program.memory()
                contents[GDT + program.own] = program.descriptors()
                for number in range(PASSES):
                    contents[place] = program.start(number)
                    place += len(contents[place])
            for address, content in contents.items():
                memory[address : address + len(content)] = content
            stop = vm.run(timeout=60 if len(programs) > 1 else 5)
            end = int.from_bytes(memory[driver.LOG_POINTER : driver.LOG_POINTER + 4], "little")
            log, state = bytes(memory[driver.LOG : end]), vm.registers()
            if not state.ss.selector & 0xFFFC:
                state.ss = Segment(0, 0, 0, 0)  # of a null selector the emulator keeps what was there
            return Ending((stop.kind, stop.exit_code), state, log, _seen(memory, world))


def _seen(memory: memoryview, world: World) -> bytes:
    """Give the memory that is compared: all but accessed bits, which come early where code is translated."""
    seen = bytearray(memory)
    if world.paged:
        for place in range(driver.TABLES, driver.TABLES + 0x7000, 8 if world.bits == 64 else 4):
            seen[place] &= ~_ACCESSED
    return bytes(seen[:0xA0000] + seen[driver.FIX :])
