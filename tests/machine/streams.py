"""Random instruction streams and the worlds that they run in: plausible tables, odd registers, every mode.

A stream is what a broken or hostile guest might do. ``make(seed)`` gives the same one for ever.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from random import Random
from typing import NamedTuple

from tests.machine.random_code import Coder
from vlab.isa.descriptors import pack_segment
from vlab.isa.state import CpuState, Segment, TableRegister

CODE, DATA, STACK, GDT, IDT, TSS, TSS2, LDT = (
    0x10000, 0x20000, 0x30000, 0x1000, 0x2000, 0x4000, 0x4800, 0x5000,
)  # fmt: skip
PML4, LEGACY, PAE = 0x80000, 0x90000, 0xA0000
RAM = 2 << 20
WINDOW = 0xFEE00000
"""A page of device memory."""


class World(NamedTuple):
    """A mode to start in: the segment's width, the ring, and the root of the page tables (0: none)."""

    width: int
    ring: int
    root: int
    flags: int = 0


_VM, _LONG = 1 << 17, PML4
WORLDS = {
    "real": World(16, 0, 0), "v86": World(16, 3, 0, _VM), "prot16": World(16, 0, 0),
    "user16": World(16, 3, 0),
    "prot32": World(32, 0, 0), "user32": World(32, 3, 0), "paged32": World(32, 0, LEGACY),
    "pageduser32": World(32, 3, LEGACY), "pae32": World(32, 0, PAE), "paeuser32": World(32, 3, PAE),
    "pagedv86": World(16, 3, LEGACY, _VM), "ring1": World(32, 1, LEGACY), "compat": World(32, 0, _LONG),
    "compatuser": World(32, 3, _LONG), "compat16": World(16, 3, _LONG), "long": World(64, 0, _LONG),
    "longuser": World(64, 3, _LONG),
}  # fmt: skip
MODES = tuple(WORLDS)

_POOL = Random(0)  # what many streams share is made once

# The one thing that ends the process (docs/MACHINE.md): LOCK BT, BTS, BTR, BTC with a register for operand.
_FATAL = re.compile(
    rb"\xf0(?=[\x26\x2e\x36\x3e\x40-\x4f\x64-\x67\xf0\xf2\xf3]*\x0f[\xa3\xab\xb3\xba\xbb][\xc0-\xff])"
)


def _little(value: int, size: int) -> bytes:
    return (value & (1 << 8 * size) - 1).to_bytes(size, "little")


def _selector(r: Random) -> int:
    return r.randrange(40) << 3 | r.choice((0, 0, 0, 3, 4, 7, 1)) if r.random() < 0.95 else r.getrandbits(16)


def _value(r: Random) -> int:
    """Give a number that instructions find interesting."""
    places = (CODE, DATA, STACK, GDT, IDT, TSS, LDT, PML4, LEGACY, PAE, WINDOW, RAM, 0xFFFFFFFFFFFFF000)
    return r.choice((
        lambda: r.randrange(256),
        lambda: r.choice(places) + r.randrange(4096),
        lambda: r.randrange(RAM),
        lambda: _selector(r),
        lambda: 1 << r.randrange(64),
        lambda: (1 << 64) - 1 - r.randrange(256),
        lambda: (1 << 47) - 8 + r.randrange(16),
        lambda: r.getrandbits(32),
        lambda: r.getrandbits(64),
        lambda: r.choice((0x11, 0x80000011, 0x80000001, 0x10, 0x60000010)),
        lambda: r.choice((0x20, 0x6A0, 0x1021, 0x40020, 0xD01)),
        lambda: r.choice((0x7F800000, 0x7FC00000, 0x7FF0 << 48, 0x8000 << 48, 0x1F80, 0x37F, 0xFFFF)),
    ))()  # fmt: skip


def _gate(r: Random, attributes: int) -> bytes:
    offset = CODE + r.randrange(128)
    selector = _selector(r) if r.random() < 0.2 else 8
    high = offset & 0xFFFF0000 | (attributes & 0xFF) << 8 | r.randrange(4)
    return _little(high << 32 | selector << 16 | offset & 0xFFFF, 8)


def _descriptor(r: Random) -> bytes:
    """A segment, a gate or a system segment; the half of them usable."""
    base = r.choice((0, 0, 0, CODE, DATA, TSS, TSS2, LDT, r.getrandbits(32)))
    limit = r.choice((0xFFFFFFFF, 0xFFFFFFFF, 0xFFFF, 0x67, 0x2B, 0xFFF, r.getrandbits(20)))
    if r.random() < 0.5:
        attributes = 0x90 | r.randrange(16) | r.randrange(4) << 5 | r.choice((0x400, 0, 0x200))
    else:
        attributes = r.choice((*range(16), 1, 9, 4, 12, 5, 2, 6, 7, 14, 15, 3, 11, 9, 11, 2))
        attributes |= r.randrange(4) << 5 | (0x80 if r.random() < 0.9 else 0)
        if attributes & 4:
            return _gate(r, attributes)
    attributes |= 0x800 if limit > 0xFFFFF else 0
    return _little(int(pack_segment(Segment(0, base, limit, attributes))), 8)


def _idt_gate(r: Random) -> bytes:
    usual = (0x8E, 0x8E, 0x8E, 0x8E, 0xEE, 0xEE, 0x8F, 0x8F, 0xEF, 0xEF)
    return _gate(r, r.choice((*usual, 0x86, 0x87, 0x85, 0x0E, r.randrange(256))))


_VALUES = [_value(_POOL) for _ in range(3000)]
_WORDS8 = [_little(value, 8) for value in _VALUES]
_SELECTORS = [_selector(_POOL) for _ in range(1000)]
_DESCRIPTORS = [_descriptor(_POOL) for _ in range(1500)]
_GATES = [_idt_gate(_POOL) for _ in range(600)]
_GATES_64 = [gate + _POOL.choice((bytes(8), bytes(8), bytes(8), _POOL.randbytes(8))) for gate in _GATES]
_SMALL = b"".join(_little(n << 12 | 7, 4) for n in range(1024))


@dataclass
class Stream:
    """One stream: memory to put at addresses, a state to start from, and where an interrupt comes (or -1).

    intercepts: what the processor's owner wants, as ``Processor.set_intercepts`` takes it.
    """

    mode: str
    memory: dict[int, bytes]
    state: CpuState
    interrupt: int
    intercepts: tuple[int, int, int, int]


class Maker:
    """Makes one stream."""

    def __init__(self, seed: int, mode: str) -> None:
        self.random, self.mode = Random(seed), mode
        self.world = WORLDS[self.mode]
        self.long = self.world.root == _LONG

    def value(self) -> int:
        return self.random.choice(_VALUES)

    def selector(self) -> int:
        return self.random.choice(_SELECTORS)

    # --- tables -----------------------------------------------------------------------------------------

    def gdt(self) -> bytes:
        entries = self.random.choices(_DESCRIPTORS, k=40)
        width = self.world.width
        code = {16: 0x09B, 32: 0xC9B, 64: 0xA9B}[width]
        if self.long and self.random.random() < 0.85:
            code = 0xA9B  # what an IDT of long mode wants
        fixed = {0: 0, 1: code, 2: 0xC93, 3: 0xAFB, 4: 0xCFB, 5: 0xCF3, 6: 0x09B, 7: 0x093}
        for number, attributes in fixed.items():
            segment = Segment(0, 0, 0xFFFFFFFF if attributes & 0x800 else 0xFFFF, attributes)
            entries[number] = _little(int(pack_segment(segment)), 8) if number else bytes(8)
        entries[8], entries[9] = _little(int(pack_segment(Segment(0, TSS, 0x67, 0x89))), 8), bytes(8)
        return b"".join(entries)

    def idt(self) -> bytes:
        r = self.random
        if self.mode == "real":
            return b"".join(
                _little(CODE >> 4, 2).join((_little(r.randrange(128), 2), b"")) for _ in range(256)
            )
        return b"".join(r.choices(_GATES_64 if self.long else _GATES, k=48))

    def entry(self, target: int) -> int:
        r = self.random
        flags = r.choice((7, 7, 7, 7, 3, 5, 1, 6, 0x67)) | (1 << 63 if r.random() < 0.05 else 0)
        return target | flags if r.random() < 0.9 else r.getrandbits(64)

    def page_tables(self) -> dict[int, bytes]:
        """Map the 2 MiB onto themselves, with a flaw here and there."""
        r, root = self.random, self.world.root
        if not root:
            return {}
        directory = _little(0x87, 8) + _little(self.entry(0x80), 8)
        if root == LEGACY:
            small = bytearray(_SMALL)
            for _ in range(r.choice((0, 0, 2, 10))):
                page = r.randrange(0x180)
                small[4 * page : 4 * page + 4] = _little(self.entry(page << 12), 4)
            return {
                LEGACY: _little(LEGACY + 0x1000 | 7, 4) + _little(self.entry(0x80), 4),
                LEGACY + 0x1000: bytes(small),
            }
        if root == PAE:
            return {PAE: _little(PAE + 0x1000 | 1, 8) + _little(self.entry(PAE), 8), PAE + 0x1000: directory}
        return {
            PML4: _little(PML4 + 0x1000 | 7, 8) + _little(self.entry(PML4), 8),
            PML4 + 0xFF8: _little(PML4 + 0x1000 | 7, 8),
            PML4 + 0x1000: _little(PML4 + 0x2000 | 7, 8) * 4 + _little(self.entry(0x80), 8),
            PML4 + 0x2000: directory,
            PML4 + 0x2FB8: _little(WINDOW & ~0x1FFFFF | 0x87, 8),
        }

    def tss(self) -> bytes:
        if self.random.random() < 0.1:
            return b"".join(self.random.choices(_WORDS8, k=32))
        tss = bytearray(0x100)
        if self.long:
            for offset in range(4, 0x60, 8):
                tss[offset : offset + 8] = _little(STACK, 8)
        else:
            for offset in (4, 12, 20):
                tss[offset : offset + 8] = _little(STACK | 0x10 << 32, 8)
        tss[0x66:0x68] = _little(self.random.choice((0x68, 0x20, 0x100, 0xFFFF)), 2)
        return bytes(tss)

    # --- states -----------------------------------------------------------------------------------------

    def state(self) -> CpuState:
        r, world = self.random, self.world
        state = self._segments()
        for name in ("rax", "rcx", "rdx", "rbx", "rbp", "rsi", "rdi", *(f"r{n}" for n in range(8, 16))):
            setattr(state, name, self.value() if self.long else self.value() & 0xFFFFFFFF)
        state.rcx &= 0xFFF
        state.rsp = (0x8000 if world.width == 16 else STACK) + r.randrange(0x800) * 2
        state.rflags = (
            2 | world.flags | r.choice((0, 0, 0x200, 0x3000, 0x3200, 0x100, 0x4000, 0x400, 0x40200, 0x10000))
        )
        if self.mode == "real":
            state.idtr = TableRegister(IDT, 0x3FF)
            return state
        state.gdtr = TableRegister(GDT, r.choice((0x13F, 0x13F, 0x4F, 0xFFFF)))
        state.idtr = TableRegister(IDT, r.choice((0x2FF, 0x2FF, 0x17F, 0xFFF, 0x7F)))
        state.tr = Segment(0x40, TSS, r.choice((0x67, 0x67, 0xFF, 0x2B)), r.choice((0x8B, 0x8B, 0x8B, 0x83)))
        state.ldtr = Segment(0x60, LDT, 0xFF, 0x82)
        state.efer |= r.choice((0, 1, 0x800, 0x801))
        state.star = self.selector() << 48 | self.selector() << 32 | CODE
        state.lstar = state.cstar = CODE + r.randrange(64)
        state.sysenter_cs, state.sysenter_eip, state.sysenter_esp = self.selector(), CODE, STACK
        state.sfmask = self.value()
        state.cr4 |= r.choice((0, 0x200, 0x600, 0x600, 0x80, 0x8, 0x10000, 0x100, 0x4))
        state.cr0 |= r.choice((0, 0, 0x10000, 0x8, 0x4, 0x2, 0x20, 0x40000))
        if r.random() < 0.04:
            kinds = sum(r.choice((0, 1, 3)) << 16 + 4 * n | r.randrange(4) << 18 + 4 * n for n in range(4))
            state.dr7 = 0x400 | kinds | r.randrange(256)
        return state

    def _segments(self) -> CpuState:
        """Give a state in the stream's mode, with flat segments."""
        mode, world = self.mode, self.world
        if mode == "real":
            state = CpuState.real_mode(CODE >> 4, 0)
            for name in ("ds", "es", "ss"):
                setattr(state, name, Segment(DATA >> 4, DATA))
            return state
        state = CpuState.long64(CODE, PML4) if self.long else CpuState.flat32(CODE)
        if world.root in (LEGACY, PAE):
            state.cr3, state.cr0, state.cr4 = world.root, 0x80000011, 0x10 if world.root == LEGACY else 0x20
        if world.flags & _VM:
            state.rip = 0
            for name in ("cs", "ss", "ds", "es", "fs", "gs"):
                base = CODE if name == "cs" else DATA
                setattr(state, name, Segment(base >> 4, base, 0xFFFF, 0xF3))
            return state
        ring = world.ring
        selector = {16: 0x30, 32: 0x20 if ring == 3 else 8, 64: 0x18 if ring == 3 else 8}[world.width]
        attributes = {16: 0x09B, 32: 0xC9B, 64: 0xA9B}[world.width] | ring << 5
        if world.width == 16:
            state.rip = 0
            state.cs = Segment(selector | ring, CODE, 0xFFFF, attributes)
            data = Segment(0x38 | ring, DATA, 0xFFFF, 0x093 | ring << 5)
        else:
            state.cs = Segment(selector | ring, 0, 0xFFFFFFFF, attributes)
            data = Segment((0x28 if ring == 3 else 0x10) | ring, 0, 0xFFFFFFFF, 0xC93 | ring << 5)
        for name in ("ss", "ds", "es", "fs", "gs"):
            setattr(state, name, data.copy())
        return state

    def intercepts(self) -> tuple[int, int, int, int]:
        """Give what the processor's owner wants: mostly nothing, else anything."""
        r = self.random
        if r.random() < 0.7:
            return 0, 0, 0, 0
        misc = r.getrandbits(45) & r.getrandbits(45)
        return (
            r.getrandbits(32) & r.getrandbits(32),
            misc,
            r.getrandbits(32) & r.getrandbits(32),
            r.getrandbits(32),
        )

    def make(self) -> Stream:
        r, flat = self.random, self.world.width != 16
        coder = Coder(
            r, self.world.width, CODE if flat else 0, DATA if flat else 0, self.value, self.selector
        )
        data = r.choices(_WORDS8, k=400)
        memory = self.page_tables() | {
            GDT: self.gdt(), IDT: self.idt(), TSS: self.tss(), TSS2: b"".join(data[:13]),
            LDT: b"".join(r.choices(_DESCRIPTORS, k=32)), CODE: _FATAL.sub(b"\x2e", coder.code()),
            DATA: b"".join(data[16:144]), DATA + 0x8000: b"".join(data[144:]),
            STACK - 256: b"".join(data[144:]),
        }  # fmt: skip
        return Stream(
            self.mode, memory, self.state(), r.choice((-1, -1, r.randrange(256))), self.intercepts()
        )


def make(seed: int, mode: str = "") -> Stream:
    """Give stream number ``seed``, which is in each mode in turn unless one is given."""
    return Maker(seed, mode or MODES[seed % len(MODES)]).make()
