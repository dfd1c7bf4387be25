"""What an emulated instruction reads and writes outside a guest's RAM: device windows, and firmware to
read.
"""

from __future__ import annotations

from typing import Final

from vlab.vmm.guest_memory import Backing, GuestMemory
from vlab.vmm.recorded_bus import Answering

OPEN_BUS: Final = "open bus"
"""Where nobody answers."""


class DeviceBus:
    """Guest-physical addresses as an emulated memory operand meets them."""

    def __init__(self, windows: Answering, memory: GuestMemory) -> None:
        self._windows = windows
        self._memory = memory

    def find(self, gpa: int) -> str:
        """Say what answers at ``gpa``, where the guest has no RAM: at the least an open bus."""
        region, window = self._memory.find(gpa), self._windows.find(gpa)
        if region is not None and region.backing is Backing.ROM:
            return "firmware"
        return OPEN_BUS if window is None else window.name

    def read(self, gpa: int, size: int) -> int:
        """Read ``size`` bytes: a device, memory, or ones where nobody answers."""
        region = self._memory.find(gpa)
        if region is not None and region.backing is not Backing.WINDOW:
            start = region.hpa - self._memory.hpa + gpa - region.gpa
            return int.from_bytes(self._memory.ram[start : start + size], "little")
        return self._windows.read(gpa, size)

    def write(self, gpa: int, size: int, value: int) -> None:
        """Write ``size`` bytes to a device; firmware and empty space take no writes."""
        self._windows.write(gpa, size, value)
