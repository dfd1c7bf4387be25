"""Power-on: from a fresh emulator to a processor in SVM guest mode, once for each engine.

The engine never leaves guest mode again, for only there do faults arrive cleanly for ever (docs/MACHINE.md).
Sections are those of AMD APM vol. 2, rev. 3.42.
"""

from __future__ import annotations

import ctypes
from typing import Final

from vlab.machine import registers as reg
from vlab.machine.cpu import STOP_FUNCTION, Library, UnknownEmulator
from vlab.machine.identity import (
    EXTENDED_ECX,
    EXTENDED_EDX,
    FAMILY_MODEL_STEPPING,
    FEATURES_ECX,
    FEATURES_EDX,
    LEAF_7_EBX,
    SVM,
)
from vlab.machine.layout import HostLayout
from vlab.machine.memory import PhysicalMemory

_MSRS: Final = {
    "star": 0xC0000081, "lstar": 0xC0000082, "cstar": 0xC0000083, "sfmask": 0xC0000084,
    "kernel_gs_base": 0xC0000102, "sysenter_esp": 0x175, "sysenter_eip": 0x176, "pat": 0x277,
    "tsc_aux": 0xC0000103,
}  # fmt: skip
_EFER, _HSAVE_PA = 0xC0000080, 0xC0010117

_HOST_EFER: Final = 0x1501
"""SCE LME LMA SVME. Nested paging takes the host's paging mode, which must be 4-level. NXE stays off: with
it, an NX bit in a nested table entry that maps a guest page table would end the process; without it, NX is a
reserved bit there, and a nested page fault says so."""

_HOST_CR4: Final = 0x620  # PAE, OSFXSR, OSXMMEXCPT
_HOST_CR0: Final = 0x80000011  # PG, ET, PE


def power_on(library: Library, memory: PhysicalMemory, host: HostLayout) -> reg.Layout:
    """Enter long mode as a host and execute the one real VMRUN (APM2 15.5); give the places of everything.

    Raises UnknownEmulator when the installed emulator is not as vlab knows it.
    """
    cpu, env = reg.find_env(library.handle, library.write_general)
    msrs = _find_msrs(library, env)
    _cut_features(env)
    host.write(memory)
    library.write_control(4, _HOST_CR4)
    library.write_control(3, host.page_tables)
    library.write_msr(_EFER, _HOST_EFER)
    library.write_control(0, _HOST_CR0)
    library.write_msr(_HSAVE_PA, host.save_area)
    library.write_task_register(0x40, host.save_area, 0xFFFF, 0x8B)
    msrs["efer"] = reg.find_value(env, 0x400, _HOST_EFER, "EFER")
    library.write_general(0, host.vmcb)
    # The guest's first instruction is HLT, which the VMCB intercepts: the library stops there.
    hook = library.add_hook("interrupt", ctypes.c_void_p(STOP_FUNCTION), 0)
    error = library.start(host.code)
    library.remove_hook(hook)
    vmcb = reg.find_value(env, reg.SEARCH_ENV, host.vmcb, "the VMCB's address") if not error else 0
    if ctypes.c_uint64.from_address(env + vmcb + reg.NESTED_CR3).value != host.nested_root:
        raise UnknownEmulator("VMRUN did not enter guest mode with nested paging")
    return reg.Layout(cpu, env, vmcb, msrs)


def _find_msrs(library: Library, env: int) -> dict[str, int]:
    found = {}
    for number, (name, msr) in enumerate(_MSRS.items()):
        probe = 0x0000_5A17_0DD5_0000 + 0x31 * number
        before = library.read_msr(msr)
        library.write_msr(msr, probe)
        if library.read_msr(msr) != probe:
            raise UnknownEmulator(f"its MSR {name} does not keep what is written")
        found[name] = reg.find_value(env, reg.SEARCH_ENV, probe, name)
        library.write_msr(msr, before)
    return found


def _cut_features(env: int) -> None:
    """Leave only what CPUID shows, so that RDRAND and the like are #UD and no two runs can differ by them."""
    allowed = {
        reg.FEATURES_1_EDX: FEATURES_EDX,
        reg.FEATURES_1_ECX: FEATURES_ECX,
        reg.FEATURES_7_EBX: LEAF_7_EBX,
        reg.FEATURES_EXT_EDX: EXTENDED_EDX,
        reg.FEATURES_EXT_ECX: EXTENDED_ECX | SVM,
    }
    reg.cut_features(env, FAMILY_MODEL_STEPPING, allowed)
