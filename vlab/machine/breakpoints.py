"""Hardware breakpoints: what DR0 to DR3 and DR7 arm, as hooks of the engine.

The emulator's own breakpoints live outside the register file, so that they would stay behind when the
processor changes worlds, and those on data never fire. Here they follow the registers. Breakpoints on
instructions cost nothing until they are met; while one on data is armed, every instruction is looked at.
Breakpoints on ports (CR4.DE, which CPUID does not offer) are not made. Sections of AMD APM vol. 2, rev. 3.42
(APM2).
"""

from __future__ import annotations

from typing import Final, NamedTuple

from vlab.isa.paging import Fault
from vlab.machine.core import LiveCore
from vlab.machine.cpu import MEMORY_WRITTEN, CodeHook, MemoryHook
from vlab.machine.engine import Engine
from vlab.machine.mmu import Mmu, NestedFault

BREAKPOINT: Final = -6
"""What ``Engine.run`` gives where a breakpoint was met; ``Breakpoints.met`` says which."""

_EXECUTE, _WRITE, _PORT = 0, 1, 2  # R/W field; 3 is read or write
_LENGTHS: Final = (1, 2, 8, 4)
_RF: Final = 1 << 16
_EFLAGS: Final = 17
_OFFSET: Final = 0xFFF


class Armed(NamedTuple):
    """One armed breakpoint: its number, linear address, length in bytes and R/W field."""

    number: int
    address: int
    length: int
    kind: int


def armed(core: LiveCore) -> tuple[Armed, ...]:
    """Read what the debug registers arm (APM2 13.1.1.4); those on ports are left out."""
    dr7 = core.dr7
    if not dr7 & 0xFF:
        return ()
    found = []
    for number in range(4):
        kind, length = dr7 >> 16 + 4 * number & 3, _LENGTHS[dr7 >> 18 + 4 * number & 3]
        if dr7 >> 2 * number & 3 and kind != _PORT:
            address = core.debug_register(number)
            if kind != _EXECUTE:
                address &= -length  # the low bits do not count
            found.append(Armed(number, address, length, kind))
    return tuple(found)


class Breakpoints:
    """The breakpoints of one processor.

    ``met``: bits B0 to B3 of DR6 for the last one met. ``hit``: those whose trap is still to come.
    ``on_code``: the linear addresses of those on instructions.
    """

    def __init__(self, engine: Engine, core: LiveCore, mmu: Mmu) -> None:
        self._engine = engine
        self._core = core
        self._mmu = mmu
        self._armed: tuple[Armed, ...] = ()
        self._hooks: list[int] = []
        self.hit = 0
        self.met = 0
        self.on_code: frozenset[int] = frozenset()
        # Translated code may hold their addresses until it is flushed, so these live as long as the engine.
        self._on_instruction = CodeHook(self._instruction)
        self._on_step = CodeHook(self._step)
        self._on_access = MemoryHook(self._access)

    def sync(self) -> None:
        """Follow the debug registers."""
        wanted = armed(self._core)
        if wanted == self._armed:
            return
        engine, self._armed, self.hit = self._engine, wanted, 0
        self.on_code = frozenset(point.address for point in wanted if point.kind == _EXECUTE)
        for hook in self._hooks:
            engine.remove_hook(hook)
        self._hooks = [
            engine.add_hook("code", self._on_instruction, 0, point.address, point.address)
            for point in wanted
            if point.kind == _EXECUTE
        ]
        if any(point.kind != _EXECUTE for point in wanted):
            self._hooks.append(engine.add_hook("code", self._on_step, 0))
            self._hooks.append(engine.add_hook("write", self._on_access, 0))
        if any(point.kind > _PORT for point in wanted):
            self._hooks.append(engine.add_hook("read", self._on_access, 0))
        engine.stop_between_blocks(not self._hooks)
        engine.flush_code()

    def _instruction(self, _engine: int, address: int, _size: int, _data: int) -> None:
        """Stop before an instruction with a breakpoint, unless RFLAGS.RF says to go on (APM2 13.1.4)."""
        if self.hit:  # the trap of the instruction before comes first
            self._stop(self.hit)
            return
        words = self._core.words
        if words[_EFLAGS] & _RF:
            words[_EFLAGS] &= ~_RF  # the engine would keep it until a block ends without a direct jump
            return
        met = self.at(address)
        if met:
            self._stop(met)

    def at(self, address: int) -> int:
        """Give the bits of DR6 for the breakpoints on the instruction at a linear address."""
        return sum(
            1 << point.number
            for point in armed(self._core)
            if point.kind == _EXECUTE and point.address == address
        )

    def _access(self, _engine: int, kind: int, hpa: int, size: int, _value: int, _data: int) -> None:
        """Note an access to watched memory; the trap comes after the instruction."""
        start = hpa & _OFFSET
        for point in self._armed:
            if point.kind == _EXECUTE or (point.kind == _WRITE and kind != MEMORY_WRITTEN):
                continue
            watched = point.address & _OFFSET
            near = start < watched + point.length and watched < start + size
            if near and self._frame(point.address) == hpa >> 12:
                self.hit |= 1 << point.number

    def _frame(self, linear: int) -> int | None:
        """Give the number of the host-physical page behind a watched address, None while it is not mapped."""
        try:
            place = self._mmu.look(linear, self._core.paging)
            return None if isinstance(place, Fault) else self._mmu.host_address(place.physical) >> 12
        except NestedFault:
            return None

    def _step(self, _engine: int, _address: int, _size: int, _data: int) -> None:
        """Stop before the instruction that follows one with a hit."""
        if self.hit:
            self._stop(self.hit)

    def _stop(self, met: int) -> None:
        self.met, self.hit = met, 0
        self._engine.stop_with(BREAKPOINT)
