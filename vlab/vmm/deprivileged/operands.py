"""What every emulated instruction needs: its operands, the stack, and the faults that stand in the way.

Sections are those of AMD APM vol. 2, rev. 3.42.
"""

from __future__ import annotations

from typing import Final

from vlab.isa.vectors import Vector
from vlab.machine.faults import CpuFault
from vlab.vmm.deprivileged.decode import Instruction, Operand, System
from vlab.vmm.deprivileged.virtual_core import VirtualCore
from vlab.vmm.mmio_decode import Immediate, Memory, Register
from vlab.vmm.mmio_operands import in_segment, linear_address

_BIG: Final = 1 << 10
_RSP: Final = 4
_LONG64: Final = 5  # LiveCore.mode_code
_GP: Final = int(Vector.GP)


class Stack:
    """The guest's stack, read and written without moving RSP until ``commit``. size: bytes of an item."""

    def __init__(self, cpu: VirtualCore, size: int) -> None:
        self._cpu = cpu
        self._size = size
        self._user = cpu.cpl == 3
        self._long = cpu.mode_code == _LONG64
        wide = self._long or bool(cpu.segment("ss").attributes & _BIG)
        self._mask = (1 << 64) - 1 if self._long else (1 << 32) - 1 if wide else 0xFFFF
        self.pointer = cpu.words[_RSP] & self._mask

    def _linear(self, offset: int) -> int:
        return in_segment(self._cpu, "ss", offset & self._mask, 64 if self._long else 32)

    def peek(self, index: int) -> int:
        """Give item ``index`` from the top; raises CpuFault."""
        place = self._linear(self.pointer + index * self._size)
        return self._cpu.read(place, self._size, user=self._user)

    def push(self, *items: int) -> None:
        """Write items below the top, the first one highest; raises CpuFault."""
        mask = (1 << 8 * self._size) - 1
        for item in items:
            below = self.pointer - self._size & self._mask
            self._cpu.write(self._linear(below), self._size, item & mask, user=self._user)
            self.pointer = below

    def drop(self, count: int) -> None:
        """Pass ``count`` bytes."""
        self.pointer = self.pointer + count & self._mask

    def commit(self) -> None:
        """Set RSP."""
        words = self._cpu.words
        words[_RSP] = words[_RSP] & ~self._mask | self.pointer if self._mask == 0xFFFF else self.pointer


class Operands:
    """The operands of one instruction, while it is at RIP."""

    def __init__(self, cpu: VirtualCore, instruction: Instruction) -> None:
        self.cpu = cpu
        self.instruction = instruction

    @property
    def user(self) -> bool:
        """Whether its memory accesses are those of CPL 3."""
        return self.cpu.cpl == 3

    def need_ring_0(self) -> None:
        """Raise #GP outside ring 0."""
        if self.cpu.cpl:
            raise CpuFault(_GP, 0, why=f"{self.instruction.text} needs CPL 0, and CPL is {self.cpu.cpl}")

    def in_register(self, operand: Operand) -> bool:
        """Whether an operand is a general register."""
        return isinstance(operand, Register)

    def linear(self, operand: Operand) -> int:
        """Give the linear address of a memory operand."""
        assert isinstance(operand, Memory)
        return linear_address(self.cpu, operand, self.instruction.bits)

    def load(self, operand: Operand, size: int) -> int:
        """Give ``size`` bytes of an operand that is no system register; raises CpuFault."""
        mask = (1 << 8 * size) - 1
        if isinstance(operand, Immediate):
            return operand.value & mask
        if isinstance(operand, Register):
            return self.cpu.words[operand.number] >> operand.shift & mask
        return self.cpu.read(self.linear(operand), size, user=self.user)

    def store(self, operand: Operand, size: int, value: int) -> None:
        """Set ``size`` bytes of an operand; 32 bits in a register clear its upper half. Raises CpuFault."""
        value &= (1 << 8 * size) - 1
        if isinstance(operand, Register):
            words = self.cpu.words
            kept = words[operand.number] & ~((1 << 8 * size) - 1) if size < 4 else 0
            words[operand.number] = kept | value
        else:
            self.cpu.write(self.linear(operand), size, value, user=self.user)

    def system(self) -> str:
        """Give the name of the system register that is an operand."""
        for operand in self.instruction.operands:
            if isinstance(operand, System):
                return operand.name
        raise AssertionError(f"{self.instruction.text} has no system register")

    @property
    def loads_stack(self) -> bool:
        """Whether SS is loaded by MOV or POP, so that the next instruction is in an interrupt shadow."""
        return self.instruction.name in ("mov", "pop") and self.system() == "ss"

    def stack(self) -> Stack:
        """Give the guest's stack, in items of the size that the instruction moves."""
        return Stack(self.cpu, self.instruction.item)

    def general(self) -> Operand:
        """Give the operand that is not a system register."""
        return next(operand for operand in self.instruction.operands if not isinstance(operand, System))
