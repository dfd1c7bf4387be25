"""The VMCB's state save area against the processor's registers, and what VMRUN refuses.

Sections are those of AMD APM vol. 2, rev. 3.42.
"""

from __future__ import annotations

from typing import Final

from vlab.isa.control import CR0, EFER
from vlab.isa.permission_maps import MSRPM_SIZE
from vlab.isa.state import CpuState
from vlab.isa.vmcb import InterceptMisc1, InterceptMisc2, VmcbControl, VmcbSave
from vlab.machine.control_registers import CR4_BITS, check_cr0
from vlab.machine.core import SEGMENT_NAMES

_TABLES: Final = ("gdtr", "idtr")
_SAVED: Final = (
    "efer", "cr4", "cr3", "cr0", "dr7", "dr6", "rflags", "rip", "rsp", "rax", "star", "lstar", "cstar",
    "sfmask", "kernel_gs_base", "sysenter_cs", "sysenter_esp", "sysenter_eip", "cr2",
)  # fmt: skip
_SVME, _LME, _PE, _PG = EFER.SVME.mask, EFER.LME.mask, CR0.PE.mask, CR0.PG.mask
_EFER_BITS: Final = EFER.SCE.mask | _LME | EFER.LMA.mask | EFER.NXE.mask | _SVME
_PAE, _VM = 1 << 5, 1 << 17
_LONG, _BIG, _DPL = 1 << 9, 1 << 10, 3 << 5
_MASK32: Final = 0xFFFFFFFF


def write_save_area(save: VmcbSave, state: CpuState) -> None:
    """Put ``state`` into a VMCB's state save area; EFER.SVME is set there, as VMRUN demands (APM2 15.5.1)."""
    for name in SEGMENT_NAMES:
        segment = getattr(state, name)
        setattr(save, f"{name}_selector", segment.selector)
        setattr(save, f"{name}_attributes", segment.attributes)
        setattr(save, f"{name}_limit", segment.limit)
        setattr(save, f"{name}_base", segment.base)
    for name in _TABLES:
        setattr(save, f"{name}_base", getattr(state, name).base)
        setattr(save, f"{name}_limit", getattr(state, name).limit)
    for name in _SAVED:
        setattr(save, name, getattr(state, name))
    save.efer = state.efer | _SVME
    save.g_pat = state.pat
    save.cpl = state.cpl


def read_save_area(save: VmcbSave, rest: CpuState) -> CpuState:
    """Give the state in a save area; registers that VMRUN does not load are those of ``rest``.

    What VMLOAD would load (FS, GS, TR, LDTR and the MSRs of system calls) is taken from the VMCB too. The CPL
    is the save area's own field, as on hardware, where SS need not agree (APM2 15.5.1).
    """
    state = rest.copy()
    for name in SEGMENT_NAMES:
        segment = getattr(state, name)
        segment.selector = getattr(save, f"{name}_selector")
        segment.attributes = getattr(save, f"{name}_attributes")
        segment.limit = getattr(save, f"{name}_limit")
        segment.base = getattr(save, f"{name}_base")
    for name in _TABLES:
        getattr(state, name).base = getattr(save, f"{name}_base")
        getattr(state, name).limit = getattr(save, f"{name}_limit")
    for name in _SAVED:
        setattr(state, name, int(getattr(save, name)))
    if state.cr0 & _PE and not state.rflags & _VM:
        state.ss.attributes = state.ss.attributes & ~_DPL | (save.cpl & 3) << 5
    long_mode = state.efer & _LME and state.cr0 & _PG
    state.efer = state.efer & ~(_SVME | EFER.LMA.mask) | (EFER.LMA.mask if long_mode else 0)
    state.pat = save.g_pat
    return state


def refusal(control: VmcbControl, save: VmcbSave, memory_size: int) -> str:
    """Say why VMRUN refuses a VMCB with VMEXIT_INVALID (APM2 15.5.1, "Canonicalization and Consistency
    Checks"), or "" when it does not. memory_size: bytes of physical memory.
    """
    if not control.intercept_misc2 & InterceptMisc2.VMRUN.mask:
        return "the VMRUN intercept is clear"
    if not control.asid:
        return "the ASID is 0"
    if control.intercept_misc1 & InterceptMisc1.MSR.mask and control.msrpm_base_pa + MSRPM_SIZE > memory_size:
        return f"the MSR permission map at {control.msrpm_base_pa:#x} is not in memory"
    if not save.efer & _SVME:
        return "EFER.SVME is clear"
    if save.efer & ~_EFER_BITS:
        return f"EFER has reserved bits set: {save.efer & ~_EFER_BITS:#x}"
    if why := check_cr0(save.cr0):
        return why
    if save.cr4 & ~CR4_BITS:
        return f"CR4 has reserved bits set: {save.cr4 & ~CR4_BITS:#x}"
    if save.dr6 > _MASK32 or save.dr7 > _MASK32:
        return "bits 63:32 of DR6 and DR7 must be 0"
    if save.efer & _LME and save.cr0 & _PG:
        return _long_mode_refusal(save)
    return ""


def _long_mode_refusal(save: VmcbSave) -> str:
    if not save.cr4 & _PAE:
        return "long mode needs CR4.PAE"
    if not save.cr0 & _PE:
        return "long mode needs CR0.PE"
    if save.cs_attributes & (_LONG | _BIG) == _LONG | _BIG:
        return "CS has both L and D set"
    if save.cr3 >> 52:
        return "bits 63:52 of CR3 must be 0"
    return ""
