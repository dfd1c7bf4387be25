"""The operands of an instruction that touched a device: registers, constants, the device, other memory.

Everything that can fault is done by ``find_operands`` and ``find``; after them nothing stands in the way of
the instruction any more. Sections are those of AMD APM vol. 2, rev. 3.42.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, NamedTuple, Protocol, TypeAlias

from vlab.isa.control import EFlags
from vlab.machine.core import LiveCore
from vlab.machine.memory import PAGE
from vlab.machine.mmu import NestedFault
from vlab.vmm import mmio_alu as alu
from vlab.vmm.mmio_decode import RCX, Immediate, Memory, MmioInstruction, Operand, Register

_DF, _RF = EFlags.DF.mask, EFlags.RF.mask
_OFFSET: Final = PAGE - 1
_REPE: Final = 0xF3

Translate: TypeAlias = Callable[[int, bool], int]
"""translate(linear, write) gives a host-physical address; it raises CpuFault, or NestedFault for a device."""


class DeviceAccess(NamedTuple):
    """One access to a device: ``size`` bytes at guest-physical ``gpa``."""

    write: bool
    gpa: int
    size: int
    value: int


class Refused(Exception):
    """The access is of a kind that the monitor does not carry out."""


@dataclass(frozen=True, slots=True)
class Ram:
    """Runs of bytes in the machine's memory: (host-physical address, count)."""

    runs: tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class Device:
    """Bytes of a device."""

    gpa: int


Place: TypeAlias = Ram | Device


class DeviceSpace(Protocol):
    """Guest-physical addresses outside RAM, as a memory operand meets them."""

    def find(self, address: int, /) -> object | None:
        """Give whatever answers at the address, None for nothing."""

    def read(self, address: int, size: int, /) -> int:
        """Read ``size`` bytes."""

    def write(self, address: int, size: int, value: int, /) -> None:
        """Write ``size`` bytes."""


def in_segment(core: LiveCore, segment: str, offset: int, bits: int) -> int:
    """Give a linear address; in 64-bit mode only FS and GS have a base (APM2 4.5.3). bits: of the code."""
    if bits != 64:
        return core.segment(segment).base + offset & 0xFFFFFFFF
    if segment in ("fs", "gs"):
        return core.segment(segment).base + offset & 0xFFFFFFFFFFFFFFFF
    return offset


def linear_address(core: LiveCore, memory: Memory, bits: int) -> int:
    """Give the linear address of a memory operand of the instruction at RIP, in ``bits``-bit code."""
    words, offset = core.words, memory.displacement
    if memory.base is not None:
        offset += words[memory.base]
    if memory.index is not None:
        offset += words[memory.index] * memory.scale
    return in_segment(core, memory.segment, offset & alu.mask(memory.width), bits)


class Execution:
    """One instruction on its way.

    gpa: guest-physical address of the access that left the guest. ``flags``: RFLAGS as it will be afterwards.
    ``accesses``: what was asked of devices.
    """

    def __init__(
        self, core: LiveCore, instruction: MmioInstruction, gpa: int, bus: DeviceSpace, translate: Translate
    ) -> None:
        self.core = core
        self.instruction = instruction
        self.operands = instruction.operands
        self.flags = core.rflags
        self.accesses: list[DeviceAccess] = []
        self._gpa = gpa
        self._bus = bus
        self._translate = translate
        self._places: dict[Memory, Place] = {}

    # --- where operands are -----------------------------------------------------------------------------

    def find_operands(self) -> None:
        """Place the memory operands; raises CpuFault, NestedFault and Refused.

        A single one is where the hardware says. Of two, translation tells which is the device.
        """
        memory = self.instruction.memory
        if len(memory) == 1:
            offset, size = self._gpa & _OFFSET, memory[0].size
            linear = self._linear(memory[0]) + self._bit_displacement()
            # An access over the end of a page may fault with an address that is not where it starts.
            if linear & _OFFSET != offset or offset + size > PAGE:
                raise Refused
            self._places[memory[0]] = Device(self._gpa)
            return
        for operand in memory:
            writes = operand is self.operands[0] and self.instruction.name not in alu.FLAGS_ONLY
            self._places[operand] = self.find(self._linear(operand), operand.size, write=writes)

    def find(self, linear: int, size: int, *, write: bool) -> Place:
        """Find what is at a linear address; raises CpuFault, or NestedFault where there is nothing."""
        first = min(size, PAGE - (linear & _OFFSET))
        try:
            runs = [(self._translate(linear, write), first)]
            if first < size:
                rest = linear + first & alu.mask(max(4, self.instruction.bits // 8))
                runs.append((self._translate(rest, write), size - first))
        except NestedFault as miss:
            if miss.gpa != self._gpa and self._bus.find(miss.gpa) is None:
                raise
            if first < size or (miss.gpa ^ linear) & _OFFSET:
                raise Refused from None
            return Device(miss.gpa)
        if any(hpa + count > self.core.engine.memory.size for hpa, count in runs):
            raise Refused  # a device window of the machine
        return Ram(tuple(runs))

    def in_segment(self, segment: str, offset: int) -> int:
        """Give a linear address in a segment."""
        return in_segment(self.core, segment, offset, self.instruction.bits)

    def _linear(self, memory: Memory) -> int:
        return linear_address(self.core, memory, self.instruction.bits)

    def _bit_displacement(self) -> int:
        """Give how far a bit number in a register leads away from the memory operand of BT, in bytes."""
        if self.instruction.name not in alu.BIT_TESTS or not isinstance(self.operands[1], Register):
            return 0
        size = self.operands[0].size
        number = alu.sign_extend(self.load(self.operands[1]), size, 2 * size)
        return number // (8 * size) * size

    # --- values -----------------------------------------------------------------------------------------

    def load(self, operand: Operand) -> int:
        """Give an operand's value."""
        if isinstance(operand, Immediate):
            return operand.value
        if isinstance(operand, Register):
            return self.core.words[operand.number] >> operand.shift & alu.mask(operand.size)
        return self.read(self._places[operand], operand.size)

    def store(self, operand: Operand, value: int) -> None:
        """Set an operand; 32 bits in a register clear its upper half, fewer leave the rest."""
        if isinstance(operand, Memory):
            self.write(self._places[operand], operand.size, value)
        elif isinstance(operand, Register):
            words, kept = self.core.words, 0
            if operand.size < 4:
                kept = words[operand.number] & ~(alu.mask(operand.size) << operand.shift)
            words[operand.number] = kept | value << operand.shift

    def read(self, place: Place, size: int) -> int:
        """Read ``size`` bytes from a device or from memory."""
        if isinstance(place, Device):
            value = self._bus.read(place.gpa, size)
            self.accesses.append(DeviceAccess(False, place.gpa, size, value))
            return value
        memory = self.core.engine.memory.bytes
        return int.from_bytes(b"".join(memory[hpa : hpa + count] for hpa, count in place.runs), "little")

    def write(self, place: Place, size: int, value: int) -> None:
        """Write ``size`` bytes to a device or to memory."""
        if isinstance(place, Device):
            self._bus.write(place.gpa, size, value)
            self.accesses.append(DeviceAccess(True, place.gpa, size, value))
            return
        data, memory = value.to_bytes(size, "little"), self.core.engine.memory.bytes
        for hpa, count in place.runs:
            memory[hpa : hpa + count], data = data[:count], data[count:]

    # --- on to the next ---------------------------------------------------------------------------------

    @property
    def over(self) -> bool:
        """Whether a repeated instruction has nothing to do, its count being 0."""
        return bool(self.instruction.repeat) and not self.load(Register(RCX, self.instruction.width))

    def step(self) -> bool:
        """Take a string instruction to its next element; give whether it is to be repeated."""
        instruction = self.instruction
        for memory in instruction.memory:
            assert memory.base is not None
            self._add(memory.base, -memory.size if self.flags & _DF else memory.size)
        if not instruction.repeat or not self._add(RCX, -1):
            return False
        return instruction.name != "cmp" or bool(self.flags & alu.ZF) == (instruction.repeat == _REPE)

    def _add(self, number: int, distance: int) -> int:
        """Move a pointer or count, as wide as the instruction's addresses; give its new value."""
        register = Register(number, self.instruction.width)
        value = self.load(register) + distance & alu.mask(register.size)
        self.store(register, value)
        return value

    def finish(self, *, again: bool) -> None:
        """Leave the processor as the instruction leaves it. again: it is repeated, so RIP stays."""
        core, instruction = self.core, self.instruction
        if not again:
            core.rip = core.rip + instruction.length & alu.mask(instruction.bits // 8)
            self.flags &= ~_RF
        core.rflags = self.flags
        core.end_shadow()
