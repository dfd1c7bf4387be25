"""One instruction, twice from the same state: executed by the bare processor, and carried out by an Emulator.

The bare one is stepped over with RFLAGS.TF; the other is never fetched, so its guest need not even have run.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random
from typing import Final

import vlab
from tests.machine import lab
from tests.machine.lab import Bench
from tests.vmm.state_differences import byte_differences, state_differences
from vlab.guests.programs import SPIN, guest
from vlab.isa.state import GENERAL_REGISTERS, SEGMENT_REGISTERS, CpuState, Mode, Segment
from vlab.isa.svm_exits import SvmExit
from vlab.isa.vectors import Vector
from vlab.machine.processor import Processor
from vlab.vmm.deprivileged import near, stores
from vlab.vmm.deprivileged.decode import Instruction, decode
from vlab.vmm.deprivileged.emulator import Emulator
from vlab.vmm.deprivileged.monitor import DeprivilegedMonitor
from vlab.vmm.verdicts import Inject

LOW: Final = 0x90000
"""Memory up to here is compared."""
EDGE: Final = 0x200000
"""From here on, pages of long mode may be missing or read-only, as ``edge`` says."""
AROUND: Final = slice(EDGE - 0x100, EDGE + 0x100)
_TF, _VM = 1 << 8, 1 << 17
_ALL = 0xFFFFFFFF
_EDGES: Final = (0xE7, 0xE7, 0xE5, 0xE3, 0x00)
"""A large page that is all right, read-only, for the supervisor alone, missing."""

WORLDS: Final = ("real", "v86", "16", "16 user", "32", "32 user", "compat", "64", "64 user")
PROTECTED: Final = WORLDS[2:]


@dataclass(frozen=True)
class Outcome:
    """What an instruction did: registers and memory, and (vector, error code, address) of its fault."""

    state: CpuState
    memory: bytes
    fault: tuple[int, int, int] | None

    def differences(self, other: Outcome) -> list[str]:
        found = [] if self.fault == other.fault else [f"fault: {self.fault} {other.fault}"]
        found += state_differences(self.state, other.state)
        return found + byte_differences(self.memory, other.memory)


class Twins:
    """A bare processor, and a guest's processor under trap-and-emulate."""

    def __init__(self, bench: Bench, vm: vlab.VM) -> None:
        self.bench = bench
        self.vm = vm
        monitor = vm.vmm
        assert isinstance(monitor, DeprivilegedMonitor)
        self.monitor = monitor
        self.emulator = Emulator(
            monitor.processor, monitor.cpu, monitor.paging, monitor.msrs,
            more={**stores.ACTIONS, **near.ACTIONS},
        )  # fmt: skip

    # --- worlds -----------------------------------------------------------------------------------------

    def world(self, name: str, random: Random) -> CpuState:
        """Put random memory in place, descriptors too; give a state in one of ``WORLDS``.

        Of the state all is random but the segments.
        """
        bench = self.bench
        bench.ram[:LOW] = random.randbytes(LOW)
        state = self._state(name, random)
        for register in GENERAL_REGISTERS:
            setattr(state, register, random.getrandbits(64 if "64" in name else 32))
        state.rflags = random.choice((2, 0xCD7 & ~0x400 | 2)) ^ random.getrandbits(12) & 0x8D5
        state.rflags |= _VM if name == "v86" else 0
        state.rip = random.randrange(0x1000, 0xE000) if state.cs.base else random.randrange(0x11000, 0x3E000)
        state.rsp = self._stack_pointer(state, random)
        self.edge(random.choice(_EDGES))
        return state

    def _state(self, name: str, random: Random) -> CpuState:
        bench, user = self.bench, name.endswith("user")
        if name == "real":
            state = bench.real()
        elif name in ("64", "64 user", "compat"):
            state = bench.long64(user=user)
            if name == "compat":
                state.cs = lab.SEGMENTS[lab.CODE32].copy()
        else:
            state = bench.flat32(user=user)
        if name == "v86":
            for part in ("cs", "ss", "ds", "es", "fs", "gs"):
                selector = random.randrange(0x1000, 0x3000)
                setattr(state, part, Segment(selector, selector << 4, 0xFFFF, 0xF3))
        elif name.startswith("16"):
            code, stack = (0xFB, 0xF3) if user else (0x9B, 0x93)
            state.cs = Segment(lab.CODE16 | 3 * user, 0x10000, 0xFFFF, code)
            if random.random() < 0.5:
                state.ss = Segment(lab.DATA16 | 3 * user, 0x30000, 0xFFFF, stack)
            state.ds = Segment(lab.DATA16 | 3 * user, 0x20000, 0xFFFF, stack)
        return state

    def _stack_pointer(self, state: CpuState, random: Random) -> int:
        if not (state.mode is Mode.LONG64 or state.ss.attributes & 1 << 10):
            low = random.choice((0, 1, 2, 4, 0x8000, 0xFFFE, random.randrange(0x10, 0xFFF0)))
            return random.getrandbits(16) << 16 | low
        if state.cr0 >> 31:
            return random.choice((lab.STACK, lab.STACK - 3, EDGE, EDGE + 2, EDGE - 4, EDGE - 1))
        return lab.STACK - random.randrange(64)

    def edge(self, entry: int) -> None:
        """Say how the page behind EDGE is mapped in long mode; all others are user's, writable, dirty."""
        tables = lab.TABLES
        for table, value in ((tables, tables + 0x1000 | 0x27), (tables + 0x1000, tables + 0x2000 | 0x27)):
            self.bench.poke(table, value.to_bytes(8, "little") + bytes(0xFF8))
        pages = (0xE7, EDGE | entry if entry else 0)
        self.bench.poke(
            tables + 0x2000, b"".join(page.to_bytes(8, "little") for page in pages) + bytes(0xFF0)
        )
        self.bench.ram[AROUND] = bytes(range(256)) * 2

    # --- both ways --------------------------------------------------------------------------------------

    def instruction(self, state: CpuState, code: bytes) -> Instruction:
        instruction = decode(code.ljust(15, b"\x90"), bits_of(state))
        assert instruction is not None, code.hex()
        return instruction

    def differences(self, state: CpuState, code: bytes) -> list[str]:
        """Execute ``code`` at RIP both ways; give what differs, bare first."""
        place = state.cs.base + state.rip if state.mode is not Mode.LONG64 else state.rip
        self.bench.poke(place, code)
        emulated = self.emulated(state, code)
        return self.bare(state, code).differences(emulated)

    def bare(self, state: CpuState, code: bytes) -> Outcome:
        bench = self.bench
        bench.intercept(_ALL)
        bench.engine.flush_code()
        bench.be_patient()
        exit_ = bench.run(replace(state, rflags=state.rflags | _TF))
        assert SvmExit.EXCP_DE <= exit_ < SvmExit.EXCP_DE + 32, f"exit {exit_:#x} of {code.hex()}"
        after, vector = bench.core.state(), exit_ - SvmExit.EXCP_DE
        after.rflags &= ~_TF
        after.dr6 = state.dr6
        address = bench.processor.info2 if vector == Vector.PF else 0
        fault = None if vector == Vector.DB else (vector, bench.processor.info1, address)
        return Outcome(after, bytes(bench.ram[:LOW]) + bytes(bench.ram[AROUND]), fault)

    def emulated(self, state: CpuState, code: bytes) -> Outcome:
        """Start with the bare processor's memory, which is not executed on yet."""
        memory, ram = self.vm.memory, self.bench.ram
        memory[:LOW], memory[AROUND] = bytes(ram[:LOW]), bytes(ram[AROUND])
        return self.monitor.on_processor(self._carry_out, state, self.instruction(state, code))

    def _carry_out(self, _processor: Processor, state: CpuState, instruction: Instruction) -> Outcome:
        cpu, memory = self.monitor.cpu, self.vm.memory
        cpu.load(state)
        self.emulator.put_registers(translation=True)
        if state.mode is Mode.V86:  # which no guest starts in
            cpu.rflags = state.rflags
            for name in SEGMENT_REGISTERS:
                cpu.set_segment(name, getattr(state, name))
            cpu.refresh()
        trapped = self.emulator.prepare(instruction)
        assert trapped is not None, instruction.text
        verdict, fault = self.emulator.execute(trapped), None
        if isinstance(verdict, Inject):
            event = verdict.event
            fault = event.vector, event.error_code or 0, event.address or 0
        return Outcome(cpu.state(), bytes(memory[:LOW]) + bytes(memory[AROUND]), fault)


def bits_of(state: CpuState) -> int:
    """Say what kind of code a state is in."""
    if state.mode is Mode.LONG64:
        return 64
    return 32 if state.cs.attributes & 1 << 10 else 16


class Encoder:
    """Makes random operands for instructions in one state, and changes the state where they need it."""

    def __init__(self, bench: Bench, state: CpuState, random: Random) -> None:
        self.bench = bench
        self.state = state
        self.random = random
        self.bits = bits_of(state)

    def prefix(self, *, swapped: bool, wide: bool = False) -> bytes:
        """Give prefixes for the other operand size, and in 64-bit code for 64 bits."""
        rex = b"\x48" if wide and self.bits == 64 else b""
        return (b"\x66" if swapped else b"") + rex

    def register(self, reg: int, rm: int) -> bytes:
        return bytes((0xC0 | reg << 3 | rm,))

    def memory(self, reg: int, offset: int) -> bytes:
        """Give ModRM and what follows for a memory operand: an address alone, or RBX with a displacement."""
        state, field = self.state, reg << 3
        if self.random.random() < 0.5:
            displacement = self.random.randrange(-128, 128)
            width = {16: 0xFFFF, 32: 0xFFFFFFFF, 64: (1 << 64) - 1}[self.bits]
            state.rbx = state.rbx & ~width | offset - displacement & width
            return bytes((0x40 | field | (7 if self.bits == 16 else 3), displacement & 0xFF))
        if self.bits == 16:
            return bytes((field | 6,)) + offset.to_bytes(2, "little")
        return bytes((field | 4, 0x25)) + offset.to_bytes(4, "little")

    def place(self, size: int, *, split: bool = True) -> int:
        """Give an offset in DS for ``size`` bytes. split: they may lie on both sides of EDGE."""
        if self.bits == 16 or self.state.ds.base:
            return self.random.randrange(0xFFF0)
        if self.state.cr0 >> 31 and self.random.random() < 0.5:
            near = (EDGE, EDGE + 5, EDGE - size)
            return self.random.choice((*near, EDGE - 1, EDGE - size + 1) if split else near)
        return lab.DATA + self.random.randrange(0x1000)

    def poke(self, offset: int, data: bytes) -> None:
        """Put bytes at an offset in DS."""
        self.bench.poke((0 if self.bits == 64 else self.state.ds.base) + offset, data)


@contextmanager
def twins(directory: Path) -> Iterator[Twins]:
    with lab.bench() as bench, vlab.VM(guest(directory, SPIN), monitor="trap-emulate", memory="4M") as vm:
        yield Twins(bench, vm)
