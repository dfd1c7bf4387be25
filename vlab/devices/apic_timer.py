"""The local APIC's timer: a 32-bit down counter behind a divider, or an absolute deadline.

Reference: Intel SDM vol. 3, 325384-077, section 10.5.4 ("SDM3"). The counter is never stepped: it is
computed from the time at which it was last loaded, in ticks of the undivided clock, and so exact at any
frequency.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, ClassVar

from vlab.devices.state import DeviceState
from vlab.devices.wiring import NS_PER_SECOND, Now, Schedule
from vlab.isa.fields import Register, bit, bits

ONE_SHOT = 0
PERIODIC = 1
TSC_DEADLINE = 2
TIMER_MODES = {ONE_SHOT: "one-shot", PERIODIC: "periodic", TSC_DEADLINE: "TSC deadline"}

#: Shortest distance of two periodic expirations, ns. Shorter periods coalesce, as they would in the IRR: no
#: guest can tell, and a period of one tick cannot keep the monitor from everything else.
SHORTEST_PERIOD = 10_000

_DWORD = 0xFFFF_FFFF


class DivideConfiguration(Register, width=32, reference="SDM3 10.5.4, figure 10-10"):
    """What the timer clock is divided by: 2 to the power of (HIGH:LOW + 1) modulo 8."""

    LOW = bits(0, 1, "two low bits of the code")
    HIGH = bit(3, "high bit of the code")

    @property
    def divisor(self) -> int:
        """The divisor, 1 to 128."""
        return 1 << ((self.HIGH << 2 | self.LOW) + 1) % 8


@dataclass(frozen=True, slots=True)
class ApicTimerState(DeviceState):
    """What the timer remembers.

    `loaded` is the tick of the undivided clock at which the counter held `initial_count`; `due` is the
    virtual time of the next expiration, ns, or None.
    """

    VERSION: ClassVar[int] = 1
    mode: int = ONE_SHOT
    divide: Annotated[int, DivideConfiguration] = 0
    initial_count: int = 0
    running: bool = False
    loaded: int = 0
    due: int | None = None


class ApicTimer:
    """The counter; `fire` is called at each expiration, `frequency` is that of the undivided clock in Hz."""

    _mode: int
    _initial: int
    _running: bool
    _loaded: int
    _due: int | None

    def __init__(self, *, now: Now, schedule: Schedule, fire: Callable[[], None], frequency: int) -> None:
        if frequency <= 0:
            raise ValueError(f"frequency: {frequency} Hz is not a clock; give 1 or more")
        self._now = now
        self._schedule = schedule
        self._fire = fire
        self._frequency = frequency
        self._take(ApicTimerState())

    @property
    def initial_count(self) -> int:
        """The initial-count register; 0 in deadline mode."""
        return self._initial

    @property
    def divide(self) -> int:
        """The divide-configuration register."""
        return int(self._divide)

    @property
    def deadline(self) -> int | None:
        """The armed deadline, ns; None when the mode is another or the deadline has passed."""
        return self._due if self._mode == TSC_DEADLINE else None

    def current_count(self) -> int:
        """Return the counter at this moment, 0 to 2**32 - 1; 0 when it has run out or in deadline mode."""
        if not self._running:
            return 0
        elapsed = (self._tick() - self._loaded) // self._divide.divisor
        if self._mode == PERIODIC:
            return self._initial - elapsed % self._initial
        return max(self._initial - elapsed, 0)

    def load(self, count: int) -> None:
        """Write the initial-count register: the counter starts again, 0 stops it (SDM3 10.5.4)."""
        if self._mode == TSC_DEADLINE:
            return
        self.expire()
        self._initial = count & _DWORD
        self._running = self._initial != 0
        self._loaded = self._tick()
        self._arm()

    def set_divide(self, value: int) -> None:
        """Write the divide-configuration register: the counter goes on at the new rate from where it is."""
        self.expire()
        counted = self._initial - self.current_count()
        self._divide = DivideConfiguration(value & _DWORD & ~DivideConfiguration.reserved_mask())
        if self._running:
            self._loaded = self._tick() - counted * self._divide.divisor
            self._arm()

    def set_mode(self, mode: int) -> None:
        """Take the mode of the LVT entry, 0 to 3; entering or leaving deadline mode disarms the timer."""
        if mode == self._mode:
            return
        self.expire()
        if TSC_DEADLINE in (mode, self._mode):
            self._initial = 0
            self._running = False
        self._mode = mode
        self._arm()

    def set_deadline(self, deadline: int | None) -> None:
        """Arm for a virtual time, ns, or disarm; ignored outside deadline mode (SDM3 10.5.4.1)."""
        if self._mode != TSC_DEADLINE:
            return
        self._due = deadline
        self._schedule(deadline)
        self.expire()

    def expire(self) -> None:
        """Fire if the time has come. Harmless when called early, late or twice."""
        if self._due is None:
            return
        if self._now() < self._due:
            self._schedule(self._due)
            return
        if self._running and self._mode == PERIODIC:
            period = self._initial * self._divide.divisor
            self._loaded += (self._tick() - self._loaded) // period * period
        else:
            self._running = False
        self._arm()
        self._fire()

    def save(self) -> ApicTimerState:
        """Return everything the timer remembers."""
        return ApicTimerState(
            mode=self._mode,
            divide=int(self._divide),
            initial_count=self._initial,
            running=self._running,
            loaded=self._loaded,
            due=self._due,
        )

    def restore(self, state: ApicTimerState) -> None:
        """Take over the state and ask again for the next expiration."""
        self._take(state)
        self._schedule(self._due)

    def _take(self, state: ApicTimerState) -> None:
        self._mode = state.mode
        self._divide = DivideConfiguration(state.divide)
        self._initial = state.initial_count
        self._running = state.running
        self._loaded = state.loaded
        self._due = state.due

    def _tick(self) -> int:
        return self._now() * self._frequency // NS_PER_SECOND

    def _arm(self) -> None:
        """Ask for `expire()` at the first nanosecond at which the counter has run out."""
        self._due = None
        if self._running:
            period = self._initial * self._divide.divisor
            self._due = -(-(self._loaded + period) * NS_PER_SECOND // self._frequency)
            if self._mode == PERIODIC and period * NS_PER_SECOND < SHORTEST_PERIOD * self._frequency:
                self._due = self._now() + SHORTEST_PERIOD
        self._schedule(self._due)
