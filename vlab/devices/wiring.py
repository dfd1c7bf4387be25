"""What a device is wired to: the types of the callables it is given, and the interface it offers in return.

A device never imports the interrupt controller, the bus or the clock. It gets a `Line` to drive, a `Now` to
read and a `Schedule` to ask for `expire()`; all times are virtual nanoseconds since power-on.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, TypeAlias, TypeVar

from vlab.devices.state import DeviceState

Line: TypeAlias = Callable[[bool], None]
"""An output pin: called with its level; it may be called again with the level that it has already."""

Now: TypeAlias = Callable[[], int]
"""Virtual time, nanoseconds; it never goes back."""

Schedule: TypeAlias = Callable[[int | None], None]
"""Asks for `expire()` at that virtual time (ns); None cancels; a later call replaces an earlier one."""

NS_PER_SECOND = 1_000_000_000

S = TypeVar("S", bound=DeviceState)


class Device(Protocol[S]):
    """A chip with a window of ports or of physical memory; offsets are relative to the window."""

    def read(self, offset: int, size: int = 1) -> int:
        """Read a register as the guest does, with the side effects of a read."""

    def write(self, offset: int, value: int, size: int = 1) -> None:
        """Write a register as the guest does; bits of `value` that the register has not are dropped."""

    def save(self) -> S:
        """Return everything the chip remembers; no side effects."""

    def restore(self, state: S) -> None:
        """Become the chip that was saved: drive its lines again and ask again for its next `expire()`."""


class TimedDevice(Device[S], Protocol[S]):
    """A device that acts on its own as time passes."""

    def expire(self) -> None:
        """Do what is due now. Harmless when called early, late or twice."""
