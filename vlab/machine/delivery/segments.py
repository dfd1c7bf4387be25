"""Descriptors as delivery loads them: code segments of handlers, stack segments of inner rings.

Sections are those of AMD APM vol. 2, rev. 3.42 (APM2), Intel SDM vol. 2A, order 325383-083 (SDM2, "INT n"),
and SDM vol. 3A, order 253668-083 (SDM3). A descriptor is handled as one number, bit positions as in
`vlab.isa.descriptors.SegmentDescriptor`: this is a hot path.
"""

from __future__ import annotations

from vlab.isa.descriptors import unpack_segment
from vlab.isa.state import Segment
from vlab.isa.vectors import Vector
from vlab.machine.delivery.core import MASK32, PRESENT, Core, read_table, write_table
from vlab.machine.faults import CpuFault

GP, NP, SS, TS = int(Vector.GP), int(Vector.NP), int(Vector.SS), int(Vector.TS)


def read_descriptor(
    core: Core, selector: int, wrap: int, *, vector: int, ext: int, what: str
) -> tuple[int, int]:
    """Read the 8-byte descriptor that ``selector`` names; give it with its linear address.

    A selector outside its table raises ``vector`` with the selector as error code (APM2 8.4.1).
    """
    offset = selector & 0xFFF8
    if selector & 4:
        ldtr = core.segment("ldtr")
        base, limit, table = ldtr.base, ldtr.limit if ldtr.attributes & PRESENT else -1, "LDT"
    else:
        gdtr = core.gdtr
        base, limit, table = gdtr.base, gdtr.limit, "GDT"
    if offset + 7 > limit:
        raise CpuFault(
            vector,
            selector & 0xFFFC | ext,
            why=f"{what} {selector:#06x} is outside the {table} (limit {limit:#x})",
        )
    address = (base + offset) & wrap
    return read_table(core, address, 8, f"{table} entry {selector >> 3}"), address


def mark_accessed(core: Core, descriptor: int, address: int) -> int:
    """Set the accessed bit in the table when it is clear, as loads do (APM2 4.7.2); give the descriptor."""
    if descriptor >> 40 & 1:
        return descriptor
    write_table(core, address + 5, 1, descriptor >> 40 & 0xFF | 1, "the descriptor's accessed bit")
    return descriptor | 1 << 40


def target_code(
    core: Core, selector: int, cpl: int, ext: int, wrap: int, *, long: bool = False
) -> tuple[int, int, int]:
    """Check the code segment that a gate names (APM2 8.7.4, 8.9.2; SDM3 6.12.1.1).

    Gives its descriptor, the descriptor's address and the CPL at which the handler runs.
    """
    if not selector & 0xFFFC:
        raise CpuFault(GP, ext, why="the gate's code segment selector is null")
    code = selector & 0xFFFC | ext
    descriptor, address = read_descriptor(
        core, selector, wrap, vector=GP, ext=ext, what="the gate's code segment"
    )
    if descriptor >> 43 & 3 != 3:
        raise CpuFault(GP, code, why=f"the gate's selector {selector:#06x} names no code segment")
    dpl = descriptor >> 45 & 3
    if dpl > cpl:
        raise CpuFault(
            GP,
            code,
            why=f"the gate's code segment {selector:#06x} has DPL {dpl}, less privileged than CPL {cpl}",
        )
    if long and descriptor >> 53 & 3 != 1:
        raise CpuFault(
            GP, code, why=f"the gate's code segment {selector:#06x} is not a 64-bit one (L=1, D=0)"
        )
    if not descriptor >> 47 & 1:
        raise CpuFault(NP, code, why=f"the gate's code segment {selector:#06x} is not present")
    conforming = descriptor >> 42 & 1
    return descriptor, address, cpl if conforming else dpl


def load_stack(core: Core, selector: int, cpl: int, ext: int) -> Segment:
    """Check the stack segment ``selector`` for ring ``cpl`` and load it (SDM2, INTER-PRIVILEGE-LEVEL)."""
    if not selector & 0xFFFC:
        raise CpuFault(TS, ext, why=f"the stack selector for ring {cpl} is null")
    code = selector & 0xFFFC | ext
    descriptor, address = read_descriptor(
        core, selector, MASK32, vector=TS, ext=ext, what="the stack segment"
    )
    if selector & 3 != cpl or descriptor >> 45 & 3 != cpl:
        raise CpuFault(
            TS,
            code,
            why=f"the stack segment {selector:#06x} has RPL {selector & 3} and DPL {descriptor >> 45 & 3},"
            f" not both {cpl}",
        )
    if descriptor >> 41 & 0xD != 0x9:
        raise CpuFault(TS, code, why=f"the stack segment {selector:#06x} is not writable data")
    if not descriptor >> 47 & 1:
        raise CpuFault(SS, code, why=f"the stack segment {selector:#06x} is not present")
    return unpack_segment(mark_accessed(core, descriptor, address), selector)
