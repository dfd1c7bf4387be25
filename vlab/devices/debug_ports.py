"""The small ports of a PC that hold one byte or none: POST code, console, exit, fast A20 and reset control.

POST code and port 92h: IBM PS/2 Hardware Interface Technical Reference (1988), "System Control Port A" and
"Power-On Self-Test". Reset control: Intel 82371SB (PIIX3), 290550-002, "RC - Reset Control Register". The
console at E9h is the one of Bochs, the exit at F4h that of QEMU's isa-debug-exit; neither ever was a chip.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, ClassVar

from vlab.devices.state import DeviceState
from vlab.devices.wiring import Line
from vlab.isa.fields import Register, bit

POST_CODE_PORT = 0x80
SYSTEM_CONTROL_PORT_A = 0x92
DEBUG_CONSOLE_PORT = 0xE9
DEBUG_EXIT_PORT = 0xF4
RESET_CONTROL_PORT = 0xCF9


class SystemControlA(Register, width=8, reference='PS/2 "System Control Port A"'):
    """Port 92h."""

    FAST_RESET = bit(0, "alternate hot reset: a 0 to 1 change resets the processor")
    A20 = bit(1, "alternate A20 gate: 1 lets address line 20 through")


class ResetControlRegister(Register, width=8, reference='PIIX3 "RC"'):
    """Port CF9h."""

    SRST = bit(1, "kind of reset: 0 soft (processor alone), 1 hard (the whole machine)")
    RCPU = bit(2, "a 0 to 1 change performs the reset")


@dataclass(frozen=True, slots=True)
class PostCodeState(DeviceState):
    """What `PostCode` remembers."""

    VERSION: ClassVar[int] = 1
    code: int = 0


class PostCode:
    """Port 80h: the last byte written stays readable, and `report` hears of every one.

    Kernels also write here to wait a microsecond, so `report` must be cheap.
    """

    def __init__(self, *, report: Callable[[int], None]) -> None:
        self._report = report
        self._code = 0

    def read(self, offset: int, size: int = 1) -> int:
        """Return the last code; it reads back since the port is a spare latch of the DMA page registers."""
        return self._code

    def write(self, offset: int, value: int, size: int = 1) -> None:
        """Latch and report the low byte."""
        self._code = value & 0xFF
        self._report(self._code)

    def save(self) -> PostCodeState:
        """Return the latch."""
        return PostCodeState(self._code)

    def restore(self, state: PostCodeState) -> None:
        """Take over the latch; nothing is reported."""
        self._code = state.code


@dataclass(frozen=True, slots=True)
class DebugConsoleState(DeviceState):
    """`DebugConsole` remembers nothing."""

    VERSION: ClassVar[int] = 1


class DebugConsole:
    """Port E9h: every byte written goes to `transmit`; a read gives E9h, by which guests find the port."""

    def __init__(self, *, transmit: Callable[[int], None]) -> None:
        self._transmit = transmit

    def read(self, offset: int, size: int = 1) -> int:
        """Return E9h."""
        return DEBUG_CONSOLE_PORT

    def write(self, offset: int, value: int, size: int = 1) -> None:
        """Transmit the low byte."""
        self._transmit(value & 0xFF)

    def save(self) -> DebugConsoleState:
        """Return the empty state."""
        return DebugConsoleState()

    def restore(self, state: DebugConsoleState) -> None:
        """Nothing to take over."""


@dataclass(frozen=True, slots=True)
class DebugExitState(DeviceState):
    """`DebugExit` remembers nothing."""

    VERSION: ClassVar[int] = 1


class DebugExit:
    """Port F4h: a write ends the run with the written value, of up to 32 bits, as the guest's status.

    `stop` gets the value as it is written (QEMU makes the process status `value * 2 + 1` of it).
    """

    def __init__(self, *, stop: Callable[[int], None]) -> None:
        self._stop = stop

    def read(self, offset: int, size: int = 1) -> int:
        """Return 0."""
        return 0

    def write(self, offset: int, value: int, size: int = 1) -> None:
        """Ask for the end of the run."""
        self._stop(value & ((1 << 8 * min(size, 4)) - 1))

    def save(self) -> DebugExitState:
        """Return the empty state."""
        return DebugExitState()

    def restore(self, state: DebugExitState) -> None:
        """Nothing to take over."""


@dataclass(frozen=True, slots=True)
class FastA20State(DeviceState):
    """What `FastA20` remembers."""

    VERSION: ClassVar[int] = 1
    control: Annotated[int, SystemControlA] = SystemControlA.A20.mask


class FastA20:
    """Port 92h: the A20 gate and the reset that do not wait for the keyboard controller.

    The board combines `a20` with the keyboard controller's: line 20 passes while either lets it. It starts
    open, as firmware leaves it.
    """

    _WRITABLE = SystemControlA.FAST_RESET.mask | SystemControlA.A20.mask

    def __init__(self, *, a20: Line, reset: Callable[[], None]) -> None:
        self._a20 = a20
        self._reset = reset
        self._control = SystemControlA(SystemControlA.A20.mask)

    def read(self, offset: int, size: int = 1) -> int:
        """Return the register."""
        return int(self._control)

    def write(self, offset: int, value: int, size: int = 1) -> None:
        """Drive the gate, and reset on a 0 to 1 change of bit 0."""
        before = self._control
        self._control = SystemControlA(value & self._WRITABLE)
        self._a20(bool(self._control.A20))
        if self._control.FAST_RESET and not before.FAST_RESET:
            self._reset()

    def save(self) -> FastA20State:
        """Return the register."""
        return FastA20State(int(self._control))

    def restore(self, state: FastA20State) -> None:
        """Take over the register and drive the gate; no reset happens."""
        self._control = SystemControlA(state.control)
        self._a20(bool(self._control.A20))


@dataclass(frozen=True, slots=True)
class ResetControlState(DeviceState):
    """What `ResetControl` remembers."""

    VERSION: ClassVar[int] = 1
    control: Annotated[int, ResetControlRegister] = 0


class ResetControl:
    """Port CF9h: a 0 to 1 change of RCPU resets; whether soft or hard, this machine starts again."""

    _WRITABLE = ResetControlRegister.SRST.mask | ResetControlRegister.RCPU.mask

    def __init__(self, *, reset: Callable[[], None]) -> None:
        self._reset = reset
        self._control = ResetControlRegister(0)

    def read(self, offset: int, size: int = 1) -> int:
        """Return the register."""
        return int(self._control)

    def write(self, offset: int, value: int, size: int = 1) -> None:
        """Keep the two bits, and reset on a 0 to 1 change of RCPU."""
        before = self._control
        self._control = ResetControlRegister(value & self._WRITABLE)
        if self._control.RCPU and not before.RCPU:
            self._reset()

    def save(self) -> ResetControlState:
        """Return the register."""
        return ResetControlState(int(self._control))

    def restore(self, state: ResetControlState) -> None:
        """Take over the register; no reset happens."""
        self._control = ResetControlRegister(state.control)
