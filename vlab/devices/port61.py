"""System control port B, port 61h: the speaker, counter 2 of the timer, and the parity checks.

IBM PC/AT Technical Reference (1985), "System Board: Other Circuits", I/O port 61h. Bit 4 follows the memory
refresh, which counter 1 of the timer requests every 18 pulses: software of the time measured delays with it,
15.085 us from one change to the next. It is derived from the time alone, whatever counter 1 is set to.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, ClassVar

from vlab.devices.pit_channel import pulse_at
from vlab.devices.state import DeviceState
from vlab.devices.wiring import Line, Now
from vlab.isa.fields import Register, bit

REFRESH_PULSES = 18


class SystemControlB(Register, width=8, reference='PC/AT "I/O port 61h"'):
    """Port 61h. Bits 0-3 are read and written, bits 4-7 read only."""

    GATE2 = bit(0, "gate of timer counter 2")
    SPEAKER = bit(1, "connect the output of counter 2 to the speaker")
    PARITY_OFF = bit(2, "disable the parity check of the memory")
    CHECK_OFF = bit(3, "disable the check line of the bus")
    REFRESH = bit(4, "changes at each memory refresh")
    OUT2 = bit(5, "output of timer counter 2")
    CHECK = bit(6, "the bus reported an error")
    PARITY = bit(7, "the memory reported a parity error")


@dataclass(frozen=True, slots=True)
class Port61State(DeviceState):
    """The bits that were written."""

    VERSION: ClassVar[int] = 1

    control: Annotated[int, SystemControlB]


class Port61:
    """The port. `set_gate2` and `out2` are pins of timer counter 2 (`Pit8254.set_gate2`, `Pit8254.out2`)."""

    def __init__(self, *, now: Now, set_gate2: Line, out2: Callable[[], bool]) -> None:
        self._now = now
        self._set_gate2 = set_gate2
        self._out2 = out2
        self._control = 0

    @property
    def speaker(self) -> bool:
        """Whether the output of counter 2 moves the speaker."""
        return bool(SystemControlB(self._control).SPEAKER)

    def read(self, offset: int = 0, size: int = 1) -> int:
        """Read the port; no memory of this machine ever fails, so bits 6 and 7 are 0."""
        refresh = pulse_at(self._now()) // REFRESH_PULSES & 1
        return self._control | refresh << 4 | self._out2() << 5

    def write(self, offset: int, value: int, size: int = 1) -> None:
        """Write bits 0-3."""
        self._control = value & 0x0F
        self._set_gate2(bool(SystemControlB(self._control).GATE2))

    def save(self) -> Port61State:
        """Return what was written."""
        return Port61State(control=self._control)

    def restore(self, state: Port61State) -> None:
        """Take the saved bits and drive the gate, which is no news to a timer that was restored too."""
        self.write(0, state.control)
