"""Runs streams on a bare machine, as ``vlab.vmm.bare`` does: RAM, one device window, nothing else.

As a program: ``python -m tests.machine.fuzz FIRST COUNT``; each seed is printed before its stream runs when
VLAB_FUZZ_VERBOSE is set, so that a crash of the process names its stream.
"""

from __future__ import annotations

import os
import sys

from tests.machine import streams
from tests.machine.lab import Bench
from vlab.isa.svm_exits import SvmExit
from vlab.machine.faults import Event, EventKind
from vlab.machine.memory import PAGE
from vlab.machine.processor import STOPPED

BLOCKS = 80
EXITS = 40


class Fuzzer:
    """One machine that runs many streams."""

    def __init__(self) -> None:
        self.bench = Bench()
        machine = self.bench.machine
        self.device = bytearray(PAGE)
        self.window = machine.window(self._read, self._write)
        self.bench.map(streams.WINDOW, self.window)
        self.nothing = machine.window(lambda _offset, size: (1 << 8 * size) - 1, lambda _o, _s, _v: None)
        self.outcomes: dict[int, int] = {}

    def _read(self, offset: int, size: int) -> int:
        return int.from_bytes(self.device[offset : offset + size].ljust(size, b"\0"), "little")

    def _write(self, offset: int, size: int, value: int) -> None:
        if offset + size <= PAGE:
            self.device[offset : offset + size] = value.to_bytes(size, "little")

    def run(self, seed: int) -> int:
        """Run stream ``seed`` for at most ``BLOCKS`` blocks and ``EXITS`` exits; give what ended it."""
        bench = self.bench
        stream = streams.make(seed)
        bench.ram[0:0xC0000] = bytes(0xC0000)
        for address, data in stream.memory.items():
            bench.poke(address, data)
        bench.processor.load_registers(None)
        bench.processor.set_intercepts(0, 0, 0, 0, bench.root)
        bench.engine.flush_code()
        bench.core.load(stream.state)
        code = self._drive(stream.interrupt)
        self.outcomes[code] = self.outcomes.get(code, 0) + 1
        return code

    def _drive(self, vector: int) -> int:
        bench, processor = self.bench, self.bench.processor
        stops = bench.engine.stops
        stops.arm(stops.words[0] + BLOCKS)
        code: int | None = STOPPED
        for _ in range(EXITS):
            code = processor.run()
            if code == STOPPED:
                return code
            if code == SvmExit.HLT:
                processor.skip(1)
                if vector >= 0 and bench.core.interrupts_enabled:
                    code = processor.inject(Event(EventKind.EXTERNAL, vector))
            elif code == SvmExit.NPF:
                gpa = processor.info2 & (1 << 48) - 1
                bench.map(gpa & ~(PAGE - 1), self.nothing)
                processor.set_nested_root(bench.root)
                code = None
            if code is not None and code not in (SvmExit.HLT, SvmExit.VINTR):
                return code
        return code if code is not None else STOPPED


def main() -> None:
    first, count = int(sys.argv[1]), int(sys.argv[2])
    fuzzer = Fuzzer()
    verbose = os.environ.get("VLAB_FUZZ_VERBOSE")
    for seed in range(first, first + count):
        if verbose:
            print(seed, flush=True)
        fuzzer.run(seed)
    print(fuzzer.outcomes)


if __name__ == "__main__":
    main()
