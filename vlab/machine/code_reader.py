"""The instruction at RIP, read again by the microcode through the guest's own page tables."""

from __future__ import annotations

import struct
from typing import Final, TypeAlias

from vlab.machine.core import CS_BASE, LiveCore
from vlab.machine.decode_assist import SystemInstruction, decode
from vlab.machine.faults import CpuFault
from vlab.machine.instructions import LONGEST, prefix_count
from vlab.machine.memory import PhysicalMemory
from vlab.machine.mmu import Mmu, NestedFault
from vlab.machine.registers import INHIBIT, RIP

_LONG64 = 5  # LiveCore.mode_code
_CACHED = 4096
_MASK64, _MASK32 = (1 << 64) - 1, (1 << 32) - 1
_NEVER = -1  # no byte's value
_RF_TF: Final = 1 << 16 | 1 << 8


_state: Final = struct.Struct("QQ32xI36xQ224xQ").unpack_from
"""RIP, RFLAGS, hflags, the base of CS and CR3 from the live register file, in one look."""
_STATE_AT: Final = 8 * RIP


Site: TypeAlias = tuple[int, int, int, int, bool, bytes]
"""An instruction that was seen, for one state of the registers that say what is at RIP.

The physical address of its first byte, and that byte; its length without prefixes; RIP after it; whether it
is plain: neither RFLAGS.RF nor TF nor an interrupt shadow is there to be ended behind it; and the two bytes
behind its prefixes.
"""


class CodeReader:
    """Reads the code of one processor.

    ``exact``: translations change only together with a call of ``forget``, since whoever owns the processor
    intercepts all that would change them; so those found are good until then.
    """

    def __init__(self, core: LiveCore, memory: PhysicalMemory, mmu: Mmu) -> None:
        self._core = core
        self._memory = memory
        self._mmu = mmu
        self._words, self._file, self._bytes = core.words, core.engine.bytes, memory.bytes
        self._sites: dict[tuple[int, ...], Site] = {}
        self._fetched: dict[tuple[int, bool], int] = {}
        self.exact = False

    def forget(self) -> None:
        """Drop cached translations."""
        self._sites.clear()
        self._fetched.clear()

    @property
    def linear_rip(self) -> int:
        """The linear address of the next instruction."""
        core = self._core
        if core.mode_code == _LONG64:
            return core.rip
        return self._words[CS_BASE] + core.rip & _MASK32

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
        """Give the number of prefix bytes at RIP."""
        return prefix_count(self.fetch(), long_mode=self._core.mode_code == _LONG64)

    def skip(self, length: int) -> bool:
        """Set RIP behind the instruction at RIP, of ``length`` bytes beside its prefixes.

        Gives whether that is all: False, when RFLAGS.RF or TF or an interrupt shadow is there to be ended.

        It comes from a cache, for exits happen at the same places again and again. Should a page have been
        remapped under the same CR3 meanwhile, the first byte tells prefix from opcode all the same, wrongly
        only if both pages hold the same intercepted opcode behind different prefixes.
        """
        site = self._sites.get(_state(self._file, _STATE_AT)) or self._look(length)
        place, first, known, following, plain, _ = site
        if known != length or self._bytes[place] != first:
            _, _, _, following, plain, _ = self._look(length)
        self._words[RIP] = following
        return plain

    def opcode(self) -> bytes:
        """Give the first two bytes behind the prefixes of the instruction at RIP, from the same cache."""
        site = self._sites.get(_state(self._file, _STATE_AT))
        if site is None or self._bytes[site[0]] != site[1]:
            site = self._look(2)
        return site[-1]

    def _look(self, length: int) -> Site:
        """Read the instruction at RIP and remember it."""
        core, long_mode = self._core, self._core.mode_code == _LONG64
        code, state = self.fetch(), _state(self._file, _STATE_AT)
        rip, flags, hflags, _, _ = state
        start = prefix_count(code, long_mode=long_mode)
        try:
            place = self._mmu.translate(self.linear_rip, core.paging)
        except (CpuFault, NestedFault):
            place = self._memory.size
        first = code[0] if code and place < self._memory.size else _NEVER
        place = place if first != _NEVER else 0
        following = rip + start + length & (_MASK64 if long_mode else _MASK32)
        plain = not flags & _RF_TF and not hflags & INHIBIT
        site = place, first, length, following, plain, code[start : start + 2]
        if len(self._sites) >= _CACHED:
            self._sites.clear()
        self._sites[state] = site
        return site
