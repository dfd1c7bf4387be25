"""The two worlds in which an instruction is executed: the guest's own processor, and its monitor's.

A guest's kernel has set up a processor: descriptor tables, a task register, control registers, flags. On the
bare machine that is the processor which its instructions meet. Under trap-and-emulate they meet the
monitor's: other tables, of which the guest's segments are a copy with the ring that its kernel really has;
interrupts on, IOPL 0, no port open, and all set so that as much traps as can. Sections are those of AMD APM
vol. 2, rev. 3.42.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from vlab.isa.control import CR0, CR4, EFER
from vlab.isa.descriptors import (
    CALL_GATE_32,
    LDT,
    TRAP_GATE_32,
    TSS_32_AVAILABLE,
    TSS_32_BUSY,
    Gate,
    pack_segment,
)
from vlab.isa.msr import Msr
from vlab.isa.sensitive_forms import (
    CALL_GATE,
    CODE,
    CODE64,
    DATA,
    ENTRY,
    GIVEN_VECTOR,
    LOCAL_TABLE,
    NEXT_TASK,
    STACK,
    TARGET,
    TASK,
    USER_CODE,
    USER_DATA,
    Form,
)
from vlab.isa.state import CpuState, Segment, TableRegister

MEMORY: Final = 4 << 20
START: Final = 0x10000
HANDLER: Final = 0x13000
"""The guest's handler of all its vectors."""
MONITOR: Final = 0x14000
"""The monitor's."""
STACK_TOP: Final = 0x3F000
STACK_PAGES: Final = 0x39000, 0x40000
DATA_PAGE: Final = DATA, DATA + 0x1000
LANDINGS: Final = {TARGET: "the target", ENTRY: "the entry", HANDLER: "its handler", MONITOR: "the monitor"}
"""Where a transfer may lead, by address."""

_GUEST_TABLES, _MONITOR_TABLES = 0x1000, 0x80000
_GDT, _LDT, _TSS, _IDT, _PAGES = 0, 0x800, 0xC00, 0x1000, 0x2000  # within one world's tables
_TABLES_SIZE: Final = 0x5000
_PRESENT: Final = 0x80
_CODE_32, _DATA_32, _CODE_64 = 0xC9B, 0xC93, 0xA9B
_DPL: Final = 5
_FLAT: Final = 0xFFFFFFFF
_MONITOR_TASK, _MONITOR_LDT, _MONITOR_CODE = 0x70, 0x80, 0x90
_GUEST_LIMIT, _MONITOR_LIMIT = 0x6F, 0x9F
_LIMIT_OF_TSS: Final = 0x67
_LIMIT_OF_LDT: Final = 0xFF

_PE, _MP, _TS = CR0.PE.mask, CR0.MP.mask, CR0.TS.mask
_ET, _NE, _PG = CR0.ET.mask, CR0.NE.mask, CR0.PG.mask
_SCE, _LONG = EFER.SCE.mask, EFER.LME.mask | EFER.LMA.mask
_INTERRUPTS: Final = 0x200


@dataclass(frozen=True, slots=True)
class World:
    """One setting. ring: where the program runs. own: whether the processor is as the program has set it up.

    tables: what is in memory at ``base``. now: the time, in ns. counter: the first performance counter.
    priority: the local APIC's task priority, 0 to 15.
    """

    ring: int
    own: bool
    tables: bytes = field(repr=False)
    now: int
    counter: int
    priority: int

    @classmethod
    def make(cls, ring: int, *, own: bool) -> World:
        """Give a setting with its tables."""
        tables = _tables(ring, own)
        return cls(ring, own, tables, 1_000_000, 11, 1) if own else cls(ring, own, tables, 7_000_000, 77, 7)

    @property
    def base(self) -> int:
        """Where its tables are."""
        return _GUEST_TABLES if self.own else _MONITOR_TABLES

    @property
    def msrs(self) -> dict[int, int]:
        """The model-specific registers that are no part of the state."""
        return {Msr.PERF_CTR0: self.counter}

    def state(self, form: Form) -> CpuState:
        """Give the registers with which ``form`` is executed."""
        state = CpuState(rip=START, rsp=STACK_TOP - (8 if form.long64 else 4) * len(form.stack))
        for name, value in form.registers.items():
            setattr(state, name, int(value))
        state.cs = self._segment(CODE64 if form.long64 else CODE, _CODE_64 if form.long64 else _CODE_32)
        state.ss = self._segment(STACK, _DATA_32)
        for name in ("ds", "es", "fs", "gs"):
            # As the guest's kernel has loaded them: a selector keeps the RPL that it was loaded with.
            setattr(state, name, Segment(STACK, 0, _FLAT, _DATA_32 | self.ring << _DPL))
        self._system(state, long64=form.long64)
        return state

    def _segment(self, selector: int, attributes: int) -> Segment:
        return Segment(selector | self.ring, 0, _FLAT, attributes | self.ring << _DPL)

    def _system(self, state: CpuState, *, long64: bool) -> None:
        base = self.base
        state.gdtr = TableRegister(base + _GDT, _GUEST_LIMIT if self.own else _MONITOR_LIMIT)
        state.idtr = TableRegister(base + _IDT, 0x7FF)
        state.tr = Segment(
            TASK if self.own else _MONITOR_TASK, base + _TSS, _LIMIT_OF_TSS, _PRESENT | TSS_32_BUSY
        )
        state.ldtr = Segment(
            LOCAL_TABLE if self.own else _MONITOR_LDT, base + _LDT, _LIMIT_OF_LDT, _PRESENT | LDT
        )
        state.cr3, state.cr2 = base + _PAGES, 0x1000 if self.own else 0x2000
        state.kernel_gs_base = 0x3000 if self.own else 0x4000
        if self.own:
            state.cr0, state.cr4, state.rflags, state.dr7 = _PE | _ET | _TS, CR4.PCE.mask, 2, 0x400
            state.efer, state.star, state.lstar = _SCE, CODE64 - 8 << 48 | CODE64 << 32 | ENTRY, ENTRY
            state.sysenter_cs, state.sysenter_esp, state.sysenter_eip = CODE, STACK_TOP, ENTRY
        else:  # no SYSCALL, no SYSENTER, no clock: what can be made to trap, traps
            state.cr0, state.cr4, state.dr7 = _PE | _ET | _NE | _MP, CR4.TSD.mask, 0x600
            state.rflags = 2 | _INTERRUPTS
        if long64:
            state.cr0, state.cr4, state.efer = (
                state.cr0 | _PG, state.cr4 | CR4.PAE.mask, state.efer | _LONG
            )  # fmt: skip


def _tables(ring: int, own: bool) -> bytes:
    """Give the GDT, IDT, TSS and page tables of a world, to be put at its ``base``."""
    base = _GUEST_TABLES if own else _MONITOR_TABLES
    memory = bytearray(_TABLES_SIZE)

    def put(place: int, value: int) -> None:
        memory[place : place + 8] = value.to_bytes(8, "little")

    def describe(selector: int, attributes: int, at: int = 0, limit: int = _FLAT) -> None:
        put(_GDT + selector, int(pack_segment(Segment(selector, at, limit, attributes))))

    for selector, attributes in ((CODE, _CODE_32), (STACK, _DATA_32), (CODE64, _CODE_64)):
        describe(selector, attributes | ring << _DPL)
    describe(USER_CODE, _CODE_32 | 3 << _DPL)
    describe(USER_DATA, _DATA_32 | 3 << _DPL)
    task, local = (TASK, LOCAL_TABLE) if own else (_MONITOR_TASK, _MONITOR_LDT)
    describe(task, _PRESENT | TSS_32_BUSY, base + _TSS, _LIMIT_OF_TSS)
    describe(local, _PRESENT | LDT, base + _LDT, _LIMIT_OF_LDT)
    if own:
        describe(NEXT_TASK, _PRESENT | TSS_32_AVAILABLE, base + _TSS, _LIMIT_OF_TSS)
        put(_GDT + CALL_GATE, int(Gate.make(CALL_GATE_32, CODE, TARGET)))
    else:
        describe(_MONITOR_CODE, _CODE_32)
    for vector in range(256):
        gate = Gate.make(TRAP_GATE_32, CODE, HANDLER)
        if not own:
            gate = Gate.make(TRAP_GATE_32, _MONITOR_CODE, MONITOR)
            if vector == GIVEN_VECTOR:
                gate = Gate.make(TRAP_GATE_32, CODE | ring, HANDLER, dpl=ring)
        put(_IDT + 8 * vector, int(gate))
    put(_TSS + 4, STACK_TOP | STACK << 32)  # ESP0 and SS0 (APM2 12.2.3)
    put(_TSS + 0x60, 0xFFFF << 48)  # the ports' permission bitmap lies beyond the limit: all are closed
    put(_PAGES, base + _PAGES + 0x1000 | 7)
    put(_PAGES + 0x1000, base + _PAGES + 0x2000 | 7)
    for page in range(MEMORY >> 21):
        put(_PAGES + 0x2000 + 8 * page, page << 21 | 0x87)
    return bytes(memory)
