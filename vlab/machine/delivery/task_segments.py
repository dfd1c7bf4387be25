"""The segments of a task that is switched to, checked as a task switch checks them.

Sections are those of Intel SDM vol. 3A, order 253668-083 (SDM3), table 8-1.
"""

from __future__ import annotations

from vlab.isa.descriptors import LDT, unpack_segment
from vlab.isa.state import Segment
from vlab.machine.delivery.core import MASK32, Core
from vlab.machine.delivery.segments import NP, TS, mark_accessed, read_descriptor
from vlab.machine.faults import CpuFault


def load_ldt(core: Core, selector: int, ext: int) -> Segment:
    """Load the LDT of the new task; a null selector leaves it without one."""
    if not selector & 0xFFFC:
        return Segment(selector, 0, 0, 0)
    code = selector & 0xFFFC | ext
    if selector & 4:
        raise CpuFault(TS, code, why=f"the new task's LDT selector {selector:#06x} is in the LDT")
    descriptor, _ = read_descriptor(core, selector, MASK32, vector=TS, ext=ext, what="the new task's LDT")
    if descriptor >> 40 & 0x1F != LDT or not descriptor >> 47 & 1:
        raise CpuFault(TS, code, why=f"the new task's LDT selector {selector:#06x} names no present LDT")
    return unpack_segment(descriptor, selector)


def load_code(core: Core, selector: int, ext: int) -> Segment:
    """Load CS of the new task, whose CPL is the selector's RPL."""
    if not selector & 0xFFFC:
        raise CpuFault(TS, ext, why="the new task's CS is null")
    code, rpl = selector & 0xFFFC | ext, selector & 3
    descriptor, address = read_descriptor(
        core, selector, MASK32, vector=TS, ext=ext, what="the new task's CS"
    )
    dpl, conforming = descriptor >> 45 & 3, descriptor >> 42 & 1
    if descriptor >> 43 & 3 != 3:
        raise CpuFault(TS, code, why=f"the new task's CS {selector:#06x} is no code segment")
    if dpl > rpl or (dpl != rpl and not conforming):
        raise CpuFault(TS, code, why=f"the new task's CS {selector:#06x} has DPL {dpl} but RPL {rpl}")
    if not descriptor >> 47 & 1:
        raise CpuFault(NP, code, why=f"the new task's CS {selector:#06x} is not present")
    return unpack_segment(mark_accessed(core, descriptor, address), selector)


def load_data(core: Core, name: str, selector: int, cpl: int, ext: int) -> Segment:
    """Load the data segment register ``name`` of the new task; null is allowed."""
    if not selector & 0xFFFC:
        return Segment(selector, 0, 0, 0)
    code, what = selector & 0xFFFC | ext, f"the new task's {name.upper()}"
    descriptor, address = read_descriptor(core, selector, MASK32, vector=TS, ext=ext, what=what)
    if not descriptor >> 44 & 1 or descriptor >> 43 & 1 > descriptor >> 41 & 1:
        raise CpuFault(TS, code, why=f"{what} {selector:#06x} is not readable")  # S = 0, or execute-only
    conforming = descriptor >> 42 & 3 == 3
    if not conforming and descriptor >> 45 & 3 < max(cpl, selector & 3):
        raise CpuFault(TS, code, why=f"{what} {selector:#06x} has DPL {descriptor >> 45 & 3}, too privileged")
    if not descriptor >> 47 & 1:
        raise CpuFault(NP, code, why=f"{what} {selector:#06x} is not present")
    return unpack_segment(mark_accessed(core, descriptor, address), selector)
