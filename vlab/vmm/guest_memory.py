"""A guest's physical address space: which host frames are its RAM, and what else is mapped where.

Regions are the monitor's plan; a paging strategy turns it into tables. The lowest megabyte is a PC's: RAM,
the VGA text window (backed by RAM that the display chip reads), the empty space of expansion ROMs, and the
firmware; the last two are read-only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import Enum
from typing import Final

from vlab.machine.machine import Machine
from vlab.machine.memory import LARGE_PAGE, PAGE

ROM_BASE: Final = 0xF0000
ROM_SIZE: Final = 0x10000
ROM_ALIAS: Final = 0xFFFF0000
_VGA_GRAPHICS, _VGA_TEXT, _VGA_END = 0xA0000, 0xB8000, 0xC0000
_TABLES = 0xE0000
_1M = 1 << 20


class Backing(Enum):
    """What is behind a region."""

    RAM = "RAM"
    ROM = "ROM"
    WINDOW = "device window"


@dataclass(frozen=True, slots=True)
class Region:
    """``size`` bytes of guest-physical address space from ``gpa``, backed by host-physical ``hpa``."""

    gpa: int
    size: int
    hpa: int
    backing: Backing

    @property
    def writable(self) -> bool:
        """Whether the guest may write there without an exit."""
        return self.backing is not Backing.ROM


class GuestMemory:
    """The RAM of one virtual machine on ``machine``, and its physical memory map.

    size: bytes of RAM, a multiple of 4 KiB, at least 2 MiB. ``ram`` is a writable view of it, and
    ``handed_out`` says that it is in the hands of someone who may write at any time.
    ``on_written(gpa, size)`` is called after a device or the host wrote. Raises UnusableInput when the
    machine has no room.
    """

    def __init__(self, machine: Machine, size: int) -> None:
        self._machine = machine
        self.size: Final = size
        self.hpa: Final = machine.frames.allocate(size, LARGE_PAGE, use="RAM")
        self.ram: memoryview = machine.memory.bytes[self.hpa : self.hpa + size]
        machine.memory.zero(self.hpa, size)  # frames of tables and VMCBs come back as they were
        # No expansion ROMs: their space reads as ones. Kernels scan it byte by byte, so it is memory, not
        # exits.
        self.power_on()
        self._above = Region(_1M, size - _1M, self.hpa + _1M, Backing.RAM)
        self._plain: Region | None = None
        self._windows: list[Region] = []
        self.a20 = True
        self.handed_out = False
        self.on_written: Callable[[int, int], None] = lambda _gpa, _size: None

    def make_plain(self) -> None:
        """Have all of it be RAM, without the holes of a PC: the memory of a guest that knows its monitor."""
        self._plain = Region(0, self.size, self.hpa, Backing.RAM)

    def power_on(self) -> None:
        """Fill what is all zero as it is before a guest is loaded."""
        self.ram[_VGA_END:_TABLES] = b"\xff" * (_TABLES - _VGA_END)

    def add_window(self, gpa: int, hpa: int) -> None:
        """Show the device window at host-physical ``hpa`` as one page at ``gpa``."""
        self._windows.append(Region(gpa, PAGE, hpa, Backing.WINDOW))

    def regions(self) -> Iterator[Region]:
        """Give the memory map, lowest address first; what is between regions is absent."""
        if self._plain is not None:
            yield self._plain
            return
        base, size = self.hpa, self.size
        yield from self._low()
        if self.a20:
            yield self._above
        else:  # address line 20 is held low: the second megabyte is the first again
            for region in tuple(self._low()):
                yield Region(region.gpa + _1M, region.size, region.hpa, region.backing)
            yield Region(2 * _1M, size - 2 * _1M, base + 2 * _1M, Backing.RAM)
        yield from sorted(self._windows, key=lambda region: region.gpa)
        yield Region(ROM_ALIAS, ROM_SIZE, base + ROM_BASE, Backing.ROM)

    def _low(self) -> Iterator[Region]:
        base = self.hpa
        yield Region(0, _VGA_GRAPHICS, base, Backing.RAM)
        yield Region(_VGA_TEXT, _VGA_END - _VGA_TEXT, base + _VGA_TEXT, Backing.RAM)
        yield Region(_VGA_END, _TABLES - _VGA_END, base + _VGA_END, Backing.ROM)
        yield Region(_TABLES, ROM_BASE - _TABLES, base + _TABLES, Backing.RAM)
        yield Region(ROM_BASE, ROM_SIZE, base + ROM_BASE, Backing.ROM)

    def find(self, gpa: int) -> Region | None:
        """Give the region at a guest-physical address."""
        if _1M <= gpa < self.size and self.a20:
            return self._above
        for region in self.regions():
            if region.gpa <= gpa < region.gpa + region.size:
                return region
        return None

    def host_address(self, gpa: int) -> int | None:
        """Give the host-physical address behind ``gpa``, None where nothing is mapped."""
        region = self.find(gpa)
        return None if region is None else region.hpa + gpa - region.gpa

    def close(self) -> None:
        """Give the frames back, cleared, so that the next guest finds nothing in them."""
        self._machine.memory.zero(self.hpa, self.size)
        self._machine.frames.free(self.hpa)
