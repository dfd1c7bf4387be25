"""Far transfers of control, carried out for a deprivileged guest: JMP, CALL and RET far, IRET, INT n.

Sections are those of AMD APM vol. 2, rev. 3.42 (APM2), and vol. 3, rev. 3.36 (APM3, by instruction).
"""

from __future__ import annotations

from typing import Final

from vlab.isa.control import EFlags
from vlab.isa.state import Segment
from vlab.machine.delivery import Cause, return_to_task
from vlab.machine.delivery.core import EFER_LMA, MASK32, MASK64
from vlab.machine.faults import CpuFault
from vlab.vmm.deprivileged import call_gates, segments, tasks
from vlab.vmm.deprivileged.decode import Instruction
from vlab.vmm.deprivileged.operands import Operands, Stack
from vlab.vmm.deprivileged.virtual_core import VirtualCore
from vlab.vmm.mmio_decode import Immediate

_IF, _IOPL, _NT, _VM, _RF = (flag.mask for flag in (EFlags.IF, EFlags.IOPL, EFlags.NT, EFlags.VM, EFlags.RF))
_VIF, _VIP = EFlags.VIF.mask, EFlags.VIP.mask
_IOPL_SHIFT: Final = 12
_WRITABLE: Final = 0x247FD5
"""The flags that IRET and POPF can set at all: CF PF AF ZF SF TF IF DF OF IOPL NT AC ID."""
_S: Final = 1 << 44
_LONG64: Final = 5  # LiveCore.mode_code
_V86_CODE: Final = 0xF3


def _target(operands: Operands) -> tuple[int, int]:
    """Give (selector, offset) of a far JMP or CALL; raises CpuFault."""
    instruction = operands.instruction
    if len(instruction.operands) == 2:
        selector, offset = instruction.operands
        assert isinstance(selector, Immediate)
        return selector.value & 0xFFFF, operands.load(offset, min(instruction.size, 4))
    linear = operands.linear(instruction.operands[0])
    cpu, size = operands.cpu, instruction.size
    offset_there = cpu.read(linear, size, user=operands.user)
    return cpu.read(linear + size, 2, user=operands.user), offset_there


def jump_far(operands: Operands) -> None:
    """JMP far (APM3): to a code segment, through a call gate, or to a task."""
    cpu = operands.cpu
    selector, offset = _target(operands)
    if _real(cpu):
        _enter_real(cpu, selector, offset)
        return
    raw, address = segments.code_descriptor(cpu, selector, "JMP far")
    if tasks.names_task(cpu, raw):
        tasks.switch(operands, raw, selector, Cause.JMP)
        return
    if not raw & _S:
        call_gates.jump(cpu, call_gates.read(cpu, raw, address, selector))
        return
    segments.check_code(cpu, raw, selector, cpu.cpl)
    segments.enter_code(cpu, raw, address, selector, cpu.cpl, offset)


def call_far(operands: Operands) -> None:
    """CALL far (APM3): to a code segment, through a call gate, or to a task."""
    cpu, instruction = operands.cpu, operands.instruction
    selector, offset = _target(operands)
    stack = Stack(cpu, instruction.size)
    back = (cpu.segment("cs").selector, cpu.rip + instruction.length)
    if _real(cpu):
        stack.push(*back)
        _enter_real(cpu, selector, offset)
        stack.commit()
        return
    raw, address = segments.code_descriptor(cpu, selector, "CALL far")
    if tasks.names_task(cpu, raw):
        tasks.switch(operands, raw, selector, Cause.CALL)
        return
    if not raw & _S:
        call_gates.call(cpu, call_gates.read(cpu, raw, address, selector), back)
        return
    segments.check_code(cpu, raw, selector, cpu.cpl)
    stack.push(*back)
    segments.enter_code(cpu, raw, address, selector, cpu.cpl, offset)
    stack.commit()


def return_far(operands: Operands) -> None:
    """RET far (APM3), to the same ring or an outer one."""
    cpu, instruction = operands.cpu, operands.instruction
    released = operands.load(instruction.operands[0], 2) if instruction.operands else 0
    stack = Stack(cpu, instruction.size)
    offset, selector = stack.peek(0), stack.peek(1) & 0xFFFF
    stack.drop(2 * instruction.size + released)
    if _real(cpu):
        _enter_real(cpu, selector, offset)
        stack.commit()
        return
    _return(cpu, stack, selector, offset, released)


def _returned_code(cpu: VirtualCore, selector: int) -> tuple[int, int]:
    """Check the code segment that RET or IRET pops (APM3); give its descriptor and where that is."""
    ring, code = selector & 3, selector & 0xFFFC
    if ring < cpu.cpl:
        raise CpuFault(segments.GP, code, why=f"a return from CPL {cpu.cpl} to the inner ring {ring}")
    raw, address = segments.code_descriptor(cpu, selector, "the return address")
    kind, dpl = raw >> 40 & 0x1F, raw >> 45 & 3
    if kind & 0x18 != 0x18 or (dpl > ring if kind & 4 else dpl != ring):
        raise CpuFault(segments.GP, code, why=f"a return to {selector:#06x}, no code segment of ring {ring}")
    if not raw >> 47 & 1:
        raise CpuFault(segments.NP, code, why=f"the code segment {selector:#06x} is not present")
    segments.check_long(cpu, raw, code)
    return raw, address


def _return(cpu: VirtualCore, stack: Stack, selector: int, offset: int, released: int = 0) -> None:
    """Load CS, and SS and RSP when it leads to an outer ring. ``stack`` is behind CS and the parameters."""
    raw, address = _returned_code(cpu, selector)
    if selector & 3 == cpu.cpl:
        segments.enter_code(cpu, raw, address, selector, cpu.cpl, offset)
        stack.commit()
        return
    pointer, outer = stack.peek(0), stack.peek(1) & 0xFFFF
    _leave_ring(cpu, raw, address, selector, offset, outer, pointer + released)


def return_to_same_ring(cpu: VirtualCore, selector: int, offset: int) -> None:
    """Go to ``selector``:``offset`` in the ring at hand, as IRET and RET do (APM3); raises CpuFault."""
    raw, address = _returned_code(cpu, selector)
    segments.enter_code(cpu, raw, address, selector, cpu.cpl, offset)


def return_to_outer_ring(cpu: VirtualCore, selector: int, offset: int, outer: int, pointer: int) -> None:
    """Go to ``selector``:``offset`` in its ring, with the stack ``outer``:``pointer``; raises CpuFault."""
    raw, address = _returned_code(cpu, selector)
    _leave_ring(cpu, raw, address, selector, offset, outer, pointer)


def _leave_ring(
    cpu: VirtualCore, raw: int, address: int, selector: int, offset: int, outer: int, pointer: int
) -> None:
    """Go to the ring of ``selector`` with the stack ``outer``:``pointer``."""
    ring = selector & 3
    stack = segments.stack_segment(cpu, outer, ring, fault=segments.GP)
    segments.enter_code(cpu, raw, address, selector, ring, offset)
    cpu.set_segment("ss", stack)
    cpu.set_cpl(ring)
    wide = cpu.efer & EFER_LMA or stack.attributes & 1 << 10
    mask = MASK64 if cpu.efer & EFER_LMA else MASK32
    cpu.rsp = pointer & mask if wide else cpu.rsp & ~0xFFFF | pointer & 0xFFFF
    segments.forget_inner(cpu, ring)


def return_from_interrupt(operands: Operands) -> None:
    """IRET (APM3): to real mode, to the task before, to virtual-8086 mode, to the same or an outer ring."""
    cpu, instruction = operands.cpu, operands.instruction
    size, old = instruction.size, cpu.rflags
    if cpu.mode_code == 1 and old >> _IOPL_SHIFT & 3 < 3:
        raise CpuFault(segments.GP, 0, why="IRET in virtual-8086 mode needs IOPL 3")
    if old & _NT and not _real(cpu):
        if cpu.efer & EFER_LMA:
            raise CpuFault(segments.GP, 0, why="IRET with NT set in long mode")
        return_to_task(cpu, next_rip=cpu.rip + instruction.length)
        return
    stack = Stack(cpu, size)
    offset, selector, popped = stack.peek(0), stack.peek(1) & 0xFFFF, stack.peek(2)
    flags = _returned_flags(old, popped, size, cpu.cpl, cpu.mode_code)
    if _real(cpu):
        stack.drop(3 * size)
        _enter_real(cpu, selector, offset)
        stack.commit()
    elif popped & _VM and size == 4 and not cpu.cpl and not cpu.efer & EFER_LMA:
        _to_virtual_8086(cpu, stack, offset, selector, popped)
        return
    elif cpu.mode_code == _LONG64:  # SS and RSP are always there (APM2 8.9.3)
        _return_64(cpu, stack, selector, offset)
    else:
        stack.drop(3 * size)
        _return(cpu, stack, selector, offset)
    cpu.rflags = flags


def _return_64(cpu: VirtualCore, stack: Stack, selector: int, offset: int) -> None:
    pointer, outer, ring = stack.peek(3), stack.peek(4) & 0xFFFF, selector & 3
    raw, address = _returned_code(cpu, selector)
    if ring == cpu.cpl:
        segment = segments.stack_segment(cpu, outer, ring, fault=segments.GP)
        segments.enter_code(cpu, raw, address, selector, ring, offset)
        cpu.set_segment("ss", segment)
        cpu.rsp = pointer
    else:
        _leave_ring(cpu, raw, address, selector, offset, outer, pointer)


def _to_virtual_8086(cpu: VirtualCore, stack: Stack, offset: int, selector: int, flags: int) -> None:
    """IRET from ring 0 with VM in the flags it pops (APM2 8.8.2)."""
    pointer, outer, es, ds, fs, gs = (stack.peek(index) for index in range(3, 9))
    cpu.rflags = flags & (_WRITABLE | _VM | _RF | _VIF | _VIP) | 2
    for name, value in (("cs", selector), ("ss", outer), ("es", es), ("ds", ds), ("fs", fs), ("gs", gs)):
        cpu.set_segment(name, Segment(value & 0xFFFF, (value & 0xFFFF) << 4, 0xFFFF, _V86_CODE))
    cpu.set_cpl(3)
    cpu.rsp = pointer
    cpu.rip = offset & 0xFFFF


def merged_flags(old: int, new: int, size: int, cpl: int, mode_code: int) -> int:
    """Give RFLAGS after POPF put ``new`` over ``old``: IF and IOPL need privilege, RF ends (APM3 "POPF")."""
    return _merged(old, new, _WRITABLE if size > 2 else _WRITABLE & 0xFFFF, cpl, mode_code)


def _returned_flags(old: int, new: int, size: int, cpl: int, mode_code: int) -> int:
    """Give RFLAGS after IRET: as after POPF, but RF is popped too, at CPL 0 VIF and VIP (APM3 "IRET")."""
    if size == 2:
        return merged_flags(old, new, size, cpl, mode_code)
    above = _RF if cpl or mode_code in (0, 1) else _RF | _VIF | _VIP
    return _merged(old, new, _WRITABLE | above, cpl, mode_code)


def _merged(old: int, new: int, writable: int, cpl: int, mode_code: int) -> int:
    iopl = old >> _IOPL_SHIFT & 3
    if mode_code and cpl:
        writable &= ~_IOPL
    if mode_code and cpl > iopl:
        writable &= ~_IF
    return old & ~(writable | _RF) | new & writable | 2


def _real(cpu: VirtualCore) -> bool:
    """Whether segments are loaded as in real mode."""
    return cpu.mode_code in (0, 1)


def _enter_real(cpu: VirtualCore, selector: int, offset: int) -> None:
    """Load CS in real or virtual-8086 mode and jump; raises CpuFault with nothing changed."""
    limit = cpu.segment("cs").limit
    if offset > limit:
        raise CpuFault(segments.GP, 0, why=f"offset {offset:#x} is beyond the limit {limit:#x}")
    segments.load_real(cpu, "cs", selector)
    cpu.rip = offset & MASK32


def interrupt_is_refused(cpu: VirtualCore, instruction: Instruction) -> bool:
    """Whether INT n at this place is #GP: in virtual-8086 mode below IOPL 3 (APM2 8.8)."""
    if instruction.name in ("int3", "into"):
        return False
    return cpu.mode_code == 1 and cpu.rflags >> _IOPL_SHIFT & 3 < 3
