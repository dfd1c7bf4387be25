"""The frames that shadow tables are made of: one run of them, taken once, so that its size is the bound."""

from __future__ import annotations

from typing import Final

from vlab.errors import UnusableInput
from vlab.machine.machine import Machine
from vlab.machine.memory import PAGE

LEAST: Final = 32
"""Frames below which shadow paging would spend its time throwing tables away."""
_4G: Final = 1 << 32


class FramePool:
    """At most ``limit`` frames of the machine's memory, from host-physical ``base`` on.

    When the machine has no run that long, half of it is tried, down to ``LEAST``. CR3 of PAE paging is 32
    bits wide (APM2 5.2.1), so the frames must be below 4 GiB. Raises UnusableInput when there are none.
    """

    def __init__(self, machine: Machine, limit: int) -> None:
        if limit < LEAST:
            raise UnusableInput(f"frames: {limit} is too few for shadow tables; give at least {LEAST}")
        self._machine = machine
        while True:
            try:
                self.base = machine.frames.allocate(limit * PAGE, use="shadow tables")
                break
            except UnusableInput:
                if limit // 2 < LEAST:
                    raise
                limit //= 2
        self.limit: Final = limit
        if self.base + limit * PAGE > _4G:
            machine.frames.free(self.base)
            raise UnusableInput("memory: shadow tables need frames below 4 GiB; give the machine less memory")
        self._free: list[int] = []
        self.take_all_back()

    @property
    def size(self) -> int:
        """Bytes of the whole run."""
        return self.limit * PAGE

    @property
    def used(self) -> int:
        """How many frames are in use."""
        return self.limit - len(self._free)

    def take(self) -> int | None:
        """Give the host-physical address of a cleared frame, or None when all are in use."""
        if not self._free:
            return None
        frame = self._free.pop()
        self._machine.memory.zero(frame, PAGE)
        return frame

    def give_back(self, frame: int) -> None:
        """Take a frame back."""
        self._free.append(frame)

    def take_all_back(self, keep: int | None = None) -> None:
        """Take every frame back but ``keep``."""
        last = self.base + (self.limit - 1) * PAGE
        self._free = [frame for frame in range(last, self.base - 1, -PAGE) if frame != keep]

    def close(self) -> None:
        """Give the run back to the machine."""
        self._machine.frames.free(self.base)
