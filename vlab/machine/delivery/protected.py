"""Delivery in legacy protected mode, through 16- and 32-bit gates, from virtual-8086 mode too.

Sections are those of AMD APM vol. 2, rev. 3.42 (APM2), and Intel SDM vol. 2A, order 325383-083 (SDM2,
"INT n").
"""

from __future__ import annotations

from vlab.isa.descriptors import TASK_GATE, unpack_segment
from vlab.isa.state import Segment
from vlab.machine.delivery.core import IF, IOPL_SHIFT, MASK32, NT, RF, TF, VM, Core, read_table
from vlab.machine.delivery.frame import pack, push, pushed_error_code, pushed_flags
from vlab.machine.delivery.gates import GP, LEGACY_GATES, external_bit, read_gate
from vlab.machine.delivery.segments import TS, load_stack, mark_accessed, target_code
from vlab.machine.delivery.task import switch_task
from vlab.machine.faults import CpuFault, Event, EventKind

_V86_SEGMENTS = ("es", "ds", "fs", "gs")  # from the lowest address of the frame upwards


class TaskGateMet(Exception):
    """Control flow inside delivery: a task gate, while task switches are intercepted."""

    def __init__(self, selector: int) -> None:
        super().__init__(selector)
        self.selector = selector


def deliver_protected(core: Core, event: Event, *, stop_at_task_gate: bool = False) -> None:
    """Enter ``event``'s handler through its gate (APM2 8.7), or switch to its task (APM2 12.3).

    Raises TaskGateMet instead of switching tasks when ``stop_at_task_gate``.
    """
    if core.rflags & VM and event.kind is EventKind.SOFTWARE_INT and core.rflags >> IOPL_SHIFT & 3 < 3:
        raise CpuFault(GP, 0, why="INT n in virtual-8086 mode needs IOPL 3")  # APM2 8.8
    gate = read_gate(core, event, 8, LEGACY_GATES, MASK32)
    kind = gate >> 40 & 0xF
    if kind != TASK_GATE:
        _through_gate(core, event, gate, kind)
    elif stop_at_task_gate:
        raise TaskGateMet(gate >> 16 & 0xFFFF)
    else:
        switch_task(
            core,
            gate >> 16 & 0xFFFF,
            ext=external_bit(event),
            next_rip=core.rip + event.instruction_length,
            flags=pushed_flags(event, core.rflags),
            error_code=pushed_error_code(event),
        )


def _through_gate(core: Core, event: Event, gate: int, kind: int) -> None:
    ext, cpl, rflags, rsp = external_bit(event), core.cpl, core.rflags, core.rsp
    selector = gate >> 16 & 0xFFFF
    descriptor, address, new_cpl = target_code(core, selector, cpl, ext, MASK32)
    if rflags & VM and new_cpl:
        # Only a nonconforming ring 0 handler may interrupt virtual-8086 mode (APM2 8.8.1).
        raise CpuFault(
            GP, selector & 0xFFFC | ext, why=f"virtual-8086 mode needs a ring 0 handler, not {selector:#06x}"
        )
    wide = kind & 8
    target = gate & 0xFFFF | (gate >> 32 & 0xFFFF_0000 if wide else 0)
    stack = core.segment("ss")
    items = [core.rip + event.instruction_length, core.segment("cs").selector, pushed_flags(event, rflags)]
    error_code = pushed_error_code(event)
    if error_code is not None:
        items.insert(0, error_code)
    if new_cpl == cpl:
        new_stack, pointer, code = stack, rsp, ext
    else:
        items += (rsp, stack.selector)
        if rflags & VM:
            items += [core.segment(name).selector for name in _V86_SEGMENTS]
        new_stack, pointer = inner_stack(core, new_cpl, ext)
        code = new_stack.selector & 0xFFFC | ext
    handler = unpack_segment(mark_accessed(core, descriptor, address), selector & ~3 | new_cpl)
    if target > handler.limit:
        raise CpuFault(
            GP, ext, why=f"the handler's offset {target:#x} is beyond its segment's limit {handler.limit:#x}"
        )
    width = 4 if wide else 2
    count = len(items)
    pointer = push(core, new_stack, pointer, pack(items, width), count, width, code=code, user=new_cpl == 3)
    cleared = TF | NT | RF | VM  # APM2 8.7.1; an interrupt gate has an even type
    core.rflags = rflags & ~(cleared if kind & 1 else cleared | IF)
    if rflags & VM:
        for name in _V86_SEGMENTS:
            core.set_segment(name, Segment(0, 0, 0, 0))
    core.set_segment("cs", handler)
    if new_cpl != cpl:
        core.set_segment("ss", new_stack)
        core.set_cpl(new_cpl)
    core.rsp = pointer
    core.rip = target


def inner_stack(core: Core, cpl: int, ext: int) -> tuple[Segment, int]:
    """Take SS and ESP for ring ``cpl`` from the TSS and check the segment (APM2 8.7.3; SDM2)."""
    task = core.segment("tr")
    code = task.selector & 0xFFFC | ext
    kind = task.attributes & 0x9D  # the busy bit does not matter
    if kind == 0x89:  # 32-bit: ESP in 4 bytes, SS in the 4 that follow
        offset, size, half = 4 + 8 * cpl, 8, 32
    elif kind == 0x81:
        offset, size, half = 2 + 4 * cpl, 4, 16
    else:
        raise CpuFault(
            TS, code, why=f"a ring {cpl} stack is needed, but TR ({task.selector:#06x}) holds no TSS"
        )
    if offset + size - 1 > task.limit:
        raise CpuFault(TS, code, why=f"the ring {cpl} stack lies beyond the TSS limit {task.limit:#x}")
    raw = read_table(core, (task.base + offset) & MASK32, size, f"the ring {cpl} stack in the TSS")
    selector = raw >> half & 0xFFFF
    return load_stack(core, selector, cpl, ext), raw & ((1 << half) - 1)
