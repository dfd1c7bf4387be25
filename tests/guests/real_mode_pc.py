"""A PC in real mode, just large enough for the firmware: the emulator as processor, vlab's own chips, a disk.

The firmware's services are then called like functions: `pc.interrupt(0x13, ax=0x0201, ...)` executes INT
13h at 0000:0600 and returns the registers. Interrupts are delivered here through the vector table, as real
mode does (AMD APM vol. 2, rev. 3.42, section 8.6); time is instructions: 100 ns each, and HLT sleeps to the
next event.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from unicorn import x86_const as x86
from unicorn.unicorn import Uc, UcError
from unicorn.unicorn_const import UC_ARCH_X86, UC_HOOK_INSN, UC_HOOK_INTR, UC_MODE_16

from vlab.devices.debug_ports import DebugExit, FastA20
from vlab.devices.i8042 import I8042
from vlab.devices.paravirtual_disk import ParavirtualDisk
from vlab.devices.pic8259 import Pic8259Pair
from vlab.devices.pit8254 import Pit8254
from vlab.devices.port61 import Port61
from vlab.devices.rtc_mc146818 import RtcMc146818
from vlab.devices.serial16550a import Serial16550A
from vlab.guests.firmware import ROM_BASE, rom

MEMORY = 24 << 20
EPOCH = 1_709_210_096  # 2024-02-29 12:34:56
STUB = 0x600
FLAG_CARRY, FLAG_ZERO, FLAG_TRAP, FLAG_INTERRUPT = 1 << 0, 1 << 6, 1 << 8, 1 << 9
_NS_PER_INSTRUCTION = 100
_SLICE = 500
_FIRST_OFFSET = {0x64: 4, 0xA0: 2}
"""Offsets of the second windows of chips that have two."""

_NAMES = "eax ebx ecx edx esi edi ebp esp ax bx cx dx si di bp sp ip cs ds es fs gs ss eflags"
_REGISTERS = {name: getattr(x86, f"UC_X86_REG_{name.upper()}") for name in _NAMES.split()}


class Chip(Protocol):
    """What all devices have in common."""

    def read(self, offset: int, size: int = 1) -> int: ...

    def write(self, offset: int, value: int, size: int = 1) -> None: ...


@dataclass(frozen=True)
class Registers:
    """What a service leaves behind."""

    values: Mapping[str, int]

    def __getattr__(self, name: str) -> int:
        if len(name) == 2 and name[1] in "lh":
            return self.values[name[0] + "x"] >> (8 if name[1] == "h" else 0) & 0xFF
        return self.values[name]

    @property
    def carry(self) -> bool:
        return bool(self.values["eflags"] & FLAG_CARRY)

    @property
    def zero(self) -> bool:
        return bool(self.values["eflags"] & FLAG_ZERO)


class RealModePc:
    """Switched on by the constructor; `run` executes until the program halts with interrupts off."""

    def __init__(self, disk: bytes | bytearray | None = None) -> None:
        self.now = 0
        self.console = bytearray()
        self.exit_status: int | None = None
        self._due: dict[str, int] = {}
        self._pending_int: int | None = None
        self._uc = Uc(UC_ARCH_X86, UC_MODE_16)
        self._uc.mem_map(0, MEMORY)
        self._uc.mem_write(ROM_BASE, rom())
        self._uc.hook_add(UC_HOOK_INTR, self._on_interrupt)
        self._uc.hook_add(UC_HOOK_INSN, self._on_in, None, 1, 0, x86.UC_X86_INS_IN)
        self._uc.hook_add(UC_HOOK_INSN, self._on_out, None, 1, 0, x86.UC_X86_INS_OUT)
        self._plug_in(disk)
        self.set(cs=0xF000, ip=0xFFF0, eflags=2)

    def _plug_in(self, disk: bytes | bytearray | None) -> None:
        self.pic = Pic8259Pair(output=lambda _: None)
        self.serial = Serial16550A(
            irq=lambda level: self.pic.set_line(4, level), transmit=self.console.append
        )
        self.pit = Pit8254(
            now=self._time, schedule=self._timer("pit"), irq0=lambda level: self.pic.set_line(0, level)
        )
        self.rtc = RtcMc146818(
            now=self._time,
            schedule=self._timer("rtc"),
            irq=lambda level: self.pic.set_line(8, level),
            epoch_seconds=EPOCH,
            memory_bytes=MEMORY,
        )
        self.keyboard = I8042(
            irq_keyboard=lambda level: self.pic.set_line(1, level),
            irq_mouse=lambda level: self.pic.set_line(12, level),
            a20=lambda _: None,
            reset=lambda: self._exit(0x100),
        )
        port61 = Port61(now=self._time, set_gate2=self.pit.set_gate2, out2=self.pit.out2)
        self._ports: list[tuple[int, int, Chip]] = [
            (0x20, 2, self.pic),
            (0x3F8, 8, self.serial),
            (0x40, 4, self.pit),
            (0x60, 1, self.keyboard),
            (0x61, 1, port61),
            (0x64, 1, self.keyboard),
            (0x70, 2, self.rtc),
            (0x92, 1, FastA20(a20=lambda _: None, reset=lambda: self._exit(0x101))),
            (0xA0, 2, self.pic),
            (0xF4, 4, DebugExit(stop=self._exit)),
        ]
        if disk is not None:
            self.disk = ParavirtualDisk(image=disk, read_memory=self.read, write_memory=self._dma)
            self._ports.append((0x5D0, 16, self.disk))

    # ---- memory and registers

    def read(self, address: int, size: int) -> bytes:
        return bytes(self._uc.mem_read(address, size))

    def write(self, address: int, data: bytes) -> None:
        self._uc.mem_write(address, data)
        self._uc.ctl_remove_cache(address, address + len(data))  # it may have been executed already

    def word(self, address: int) -> int:
        return int.from_bytes(self.read(address, 2), "little")

    def _dma(self, address: int, data: bytes) -> bool:
        self.write(address, data)
        return True

    def set(self, **values: int) -> None:
        for name, value in values.items():
            self._uc.reg_write(_REGISTERS[name], value)

    def get(self, name: str) -> int:
        return int(self._uc.reg_read(_REGISTERS[name]))

    def screen(self) -> list[str]:
        cells = self.read(0xB8000, 4000)[::2].decode("cp437")
        return [cells[row * 80 : row * 80 + 80].rstrip() for row in range(25)]

    # ---- time and ports

    def _time(self) -> int:
        return self.now

    def _timer(self, name: str) -> Callable[[int | None], None]:
        def schedule(when: int | None) -> None:
            self._due.pop(name, None)
            if when is not None:
                self._due[name] = when

        return schedule

    def _expire(self) -> None:
        for name, when in list(self._due.items()):
            if when <= self.now:
                del self._due[name]
                (self.pit if name == "pit" else self.rtc).expire()

    def _exit(self, status: int) -> None:
        self.exit_status = status
        self._uc.emu_stop()

    def _device(self, port: int) -> tuple[int, Chip] | None:
        for base, size, device in self._ports:
            if base <= port < base + size:
                return port - base + _FIRST_OFFSET.get(base, 0), device
        return None

    def _on_in(self, _uc: object, port: int, size: int, _data: object) -> int:
        found = self._device(port)
        return found[1].read(found[0], size) if found else (1 << 8 * size) - 1

    def _on_out(self, _uc: object, port: int, size: int, value: int, _data: object) -> None:
        found = self._device(port)
        if found:
            found[1].write(found[0], value, size)

    # ---- the processor

    def _on_interrupt(self, _uc: object, vector: int, _data: object) -> None:
        self._pending_int = vector
        self._uc.emu_stop()

    def _deliver(self, vector: int) -> None:
        """Push FLAGS, CS, IP; go to the address in the vector table with interrupts off."""
        flags = self.get("eflags")
        sp = (self.get("sp") - 6) & 0xFFFF
        frame = struct.pack("<HHH", self.get("ip"), self.get("cs"), flags & 0xFFFF)
        self.write(self.get("ss") * 16 + sp, frame)
        offset, segment = struct.unpack("<HH", self.read(4 * vector, 4))
        self.set(sp=sp, cs=segment, ip=offset, eflags=flags & ~(FLAG_INTERRUPT | FLAG_TRAP))

    def _step(self) -> bool:
        """Execute a slice; True when the processor then sleeps in HLT.

        With an interrupt pending a slice is one instruction, so that the moment when IF is 1 is not missed,
        and two for STI, which takes effect only behind the next one.
        """
        linear = self.get("cs") * 16 + self.get("ip")
        count = 1 + (self.read(linear, 1) == b"\xfb") if self.pic.pending() else _SLICE
        fault: int | None = None
        try:
            self._uc.emu_start(linear, 0xFFFFFFFF, count=count)
        except UcError as error:
            if "INSN_INVALID" not in str(error):
                raise
            fault = 6
        self.now += count * _NS_PER_INSTRUCTION
        vector, self._pending_int = self._pending_int, None
        if vector is None:
            vector = fault
        if vector is not None:
            self._deliver(vector)
            return False
        return self.read(self.get("cs") * 16 + self.get("ip") - 1, 1) == b"\xf4"

    def run(self, seconds: float = 20.0) -> None:
        """Run until HLT with interrupts off, the debug exit, or `seconds` of virtual time (then it fails)."""
        end = self.now + int(seconds * 1e9)
        while self.exit_status is None:
            if self.pic.pending() and self.get("eflags") & FLAG_INTERRUPT:
                self._deliver(self.pic.acknowledge())
            halted = self._step()
            enabled = self.get("eflags") & FLAG_INTERRUPT
            if halted and not enabled:
                return
            if halted and not self.pic.pending() and self._due:
                self.now = max(self.now, min(self._due.values()))
            self._expire()
            if halted and not self.pic.pending():
                self.set(ip=self.get("ip") - 1)
            assert self.now < end, f"still at {self.get('cs'):04x}:{self.get('ip'):04x}; {self.console!r}"

    def interrupt(self, vector: int, **registers: int) -> Registers:
        """Execute INT `vector` with these registers, segments 0 and a stack below 0000:7C00."""
        self.write(STUB, bytes([0xCD, vector, 0xFA, 0xF4]))  # INT; CLI; HLT
        start = {"cs": 0, "ip": STUB, "ss": 0, "esp": 0x7C00, "ds": 0, "es": 0, "eflags": 2 | FLAG_INTERRUPT}
        self.exit_status = None
        self.set(**{**start, **registers})
        self.run()
        return Registers({name: self.get(name) for name in _REGISTERS})
