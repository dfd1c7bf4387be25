"""The control registers as a guest under shadow paging sees them, and what the processor holds instead.

Sections are those of AMD APM vol. 2, rev. 3.42, and vol. 3, rev. 3.36 (APM3).
"""

from __future__ import annotations

from dataclasses import dataclass

from vlab.isa.control import CR0, CR4, EFER
from vlab.isa.paging import PagingControls
from vlab.isa.vectors import Vector
from vlab.machine.control_registers import CR4_BITS, check_cr0
from vlab.machine.faults import CpuFault

_PE, _PG, _WP, _ET = CR0.PE.mask, CR0.PG.mask, CR0.WP.mask, CR0.ET.mask
_PAE, _LME, _LMA = CR4.PAE.mask, EFER.LME.mask, EFER.LMA.mask
_LEGACY_MASK = 0xFFFFFFFF
_PHYSICAL_BITS = 40

_CR0_DEFINED = sum(field.mask for field in CR0.fields())
_CR0_PAGING = _PG | _WP | _PE
_CR4_PAGING = _PAE | CR4.PSE.mask | CR4.PGE.mask | CR4.SMEP.mask
_EFER_WRITABLE = EFER.SCE.mask | _LME | EFER.NXE.mask


def _refuse(why: str) -> CpuFault:
    return CpuFault(Vector.GP, 0, why=why)


@dataclass(slots=True)
class VirtualRegisters:
    """The guest's CR0, CR3, CR4 and EFER.

    The writing methods say whether translations of the past are to be forgotten; they raise CpuFault, #GP
    with nothing changed, for what the processor refuses. ``always_long``: the processor is in long mode
    whatever the guest is in. ``added_cr4``, ``withheld_cr4``: bits that are 1 in the processor's CR4 and none
    of the guest's affair, and bits that are 0 whatever the guest has.
    """

    cr0: int = _ET
    cr3: int = 0
    cr4: int = 0
    efer: int = 0
    always_long: bool = False
    added_cr4: int = 0
    withheld_cr4: int = 0

    def load(self, cr0: int, cr3: int, cr4: int, efer: int) -> None:
        """Take over all four, unchecked."""
        self.cr0, self.cr3, self.cr4, self.efer = cr0, cr3, cr4, efer

    def controls(self) -> PagingControls:
        """Give what steers the guest's translation."""
        return PagingControls.from_registers(self.cr0, self.cr3, self.cr4, self.efer)

    # --- what the guest writes ----------------------------------------------------------------------------

    def write_cr0(self, value: int, *, code64: bool) -> bool:
        """MOV to CR0 and LMSW (APM2 3.1.1, 14.6; APM3, MOV CRn). code64: CS.L is 1."""
        if why := check_cr0(value):
            raise _refuse(why)
        if value & _PG and not value & _PE:
            raise _refuse("CR0.PG needs CR0.PE")
        turned_on, turned_off = value & ~self.cr0 & _PG, self.cr0 & ~value & _PG
        efer = self.efer
        if turned_on and efer & _LME:
            if not self.cr4 & _PAE:
                raise _refuse("long mode needs CR4.PAE")
            if code64:
                raise _refuse("long mode begins with CS.L = 0")
            efer |= _LMA
        elif turned_off:
            if code64:
                raise _refuse("paging cannot be turned off in 64-bit mode")
            efer &= ~_LMA
        value = value & _CR0_DEFINED | _ET
        changed = (self.cr0 ^ value) & _CR0_PAGING
        self.cr0, self.efer = value, efer
        return bool(changed)

    def write_cr3(self, value: int) -> bool:
        """MOV to CR3: always a flush (APM2 5.5)."""
        if self.efer & _LMA:
            if value >> _PHYSICAL_BITS:
                raise _refuse(f"bits 63:{_PHYSICAL_BITS} of CR3 must be 0 in long mode")
        else:
            value &= _LEGACY_MASK
        self.cr3 = value
        return True

    def write_cr4(self, value: int) -> bool:
        """MOV to CR4 (APM2 3.1.3)."""
        if value & ~CR4_BITS:
            raise _refuse(f"bits {value & ~CR4_BITS:#x} of CR4 are reserved")
        if self.efer & _LMA and not value & _PAE:
            raise _refuse("CR4.PAE must stay 1 in long mode")
        changed = (self.cr4 ^ value) & _CR4_PAGING
        self.cr4 = value
        return bool(changed)

    def write_efer(self, value: int) -> bool:
        """WRMSR to EFER (APM2 3.1.7): LMA is the processor's, and LME holds still while paging is on."""
        if value & ~(_EFER_WRITABLE | _LMA):
            raise _refuse(f"bits {value & ~_EFER_WRITABLE:#x} of EFER are reserved")
        if self.cr0 & _PG and (self.efer ^ value) & _LME:
            raise _refuse("EFER.LME cannot change while paging is on")
        changed = (self.efer ^ value) & EFER.NXE.mask
        self.efer = value & _EFER_WRITABLE | self.efer & _LMA
        return bool(changed)

    # --- what the processor holds ---------------------------------------------------------------------------

    @property
    def real_cr0(self) -> int:
        """Paging is always on, in real mode too (APM2 15.19), and the supervisor held to read-only pages."""
        return self.cr0 | _PG | _WP

    @property
    def real_cr4(self) -> int:
        """Shadow tables have 64-bit entries."""
        return self.cr4 & ~self.withheld_cr4 | _PAE | self.added_cr4

    @property
    def real_efer(self) -> int:
        """NX exists in shadow tables; long mode is on exactly while the guest's is, or always."""
        long = _LME | _LMA if self.efer & _LMA or self.always_long else 0
        return self.efer & ~(_LME | _LMA) | long | EFER.NXE.mask
