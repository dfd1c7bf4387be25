"""Delivery in long mode, through 64-bit interrupt and trap gates, from 64-bit and compatibility mode alike.

Sections are those of AMD APM vol. 2, rev. 3.42 (APM2), and Intel SDM vol. 2A, order 325383-083 (SDM2,
"INT n").
"""

from __future__ import annotations

from vlab.isa.descriptors import unpack_segment
from vlab.isa.paging import canonical
from vlab.isa.state import Segment
from vlab.isa.tss import Tss64
from vlab.machine.delivery.core import IF, MASK64, NT, RF, TF, Core, read_table
from vlab.machine.delivery.frame import pushed_error_code, pushed_flags, store
from vlab.machine.delivery.gates import LONG_GATES, external_bit, read_gate
from vlab.machine.delivery.segments import GP, SS, TS, mark_accessed, target_code
from vlab.machine.faults import CpuFault, Event

_RSP0, _IST1 = Tss64.rsp0.offset, Tss64.ist1.offset


def deliver_long(core: Core, event: Event) -> None:
    """Enter ``event``'s handler: gate, code segment, stack, a frame of five or six quadwords (APM2 8.9)."""
    gate = read_gate(core, event, 16, LONG_GATES, MASK64)
    ext, cpl = external_bit(event), core.cpl
    selector = gate >> 16 & 0xFFFF
    descriptor, address, new_cpl = target_code(core, selector, cpl, ext, MASK64, long=True)
    target = gate & 0xFFFF | gate >> 32 & 0xFFFF_FFFF_FFFF_0000
    if not canonical(target):
        raise CpuFault(GP, ext, why=f"the handler's address {target:#x} is not canonical")  # SDM2
    error_code, rflags, rsp = pushed_error_code(event), core.rflags, core.rsp
    top = _handler_stack(core, gate >> 32 & 7, cpl, new_cpl, rsp, ext) & ~0xF  # aligned: APM2 8.9.3
    frame = (
        (core.rip + event.instruction_length) & MASK64
        | core.segment("cs").selector << 64
        | pushed_flags(event, rflags) << 128
        | rsp << 192
        | core.segment("ss").selector << 256
    )
    count = 5
    if error_code is not None:
        frame, count = frame << 64 | error_code, 6
    bottom = (top - 8 * count) & MASK64
    if not (canonical(bottom) and canonical((top - 8) & MASK64)):
        raise CpuFault(SS, ext, why=f"the handler's stack at {bottom:#x} is not canonical")
    descriptor = mark_accessed(core, descriptor, address)
    store(core, bottom, frame, count, 8, user=new_cpl == 3)

    cleared = (
        TF | NT | RF | IF if gate >> 40 & 1 == 0 else TF | NT | RF
    )  # APM2 8.9.1: type E is an interrupt gate
    core.rflags = rflags & ~cleared
    core.set_segment("cs", unpack_segment(descriptor, selector & ~3 | new_cpl))
    if new_cpl != cpl:
        # APM2 8.9.3: the new SS is null with the new CPL as RPL, so that a nested IRET restores it.
        core.set_segment("ss", Segment(new_cpl, 0, 0, new_cpl << 5))
        core.set_cpl(new_cpl)
    core.rsp = bottom
    core.rip = target


def _handler_stack(core: Core, ist: int, cpl: int, new_cpl: int, rsp: int, ext: int) -> int:
    """Choose the stack: IST when the gate names one, RSPn of an inner ring, else the current (APM2 8.9.4)."""
    if ist:
        return _pointer(core, _IST1 + 8 * (ist - 1), f"IST{ist}", ext)
    return inner_pointer(core, new_cpl, ext) if new_cpl < cpl else rsp


def inner_pointer(core: Core, cpl: int, ext: int) -> int:
    """Take RSP for ring ``cpl`` from the TSS (APM2 12.2.5)."""
    return _pointer(core, _RSP0 + 8 * cpl, f"RSP{cpl}", ext)


def _pointer(core: Core, offset: int, what: str, ext: int) -> int:
    task = core.segment("tr")
    code = task.selector & 0xFFFC | ext
    if task.attributes & 0x9D != 0x89:  # present, system, type 9 or B
        raise CpuFault(TS, code, why=f"{what} is needed, but TR ({task.selector:#06x}) holds no 64-bit TSS")
    if offset + 7 > task.limit:
        raise CpuFault(TS, code, why=f"{what} lies beyond the TSS limit {task.limit:#x}")
    return read_table(core, (task.base + offset) & MASK64, 8, f"{what} in the TSS")
