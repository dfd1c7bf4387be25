"""A processor for the tests of the delivery microcode: registers, and memory with pages that fault."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from vlab.isa.descriptors import (
    INTERRUPT_GATE_32,
    TSS_16_BUSY,
    TSS_32_AVAILABLE,
    TSS_32_BUSY,
    Gate,
    Gate64,
    pack_segment,
)
from vlab.isa.state import Segment, TableRegister
from vlab.isa.vectors import PageFaultError, Vector
from vlab.machine.faults import CpuFault

PAGE = 0x1000
M64 = (1 << 64) - 1

# Selectors of the GDT that `protected_core` and `long_core` make.
CODE0, DATA0, CODE3, DATA3, TSS, TSS2, LDT, CONFORMING, CODE1, DATA1 = (0x08 * n for n in range(1, 11))

GDT_BASE, IDT_BASE, TSS_BASE, TSS2_BASE, LDT_BASE = 0x1000, 0x2000, 0x4000, 0x4800, 0x5000
STACK0, STACK1, STACK3, STACK_IST = 0x8000, 0x9000, 0xA000, 0xB000
HANDLER = 0x10_0000

CODE_RING, DATA_RING = 0xC9B, 0xC93
FLAT = 0xFFFF_FFFF


def _segments() -> dict[str, Segment]:
    return {name: Segment() for name in ("es", "cs", "ss", "ds", "fs", "gs", "ldtr", "tr")}


@dataclass
class FakeCore:
    """A Core over sparse memory with linear = physical.

    ``unmapped`` and ``read_only`` are page numbers. ``accesses`` lists (kind, linear, size, user).
    """

    rip: int = 0
    rsp: int = 0
    rflags: int = 2
    cr0: int = 0
    cr2: int = 0
    cr3: int = 0
    cr4: int = 0
    efer: int = 0
    dr6: int = 0xFFFF0FF0
    dr7: int = 0x400
    cpl: int = 0
    gprs: list[int] = field(default_factory=lambda: [0] * 16)
    segments: dict[str, Segment] = field(default_factory=_segments)
    gdtr: TableRegister = field(default_factory=TableRegister)
    idtr: TableRegister = field(default_factory=TableRegister)
    star: int = 0
    lstar: int = 0
    cstar: int = 0
    sfmask: int = 0
    sysenter_cs: int = 0
    sysenter_esp: int = 0
    sysenter_eip: int = 0
    pages: dict[int, bytearray] = field(default_factory=dict)
    unmapped: set[int] = field(default_factory=set)
    read_only: set[int] = field(default_factory=set)
    supervisor_only: set[int] = field(default_factory=set)
    accesses: list[tuple[str, int, int, bool]] = field(default_factory=list)

    def set_cpl(self, cpl: int) -> None:
        self.cpl = cpl

    def segment(self, name: str) -> Segment:
        return self.segments[name]

    def set_segment(self, name: str, segment: Segment) -> None:
        self.segments[name] = segment

    def get_gpr(self, index: int) -> int:
        return self.rsp if index == 4 else self.gprs[index]

    def set_gpr(self, index: int, value: int) -> None:
        self.gprs[index] = value

    def read(self, linear: int, size: int, *, user: bool = False) -> int:
        return int.from_bytes(self._read(linear, size, user), "little")

    def read_bytes(self, linear: int, size: int) -> bytes:
        return self._read(linear, size, False)

    def _read(self, linear: int, size: int, user: bool) -> bytes:
        self.accesses.append(("read", linear, size, user))
        return b"".join(bytes(page[start:end]) for page, start, end in self._spans(linear, size, user, False))

    def write(self, linear: int, size: int, value: int, *, user: bool = False) -> None:
        self.accesses.append(("write", linear, size, user))
        data = value.to_bytes(size, "little")
        for page, start, end in self._spans(linear, size, user, True):
            page[start:end] = data[: end - start]
            data = data[end - start :]

    def _spans(self, linear: int, size: int, user: bool, write: bool) -> Iterator[tuple[bytearray, int, int]]:
        while size:
            number, start = divmod(linear & M64, PAGE)
            part = min(size, PAGE - start)
            denied = (write and number in self.read_only) or (user and number in self.supervisor_only)
            if number in self.unmapped or denied:
                code = PageFaultError(0).replace(P=number not in self.unmapped, W=write, U=user)
                raise CpuFault(Vector.PF, int(code), linear & M64)
            yield self.pages.setdefault(number, bytearray(PAGE)), start, start + part
            linear, size = linear + part, size - part

    def registers(self) -> tuple[object, ...]:
        """Everything architectural but CR2, for comparing before and after."""
        return (
            *(self.rip, self.rsp, self.rflags, self.cr0, self.cr3, self.cr4, self.efer, self.cpl),
            *(self.dr6, self.dr7),
            *self.gprs,
            *((s.selector, s.base, s.limit, s.attributes) for s in self.segments.values()),
            *((t.base, t.limit) for t in (self.gdtr, self.idtr)),
        )

    def poke(self, linear: int, data: bytes) -> None:
        """Put bytes into memory whatever the pages say."""
        while data:
            number, start = divmod(linear, PAGE)
            page = self.pages.setdefault(number, bytearray(PAGE))
            part = data[: PAGE - start]
            page[start : start + len(part)] = part
            linear, data = linear + len(part), data[len(part) :]

    def peek(self, linear: int, size: int) -> int:
        """Look at memory whatever the pages say."""
        page = (linear + n for n in range(size))
        data = bytes(self.pages.get(at // PAGE, bytes(PAGE))[at % PAGE] for at in page)
        return int.from_bytes(data, "little")

    def frame(self, width: int, count: int) -> list[int]:
        """The items on the stack, the one pushed last first."""
        big = self.efer & 1 << 10 or self.segments["ss"].attributes & 1 << 10
        top = self.rsp if big else self.rsp & 0xFFFF
        base = 0 if self.efer & 1 << 10 else self.segments["ss"].base
        return [self.peek(base + top + width * n, width) for n in range(count)]


def descriptor(core: FakeCore, selector: int, base: int, limit: int, attributes: int) -> None:
    """Write a descriptor into the GDT of `core`, or into the LDT when TI is set in `selector`."""
    table = LDT_BASE if selector & 4 else GDT_BASE
    raw = pack_segment(Segment(0, base, limit, attributes))
    core.poke(table + (selector & 0xFFF8), int(raw).to_bytes(8, "little"))


def gate32(
    core: FakeCore,
    vector: int,
    kind: int = INTERRUPT_GATE_32,
    selector: int = CODE0,
    offset: int | None = None,
    dpl: int = 0,
    present: bool = True,
) -> None:
    """Write an 8-byte gate; the handler is at HANDLER + 16 * vector unless `offset` says otherwise."""
    offset = (HANDLER if kind & 8 else 0x100) + 16 * vector if offset is None else offset
    gate = Gate.make(kind, selector, offset, dpl).replace(P=int(present))
    core.poke(core.idtr.base + 8 * vector, int(gate).to_bytes(8, "little"))


def gate64(
    core: FakeCore,
    vector: int,
    kind: int = INTERRUPT_GATE_32,
    selector: int = CODE0,
    offset: int | None = None,
    dpl: int = 0,
    ist: int = 0,
    present: bool = True,
) -> None:
    """Write a 16-byte gate."""
    offset = HANDLER + 16 * vector if offset is None else offset
    gate = Gate64.make(kind, selector, offset, dpl, ist).replace(P=int(present))
    core.poke(core.idtr.base + 16 * vector, int(gate).to_bytes(16, "little"))


def enter_ring(core: FakeCore, ring: int) -> None:
    """Put the program into ring 0, 1 or 3 with that ring's flat segments."""
    code, data, stack = {0: (CODE0, DATA0, STACK0), 1: (CODE1, DATA1, STACK1), 3: (CODE3, DATA3, STACK3)}[
        ring
    ]
    long = core.efer & 1 << 10
    code_attributes = (0xA9B if long else CODE_RING) | ring << 5
    core.cpl, core.rsp = ring, stack - 0x100
    core.segments["cs"] = Segment(code | ring, 0, FLAT, code_attributes)
    for name in ("ss", "ds", "es", "fs", "gs"):
        core.segments[name] = Segment(data | ring, 0, FLAT, DATA_RING | ring << 5)


def protected_core(ring: int = 0) -> FakeCore:
    """A 32-bit machine with flat segments in three rings, a TSS, an empty IDT of 256 entries, IF set."""
    core = FakeCore(rip=0x1234, rflags=0x202, cr0=1)
    core.gdtr, core.idtr = TableRegister(GDT_BASE, 0xFF), TableRegister(IDT_BASE, 0x7FF)
    for selector, attributes in ((CODE0, CODE_RING), (DATA0, DATA_RING)):
        descriptor(core, selector, 0, FLAT, attributes)
    for selector, attributes in ((CODE1, CODE_RING), (DATA1, DATA_RING)):
        descriptor(core, selector, 0, FLAT, attributes | 1 << 5)
    for selector, attributes in ((CODE3, CODE_RING), (DATA3, DATA_RING)):
        descriptor(core, selector, 0, FLAT, attributes | 3 << 5)
    descriptor(core, CONFORMING, 0, FLAT, 0xC9F)
    descriptor(core, TSS, TSS_BASE, 0x67, 0x80 | TSS_32_BUSY)
    descriptor(core, TSS2, TSS2_BASE, 0x67, 0x80 | TSS_32_AVAILABLE)
    descriptor(core, LDT, LDT_BASE, 0xFF, 0x82)
    core.segments["tr"] = Segment(TSS, TSS_BASE, 0x67, 0x80 | TSS_32_BUSY)
    core.segments["ldtr"] = Segment(LDT, LDT_BASE, 0xFF, 0x82)
    for n, (pointer, selector) in enumerate(((STACK0, DATA0), (STACK1, DATA1 | 1))):
        core.poke(TSS_BASE + 4 + 8 * n, pointer.to_bytes(4, "little") + selector.to_bytes(4, "little"))
    enter_ring(core, ring)
    return core


def use_16_bit_tss(core: FakeCore) -> None:
    """Give a protected core a 16-bit TSS with a ring 0 stack of its own."""
    core.segments["tr"] = Segment(TSS, TSS_BASE, 0x2B, 0x80 | TSS_16_BUSY)
    core.poke(TSS_BASE, b"\0\0" + STACK0.to_bytes(2, "little") + DATA0.to_bytes(2, "little"))


def virtual_8086_core() -> FakeCore:
    """The 32-bit machine while it runs a virtual-8086 program with IOPL 3."""
    core = protected_core()
    core.rflags, core.cpl, core.rip, core.rsp = 0x23202, 3, 0x56, 0x7800
    for name, selector in zip(
        ("cs", "ss", "ds", "es", "fs", "gs"), range(0x1000, 0x7000, 0x1000), strict=True
    ):
        core.segments[name] = Segment(selector, selector << 4, 0xFFFF, 0xF3)
    return core


def long_core(ring: int = 0) -> FakeCore:
    """A machine in 64-bit mode with three rings, a TSS with RSP0, RSP1 and IST1, an empty IDT."""
    core = protected_core()
    core.cr0, core.cr4, core.efer, core.rip = 0x8000_0001, 0x20, 0x500, 0xFFFF_8000_0000_1234
    core.idtr = TableRegister(IDT_BASE, 0xFFF)
    for selector, attributes in ((CODE0, 0xA9B), (CODE1, 0xABB), (CODE3, 0xAFB), (CONFORMING, 0xA9F)):
        descriptor(core, selector, 0, FLAT, attributes)
    core.poke(TSS_BASE, bytes(0x68))
    for offset, pointer in ((0x04, STACK0), (0x0C, STACK1), (0x24, STACK_IST)):
        core.poke(TSS_BASE + offset, pointer.to_bytes(8, "little"))
    enter_ring(core, ring)
    return core


def real_core() -> FakeCore:
    """A machine in real mode with the interrupt table at 0."""
    core = FakeCore(rip=0x7C12, rsp=0x7000, rflags=0x202)
    core.idtr = TableRegister(0, 0x3FF)
    core.segments["cs"] = Segment(0x0000, 0, 0xFFFF, 0x9B)
    core.segments["ss"] = Segment(0x0900, 0x9000, 0xFFFF, 0x93)
    return core


def vector16(core: FakeCore, vector: int, segment: int, offset: int) -> None:
    """Write an entry of the real-mode interrupt table."""
    core.poke(core.idtr.base + 4 * vector, (segment << 16 | offset).to_bytes(4, "little"))
