"""The student's interrupt controllers on the board, wired as in a PC, beside vlab's own pair.

Both pairs get the same in the same order: where they differ, the access is named.
Data sheet: Intel 8259A (order 231468-003, 1988).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar, Final

from chips_09 import Line, byte_of, level_name

from vlab.devices.pic8259 import Pic8259Pair, PicPairState
from vlab.devices.state import DeviceState
from vlab.errors import UnusableInput
from vlab.grading.exercise import Broken
from vlab.grading.facade import Facade
from vlab.grading.student import Student
from vlab.grading.trial import Trial
from vlab.session import VM

CASCADE: Final = 2
_ANYWAY: Final = "The output is high for the best request that is not masked and better than all in service."


class PicWires(Facade):
    """The pin of one interrupt controller of the student's."""

    offers = ("interrupt",)

    def __init__(self) -> None:
        self.level = False

    def interrupt(self, level: bool) -> None:
        """Drive the output INT."""
        self.level = bool(level)


class PicPair:
    """Two of the student's controllers, wired as in a PC, beside vlab's own pair."""

    student: ClassVar[Student]
    made: ClassVar[list[PicPair]]
    strict: ClassVar[bool] = True

    def __init__(self, *, output: Line) -> None:
        self._output, self._level = output, False
        self._wires = PicWires(), PicWires()
        self._chips = tuple(self.student.make("Pic", wires) for wires in self._wires)
        self._right_level = False
        self._right = Pic8259Pair(output=self._note)
        self._cascade = False
        self.vectors: list[int] = []
        self.made.append(self)

    def _note(self, level: bool) -> None:
        self._right_level = level

    def _settle(self, when: str) -> None:
        """Wire the slave to the master, and the master to the processor; compare."""
        if self._wires[1].level != self._cascade:
            self._cascade = self._wires[1].level
            self._chips[0].call("set_line", CASCADE, self._cascade)
        level = self._wires[0].level
        if self.strict and level != self._right_level:
            raise Broken(
                f"{when} INT is {level_name(level)} and should be {level_name(self._right_level)}",
                hint=_ANYWAY,
            )
        if level != self._level:
            self._level = level
            self._output(level)

    def set_line(self, n: int, level: bool) -> None:
        """Drive IRQ ``n``."""
        self._chips[n // 8].call("set_line", n % 8, bool(level))
        self._right.set_line(n, level)
        self._settle(f"after IRQ {n} went {level_name(level)}")

    def pending(self) -> bool:
        """Whether INT is high."""
        return self._level

    def acknowledge(self) -> int:
        """The processor takes the vector."""
        vector = byte_of("acknowledge()", self._chips[0].call("acknowledge"))
        if vector & 7 == CASCADE:
            vector = byte_of("acknowledge() of the slave", self._chips[1].call("acknowledge"))
            self._chips[0].call("set_line", CASCADE, False)
            self._cascade = False
        right = self._right.acknowledge()
        if self.strict and vector != right:
            raise Broken(
                f"acknowledge() gave vector {vector:#04x} and should give {right:#04x}",
                hint="The vector is the upper five bits of ICW2 and the level, 0 to 7; level 0 goes first.",
            )
        self.vectors.append(vector)
        self._settle("after acknowledge()")
        return vector

    def read(self, offset: int, size: int = 1) -> int:
        """Read a port of the pair."""
        right = self._right.read(offset)
        if offset > 3:
            return right
        value = byte_of(f"read({offset & 1})", self._chips[offset // 2].call("read", offset & 1))
        if self.strict and value != right:
            raise Broken(
                f"reading port {_port(offset)} gave {value:#04x} and should give {right:#04x}",
                hint="The odd port is IMR. The even one is IRR, or ISR after OCW3 asked for it.",
            )
        self._settle(f"after reading port {_port(offset)}")
        return value

    def write(self, offset: int, value: int, size: int = 1) -> None:
        """Write a port of the pair."""
        self._right.write(offset, value)
        if offset < 4:
            self._chips[offset // 2].call("write", offset & 1, value & 0xFF)
            self._settle(f"after writing {value & 0xFF:#04x} to port {_port(offset)}")

    def save(self) -> PicPairState:
        """What vlab's own pair remembers."""
        return self._right.save()

    def restore(self, state: PicPairState) -> None:
        """Refuse: the student's chips cannot be taken back."""
        raise UnusableInput("snapshot: a chip that is being marked cannot go back")


def _port(offset: int) -> str:
    return f"{(0x20, 0x21, 0xA0, 0xA1)[offset]:X}h"


class LineDriver:
    """In the keyboard controller's place: a byte to port 60h drives the interrupt line of its low nibble."""

    pair: ClassVar[list[PicPair]]

    def __init__(self, **_wires: object) -> None:
        pass

    def read(self, offset: int, size: int = 1) -> int:
        """There is nothing to read."""
        return 0xFF

    def write(self, offset: int, value: int, size: int = 1) -> None:
        """Bit 7 is the level."""
        self.pair[-1].set_line(value & 0xF, bool(value & 0x80))

    def save(self) -> DeviceState:
        """Nothing."""
        return DeviceState()

    def restore(self, state: DeviceState) -> None:
        """Nothing."""


def pair_of(trial: Trial, made: list[PicPair], *, strict: bool = True) -> type[PicPair]:
    """Give the class whose chips are the student's. made: gets those that are made."""
    return type("PicPair", (PicPair,), {"student": trial.student, "made": made, "strict": strict})


def with_pic(trial: Trial, guest: bytes | str, *, memory: str = "2M", lines: bool = True) -> VM:
    """Make a guest with the student's interrupt controllers; ``lines``: with lines that it can drive."""
    made: list[PicPair] = []
    chips: dict[str, Callable[..., object]] = {"pic": pair_of(trial, made)}
    if lines:
        chips["keyboard_controller"] = type("LineDriver", (LineDriver,), {"pair": made})
    return trial.vm(guest, devices=chips, memory=memory)
