"""The student's serial port on the board, beside vlab's own.

Both get the same accesses in the same order: where they differ, the access is named.
Data sheet: National Semiconductor PC16550D (June 1995).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar, Final

from chips_09 import Line, byte_of, level_name

from vlab.devices.serial16550a import Serial16550A, SerialState
from vlab.devices.serial_registers import (
    InterruptEnable,
    InterruptIdentification,
    LineControl,
    LineStatus,
    ModemControl,
    ModemStatus,
    Offset,
)
from vlab.errors import UnusableInput
from vlab.grading.exercise import Broken
from vlab.grading.facade import Facade
from vlab.grading.student import Student
from vlab.grading.trial import Trial
from vlab.isa.fields import Register
from vlab.session import VM

_DLAB: Final = LineControl.DLAB.mask
_NAMES: Final = ("RBR", "IER", "IIR", "LCR", "MCR", "LSR", "MSR", "SCR")
_KINDS: Final[dict[int, type[Register]]] = {
    Offset.IER: InterruptEnable,
    Offset.IIR_FCR: InterruptIdentification,
    Offset.LCR: LineControl,
    Offset.MCR: ModemControl,
    Offset.LSR: LineStatus,
    Offset.MSR: ModemStatus,
}
_COMPARED: Final = {Offset.MSR: 0xF0}
"""Bits of a register that the exercise asks for, where these are not all."""


class SerialWires(Facade):
    """The pins of the student's serial port."""

    offers = ("irq", "transmit")

    def __init__(self, irq: Line, transmit: Callable[[int], None]) -> None:
        self._irq, self._transmit = irq, transmit
        self.level = False
        self.sent: list[int] = []

    def irq(self, level: bool) -> None:
        """Drive the interrupt line."""
        self.level = bool(level)
        self._irq(self.level)

    def transmit(self, byte: object) -> None:
        """Send a character."""
        if not isinstance(byte, int) or not 0 <= byte <= 0xFF:
            raise ValueError(f"byte: {byte!r} is not one, 0 to 255")
        self.sent.append(byte)
        self._transmit(byte)


class Uart:
    """The student's serial port as the board has it, beside vlab's own."""

    student: ClassVar[Student]
    strict: ClassVar[bool] = True

    def __init__(self, *, irq: Line, transmit: Callable[[int], None]) -> None:
        self._wires = SerialWires(irq, transmit)
        self._chip = self.student.make("Uart", self._wires)
        self._right_sent: list[int] = []
        self._right_level = False
        self._right = Serial16550A(irq=self._note_level, transmit=self._right_sent.append)
        self._typed: list[int] = []
        self._ier = self._lcr = 0

    def _note_level(self, level: bool) -> None:
        self._right_level = level

    def read(self, offset: int, size: int = 1) -> int:
        """Read a register of both."""
        offset &= 7
        value = byte_of(f"read({offset})", self._chip.call("read", offset))
        right = self._right.read(offset)
        divisor = offset in (Offset.DATA, Offset.IER) and self._lcr & _DLAB
        mask = _COMPARED.get(offset, 0xFF)
        if self.strict and (value ^ right) & mask:
            name = f"the divisor's byte {offset}" if divisor else _NAMES[offset]
            gave, gives = (_shown(offset, each & mask, bool(divisor)) for each in (value, right))
            raise Broken(f"reading {name} (offset {offset}) gave {gave} and should give {gives}")
        self._compare(f"after reading {_NAMES[offset]}")
        return value

    def write(self, offset: int, value: int, size: int = 1) -> None:
        """Write a register of both."""
        offset, value = offset & 7, value & 0xFF
        self._chip.call("write", offset, value)
        self._right.write(offset, value)
        if offset == Offset.LCR:
            self._lcr = value
        elif offset == Offset.IER and not self._lcr & _DLAB:
            self._ier = value
        self._compare(f"after writing {value:#04x} to offset {offset}")
        self._hand_over()

    def receive(self, data: bytes) -> None:
        """Type: the characters arrive once the driver has asked for interrupts."""
        self._typed += data
        self._hand_over()

    def _hand_over(self) -> None:
        while self._typed and self._ier & InterruptEnable.ERBFI.mask:
            byte = self._typed.pop(0)
            self._chip.call("receive", byte)
            self._right.receive(bytes((byte,)))
            self._compare(f"after {bytes((byte,))!r} arrived")

    def _compare(self, when: str) -> None:
        if not self.strict:
            return
        if self._wires.level != self._right_level:
            is_, should_be = level_name(self._wires.level), level_name(self._right_level)
            raise Broken(
                f"{when} the interrupt line is {is_} and should be {should_be}",
                hint="The line is high while IIR has a source to tell: work it out after each change.",
            )
        if self._wires.sent != self._right_sent:
            raise Broken(
                f"{when} the port has sent {bytes(self._wires.sent[-8:])!r} last, and should have sent "
                f"{bytes(self._right_sent[-8:])!r}"
            )

    def save(self) -> SerialState:
        """What vlab's own chip remembers."""
        return self._right.save()

    def restore(self, state: SerialState) -> None:
        """Refuse: the student's chip cannot be taken back."""
        raise UnusableInput("snapshot: a chip that is being marked cannot go back")


def _shown(offset: int, value: int, divisor: bool) -> str:
    kind = None if divisor else _KINDS.get(offset)
    return f"{value:#04x}" if kind is None else repr(kind(value))


def port_of(trial: Trial, *, strict: bool = True) -> type[Uart]:
    """Give the class whose chip is the student's. strict: it is compared with vlab's own."""
    return type("Uart", (Uart,), {"student": trial.student, "strict": strict})


def with_uart(trial: Trial, guest: bytes | str, *, memory: str = "2M") -> VM:
    """Make a guest with the student's serial port."""
    return trial.vm(guest, devices={"serial": port_of(trial)}, memory=memory)
