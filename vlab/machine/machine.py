"""A computer: memory, a processor and device windows. What runs on it, bare or under a monitor, is others'
business.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TypeAlias

from vlab.machine.layout import RESERVED, WINDOWS, HostLayout
from vlab.machine.memory import LARGE_PAGE, PAGE, FrameAllocator, PhysicalMemory
from vlab.machine.processor import Processor
from vlab.machine.svm import Svm
from vlab.machine.turns import Turns

Read: TypeAlias = Callable[[int, int], int]
Write: TypeAlias = Callable[[int, int, int], None]


class Machine:
    """One computer.

    memory: bytes of host-physical memory for whoever uses the machine; the machine adds what it needs itself.
    counting: see ``Engine``. ``frames`` hands out page frames; ``lock`` is held by whoever runs the
    processor. ``users``: how many virtual machines are on it.
    """

    def __init__(self, memory: int, *, counting: bool = True) -> None:
        size = -(-(memory + RESERVED) // LARGE_PAGE) * LARGE_PAGE
        self.memory: Final = PhysicalMemory(size)
        self.host: Final = HostLayout(size - RESERVED)
        self.frames: Final = FrameAllocator(0, size - RESERVED)
        self.processor: Final = Processor(self.memory, self.host, counting=counting)
        self.svm: Final = Svm(self.processor)
        self.lock: Final = Turns()
        self.users = 0
        self.occupant: object = None
        self.closed = False
        self._windows: dict[int, tuple[Read, Write]] = {}
        self._free_windows: list[int] = []

    def window(self, read: Read, write: Write) -> int:
        """Make one page of host-physical addresses whose accesses call ``read(offset, size)`` and ``write``.

        Gives its address. The callbacks run in the middle of an instruction.
        """
        with self.lock:  # the emulator's map of memory must not change while it runs
            if self._free_windows:
                hpa = self._free_windows.pop()
            else:
                hpa = WINDOWS + PAGE * len(self._windows)
                self._map(hpa)
            self._windows[hpa] = read, write
            return hpa

    def _map(self, hpa: int) -> None:
        windows = self._windows
        self.processor.engine.map_window(
            hpa,
            PAGE,
            lambda offset, size: windows[hpa][0](offset, size),  # noqa: PLW0108 - who serves it changes
            lambda offset, size, value: windows[hpa][1](offset, size, value),  # noqa: PLW0108
        )

    def give_back_window(self, hpa: int) -> None:
        """Take back what ``window`` gave; the page serves the next who asks for one."""
        self._windows[hpa] = _nothing, _nowhere
        self._free_windows.append(hpa)

    def close(self) -> None:
        """Give processor and memory back. Harmless when called again."""
        if not self.closed:
            self.closed = True
            self.processor.close()
            self.memory.close()


def _nothing(_offset: int, size: int) -> int:
    """Nobody answers: all ones, as on an open bus."""
    return (1 << 8 * size) - 1


def _nowhere(_offset: int, _size: int, _value: int) -> None:
    """Nobody takes it."""
