"""A bench for one instruction: on the processor with RAM under its operand, and by the monitor with a device.

Guest-physical memory is 2 MiB; the frame at DEVICE is RAM in one set of nested tables and not in the other.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from vlab.isa.state import CpuState, Segment
from vlab.isa.svm_exits import SvmExit
from vlab.machine.bus import Bus
from vlab.machine.machine import Machine
from vlab.machine.memory import LARGE_PAGE, PAGE
from vlab.vmm.mmio import DeviceAccess, Done, Outcome, emulate
from vlab.vmm.paging.tables import LARGE, PRESENT, USER, WRITABLE, TableTree

CODE = 0x7000
STACK = 0xB1000
OTHER = 0xB4000
"""Two pages of RAM; they and the stack are within 64 KiB of DEVICE, for 16-bit addresses."""
DEVICE = 0xB8000
TABLES = 0x20000
HIGH = 0xFFFF800000000000
"""In 64-bit mode guest-physical memory shows here as well as at 0."""

_ALL = PRESENT | WRITABLE | USER
_HLT = 0xF4


@dataclass
class After:
    """What an instruction left behind."""

    state: CpuState
    device: bytes
    other: bytes
    stack: bytes
    accesses: list[DeviceAccess] = field(default_factory=list)


class MmioLab:
    """One machine, its guest's 2 MiB, and a device of one page of bytes."""

    def __init__(self) -> None:
        self.machine = Machine(8 << 20)
        self.processor = self.machine.processor
        self.core = self.processor.core
        self.base = self.machine.frames.allocate(LARGE_PAGE, LARGE_PAGE)
        self.ram = self.machine.memory.bytes[self.base : self.base + LARGE_PAGE]
        self.whole = TableTree(self.machine)
        self.whole.map(0, self.base, _ALL, large=True)
        self.holed = TableTree(self.machine)
        for gpa in range(0, LARGE_PAGE, PAGE):
            if gpa != DEVICE:
                self.holed.map(gpa, self.base + gpa, _ALL)
        self.device = bytearray(PAGE)
        self.bus = Bus("memory")
        self.bus.add(DEVICE, PAGE, "bytes", self._read, self._write, width=8)
        words = self.ram[TABLES : TABLES + 3 * PAGE].cast("Q")
        words[0] = words[256] = TABLES + PAGE | _ALL
        words[512] = TABLES + 2 * PAGE | _ALL
        words[1024] = _ALL | LARGE

    def _read(self, offset: int, size: int) -> int:
        return int.from_bytes(self.device[offset : offset + size], "little")

    def _write(self, offset: int, value: int, size: int) -> None:
        self.device[offset : offset + size] = value.to_bytes(size, "little")

    def state(self, bits: int) -> CpuState:
        """Give a processor in 16-bit real mode, 32-bit protected mode or 64-bit mode, about to run CODE.

        FS has a base that is no multiple of a page. In real mode DS reaches DEVICE, SS and GS everything.
        """
        if bits == 16:
            state = CpuState.real_mode(CODE >> 4, 0)
            for name, selector in (
                ("ds", 0xB800),
                ("es", 0xB000),
                ("ss", 0xB000),
                ("gs", 0xB000),
                ("fs", 0xB7F3),
            ):
                setattr(state, name, Segment(selector, selector << 4, 0xFFFF, 0x93))
            state.rsp = STACK - 0xB0000
            return state
        state = CpuState.flat32(CODE) if bits == 32 else CpuState.long64(HIGH + CODE, TABLES)
        state.fs.base = 0xB7F37 if bits == 32 else HIGH + 0xB7F37
        state.rsp = STACK if bits == 32 else HIGH + STACK
        return state

    def fill(self, device: bytes, other: bytes) -> None:
        """Set the bytes of the device and of the two pages at OTHER."""
        self.device[:] = device
        self.ram[DEVICE : DEVICE + PAGE] = device
        self.ram[OTHER : OTHER + 2 * PAGE] = other
        self.ram[STACK - 0x800 : STACK + 0x800] = other[:PAGE]

    def load(self, state: CpuState, code: bytes, tree: TableTree | None = None) -> None:
        """Get ready to run ``code`` and the HLT behind it, by default with the device at DEVICE."""
        self.ram[CODE : CODE + len(code) + 1] = code + bytes((_HLT,))
        self.processor.engine.flush_code()
        self.processor.set_intercepts(0, 0, 0, 0, (tree or self.holed).root)
        self.core.load(state)

    def in_memory(self, state: CpuState, code: bytes) -> After:
        """Run ``code`` with RAM at DEVICE."""
        self.load(state, code, self.whole)
        exit_code = self.processor.run()
        assert exit_code == SvmExit.HLT, f"{code.hex(' ')}: exit {exit_code:#x} at {self.core.rip:#x}"
        return self._after(bytes(self.ram[DEVICE : DEVICE + PAGE]))

    def on_device(self, state: CpuState, code: bytes) -> After:
        """Run ``code`` with a device at DEVICE: each nested page fault is the monitor's."""
        self.load(state, code)
        accesses: list[DeviceAccess] = []
        while (exit_code := self.processor.run()) == SvmExit.NPF:
            outcome = self.emulate()
            assert isinstance(outcome, Done), f"{code.hex(' ')}: {outcome}"
            accesses += outcome.accesses
        assert exit_code == SvmExit.HLT, f"{code.hex(' ')}: exit {exit_code:#x} at {self.core.rip:#x}"
        after = self._after(bytes(self.device))
        after.accesses = accesses
        return after

    def emulate(self) -> Outcome:
        """Carry out the instruction of the nested page fault that has just happened."""
        return emulate(self.core, self.processor.fetch(15), self.processor.info2, self.bus)

    def _after(self, device: bytes) -> After:
        ram = self.ram
        return After(
            self.core.state(),
            device,
            bytes(ram[OTHER : OTHER + 2 * PAGE]),
            bytes(ram[STACK - 0x800 : STACK + 0x800]),
        )

    def close(self) -> None:
        del self.ram
        self.machine.close()
