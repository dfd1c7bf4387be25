"""What the translation of an instruction depends on beside its bytes and its address.

The interrupt flag is part of it: there is a translation of the guest's kernel for interrupts on and one for
interrupts off, and CLI, STI and POPF are jumps from one into the other. So the virtual flag costs no memory
that the guest could find, and PUSHF with interrupts on is the processor's own.
"""

from __future__ import annotations

from typing import Final

from vlab.isa.control import CR0, EFlags
from vlab.machine import registers as reg
from vlab.vmm.deprivileged.virtual_core import VirtualCore

_BITS: Final = (16, 32, 64)
_IF: Final = 4
_RING_SHIFT: Final = 3
_PLAIN: Final = 32
_STEP: Final = 64

COUNT: Final = 128
"""Contexts there can be: a block's key is ``rip * COUNT + code``."""

_CS32, _SS32, _CS64 = 1 << 4, 1 << 5, 1 << 15  # in hflags
_TF, _PE = EFlags.TF.mask, CR0.PE.mask


class Context:
    """One of them. ``code``: its number.

    bits: 16, 32 or 64, the kind of code. interrupts: the guest's RFLAGS.IF. ring: the guest's CPL. plain:
    ring 0 with IOPL 0 and a stack as wide as the code, for which flags and near transfers are translated
    inline. step: RFLAGS.TF is set, so an instruction is a block.
    """

    __slots__ = ("bits", "code", "interrupts", "plain", "ring", "step", "wide")

    def __init__(self, code: int) -> None:
        self.code = code
        self.bits = _BITS[code & 3]
        self.interrupts = bool(code & _IF)
        self.ring = code >> _RING_SHIFT & 3
        self.plain = bool(code & _PLAIN)
        self.step = bool(code & _STEP)
        self.wide = self.bits == 64

    def with_interrupts(self, enabled: bool) -> Context:
        """Give the same but for the interrupt flag."""
        return CONTEXTS[self.code & ~_IF | (_IF if enabled else 0)]

    def __repr__(self) -> str:
        flags = f"IF={self.interrupts:d}{' TF' if self.step else ''}{'' if self.plain else ' not plain'}"
        return f"<{self.bits}-bit ring {self.ring} {flags}>"


CONTEXTS: Final = {code: Context(code) for code in range(COUNT) if code & 3 < 3}


def current(cpu: VirtualCore) -> Context:
    """Give the context of the guest's next instruction; it is not in virtual-8086 mode."""
    words, words32 = cpu.words, cpu.words32
    hflags, ring = words32[reg.HFLAGS], cpu.cpl
    bits = 2 if hflags & _CS64 else 1 if hflags & _CS32 else 0
    code = bits | ring << _RING_SHIFT
    if cpu.interrupt_flag:
        code |= _IF
    if not ring and bits and not cpu.iopl and hflags & _SS32 and cpu.cr0 & _PE:
        code |= _PLAIN
    if words[reg.EFLAGS] & _TF:
        code |= _STEP
    return CONTEXTS[code]
