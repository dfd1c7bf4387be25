"""Call gates of protected and long mode: a far CALL or JMP whose selector names a gate in the guest's tables.

Sections are those of AMD APM vol. 2, rev. 3.42 (APM2), and vol. 3, rev. 3.36 (APM3, by instruction).
"""

from __future__ import annotations

from typing import Final, NamedTuple

from vlab.isa.descriptors import CALL_GATE_16, CALL_GATE_32
from vlab.isa.paging import canonical
from vlab.isa.state import Segment
from vlab.machine.delivery.core import EFER_LMA, MASK32, MASK64, read_table
from vlab.machine.delivery.frame import pack, push, store
from vlab.machine.delivery.long import inner_pointer
from vlab.machine.delivery.protected import inner_stack
from vlab.machine.faults import CpuFault
from vlab.vmm.deprivileged import segments
from vlab.vmm.deprivileged.virtual_core import VirtualCore

_WIDE: Final = 8
_CONFORMING: Final = 4
_PARAMETERS: Final = 0x1F
_CODE_64: Final = 1
"""L and D of a 64-bit code segment."""


class CallGate(NamedTuple):
    """A call gate that was met. code, address: the descriptor that it leads to, and where that is.

    parameters: how many to copy. width: bytes of each, and of what is pushed; 8 for one of long mode.
    """

    selector: int
    offset: int
    parameters: int
    width: int
    code: int
    address: int


def read(cpu: VirtualCore, raw: int, place: int, selector: int) -> CallGate:
    """Check the gate at ``place`` that ``selector`` names, and read what it leads to (APM2 4.7.5, 4.8.4).

    Raises CpuFault.
    """
    kind, error, long = raw >> 40 & 0xF, selector & 0xFFFC, bool(cpu.efer & EFER_LMA)
    if kind != CALL_GATE_32 and (long or kind != CALL_GATE_16):
        raise CpuFault(segments.GP, error, why=f"{selector:#06x} names no code segment, gate or task")
    if raw >> 45 & 3 < max(cpu.cpl, selector & 3):
        raise CpuFault(segments.GP, error, why=f"the call gate {selector:#06x} is for inner rings only")
    if not raw >> 47 & 1:
        raise CpuFault(segments.NP, error, why=f"the call gate {selector:#06x} is not present")
    target, wide = raw >> 16 & 0xFFFF, kind & _WIDE
    offset = raw & 0xFFFF | (raw >> 32 & 0xFFFF0000 if wide else 0)
    if long:
        offset |= _upper_half(cpu, place, selector) << 32
    code, address = segments.code_descriptor(cpu, target, "the call gate")
    if long:
        _check_64(code, target)
        return CallGate(target, offset, 0, 8, code, address)
    return CallGate(target, offset, raw >> 32 & _PARAMETERS, 4 if wide else 2, code, address)


def _upper_half(cpu: VirtualCore, place: int, selector: int) -> int:
    """Give bits 63:32 of the offset in a gate of long mode, which has 16 bytes (APM2 4.8.4)."""
    error = selector & 0xFFFC
    limit = cpu.segment("ldtr").limit if selector & 4 else cpu.gdtr.limit
    if (selector & 0xFFF8) + 15 > limit:
        raise CpuFault(segments.GP, error, why=f"the call gate {selector:#06x} is cut off by its table")
    high = read_table(cpu, place + 8 & MASK64, 8, "the upper half of the call gate")
    if high >> 40 & 0x1F:
        raise CpuFault(segments.GP, error, why=f"the upper half of the call gate {selector:#06x} has a type")
    return high & MASK32


def _check_64(code: int, target: int) -> None:
    """Check that a gate of long mode leads to 64-bit code (APM2 4.8.4)."""
    if code >> 43 & 3 != 3 or code >> 53 & 3 != _CODE_64:
        raise CpuFault(
            segments.GP, target & 0xFFFC, why=f"the call gate's {target:#06x} is no 64-bit code segment"
        )


def jump(cpu: VirtualCore, gate: CallGate) -> None:
    """JMP far through a gate, which leaves the CPL as it is (APM2 4.10.2; APM3 "JMP (Far)")."""
    segments.check_code(cpu, gate.code, gate.selector & ~3, cpu.cpl)
    segments.enter_code(cpu, gate.code, gate.address, gate.selector, cpu.cpl, gate.offset)


def call(cpu: VirtualCore, gate: CallGate, back: tuple[int, int]) -> None:
    """CALL far through a gate (APM2 4.10.2; APM3 "CALL (Far)"). back: CS and RIP to return to."""
    cpl, dpl = cpu.cpl, gate.code >> 45 & 3
    inner = dpl < cpl and not gate.code >> 40 & _CONFORMING
    ring = dpl if inner else cpl
    segments.check_code(cpu, gate.code, gate.selector & ~3, ring)
    items = [back[1], back[0]]
    if gate.width == 8:
        stack, pointer = _push_64(cpu, items, ring)
    else:
        stack, pointer = _push(cpu, gate, items, ring)
    segments.enter_code(cpu, gate.code, gate.address, gate.selector, ring, gate.offset)
    if inner:
        cpu.set_segment("ss", stack)
        cpu.set_cpl(ring)
    cpu.rsp = pointer


def _push(cpu: VirtualCore, gate: CallGate, items: list[int], ring: int) -> tuple[Segment, int]:
    """Push CS and EIP, on the stack of an inner ring behind the old one and the parameters.

    Gives SS and ESP as they are then.
    """
    stack, pointer, code = cpu.segment("ss"), cpu.rsp, 0
    if ring != cpu.cpl:
        items += [*_parameters(cpu, gate), pointer, stack.selector]
        stack, pointer = inner_stack(cpu, ring, 0)
        code = stack.selector & 0xFFFC
    width, count = gate.width, len(items)
    frame = pack(items, width)
    return stack, push(cpu, stack, pointer, frame, count, width, code=code, user=ring == 3)


def _push_64(cpu: VirtualCore, items: list[int], ring: int) -> tuple[Segment, int]:
    """The same in long mode: the SS of an inner ring is null, and parameters are not copied (APM2 4.10.3)."""
    stack, pointer = cpu.segment("ss"), cpu.rsp
    if ring != cpu.cpl:
        items += [pointer, stack.selector]
        stack, pointer = Segment(ring, 0, 0, ring << 5), inner_pointer(cpu, ring, 0)
    count = len(items)
    bottom = (pointer - 8 * count) & MASK64
    if not (canonical(bottom) and canonical((pointer - 8) & MASK64)):
        raise CpuFault(segments.SS, 0, why=f"the stack of the call gate at {bottom:#x} is not canonical")
    store(cpu, bottom, pack(items, 8), count, 8, user=ring == 3)
    return stack, bottom


def _parameters(cpu: VirtualCore, gate: CallGate) -> list[int]:
    """Read the parameters from the caller's stack, the one on its top first."""
    segment, mask = cpu.segment("ss"), 0xFFFFFFFF if cpu.segment("ss").attributes & 1 << 10 else 0xFFFF
    place = [cpu.rsp + index * gate.width & mask for index in range(gate.parameters)]
    return [cpu.read(segment.base + offset & 0xFFFFFFFF, gate.width, user=cpu.cpl == 3) for offset in place]
