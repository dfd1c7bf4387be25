"""Something that happens at one instruction of a guest: before it, and after the one before it.

A hook of the machine's stops the guest exactly there, in the middle of a block too. Nothing is counted twice:
a run with stops takes the same virtual time, to the block, as a run without.
"""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache, partial
from pathlib import Path

import capstone

import vlab
from tests.vmm.properties_lab import mappings
from vlab.machine import microcode
from vlab.machine.clock import FOREVER
from vlab.machine.cpu import CodeHook
from vlab.machine.memory import PAGE
from vlab.vmm.stop import StopKind

Act = Callable[[vlab.VM], bool]
"""What is done at a boundary; True has the guest stop there, and its monitor look around."""


# --- what is done -------------------------------------------------------------------------------------------


def stop(_vm: vlab.VM) -> bool:
    """Nothing, but leave the guest and come back."""
    return True


def evict(vm: vlab.VM) -> bool:
    """Take away all that the monitor has made of the guest's page tables, and all that the TLB has."""
    vm.vmm._memory_map_changed()
    vm.vmm.processor.engine.flush_tlb()
    return True  # for the processor fetches anew what it executes next


def let_the_timer_tick(vm: vlab.VM) -> bool:
    """Let so much time pass at once that the next alarm is due here."""
    monitor = vm.vmm
    if monitor.board.alarms.next != FOREVER:
        monitor.clock.skip(max(0, monitor.board.alarms.next - monitor.clock.now()))
    return True


def tick_and_evict(vm: vlab.VM) -> bool:
    """Both at once."""
    evict(vm)
    return let_the_timer_tick(vm)


ACTS: dict[str, Act] = {
    "stop": stop,
    "evict": evict,
    "timer": let_the_timer_tick,
    "timer and evict": tick_and_evict,
}


# --- where --------------------------------------------------------------------------------------------------


@dataclass
class Boundaries:
    """The instruction boundaries of ``vm``'s code from ``first`` to ``last``.

    act: what is done at a boundary, the first ``most`` times that the guest comes by, after the first of them
    with up to ``apart`` boundaries passed in between, in turn none, one, two and so on. An instruction that
    has to begin again is let through. exact: all happens here; else at the end of the block, for code that a
    monitor made and need not be able to leave in its middle. ``passed`` counts how often the guest came by,
    ``done`` how often something was done, ``total`` times at most.
    """

    vm: vlab.VM
    first: int
    last: int
    act: Act
    most: int = 0
    apart: int = 0
    exact: bool = True
    total: int = 1_000_000
    passed: Counter[int] = field(default_factory=Counter)
    done: Counter[int] = field(default_factory=Counter)
    problems: list[BaseException] = field(default_factory=list)
    _acted_at: int = -1
    _wait: int = 0

    def _visit(self, _engine: int, address: int, _size: int, _data: int) -> None:
        try:
            self._look(address)
        except BaseException as problem:
            self.problems.append(problem)

    def _look(self, address: int) -> None:
        if address == self._acted_at:
            return
        self._acted_at = -1
        self.passed[address] += 1
        self._wait -= 1
        done = self.done[address]
        if done >= self.most or (done and self._wait >= 0) or self.done.total() >= self.total:
            return
        self.done[address] += 1
        self._acted_at, self._wait = address, self.done.total() % (self.apart + 1)
        if not self.exact:
            self.vm.vmm.post(partial(self.act, self.vm))  # type: ignore[arg-type]
        elif self.act(self.vm):
            engine = self.vm.vmm.processor.engine
            engine.stops.request()
            engine.uncount_block()
            engine.stop_with(microcode._AGAIN)

    @contextmanager
    def watched(self) -> Iterator[Boundaries]:
        """Act while the guest runs."""
        engine = self.vm.vmm.processor.engine
        function = CodeHook(self._visit)
        hook = engine.add_hook("code", function, 0, self.first, self.last)
        engine.stop_between_blocks(False)
        engine.flush_code()
        try:
            yield self
        finally:
            engine.remove_hook(hook)
            engine.stop_between_blocks(True)
            engine.flush_code()
        assert not self.problems, self.problems


# --- the kernel's entry path --------------------------------------------------------------------------------


@cache
def symbols(image: Path) -> dict[str, int]:
    """Give the symbols of a 32-bit ELF file."""
    data = image.read_bytes()
    place, size, count = struct.unpack_from("<I", data, 32)[0], *struct.unpack_from("<HH", data, 46)
    sections = [struct.unpack_from("<10I", data, place + size * n) for n in range(count)]
    table = next(section for section in sections if section[1] == 2)
    names = sections[table[6]][4]
    found = {}
    for start in range(table[4], table[4] + table[5], 16):
        name, value = struct.unpack_from("<II", data, start)
        end = data.index(b"\0", names + name)
        found[data[names + name : end].decode()] = value
    return found


@cache
def instructions(image: Path, first: int, last: int) -> dict[int, str]:
    """Disassemble linear addresses ``first`` to ``last`` of a 32-bit ELF file with one code segment."""
    data = image.read_bytes()
    place, size, count = struct.unpack_from("<I", data, 28)[0], *struct.unpack_from("<HH", data, 42)
    for n in range(count):
        kind, offset, linear, _, length = struct.unpack_from("<5I", data, place + size * n)
        if kind == 1 and linear <= first < linear + length:
            code = data[offset + first - linear : offset + last + 1 - linear]
            reader = capstone.Cs(capstone.CS_ARCH_X86, capstone.CS_MODE_32)
            return {each.address: f"{each.mnemonic} {each.op_str}" for each in reader.disasm(code, first)}
    raise AssertionError(f"{image} has nothing at {first:#x}")


# --- kernels that do not run where they lie -----------------------------------------------------------------


def moved_code(vm: vlab.VM) -> tuple[int, int] | None:
    """Begin to run; give where the processor's tables show frames of the monitor's: code that it made."""
    if vm.monitor == "none":
        return None
    vm.run(exits=3, timeout=20)
    monitor = vm.vmm
    nested, pages = monitor.on_processor(lambda _: mappings(vm.machine))
    ram = range(monitor.memory.hpa, monitor.memory.hpa + monitor.memory.size)
    places = [linear for linear, frame, _ in pages if frame not in ram and frame < vm.machine.memory.size]
    return (min(places), max(places) + PAGE - 1) if places and not nested else None


def disturbed(vm: vlab.VM, first: int, last: int, act: str, most: int) -> Boundaries:
    """Run a guest to its end; do something at the boundaries of its code, wherever that is executed."""
    moved = moved_code(vm)
    boundaries = Boundaries(vm, *(moved or (first, last)), ACTS[act], most=most, exact=moved is None)
    with boundaries.watched():
        stop = vm.run(timeout=30)
    assert stop.kind is StopKind.EXIT, f"{stop.story}\n{vm.console.text}"
    assert stop.exit_code == 0, vm.console.text
    return boundaries
