"""LTR, as microcode: the emulator lets a null selector make TR unusable, and then ends the process over it.

Sections are those of AMD APM vol. 2, rev. 3.42 (APM2), and vol. 3, rev. 3.36 (APM3).
"""

from __future__ import annotations

from typing import Final

from vlab.isa.descriptors import TSS_16_AVAILABLE, TSS_32_AVAILABLE, unpack_segment
from vlab.isa.paging import canonical
from vlab.isa.state import Segment
from vlab.machine.delivery.core import EFER_LMA, MASK32, MASK64, Core, read_table, write_table
from vlab.machine.delivery.segments import GP, NP, read_descriptor
from vlab.machine.faults import CpuFault

_BUSY: Final = 2
_KINDS: Final = (TSS_16_AVAILABLE, TSS_32_AVAILABLE)


def load_task_register(core: Core, selector: int) -> None:
    """Load TR from the GDT and mark the TSS busy (APM3 "LTR"; APM2 12.2.3, 12.2.5).

    Raises CpuFault with nothing changed: #GP for a selector that is null, in the LDT or names no available
    TSS; #NP for a TSS that is not present.
    """
    code = selector & 0xFFFC
    if not code or selector & 4:
        raise CpuFault(GP, code, why=f"LTR with selector {selector:#06x}, which is null or in the LDT")
    long = bool(core.efer & EFER_LMA)
    wrap = MASK64 if long else MASK32
    descriptor, address = read_descriptor(core, selector, wrap, vector=GP, ext=0, what="the TSS")
    high = 0
    if long:  # 16 bytes, of which the last four hold a type of zero (APM2 4.8.3)
        if (selector & 0xFFF8) + 15 > core.gdtr.limit:
            raise CpuFault(GP, code, why=f"the TSS descriptor {selector:#06x} is cut off by the GDT limit")
        high = read_table(core, address + 8 & wrap, 8, "the upper half of the TSS descriptor")
    kind = descriptor >> 40 & 0x1F
    if kind not in _KINDS or (long and (kind != TSS_32_AVAILABLE or high >> 40 & 0x1F)):
        raise CpuFault(GP, code, why=f"LTR with selector {selector:#06x}, which names no available TSS")
    if not descriptor >> 47 & 1:
        raise CpuFault(NP, code, why=f"the TSS {selector:#06x} is not present")
    segment = unpack_segment(descriptor, selector)
    base = segment.base | (high & MASK32) << 32
    if not canonical(base):
        raise CpuFault(GP, code, why=f"the TSS base {base:#x} is not canonical")
    busy = descriptor >> 40 & 0xFF | _BUSY
    write_table(core, address + 5 & wrap, 1, busy, "the busy bit of the TSS")
    core.set_segment("tr", Segment(selector, base, segment.limit, segment.attributes | _BUSY))
