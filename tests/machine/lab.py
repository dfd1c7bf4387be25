"""A bench for tests of the real processor: a machine, guest memory behind nested tables, and helpers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from vlab.isa.descriptors import Gate, Gate64, pack_segment
from vlab.isa.state import CpuState, Segment, TableRegister
from vlab.isa.svm_exits import SvmExit
from vlab.machine.identity import Identity
from vlab.machine.machine import Machine
from vlab.machine.memory import LARGE_PAGE, PAGE

RAM = 4 << 20
CODE, DATA, STACK, HANDLERS = 0x10000, 0x20000, 0x3FF00, 0x40000
GDT, IDT, TSS, LDT, TABLES = 0x1000, 0x2000, 0x4000, 0x5000, 0x80000

# Selectors of the GDT that every bench starts with.
CODE32, DATA32, CODE64, USER32, USER_DATA, USER64, TSS_SELECTOR, CODE16, DATA16 = (
    0x08, 0x10, 0x18, 0x23, 0x2B, 0x33, 0x40, 0x50, 0x58,
)  # fmt: skip

_FLAT = {
    CODE32: 0xC9B, DATA32: 0xC93, CODE64: 0xA9B, USER32: 0xCFB, USER_DATA: 0xCF3, USER64: 0xAFB,
    CODE16: 0x09B, DATA16: 0x093,
}  # fmt: skip
SEGMENTS = {selector: Segment(selector, 0, 0xFFFFFFFF, attributes) for selector, attributes in _FLAT.items()}
for _small in (CODE16, DATA16):
    SEGMENTS[_small] = Segment(_small, 0, 0xFFFF, _FLAT[_small])

PATIENCE = 1_000_000
"""Blocks after which a test's program is stopped, should it have gone astray."""


class Bench:
    """A machine whose guest sees ``RAM`` bytes from address 0 and nothing else, until ``map`` adds to it."""

    def __init__(self, *, counting: bool = True) -> None:
        self.machine = Machine(2 * RAM, counting=counting)
        self.processor = self.machine.processor
        self.core = self.processor.core
        self.engine = self.processor.engine
        self.memory = self.machine.memory
        self.base = self.machine.frames.allocate(RAM, LARGE_PAGE)
        self.ram = self.memory.bytes[self.base : self.base + RAM]
        self._words = self.memory.bytes.cast("Q")
        self._nested: list[int] = []
        self._tables_used = 0
        self.reset()

    def _table(self) -> int:
        if self._tables_used == len(self._nested):
            self._nested.append(self.machine.frames.allocate(PAGE))
        table = self._nested[self._tables_used]
        self._tables_used += 1
        self.memory.zero(table, PAGE)
        return table

    def _map_ram(self) -> None:
        """Build nested tables for the guest's memory, forgetting what tests had added."""
        self._tables_used = 0
        self.root = self._table()
        for address in range(0, RAM, LARGE_PAGE):
            self.map(address, self.base + address, large=True)

    def map(self, gpa: int, hpa: int, *, large: bool = False, flags: int = 7) -> None:
        """Map a page of the guest's physical memory."""
        table = self.root
        for shift in (39, 30) if large else (39, 30, 21):
            place = (table + 8 * (gpa >> shift & 511)) >> 3
            if not self._words[place] & 1:
                self._words[place] = self._table() | 7
            table = self._words[place] & ~0xFFF
        shift = 21 if large else 12
        self._words[(table + 8 * (gpa >> shift & 511)) >> 3] = hpa | flags | (0x80 if large else 0)

    def reset(self) -> None:
        """Power the processor on anew, clear memory and put the tables in."""
        processor = self.processor
        self._map_ram()
        processor.load_registers(None)
        processor.msrs.values.clear()
        processor.msrs.tsc_offset = 0
        processor.identity, processor.now = Identity(), lambda: 0
        processor.on_port_in = lambda _port, size: (1 << 8 * size) - 1
        processor.on_port_out = lambda _port, _size, _value: None
        processor.on_deliver = lambda _event: None
        self.machine.svm.current = None
        self.ram[:] = bytes(RAM)
        for selector, segment in SEGMENTS.items():
            self.poke(GDT + (selector & ~7), int(pack_segment(segment)).to_bytes(8, "little"))
        tss = int(pack_segment(Segment(0, TSS, 0x67, 0x89)))
        self.poke(GDT + TSS_SELECTOR, tss.to_bytes(16, "little"))
        self.intercept()
        self.engine.flush_code()
        self.be_patient()

    def be_patient(self) -> None:
        """Let the next run take ``PATIENCE`` blocks."""
        stops = self.engine.stops
        stops.arm(stops.words[0] + PATIENCE)

    def intercept(self, exceptions: int = 0, *codes: int, crs: int = 0, drs: int = 0) -> None:
        """Say what the test owns: a mask of exception vectors, SVM exit codes from INTR on, and registers."""
        misc = sum(1 << code - SvmExit.INTR for code in codes)
        self.processor.set_intercepts(exceptions, misc, crs, drs, self.root)

    def poke(self, gpa: int, data: bytes | str) -> None:
        """Put bytes, or hexadecimal text, into guest memory."""
        data = bytes.fromhex(data) if isinstance(data, str) else data
        self.ram[gpa : gpa + len(data)] = data

    def peek(self, gpa: int, size: int) -> int:
        return int.from_bytes(self.ram[gpa : gpa + size], "little")

    def code(self, data: bytes | str, at: int = CODE) -> None:
        self.poke(at, data)
        self.engine.flush_code()

    def gate32(
        self, vector: int, offset: int, *, selector: int = CODE32, kind: int = 14, dpl: int = 0
    ) -> None:
        gate = Gate.make(kind, selector, offset, dpl)
        self.poke(IDT + 8 * vector, int(gate).to_bytes(8, "little"))

    def gate64(
        self, vector: int, offset: int, *, selector: int = CODE64, kind: int = 14, dpl: int = 0, ist: int = 0
    ) -> None:
        gate = Gate64.make(kind, selector, offset, dpl, ist)
        self.poke(IDT + 16 * vector, int(gate).to_bytes(16, "little"))

    def identity_tables(self) -> int:
        """Write long-mode tables that map all RAM onto itself, for users too; give the root."""
        self.poke(TABLES, (TABLES + 0x1000 | 7).to_bytes(8, "little"))
        self.poke(TABLES + 0x1000, (TABLES + 0x2000 | 7).to_bytes(8, "little"))
        for large in range(RAM // LARGE_PAGE):
            self.poke(TABLES + 0x2000 + 8 * large, (large << 21 | 0x87).to_bytes(8, "little"))
        return TABLES

    # --- states -----------------------------------------------------------------------------------------

    def real(self) -> CpuState:
        state = CpuState.real_mode(CODE >> 4, 0)
        state.ss, state.ds = Segment(0x2000, 0x20000), Segment(DATA >> 4, DATA)
        state.rsp = 0xFF00
        return state

    def _tables(self, state: CpuState) -> CpuState:
        state.gdtr, state.idtr = TableRegister(GDT, 0xFF), TableRegister(IDT, 0xFFF)
        state.tr = Segment(TSS_SELECTOR, TSS, 0x67, 0x8B)
        state.ldtr = Segment(0, LDT, 0xFF, 0x82)
        state.rsp = STACK
        return state

    def flat32(self, *, user: bool = False) -> CpuState:
        state = self._tables(CpuState.flat32(CODE))
        code, data = (USER32, USER_DATA) if user else (CODE32, DATA32)
        self._segments(state, code, data)
        self.poke(TSS + 4, (STACK - 0x1000).to_bytes(4, "little") + DATA32.to_bytes(4, "little"))
        return state

    def long64(self, *, user: bool = False) -> CpuState:
        state = self._tables(CpuState.long64(CODE, self.identity_tables()))
        code, data = (USER64, USER_DATA) if user else (CODE64, DATA32)
        self._segments(state, code, data)
        state.efer |= 1  # SCE
        self.poke(TSS + 4, (STACK - 0x1000).to_bytes(8, "little"))
        return state

    @staticmethod
    def _segments(state: CpuState, code: int, data: int) -> None:
        state.cs = SEGMENTS[code].copy()
        for name in ("ss", "ds", "es", "fs", "gs"):
            setattr(state, name, SEGMENTS[data].copy())

    # --- running ----------------------------------------------------------------------------------------

    def run(self, state: CpuState | None = None, code: bytes | str | None = None) -> int:
        """Load ``state`` and ``code``, if given, and run until an exit; give its code."""
        if code is not None:
            self.code(code)
        if state is not None:
            self.core.load(state)
        return self.processor.run()

    def close(self) -> None:
        del self._words
        self.ram.release()
        self.machine.close()


@contextmanager
def bench(*, counting: bool = True) -> Iterator[Bench]:
    made = Bench(counting=counting)
    try:
        yield made
    finally:
        made.close()
