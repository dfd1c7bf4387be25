"""Call gates of protected mode: a far CALL or JMP whose selector names a gate in the guest's tables.

Sections are those of AMD APM vol. 2, rev. 3.42 (APM2), and vol. 3, rev. 3.36 (APM3, by instruction).
"""

from __future__ import annotations

from typing import Final, NamedTuple

from vlab.isa.descriptors import CALL_GATE_16, CALL_GATE_32, TASK_GATE, TSS_16_AVAILABLE, TSS_32_AVAILABLE
from vlab.machine.delivery.core import EFER_LMA
from vlab.machine.delivery.frame import pack, push
from vlab.machine.delivery.protected import inner_stack
from vlab.machine.faults import CpuFault
from vlab.vmm.deprivileged import segments
from vlab.vmm.deprivileged.virtual_core import VirtualCore

_GATES: Final = (CALL_GATE_16, CALL_GATE_32)
_TASKS: Final = (TSS_16_AVAILABLE, TSS_32_AVAILABLE, TASK_GATE)
_WIDE: Final = 8
_CONFORMING: Final = 4
_PARAMETERS: Final = 0x1F


class NotCarriedOut(Exception):
    """The monitor does not emulate this form of the instruction; the text says which."""


class CallGate(NamedTuple):
    """A call gate that was met. code, address: the descriptor that it leads to, and where that is.

    parameters: how many to copy. width: bytes of each, and of what is pushed.
    """

    selector: int
    offset: int
    parameters: int
    width: int
    code: int
    address: int


def read(cpu: VirtualCore, raw: int, selector: int) -> CallGate:
    """Check the gate that ``selector`` names, and read what it leads to (APM2 4.7.5); raises CpuFault."""
    kind, error = raw >> 40 & 0xF, selector & 0xFFFC
    if kind not in (_TASKS if not cpu.efer & EFER_LMA else ()) + _GATES:
        raise CpuFault(segments.GP, error, why=f"{selector:#06x} names no code segment, gate or task")
    if raw >> 45 & 3 < max(cpu.cpl, selector & 3):
        raise CpuFault(segments.GP, error, why=f"the call gate {selector:#06x} is for inner rings only")
    if not raw >> 47 & 1:
        raise CpuFault(segments.NP, error, why=f"the call gate {selector:#06x} is not present")
    if kind not in _GATES or cpu.efer & EFER_LMA:
        raise NotCarriedOut("a far CALL or JMP to a task, or through a 64-bit gate,")
    target = raw >> 16 & 0xFFFF
    code, address = segments.code_descriptor(cpu, target, "the call gate")
    wide = kind & _WIDE
    offset = raw & 0xFFFF | (raw >> 32 & 0xFFFF0000 if wide else 0)
    return CallGate(target, offset, raw >> 32 & _PARAMETERS, 4 if wide else 2, code, address)


def call(cpu: VirtualCore, gate: CallGate, back: tuple[int, int]) -> None:
    """CALL far through a gate (APM2 4.10.2; APM3 "CALL (Far)"). back: CS and RIP to return to."""
    cpl, dpl = cpu.cpl, gate.code >> 45 & 3
    inner = dpl < cpl and not gate.code >> 40 & _CONFORMING
    segments.check_code(cpu, gate.code, gate.selector & ~3, dpl if inner else cpl)
    old, pointer = cpu.segment("ss"), cpu.rsp
    items, stack = [back[1], back[0]], old
    if inner:
        items += [*_parameters(cpu, gate), pointer, old.selector]
        stack, pointer = inner_stack(cpu, dpl, 0)
    width, count, ring = gate.width, len(items), dpl if inner else cpl
    code = stack.selector & 0xFFFC if inner else 0
    pointer = push(cpu, stack, pointer, pack(items, width), count, width, code=code, user=ring == 3)
    segments.enter_code(cpu, gate.code, gate.address, gate.selector, ring, gate.offset)
    if inner:
        cpu.set_segment("ss", stack)
        cpu.set_cpl(ring)
    cpu.rsp = pointer


def _parameters(cpu: VirtualCore, gate: CallGate) -> list[int]:
    """Read the parameters from the caller's stack, the one on its top first."""
    segment, mask = cpu.segment("ss"), 0xFFFFFFFF if cpu.segment("ss").attributes & 1 << 10 else 0xFFFF
    place = [cpu.rsp + index * gate.width & mask for index in range(gate.parameters)]
    return [cpu.read(segment.base + offset & 0xFFFFFFFF, gate.width, user=cpu.cpl == 3) for offset in place]
