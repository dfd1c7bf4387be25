"""What a write to a control or debug register checks and does: MOV CRn, MOV DRn, LMSW and CLTS.

The emulator takes any value, and some lead it into states that do not exist; so the processor intercepts
these writes for itself and carries them out here. Sections are those of AMD APM vol. 2, rev. 3.42 (APM2).
"""

from __future__ import annotations

from typing import Final

from vlab.isa.control import CR0, CR4
from vlab.isa.vectors import Vector
from vlab.machine.core import LiveCore
from vlab.machine.faults import CpuFault

PE, TS, PG = CR0.PE.mask, CR0.TS.mask, CR0.PG.mask
_ET, _WP, _NW, _CD = CR0.ET.mask, CR0.WP.mask, CR0.NW.mask, CR0.CD.mask
_CR0_BITS: Final = sum(field.mask for field in CR0.fields())
_PAE, _DE = CR4.PAE.mask, CR4.DE.mask
CR4_BITS: Final = sum(
    field.mask
    for field in (
        CR4.TSD, CR4.DE, CR4.PSE, CR4.PAE, CR4.MCE, CR4.PGE, CR4.PCE, CR4.OSFXSR, CR4.OSXMMEXCPT,
        CR4.FSGSBASE, CR4.SMEP,
    )
)  # fmt: skip
"""The bits of CR4 that this processor has; the others are reserved, and CPUID does not show their features.
"""
_TRANSLATION: Final = _PAE | CR4.PSE.mask | CR4.PGE.mask | CR4.SMEP.mask
_LME, _LMA = 1 << 8, 1 << 10
_LONG: Final = 1 << 9  # L in segment attributes
_MASK32: Final = 0xFFFFFFFF
_GP, _UD = int(Vector.GP), int(Vector.UD)


def check_cr0(value: int) -> str:
    """Say what is wrong with a value for CR0 in itself (APM2 3.1.1), "" when nothing is."""
    if value > _MASK32:
        return "bits 63:32 of CR0 must be 0"
    if value & (_NW | _CD) == _NW:
        return "CR0.NW needs CR0.CD"
    return ""


def write_cr0(core: LiveCore, value: int) -> None:
    """Execute a write of CR0 (APM2 3.1.1, 14.6.1): modes change with PE and PG.

    Raises CpuFault #GP, with nothing changed, for a value that the manual forbids.
    """
    old = core.cr0
    why = check_cr0(value)
    if not why and value & (PG | PE) == PG:
        why = "CR0.PG needs CR0.PE"
    if not why and (old ^ value) & PG:
        why = _paging_change(core, value)
    if why:
        raise CpuFault(_GP, 0, why=why)
    if core.efer & _LME:
        core.efer = core.efer | _LMA if value & PG else core.efer & ~_LMA
    core.cr0 = value & _CR0_BITS | _ET
    core.refresh()
    if (old ^ value) & (PG | PE | _WP):
        core.engine.flush_tlb()


def _paging_change(core: LiveCore, value: int) -> str:
    """Say why paging cannot be switched so: entering and leaving long mode have conditions (APM2 14.6.1)."""
    if value & PG:
        if core.efer & _LME and not core.cr4 & _PAE:
            return "long mode needs CR4.PAE"
        if core.efer & _LME and core.segment("cs").attributes & _LONG:
            return "long mode cannot begin in a code segment with L set"
    elif core.mode_code == 5:
        return "paging cannot be turned off in 64-bit mode"
    return ""


def load_machine_status_word(core: LiveCore, value: int) -> None:
    """Execute LMSW: the low four bits of CR0, of which PE can be set but not cleared (APM3 "LMSW")."""
    write_cr0(core, core.cr0 & ~0xE | value & 0xF)


def clear_task_switched(core: LiveCore) -> None:
    """Execute CLTS."""
    core.cr0 &= ~TS
    core.refresh()


def write_cr4(core: LiveCore, value: int) -> None:
    """Execute a write of CR4 (APM2 3.1.3). Raises CpuFault #GP, with nothing changed."""
    old = core.cr4
    if value & ~CR4_BITS:
        raise CpuFault(_GP, 0, why=f"bits {value & ~CR4_BITS:#x} of CR4 are reserved")
    if not value & _PAE and core.efer & _LMA:
        raise CpuFault(_GP, 0, why="CR4.PAE cannot be cleared in long mode")
    core.cr4 = value
    core.refresh()
    if (old ^ value) & _TRANSLATION:
        core.engine.flush_tlb()


def write_debug_register(core: LiveCore, number: int, value: int) -> None:
    """Execute MOV DRn (APM2 13.1.1); raises CpuFault #UD or #GP."""
    if number in (4, 5):
        if core.cr4 & _DE:
            raise CpuFault(_UD, why=f"DR{number} does not exist while CR4.DE is set")
        number += 2
    if number >= 6 and value > _MASK32:
        raise CpuFault(_GP, 0, why=f"bits 63:32 of DR{number} must be 0")
    core.set_debug_register(number, value)
