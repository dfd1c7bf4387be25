"""The places at which a guest traps: a kernel traps at the same few again and again.

A trapped instruction is looked up by where it is, in one look at the register file, and taken from here as
long as the same bytes are there.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from struct import Struct
from typing import Final, TypeAlias

from vlab.machine.faults import CpuFault
from vlab.machine.instructions import LONGEST
from vlab.machine.memory import PAGE
from vlab.machine.mmu import NestedFault
from vlab.machine.processor import Processor
from vlab.machine.registers import RIP
from vlab.vmm.deprivileged.decode import Instruction, decode
from vlab.vmm.deprivileged.operands import Operands
from vlab.vmm.deprivileged.virtual_core import VirtualCore
from vlab.vmm.exits import SensitiveInstruction
from vlab.vmm.mmio import code_bits
from vlab.vmm.verdicts import Verdict

_place: Final = Struct("Q8x32xI36xQ224xQ").unpack_from
"""RIP, the digest of the mode (hflags), the base of CS and CR3 from the live register file."""
_PLACE_AT: Final = 8 * RIP
_CACHED: Final = 4096

Action: TypeAlias = Callable[[Operands], Verdict | None]


@dataclass(frozen=True, slots=True)
class Trapped:
    """A sensitive instruction, ready to be carried out.

    exit_: what a trace calls the trap. mask: of RIP behind it. jumps: it sets RIP itself.
    reloads: it may load CS or SS, on which the kind of code depends.
    """

    instruction: Instruction
    operands: Operands
    exit_: SensitiveInstruction
    action: Action
    length: int
    mask: int
    jumps: bool
    reloads: bool


class Sites:
    """The trapped instructions of one guest.

    prepare: makes an instruction ready; None for one that is not carried out. Translations must not change
    without a call of ``forget``.
    """

    def __init__(
        self, processor: Processor, cpu: VirtualCore, prepare: Callable[[Instruction], Trapped | None]
    ) -> None:
        self._processor = processor
        self._cpu = cpu
        self._prepare = prepare
        self._file, self._memory = processor.engine.bytes, processor.memory.bytes
        self._sites: dict[tuple[int, ...], tuple[int, int, bytes, Trapped]] = {}
        self._ready: dict[tuple[bytes, int], Trapped | None] = {}

    def forget(self) -> None:
        """Forget where things are: translations have changed."""
        self._sites.clear()

    def find(self) -> Trapped | None:
        """Give the sensitive instruction at RIP, None for another one."""
        site = self._sites.get(_place(self._file, _PLACE_AT))
        if site is not None:
            begin, end, code, trapped = site
            if self._memory[begin:end] == code:
                return trapped
        return self._look()

    def _look(self) -> Trapped | None:
        code, bits = self._processor.fetch() or self._fetch_again(), code_bits(self._cpu)
        key = code, bits
        if key in self._ready:
            trapped = self._ready[key]
        else:
            instruction = decode(code, bits)
            trapped = None if instruction is None else self._prepare(instruction)
            if len(self._ready) >= _CACHED:
                self._ready.clear()
            self._ready[key] = trapped
        if trapped is not None:
            self._keep(trapped, code)
        return trapped

    def _fetch_again(self) -> bytes:
        """Fetch once more, with the page in the shadow: it was emptied since the instruction was fetched."""
        self._cpu.reach(self._processor.linear_rip())
        return self._processor.fetch()

    def _keep(self, trapped: Trapped, code: bytes) -> None:
        """Remember where the instruction is, unless it goes on in another page."""
        processor, core = self._processor, self._processor.core
        linear, length = processor.linear_rip(), trapped.length
        if linear % PAGE + length > PAGE or len(code) < min(length, LONGEST):
            return
        try:
            begin = core.mmu.translate(linear, core.paging, user=core.cpl == 3, fetch=True)
        except (CpuFault, NestedFault):
            return
        if begin + length <= processor.memory.size:
            if len(self._sites) >= _CACHED:
                self._sites.clear()
            self._sites[_place(self._file, _PLACE_AT)] = begin, begin + length, code[:length], trapped
