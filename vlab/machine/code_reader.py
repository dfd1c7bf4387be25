"""The instruction at RIP, read again by the microcode through the guest's own page tables."""

from __future__ import annotations

from vlab.machine import registers as reg
from vlab.machine.core import LiveCore
from vlab.machine.decode_assist import SystemInstruction, decode
from vlab.machine.faults import CpuFault
from vlab.machine.instructions import LONGEST, PREFIXES, REX, prefix_count
from vlab.machine.memory import PhysicalMemory
from vlab.machine.mmu import Mmu, NestedFault

_LONG64 = 5  # LiveCore.mode_code
_CACHED_PAGES = 1024


class CodeReader:
    """Reads the code of one processor.

    ``exact``: translations change only together with a call of ``forget``, since whoever owns the processor
    intercepts all that would change them; so those found are good until then.
    """

    def __init__(self, core: LiveCore, memory: PhysicalMemory, mmu: Mmu) -> None:
        self._core = core
        self._memory = memory
        self._mmu = mmu
        self._frames: dict[tuple[int, int], int] = {}
        self._fetched: dict[tuple[int, bool], int] = {}
        self.exact = False

    def forget(self) -> None:
        """Drop cached translations."""
        self._frames.clear()
        self._fetched.clear()

    @property
    def linear_rip(self) -> int:
        """The linear address of the next instruction."""
        core = self._core
        if core.mode_code == _LONG64:
            return core.rip
        return core.segment("cs").base + core.rip & 0xFFFFFFFF

    def fetch(self, size: int = LONGEST) -> bytes:
        """Read up to ``size`` instruction bytes at RIP, but none of a page that is not mapped."""
        core, linear = self._core, self.linear_rip
        user = core.cpl == 3
        near = min(size, 0x1000 - (linear & 0xFFF))
        if self.exact and near == size:
            return self._fetch_again(linear, size, user)
        code = b""
        try:
            code = core.read_bytes(linear, near, user=user, fetch=True)
            if near < size:
                code += core.read_bytes(linear + near, size - near, user=user, fetch=True)
        except (CpuFault, NestedFault):
            return code
        return code

    def _fetch_again(self, linear: int, size: int, user: bool) -> bytes:
        key = (linear >> 12, user)
        frame = self._fetched.get(key)
        if frame is None:
            try:
                frame = self._mmu.translate(linear & ~0xFFF, self._core.paging, user=user, fetch=True)
            except (CpuFault, NestedFault):
                return b""
            self._fetched[key] = frame
        place = frame | linear & 0xFFF
        return bytes(self._memory.bytes[place : place + size])

    def decode(self) -> SystemInstruction | None:
        """Decode a system instruction at RIP; None when it is none of those that ``decode_assist`` knows."""
        return decode(self._core, self.fetch())

    def prefix_count(self) -> int:
        """Give the number of prefix bytes at RIP; cheap for an instruction that has none."""
        first, long_mode = self._first_byte(), self._core.mode_code == _LONG64
        if first in PREFIXES or (long_mode and first in REX):
            return prefix_count(self.fetch(), long_mode=long_mode)
        return 0

    def _first_byte(self) -> int:
        """Give the byte at RIP from a small cache of translations.

        The instruction has just been executed from there. Should the page have been remapped under the same
        CR3 meanwhile, the byte tells prefix from opcode all the same, wrongly only if both pages hold the
        same intercepted opcode behind different prefixes.
        """
        core, linear = self._core, self.linear_rip
        key = (linear >> 12, core.words[reg.CR3])
        frame = self._frames.get(key)
        if frame is None:
            try:
                frame = self._mmu.translate(linear & ~0xFFF, core.paging)
            except (CpuFault, NestedFault):
                return 0
            if frame >= self._memory.size:
                return 0
            if len(self._frames) > _CACHED_PAGES:
                self._frames.clear()
            self._frames[key] = frame
        return self._memory.bytes[frame | linear & 0xFFF]
