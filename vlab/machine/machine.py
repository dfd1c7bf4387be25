"""A computer: memory, a processor and device windows. What runs on it, bare or under a monitor, is others'
business.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from vlab.machine.layout import RESERVED, WINDOWS, HostLayout
from vlab.machine.memory import LARGE_PAGE, PAGE, FrameAllocator, PhysicalMemory
from vlab.machine.processor import Processor
from vlab.machine.svm import Svm
from vlab.machine.turns import Turns


class Machine:
    """One computer.

    memory: bytes of host-physical memory for whoever uses the machine; the machine adds what it needs itself.
    counting: see ``Engine``. ``frames`` hands out page frames; ``lock`` is held by whoever runs the
    processor.
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
        self._windows = 0

    def window(self, read: Callable[[int, int], int], write: Callable[[int, int, int], None]) -> int:
        """Make one page of host-physical addresses whose accesses call ``read(offset, size)`` and ``write``.

        Gives its address. The callbacks run in the middle of an instruction.
        """
        hpa = WINDOWS + PAGE * self._windows
        self._windows += 1
        self.processor.engine.map_window(hpa, PAGE, read, write)
        return hpa

    def close(self) -> None:
        """Give processor and memory back."""
        self.processor.close()
        self.memory.close()
