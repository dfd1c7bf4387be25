"""The ACPI power-management block: events, the switch that turns the machine off, and the PM timer.

ACPI specification 6.5, section 4.8 ("ACPI Register Model"); the FADT of `vlab.guests.firmware.acpi`
announces it at ports 600h-60Bh. The machine is always in ACPI mode (SCI_EN is 1), has no fixed buttons and
sleeps in S5 only.

======  ====  =====================================================
offset  bits  register
======  ====  =====================================================
0       16    PM1 status: writing a 1 clears the bit
2       16    PM1 enable
4       16    PM1 control
8       32    PM timer: 3.579545 MHz, 32 bits, read only
======  ====  =====================================================
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, ClassVar

from vlab.devices.state import DeviceState
from vlab.devices.wiring import NS_PER_SECOND, Line, Now, Schedule
from vlab.isa.fields import Register, bit, bits

TIMER_HZ = 3_579_545
SLEEP_TYPE_S5 = 5
r"""The SLP_TYP that means "off": the one in \_S5 of the DSDT."""
_STATUS, _ENABLE, _CONTROL, _TIMER, _WINDOW = 0, 2, 4, 8, 12
_HALF_PERIOD = 1 << 31


class Pm1Status(Register, width=16, reference='ACPI 4.8.3.1.1 "PM1 Status Registers"'):
    """What has happened."""

    TIMER = bit(0, "bit 31 of the PM timer has changed")
    GLOBAL = bit(5, "the firmware has released the global lock")
    WAKE = bit(15, "the machine has woken up")


class Pm1Enable(Register, width=16, reference='ACPI 4.8.3.1.2 "PM1 Enable Registers"'):
    """Which events raise the SCI."""

    TIMER = bit(0, "SCI when TIMER is set in the status")
    GLOBAL = bit(5, "SCI when GLOBAL is set in the status")
    POWER_BUTTON = bit(8, "SCI for the power button, which this machine has not")
    SLEEP_BUTTON = bit(9, "SCI for the sleep button, which this machine has not")
    RTC = bit(10, "SCI for the alarm clock, which is not wired to this block")


class Pm1Control(Register, width=16, reference='ACPI 4.8.3.2.1 "PM1 Control Registers"'):
    """The state of the whole machine."""

    SCI_ENABLED = bit(0, "power events are SCIs (ACPI mode), not SMIs; always 1 here")
    BUS_MASTER_RELOAD = bit(1, "bus mastering ends C3")
    GLOBAL_RELEASE = bit(2, "tell the firmware that the global lock is free; write only")
    SLEEP_TYPE = bits(10, 12, "the sleep state to enter")
    SLEEP = bit(13, "enter it; write only")


_KEPT = Pm1Control.BUS_MASTER_RELOAD.mask | Pm1Control.SLEEP_TYPE.mask
_ENABLES = (
    Pm1Enable.TIMER.mask
    | Pm1Enable.GLOBAL.mask
    | Pm1Enable.POWER_BUTTON.mask
    | Pm1Enable.SLEEP_BUTTON.mask
    | Pm1Enable.RTC.mask
)


@dataclass(frozen=True, slots=True)
class AcpiPmState(DeviceState):
    """The registers; the timer follows from the time. `seen` is the last half period that has set TIMER."""

    VERSION: ClassVar[int] = 1

    status: Annotated[int, Pm1Status]
    enable: Annotated[int, Pm1Enable]
    control: Annotated[int, Pm1Control]
    seen: int


class AcpiPm:
    """The block, a window of 12 ports. `sci` is the line to IRQ 9; `power_off` is called for S5."""

    def __init__(self, *, now: Now, schedule: Schedule, sci: Line, power_off: Callable[[], None]) -> None:
        self._now = now
        self._schedule = schedule
        self._sci = sci
        self._power_off = power_off
        self._status = self._enable = self._control = 0
        self._seen = 0

    def timer(self) -> int:
        """Return the PM timer, 0..2^32-1."""
        return self._counts() & 0xFFFFFFFF

    def _counts(self) -> int:
        return self._now() * TIMER_HZ // NS_PER_SECOND

    def read(self, offset: int, size: int = 1) -> int:
        """Read `size` bytes from `offset` on; reserved bytes are 0."""
        self._catch_up()
        values = (
            self._status.to_bytes(2, "little")
            + self._enable.to_bytes(2, "little")
            + (self._control | Pm1Control.SCI_ENABLED.mask).to_bytes(4, "little")
            + self.timer().to_bytes(4, "little")
        )
        return int.from_bytes(values[offset : offset + size].ljust(size, b"\0"), "little")

    def write(self, offset: int, value: int, size: int = 1) -> None:
        """Write `size` bytes from `offset` on; the timer and reserved bytes ignore it."""
        self._catch_up()
        mask, value = ((1 << 8 * size) - 1) << 8 * offset, value << 8 * offset
        self._status &= ~(value & mask)
        self._enable = (self._enable & ~(mask >> 16) | value >> 16 & mask >> 16) & _ENABLES
        written = value >> 32 & mask >> 32 & 0xFFFF
        self._control = (self._control & ~(mask >> 32) | written) & _KEPT
        self._drive()
        if Pm1Control(written).SLEEP and Pm1Control(self._control).SLEEP_TYPE == SLEEP_TYPE_S5:
            self._power_off()

    def expire(self) -> None:
        """Notice that bit 31 of the timer has changed."""
        self._catch_up()
        self._drive()

    def _catch_up(self) -> None:
        """Set TIMER for every change of bit 31 since the last look."""
        half_periods = self._counts() // _HALF_PERIOD
        if half_periods != self._seen:
            self._seen = half_periods
            self._status |= Pm1Status.TIMER.mask

    def _drive(self) -> None:
        """Drive the SCI, and ask for the next change of bit 31 when somebody waits for it."""
        self._sci(bool(self._status & self._enable))
        due = -(-(self._seen + 1) * _HALF_PERIOD * NS_PER_SECOND // TIMER_HZ)
        self._schedule(due if Pm1Enable(self._enable).TIMER else None)

    def save(self) -> AcpiPmState:
        """Return the registers."""
        self._catch_up()
        return AcpiPmState(self._status, self._enable, self._control, self._seen)

    def restore(self, state: AcpiPmState) -> None:
        """Become the block that was saved: drive the SCI again and ask again for the next event."""
        self._status, self._enable, self._control = state.status, state.enable, state.control
        self._seen = state.seen
        self._drive()
