"""Delivery in real mode, through the interrupt vector table.

Sections are those of AMD APM vol. 2, rev. 3.42 (APM2), and vol. 3, rev. 3.36 (APM3).
"""

from __future__ import annotations

from vlab.isa.state import Segment
from vlab.isa.vectors import Vector
from vlab.isa.vectors import name as vector_name
from vlab.machine.delivery.core import AC, IF, MASK32, RF, TF, Core, read_table
from vlab.machine.delivery.frame import pack, push
from vlab.machine.faults import CpuFault, Event

_GP = int(Vector.GP)


def deliver_real(core: Core, event: Event) -> None:
    """Push FLAGS, CS and IP and enter ``event``'s handler (APM2 8.6; APM3 "INT n", INT_N_REAL).

    The IVT is where IDTR says, and its limit counts. Real mode pushes no error code.
    """
    vector, idtr = event.vector, core.idtr
    if vector * 4 + 3 > idtr.limit:
        raise CpuFault(
            _GP, 0, why=f"the interrupt table's limit {idtr.limit:#x} does not reach {vector_name(vector)}"
        )
    entry = read_table(core, (idtr.base + vector * 4) & MASK32, 4, f"interrupt table entry {vector}")
    offset, selector = entry & 0xFFFF, entry >> 16
    code, rflags = core.segment("cs"), core.rflags
    frame = pack((core.rip + event.instruction_length, code.selector, rflags), 2)
    pointer = push(core, core.segment("ss"), core.rsp, frame, 3, 2, code=0, user=False)
    if offset > code.limit:
        raise CpuFault(_GP, 0, why=f"the handler's offset {offset:#x} is beyond the CS limit {code.limit:#x}")
    core.rflags = rflags & ~(AC | TF | IF | RF)
    core.set_segment("cs", Segment(selector, selector << 4, code.limit, code.attributes))
    core.rsp = pointer
    core.rip = offset
