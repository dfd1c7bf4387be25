"""The port bus and the memory bus: which device answers at which address.

A device takes its own offsets and its own widths. What nobody claims reads as ones and swallows writes, as on
an ISA bus. Two devices at one address are a wiring mistake and are refused.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass

Read = Callable[[int, int], int]
Write = Callable[[int, int, int], None]


@dataclass(frozen=True, slots=True)
class Window:
    """``count`` addresses from ``first``. width: the widest access in bytes the device takes at once."""

    first: int
    count: int
    name: str
    read: Read
    write: Write
    width: int

    @property
    def last(self) -> int:
        """The last address."""
        return self.first + self.count - 1


class Bus:
    """Windows of devices on one address space. name: for messages."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._firsts: list[int] = []
        self._windows: list[Window] = []

    def add(self, first: int, count: int, name: str, read: Read, write: Write, *, width: int = 1) -> Window:
        """Give a device a window; ``read(offset, size)`` and ``write(offset, value, size)`` serve it.

        width: wider accesses are split into consecutive ones of this many bytes, low address first.
        Raises ValueError when the window overlaps another.
        """
        window = Window(first, count, name, read, write, width)
        for other in self._windows:
            if other.first <= window.last and first <= other.last:
                raise ValueError(
                    f"{self.name}: {name} at {first:#x} to {window.last:#x} overlaps {other.name} "
                    f"at {other.first:#x} to {other.last:#x}"
                )
        place = bisect_right(self._firsts, first)
        self._firsts.insert(place, first)
        self._windows.insert(place, window)
        return window

    @property
    def windows(self) -> tuple[Window, ...]:
        """All windows by address."""
        return tuple(self._windows)

    def find(self, address: int) -> Window | None:
        """Give the window at ``address``."""
        place = bisect_right(self._firsts, address) - 1
        if place >= 0:
            window = self._windows[place]
            if address - window.first < window.count:
                return window
        return None

    def read(self, address: int, size: int) -> int:
        """Read ``size`` bytes; unclaimed bytes are ones."""
        window = self.find(address)
        if window is not None and size <= window.width and address + size - 1 <= window.last:
            return window.read(address - window.first, size) & (1 << 8 * size) - 1
        if size == 1:
            return 0xFF
        step = self._step(window, size)
        return sum(self.read(address + start, step) << 8 * start for start in range(0, size, step))

    def write(self, address: int, size: int, value: int) -> None:
        """Write ``size`` bytes; unclaimed bytes are dropped."""
        window = self.find(address)
        if window is not None and size <= window.width and address + size - 1 <= window.last:
            window.write(address - window.first, value & (1 << 8 * size) - 1, size)
        elif size > 1:
            step = self._step(window, size)
            for start in range(0, size, step):
                self.write(address + start, step, value >> 8 * start & (1 << 8 * step) - 1)

    @staticmethod
    def _step(window: Window | None, size: int) -> int:
        """Split at the device's width, or into halves where no device says."""
        return window.width if window is not None and window.width < size else size // 2
