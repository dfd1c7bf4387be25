"""The memory map that a guest is told about, in the form of INT 15h AX=E820h (ACPI 6.5, 15.1)."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum

from vlab.guests.loaders import layout


class RegionType(IntEnum):
    """Address range types (ACPI 6.5, table 15.5); everything not listed in a map is free for devices."""

    RAM = 1
    RESERVED = 2


@dataclass(frozen=True, slots=True)
class Region:
    """One range: first guest-physical address, length in bytes, and what is there."""

    start: int
    size: int
    kind: RegionType

    def pack(self) -> bytes:
        """Return the 20 bytes of the firmware call: base, length, type."""
        return struct.pack("<QQI", self.start, self.size, self.kind)


def memory_map(size: int) -> tuple[Region, ...]:
    """Return the map of a machine with `size` bytes of memory from address 0, in rising order.

    It is the map that the firmware gives. The last 4 KiB below 0xA0000 (EBDA), the ROM area and the pages of
    the APICs are reserved, video memory is not listed, and a last page that is not whole is left out. `size`
    is at least 1 MiB.
    """
    return (
        Region(0, layout.EBDA, RegionType.RAM),
        Region(layout.EBDA, 0xA0000 - layout.EBDA, RegionType.RESERVED),
        Region(layout.ROM_AREA, layout.HIGH_MEMORY - layout.ROM_AREA, RegionType.RESERVED),
        Region(layout.HIGH_MEMORY, size // layout.PAGE * layout.PAGE - layout.HIGH_MEMORY, RegionType.RAM),
        Region(layout.IO_APIC, layout.PAGE, RegionType.RESERVED),
        Region(layout.LOCAL_APIC, layout.PAGE, RegionType.RESERVED),
        Region(layout.ROM, layout.ROM_SIZE, RegionType.RESERVED),
    )


def lower_kib(size: int) -> int:
    """Return the KiB of RAM below the EBDA, as INT 12h reports it."""
    return min(size, layout.EBDA) >> 10


def upper_kib(size: int) -> int:
    """Return the KiB of RAM from 1 MiB upwards."""
    return max(size - layout.HIGH_MEMORY, 0) >> 10
