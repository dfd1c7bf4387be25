"""Loads of segment registers from the guest's descriptor tables, and the far transfers that load CS.

Every such load traps, for the processor's own GDT is empty. Sections are those of AMD APM vol. 2, rev. 3.42
(APM2), and vol. 3, rev. 3.36 (APM3, by instruction).
"""

from __future__ import annotations

from typing import Final

from vlab.isa.descriptors import LDT, unpack_segment
from vlab.isa.paging import canonical
from vlab.isa.state import Segment
from vlab.isa.vectors import Vector
from vlab.machine.delivery.core import EFER_LMA, MASK32, MASK64
from vlab.machine.delivery.segments import mark_accessed, read_descriptor
from vlab.machine.faults import CpuFault
from vlab.vmm.deprivileged.virtual_core import VirtualCore

GP, NP, SS, TS = int(Vector.GP), int(Vector.NP), int(Vector.SS), int(Vector.TS)
_CODE, _CONFORMING, _READABLE_WRITABLE = 8, 4, 2
_S, _P = 1 << 44, 1 << 47
_LONG: Final = 1 << 53
_LONG64: Final = 5  # LiveCore.mode_code
_DATA: Final = ("ds", "es", "fs", "gs")
_BASED: Final = ("fs", "gs")


def load(cpu: VirtualCore, name: str, selector: int) -> None:
    """MOV and POP to a segment register, LDS and the like (APM2 4.5.2, 4.7; APM3 "MOV"); raises CpuFault."""
    if name == "cs":
        raise CpuFault(int(Vector.UD), why="CS cannot be loaded by MOV or POP")
    if cpu.real_mode or cpu.mode_code == 1:
        load_real(cpu, name, selector)
    elif name == "ss":
        cpu.set_segment("ss", stack_segment(cpu, selector, cpu.cpl, fault=GP))
    else:
        cpu.set_segment(name, data_segment(cpu, name, selector))


def load_real(cpu: VirtualCore, name: str, selector: int) -> None:
    """A load in real or virtual-8086 mode: the base follows, limit and attributes stay (APM2 4.5.2)."""
    old = cpu.segment(name)
    cpu.set_segment(name, Segment(selector, selector << 4, old.limit, old.attributes))


def wrap(cpu: VirtualCore) -> int:
    """Give the mask of addresses of descriptor tables."""
    return MASK64 if cpu.efer & EFER_LMA else MASK32


def data_segment(cpu: VirtualCore, name: str, selector: int) -> Segment:
    """Check and read a descriptor for DS, ES, FS or GS."""
    if not selector & 0xFFFC:
        return Segment(selector, cpu.segment(name).base if cpu.mode_code == _LONG64 else 0, 0, 0)
    code = selector & 0xFFFC
    raw, address = read_descriptor(cpu, selector, wrap(cpu), vector=GP, ext=0, what=name.upper())
    kind, dpl = raw >> 40 & 0xF, raw >> 45 & 3
    if not raw & _S or kind & (_CODE | _READABLE_WRITABLE) == _CODE:
        raise CpuFault(GP, code, why=f"{name.upper()} cannot hold {selector:#06x}, no readable segment")
    if kind & (_CODE | _CONFORMING) != _CODE | _CONFORMING and dpl < max(cpu.cpl, selector & 3):
        raise CpuFault(GP, code, why=f"{name.upper()} cannot hold {selector:#06x} of DPL {dpl} at this CPL")
    if not raw & _P:
        raise CpuFault(NP, code, why=f"the segment {selector:#06x} is not present")
    return unpack_segment(mark_accessed(cpu, raw, address), selector)


def stack_segment(cpu: VirtualCore, selector: int, cpl: int, *, fault: int) -> Segment:
    """Check and read a descriptor for SS at ``cpl``. fault: the vector for a wrong one."""
    if not selector & 0xFFFC:
        if cpu.mode_code == _LONG64 and cpl < 3 and selector & 3 == cpl:
            return Segment(selector, 0, 0, cpl << 5)
        raise CpuFault(fault, 0, why="the selector for SS is null")
    code = selector & 0xFFFC
    raw, address = read_descriptor(cpu, selector, wrap(cpu), vector=fault, ext=0, what="SS")
    if selector & 3 != cpl or raw >> 45 & 3 != cpl:
        raise CpuFault(fault, code, why=f"SS {selector:#06x} has RPL or DPL other than {cpl}")
    if not raw & _S or raw >> 40 & (_CODE | _READABLE_WRITABLE) != _READABLE_WRITABLE:
        raise CpuFault(fault, code, why=f"SS {selector:#06x} is no writable data segment")
    if not raw & _P:
        raise CpuFault(SS, code, why=f"the stack segment {selector:#06x} is not present")
    return unpack_segment(mark_accessed(cpu, raw, address), selector)


def code_descriptor(cpu: VirtualCore, selector: int, what: str) -> tuple[int, int]:
    """Read the descriptor that a far transfer names; give it with its linear address."""
    if not selector & 0xFFFC:
        raise CpuFault(GP, 0, why=f"{what} names a null code segment")
    return read_descriptor(cpu, selector, wrap(cpu), vector=GP, ext=0, what=what)


def check_code(cpu: VirtualCore, raw: int, selector: int, cpl: int) -> None:
    """Check a code segment for a transfer that leaves the CPL as it is (APM2 4.10.1)."""
    code, kind, dpl = selector & 0xFFFC, raw >> 40 & 0xF, raw >> 45 & 3
    if not raw & _S or not kind & _CODE:
        raise CpuFault(GP, code, why=f"{selector:#06x} is no code segment")
    allowed = dpl <= cpl if kind & _CONFORMING else dpl == cpl and selector & 3 <= cpl
    if not allowed:
        raise CpuFault(GP, code, why=f"code segment {selector:#06x} of DPL {dpl} from CPL {cpl}")
    if not raw & _P:
        raise CpuFault(NP, code, why=f"the code segment {selector:#06x} is not present")
    check_long(cpu, raw, code)


def check_long(cpu: VirtualCore, raw: int, code: int) -> None:
    """In long mode L and D must not both be set (APM2 4.8.1)."""
    if cpu.efer & EFER_LMA and raw >> 53 & 3 == 3:
        raise CpuFault(GP, code, why="a code segment with both L and D set")


def enter_code(cpu: VirtualCore, raw: int, address: int, selector: int, cpl: int, offset: int) -> None:
    """Load CS for ring ``cpl`` and jump; raises CpuFault #GP for an offset beyond the limit."""
    limit, long = unpack_segment(raw).limit, bool(cpu.efer & EFER_LMA and raw & _LONG)
    if not long and offset > limit:
        raise CpuFault(GP, 0, why=f"offset {offset:#x} is beyond the limit {limit:#x}")
    if long and not canonical(offset):
        raise CpuFault(GP, 0, why=f"offset {offset:#x} is not canonical")
    cpu.set_segment("cs", unpack_segment(mark_accessed(cpu, raw, address), selector & ~3 | cpl))
    cpu.rip = offset if long else offset & MASK32


def forget_inner(cpu: VirtualCore, cpl: int) -> None:
    """On the way to an outer ring: data segments that it must not have become null (APM3 "RETF", "IRET")."""
    for name in _DATA:
        segment = cpu.segment(name)
        if not segment.selector & 0xFFFC and name in _BASED:
            continue  # what its base is set to in 64-bit mode stays
        inner = (segment.attributes >> 5 & 3) < cpl
        if inner and segment.attributes & 0x1C != 0x1C:
            cpu.set_segment(name, Segment(0, 0, 0, 0))


def load_ldt(cpu: VirtualCore, selector: int) -> None:
    """LLDT (APM3); raises CpuFault."""
    if not selector & 0xFFFC:
        cpu.set_segment("ldtr", Segment(selector, 0, 0, 0))
        return
    code = selector & 0xFFFC
    if selector & 4:
        raise CpuFault(GP, code, why=f"LLDT with selector {selector:#06x} of the LDT")
    long = cpu.efer & EFER_LMA
    raw, address = read_descriptor(cpu, selector, wrap(cpu), vector=GP, ext=0, what="the LDT")
    if long and (selector & 0xFFF8) + 15 > cpu.gdtr.limit:  # 16 bytes (APM2 4.8.3)
        raise CpuFault(GP, code, why=f"the LDT descriptor {selector:#06x} is cut off by the GDT limit")
    if raw >> 40 & 0x1F != LDT:
        raise CpuFault(GP, code, why=f"LLDT with selector {selector:#06x}, which names no LDT")
    if not raw & _P:
        raise CpuFault(NP, code, why=f"the LDT {selector:#06x} is not present")
    segment = unpack_segment(raw, selector)
    base = segment.base | (cpu.read(address + 8 & MASK64, 4) << 32 if long else 0)
    if not canonical(base):
        raise CpuFault(GP, code, why=f"the LDT base {base:#x} is not canonical")
    cpu.set_segment("ldtr", Segment(selector, base, segment.limit, segment.attributes))
