"""CLI, STI, PUSHF and POPF: the interrupt flag that the guest has is the monitor's to keep.

The first two fault at CPL 1. The other two fault in virtual-8086 mode only, else they go by silently: POPF
leaves IF as it is, PUSHF shows the real one. Sections are those of AMD APM vol. 3, rev. 3.36, by instruction.
"""

from __future__ import annotations

from typing import Final

from vlab.isa.control import EFlags
from vlab.isa.vectors import Vector
from vlab.machine.faults import CpuFault
from vlab.vmm.deprivileged.operands import Operands, Stack
from vlab.vmm.deprivileged.transfers import merged_flags

_GP: Final = int(Vector.GP)
_VM, _RF, _IF = EFlags.VM.mask, EFlags.RF.mask, EFlags.IF.mask


def clear_interrupts(operands: Operands) -> None:
    """CLI: #GP where CPL is above IOPL."""
    _need_iopl(operands)
    operands.cpu.interrupt_flag = False


def set_interrupts(operands: Operands) -> None:
    """STI: one more instruction runs before an interrupt can come, if IF was 0."""
    _need_iopl(operands)
    cpu = operands.cpu
    if not cpu.interrupt_flag:
        cpu.interrupt_flag = True
        cpu.begin_shadow()


def push_flags(operands: Operands) -> None:
    """PUSHF: the guest's own flags, VM and RF clear."""
    _need_iopl_in_virtual_8086_mode(operands)
    stack = Stack(operands.cpu, operands.instruction.item)
    stack.push(operands.cpu.rflags & ~(_VM | _RF))
    stack.commit()


def pop_flags(operands: Operands) -> None:
    """POPF: IF and IOPL change as the guest's ring allows."""
    _need_iopl_in_virtual_8086_mode(operands)
    cpu, size = operands.cpu, operands.instruction.item
    stack = Stack(cpu, size)
    value = stack.peek(0)
    stack.drop(size)
    stack.commit()
    cpu.rflags = merged_flags(cpu.rflags, value, size, cpu.cpl, cpu.mode_code)


def _need_iopl(operands: Operands) -> None:
    cpu = operands.cpu
    if cpu.cpl > cpu.iopl:
        text = operands.instruction.text
        raise CpuFault(_GP, 0, why=f"{text} at CPL {cpu.cpl} needs more than IOPL {cpu.iopl}")


def _need_iopl_in_virtual_8086_mode(operands: Operands) -> None:
    if operands.cpu.mode_code == 1:
        _need_iopl(operands)
