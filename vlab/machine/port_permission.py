"""May this program use that port? IN and OUT ask the I/O privilege level, then the bitmap in the TSS.

Sections are those of AMD APM vol. 2, rev. 3.42 (APM2), and Intel SDM vol. 1, order 253665-083 (SDM1).
"""

from __future__ import annotations

from vlab.isa.tss import Tss32, io_allowed
from vlab.isa.vectors import Vector
from vlab.machine.delivery.core import CR0_PE, EFER_LMA, IOPL_SHIFT, MASK32, MASK64, VM, Core, read_table
from vlab.machine.faults import CpuFault

_GP = int(Vector.GP)
_IOMAP_BASE = Tss32.iomap_base.offset  # the same place in the 64-bit TSS


def check(core: Core, port: int, size: int) -> CpuFault | None:
    """Give the fault of an access to ``size`` (1, 2 or 4) bytes at ``port``, or None when it is allowed.

    In protected mode CPL <= IOPL is enough; otherwise, and always in virtual-8086 mode, the I/O permission
    bitmap decides, and a 16-bit TSS has none (APM2 12.2.4; SDM1 19.5). A fault of the bitmap itself, such as
    #PF, is given back too.
    """
    rflags = core.rflags
    if not core.cr0 & CR0_PE:
        return None
    if not rflags & VM and core.cpl <= rflags >> IOPL_SHIFT & 3:
        return None
    task = core.segment("tr")
    if task.attributes & 0x9D != 0x89:
        return CpuFault(_GP, 0, why=f"port {port:#x} needs an I/O bitmap, and TR holds no 32- or 64-bit TSS")
    if task.limit < _IOMAP_BASE + 1:
        return CpuFault(
            _GP, 0, why=f"port {port:#x} needs an I/O bitmap, beyond the TSS limit {task.limit:#x}"
        )
    wrap = MASK64 if core.efer & EFER_LMA else MASK32
    try:
        base = read_table(core, (task.base + _IOMAP_BASE) & wrap, 2, "the I/O map base in the TSS")
        allowed = io_allowed(
            lambda offset: read_table(core, (task.base + offset) & wrap, 1, "the I/O permission bitmap"),
            task.limit,
            base,
            port,
            size,
        )
    except CpuFault as fault:
        return fault
    if allowed:
        return None
    return CpuFault(
        _GP, 0, why=f"the I/O permission bitmap closes {size} byte{'s'[: size > 1]} at port {port:#x}"
    )
