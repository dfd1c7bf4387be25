"""Small 32-bit guests in machine code, under the hardware monitor and any paging strategy."""

from __future__ import annotations

import struct

from vlab.isa.state import CpuState, TableRegister
from vlab.machine.clock import DeterministicClock
from vlab.machine.machine import Machine
from vlab.trace.recorder import Recorder
from vlab.vmm.board import Board
from vlab.vmm.exits import REASONS
from vlab.vmm.guest_memory import GuestMemory
from vlab.vmm.hardware import HardwareMonitor
from vlab.vmm.paging.nested import NestedPaging
from vlab.vmm.paging.shadow import VARIANTS, ShadowPaging
from vlab.vmm.paging.strategy import PagingStrategy
from vlab.vmm.stop import Stop
from vlab.vmm.tenant import Parts

P, RW, PS = 1, 2, 1 << 7
ENTRY, RESULTS, IDT_POINTER, GDT, IDT = 0x1000, 0x2000, 0x2100, 0x2200, 0x3000
DIRECTORY, TABLE = 0x4000, 0x5000
STRATEGIES = ["nested", *VARIANTS]


def strategy(name: str) -> PagingStrategy:
    return NestedPaging() if name == "nested" else ShadowPaging(name)


class Program:
    """A 32-bit program at ENTRY under the hardware monitor, on a machine of its own or on ``machine``."""

    def __init__(
        self,
        paging: PagingStrategy,
        code: str,
        handlers: dict[int, str] | None = None,
        machine: Machine | None = None,
    ) -> None:
        self._shared = machine is not None
        self.machine = machine or Machine(16 << 20)
        self.memory = GuestMemory(self.machine, 8 << 20)
        clock = DeterministicClock(self.machine.processor.engine.stops.words)
        board = Board(clock, self.memory.ram)
        parts = Parts(self.machine, self.memory, board, clock, Recorder(REASONS))
        self.monitor = HardwareMonitor(parts, paging)
        state = CpuState.flat32(ENTRY)
        state.gdtr = TableRegister(GDT, 8 * 8 - 1)
        state.rsp = 0x7000
        self.write(ENTRY, bytes.fromhex(code))
        self.write(GDT, bytes(8) + bytes.fromhex("ffff0000009bcf00 ffff00000093cf00"))
        self.write(IDT_POINTER, struct.pack("<HI", 0x7FF, IDT))
        for number, (vector, handler) in enumerate((handlers or {}).items()):
            start = 0x1800 + 0x100 * number
            self.write(start, bytes.fromhex(handler))
            self.write(IDT + 8 * vector, struct.pack("<HHHH", start, 8, 0x8E00, 0))
        self.monitor.boot(state)

    def write(self, gpa: int, data: bytes) -> None:
        self.memory.ram[gpa : gpa + len(data)] = data

    def results(self, count: int) -> tuple[int, ...]:
        return struct.unpack_from(f"<{count}I", self.memory.ram, RESULTS)

    def run(self) -> Stop:
        try:
            return self.monitor.run()
        finally:
            self.counts = dict(zip(REASONS, self.monitor.recorder.counts, strict=True))

    def close(self) -> None:
        self.monitor.close()
        self.memory.close()
        if not self._shared:
            self.machine.close()
