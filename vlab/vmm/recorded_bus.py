"""Device accesses that make no exit of their own, recorded: what a trace at level "full" has beside exits."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, TypeAlias

from vlab.machine.bus import Bus, Window

Note: TypeAlias = Callable[[int, int, bool], None]
"""What is told of each access: its address, the value, and whether it was a write."""


class Answering(Protocol):
    """Devices on one address space: a `Bus`, or one that is recorded."""

    def find(self, address: int) -> Window | None:
        """Give the window at ``address``."""

    def read(self, address: int, size: int) -> int:
        """Read ``size`` bytes."""

    def write(self, address: int, size: int, value: int) -> None:
        """Write ``size`` bytes."""


class RecordedBus:
    """A bus whose accesses are told to ``note``, as the guest makes them: one that is split is still one."""

    def __init__(self, bus: Bus, note: Note) -> None:
        self._bus = bus
        self._note = note

    def find(self, address: int) -> Window | None:
        """Give the window at ``address``."""
        return self._bus.find(address)

    def read(self, address: int, size: int) -> int:
        """Read ``size`` bytes."""
        value = self._bus.read(address, size)
        self._note(address, value, False)
        return value

    def write(self, address: int, size: int, value: int) -> None:
        """Write ``size`` bytes."""
        self._bus.write(address, size, value)
        self._note(address, value, True)
