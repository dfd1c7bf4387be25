"""The model-specific registers of one processor: reads and writes with the checks that the manual asks for.

Registers that execution depends on live in the core (STAR, EFER, FS.base ...); the rest are kept here. A
number that the table of ``vlab.isa.msr`` does not have is #GP, as on hardware. Sections of AMD APM vol. 2,
rev. 3.42.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Final

from vlab.isa.msr import Msr, find
from vlab.isa.paging import canonical
from vlab.machine.core import LiveCore

_IN_CORE: Final = {
    Msr.STAR: "star", Msr.LSTAR: "lstar", Msr.CSTAR: "cstar", Msr.SFMASK: "sfmask",
    Msr.KERNEL_GS_BASE: "kernel_gs_base", Msr.SYSENTER_CS: "sysenter_cs", Msr.SYSENTER_ESP: "sysenter_esp",
    Msr.SYSENTER_EIP: "sysenter_eip", Msr.PAT: "pat", Msr.TSC_AUX: "tsc_aux",
}  # fmt: skip
_ADDRESSES: Final = {Msr.LSTAR, Msr.CSTAR, Msr.KERNEL_GS_BASE, Msr.SYSENTER_ESP, Msr.SYSENTER_EIP}
_SEGMENT_BASES: Final = {Msr.FS_BASE: "fs", Msr.GS_BASE: "gs"}
_READ_ONLY: Final = {Msr.MTRR_CAP, Msr.PATCH_LEVEL, Msr.MCG_CAP}
_WRITE_ONLY: Final = {Msr.PRED_CMD}
_OF_AMD_V: Final = {Msr.VM_CR, Msr.VM_HSAVE_PA, Msr.SVM_KEY}
"""Registers of what CPUID does not show: they do not exist, nor does EFER.SVME (APM2 15.4, 15.30)."""
_VALID: Final = {
    Msr.APIC_BASE: 0xFF_FFFF_F900,  # 40 bits of address, AE and BSC; there is no x2APIC
    Msr.TSC_AUX: 0xFFFFFFFF,
}
"""The bits that exist, of registers where setting another one is #GP."""

_SCE, _LME, _LMA, _NXE, _SVME = 1, 1 << 8, 1 << 10, 1 << 11, 1 << 12
_EFER_WRITABLE: Final = _SCE | _LME | _NXE
_PG: Final = 1 << 31
_MEMORY_TYPES: Final = {0, 1, 4, 5, 6, 7}


class ModelSpecificRegisters:
    """RDMSR and WRMSR for one processor.

    tsc: gives the time stamp counter. ``values``: the registers that live here, by number; a snapshot keeps
    them.
    """

    def __init__(self, core: LiveCore, tsc: Callable[[], int]) -> None:
        self._core = core
        self._tsc = tsc
        self.tsc_offset = 0
        self.values: dict[int, int] = {}
        self.on_apic_base: Callable[[int], None] = lambda _value: None
        self.on_tsc_deadline: Callable[[int], None] | None = None

    def read(self, number: int) -> int | None:
        """Give the register's value, or None for #GP."""
        core, msr = self._core, find(number)
        if msr is None or msr in _WRITE_ONLY or msr in _OF_AMD_V:
            return None
        if msr in _IN_CORE:
            return int(getattr(core, _IN_CORE[msr]))
        if msr in _SEGMENT_BASES:
            return core.segment(_SEGMENT_BASES[msr]).base
        if msr is Msr.EFER:
            return core.efer & ~_SVME
        if msr is Msr.TSC:
            return (self._tsc() + self.tsc_offset) & (1 << 64) - 1
        return self.values.get(msr, msr.reset)

    def write(self, number: int, value: int) -> bool:
        """Set the register; False for #GP, with nothing changed."""
        msr = find(number)
        if msr is None or msr in _READ_ONLY or msr in _OF_AMD_V or value & ~_VALID.get(msr, value):
            return False
        if (msr in _ADDRESSES or msr in _SEGMENT_BASES) and not canonical(value):
            return False
        core = self._core
        if msr in _SEGMENT_BASES:
            name = _SEGMENT_BASES[msr]
            core.set_segment(name, replace(core.segment(name), base=value))
        elif msr is Msr.EFER:
            return self._write_efer(value)
        elif msr is Msr.PAT:
            if any(value >> shift & 0xFF not in _MEMORY_TYPES for shift in range(0, 64, 8)):
                return False
            core.pat = value
        elif msr in _IN_CORE:
            setattr(core, _IN_CORE[msr], value)
        elif msr is Msr.TSC:
            self.tsc_offset = value - self._tsc()
        else:
            self.values[number] = value
            if msr is Msr.APIC_BASE:
                self.on_apic_base(value)
        return True

    def _write_efer(self, value: int) -> bool:
        """EFER (APM2 3.1.7): #GP for reserved bits and for a change of LME under paging; LMA is kept."""
        core = self._core
        old = core.efer
        if value & ~(_EFER_WRITABLE | _LMA):
            return False
        if core.cr0 & _PG and (old ^ value) & _LME:
            return False
        core.efer = value & _EFER_WRITABLE | old & (_LMA | _SVME)
        core.refresh()
        if (old ^ value) & _NXE:
            core.engine.flush_tlb()
        return True
