"""Where the machine keeps what is its own: the top of host-physical memory, and the device windows above it.

The reserved run is the machine's microcode memory. No guest and no monitor is given a frame of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from vlab.isa.vmcb import InterceptMisc1, InterceptMisc2, VmcbControl, VmcbSave
from vlab.machine.memory import PAGE, PhysicalMemory

RESERVED: Final = 64 * PAGE
"""Bytes at the top of host-physical memory that belong to the machine."""

WINDOWS: Final = 1 << 38
"""Host-physical address of the first device window; far above any memory."""

_LONG_MODE_TABLES: Final = 6 * PAGE  # one PML4, one PDPT, four directories: the low 4 GiB in 2 MiB pages


@dataclass(frozen=True, slots=True)
class HostLayout:
    """Addresses (bytes, host-physical) in the reserved run, which starts at ``base``."""

    base: int

    @property
    def page_tables(self) -> int:
        """Identity map of the low 4 GiB: one PML4, one PDPT, four directories."""
        return self.base

    @property
    def save_area(self) -> int:
        """VM_HSAVE_PA."""
        return self.base + _LONG_MODE_TABLES

    @property
    def vmcb(self) -> int:
        """The engine's own VMCB."""
        return self.save_area + PAGE

    @property
    def msr_map(self) -> int:
        """Its MSR permission map, two pages."""
        return self.vmcb + PAGE

    @property
    def empty_table(self) -> int:
        """A page of zeroes: a paging structure in which nothing is present."""
        return self.msr_map + 2 * PAGE

    @property
    def code(self) -> int:
        """One VMRUN and one HLT."""
        return self.empty_table + PAGE

    @property
    def nested_root(self) -> int:
        """The nested tables that the engine starts with."""
        return self.page_tables

    def write(self, memory: PhysicalMemory) -> None:
        """Fill the run: tables, VMCB and code for the engine's first VMRUN."""
        words = memory.bytes[self.base : self.base + _LONG_MODE_TABLES].cast("Q")
        words[0] = self.page_tables + PAGE | 7
        for directory in range(4):
            words[512 + directory] = self.page_tables + (2 + directory) * PAGE | 7
            for large in range(512):
                place = 1024 + 512 * directory + large
                words[place] = (512 * directory + large) << 21 | 0x87
        memory.bytes[self.msr_map : self.msr_map + 2 * PAGE] = b"\xff" * (2 * PAGE)
        memory.bytes[self.code : self.code + 4] = bytes((0x0F, 0x01, 0xD8, 0xF4))  # VMRUN; HLT
        self._write_vmcb(memory)

    def _write_vmcb(self, memory: PhysicalMemory) -> None:
        control = VmcbControl(memory.bytes, self.vmcb)
        control.intercept_exceptions = 0xFFFFFFFF
        control.msrpm_base_pa = self.msr_map
        control.asid = 1
        control.nested_ctl = 1
        control.nested_cr3 = self.nested_root
        control.intercept_misc1 = InterceptMisc1.HLT.mask
        control.intercept_misc2 = InterceptMisc2.VMRUN.mask
        save = VmcbSave(memory.bytes, self.vmcb)
        for name in ("es", "cs", "ss", "ds"):
            setattr(save, f"{name}_attributes", 0xC9B if name == "cs" else 0xC93)
            setattr(save, f"{name}_limit", 0xFFFFFFFF)
        save.efer = 0x1000  # SVME must be set in a guest's EFER (APM2 15.5.1)
        save.cr0 = 0x11
        save.rflags = 2
        save.rip = self.code + 3
        save.g_pat = 0x0007040600070406
