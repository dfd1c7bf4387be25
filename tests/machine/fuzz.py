"""Runs streams on a bare machine, as ``vlab.vmm.bare`` does: RAM, one device window, an open bus elsewhere.

As a program it is the worker of ``test_random_instructions``, whom a crash of the emulator may take along:

    python -m tests.machine.fuzz FIRST COUNT [HOW]     run the streams FIRST to FIRST + COUNT - 1
    python -m tests.machine.fuzz SEED [HOW]            run one, and tell what it was and how it went

It names each stream before it runs it. HOW: --digests for one of the end state behind each, --guests for
guests of a ``vlab.VM`` under its monitors.
"""

from __future__ import annotations

import os
import sys
import tempfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Final

import vlab
from tests.machine import streams
from tests.machine.lab import Bench
from vlab.guests.programs import image, image64, sector
from vlab.isa.svm_exits import SvmExit
from vlab.machine.faults import Event, EventKind
from vlab.machine.memory import PAGE
from vlab.machine.processor import STOPPED
from vlab.vmm import monitors

BLOCKS = 100
EXITS = 60
FIRMWARE_BLOCKS, GUEST_BLOCKS = 100_000, 3_000
GUEST_TIMEOUT = 0.25
"""Seconds, for a guest of ``vlab.VM``: the firmware's start takes a part of it."""

_BLANK = b"\xeb\xfe" * (streams.RAM // 2)  # code that went astray spins until its time is up
_MASK48 = (1 << 48) - 1


class Fuzzer:
    """One machine that runs many streams, each from the same beginning."""

    def __init__(self, *, counting: bool = True) -> None:
        self.bench = Bench(counting=counting)
        machine = self.bench.machine
        self.device = bytearray(PAGE)
        self.window = machine.window(self._read, self._write)
        self.nothing = machine.window(lambda _offset, size: (1 << 8 * size) - 1, lambda _o, _s, _v: None)

    def _read(self, offset: int, size: int) -> int:
        return int.from_bytes(self.device[offset : offset + size].ljust(size, b"\0"), "little")

    def _write(self, offset: int, size: int, value: int) -> None:
        if offset + size <= PAGE:
            self.device[offset : offset + size] = value.to_bytes(size, "little")

    def prepare(self, seed: int) -> streams.Stream:
        """Put the world of stream ``seed`` in place."""
        bench, stream = self.bench, streams.make(seed)
        processor = bench.processor
        bench._map_ram()
        bench.map(streams.RAM, 0, large=True, flags=0)
        bench.map(streams.WINDOW, self.window)
        bench.ram[: streams.RAM] = _BLANK
        self.device[:] = bytes(PAGE)
        for address, data in stream.memory.items():
            bench.poke(address, data)
        bench.machine.svm.current = None
        processor.msrs.values.clear()
        processor.msrs.tsc_offset = 0
        bench.engine.stops.words[0] = 0
        processor.load_registers(None)
        processor.set_intercepts(*stream.intercepts, bench.root)
        bench.engine.flush_code()
        bench.core.load(stream.state)
        bench.engine.stops.arm(BLOCKS)
        return stream

    def run(self, seed: int) -> int:
        """Run stream ``seed`` for at most ``BLOCKS`` blocks and ``EXITS`` exits; give what ended it."""
        stream = self.prepare(seed)
        if stream.interrupt >= 0:
            self.bench.engine.request_window(True)
        code = None
        for _ in range(EXITS):
            if code is None:
                code = self.bench.processor.run()
            if code in (STOPPED, SvmExit.SHUTDOWN):
                return code
            code = self._serve(code, stream.interrupt)
        return STOPPED

    def _serve(self, code: int, vector: int) -> int | None:
        """Do what a monitor would; give the exit that came of it, if any."""
        bench, processor = self.bench, self.bench.processor
        if code == SvmExit.NPF:
            during = processor.during
            bench.map(processor.info2 & _MASK48 & -PAGE, self.nothing)
            processor.set_nested_root(bench.root)
            return processor.inject(during) if during is not None else None
        if SvmExit.EXCP_DE <= code < SvmExit.INTR and processor.event is not None:
            return processor.inject(processor.event)
        if code == SvmExit.HLT:
            processor.skip(1)
        elif code != SvmExit.VINTR:
            during = processor.during  # let it have its way, from now on
            processor.set_intercepts(0, 0, 0, 0, bench.root)
            return processor.inject(during) if during is not None else None
        if vector >= 0 and bench.core.interrupts_enabled:
            return processor.inject(Event(EventKind.EXTERNAL, vector))
        return None

    def digest(self) -> int:
        """Give a number that stands for the end state: registers, memory, device and time."""
        bench = self.bench
        seen = zlib.crc32(bench.ram[: streams.RAM], zlib.crc32(self.device))
        return zlib.crc32(f"{bench.core.state()} {bench.engine.blocks}".encode(), seen)


class Guests:
    """One computer on which streams run as guests of ``vlab.VM``: boot sectors, 32-bit and 64-bit kernels."""

    WAYS: Final = monitors.ways_for("hello")

    def __init__(self) -> None:
        self._directory = tempfile.TemporaryDirectory()
        self._machine = vlab.Machine("16M")
        self._image = Path(self._directory.name) / "guest"

    def run(self, seed: int) -> str:
        """Run stream ``seed`` as a guest for a while; give the kind of its Stop."""
        monitor, paging = self.WAYS[seed // 3 % len(self.WAYS)]
        mode, make = (("real", sector), ("prot32", _kernel32), ("long", _kernel64))[seed % 3]
        stream = streams.make(seed, mode)
        self._image.write_bytes(make(stream.memory[streams.CODE]))
        with vlab.VM(self._image, monitor=monitor, paging=paging, memory="4M", machine=self._machine) as vm:
            for address, data in stream.memory.items():
                if mode != "real":
                    vm.memory[address : address + len(data)] = data
            end = (vm.blocks or 0) + GUEST_BLOCKS + (FIRMWARE_BLOCKS if mode == "real" else 0)
            vm.send("x")
            return vm.run(lambda vm: (vm.blocks or 0) > end, timeout=GUEST_TIMEOUT).kind


def _tables() -> bytes:
    """LGDT and LIDT of the stream's tables, from operands that are pushed here."""
    code = b""
    for place, limit, extension in ((streams.GDT, 0x13F, 0x10), (streams.IDT, 0x2FF, 0x18)):
        code += b"\x68" + place.to_bytes(4, "little") + b"\x66\x68" + limit.to_bytes(2, "little")
        code += bytes((0x0F, 0x01, extension | 4, 0x24))  # lgdt or lidt [esp]
    return code


def _kernel32(code: bytes) -> bytes:
    return image(_tables() + bytes.fromhex("66 B8 10 00 8E D8 8E C0 8E D0 BC 00 00 03 00") + code)


def _kernel64(code: bytes) -> bytes:
    cr3 = b"\xb8" + streams.PML4.to_bytes(4, "little") + bytes.fromhex("0F 22 D8")  # mov cr3, PML4
    return image64(bytes.fromhex("BC 00 00 03 00") + cr3 + _tables() + code)


def run_all(run: Callable[[int], object], seeds: range) -> None:
    """Run streams and tell of each."""
    for seed in seeds:
        print(seed, end=" ", flush=True)
        if str(seed) == os.environ.get("VLAB_FUZZ_DIES_AT"):  # for the test of what the parent says then
            raise ZeroDivisionError(seed)
        print(run(seed), flush=True)


def tell(fuzzer: Fuzzer, seed: int) -> None:
    """Run one stream with a line for all that stops it."""
    stream = streams.make(seed)
    settle, core = fuzzer.bench.processor.exits._settle, fuzzer.bench.core
    print(f"stream {seed}: {stream.mode}, code {stream.memory[streams.CODE].hex()}")

    def told(number: int) -> int | None:
        print(
            f"  {core.segment('cs').selector:04x}:{core.rip:x} {core.mode.name} stop {number:#x}", flush=True
        )
        return settle(number)

    fuzzer.bench.processor.exits._settle = told  # type: ignore[method-assign]
    print(f"end: {fuzzer.run(seed)} at {core.rip:#x}, digest {fuzzer.digest():08x}")


def main(arguments: list[str]) -> None:
    numbers = [int(argument) for argument in arguments if argument.isdecimal()]
    seeds = range(numbers[0], sum(numbers) if len(numbers) > 1 else numbers[0] + 1)
    if "--guests" in arguments:
        run_all(Guests().run, seeds)
        return
    fuzzer = Fuzzer()
    if len(numbers) == 1:
        tell(fuzzer, *numbers)
    elif "--digests" in arguments:
        run_all(lambda seed: f"{fuzzer.run(seed)} {fuzzer.digest():08x}", seeds)
    else:
        run_all(fuzzer.run, seeds)


if __name__ == "__main__":
    main(sys.argv[1:])
