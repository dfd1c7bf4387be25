"""64-bit guests made by chance: tables of four levels to read through, and stores all over the memory."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from random import Random
from typing import Final

from vlab.guests.probes import PS, RW, US, P
from vlab.guests.programs import SPIN, image64, leave
from vlab.machine.memory import LARGE_PAGE, PAGE

FRAME: Final = 0xFF_FFFF_F000
SHIFTS: Final = {4: 39, 3: 30, 2: 21, 1: 12}
ROOM: Final = range(0x200000, 0x600000, PAGE)
"""Guest-physical frames for the guest's tables and pages, above what nested tables map in small pages."""
RESULTS: Final = 0x20000


@dataclass(slots=True)
class Layout:
    """A guest's page tables. ``words``: what is to be written, by guest-physical address."""

    rng: Random
    words: dict[int, int] = field(default_factory=dict)
    reads: list[int] = field(default_factory=list)
    _frames: list[int] = field(default_factory=list)
    _tables: dict[tuple[int, int], int] = field(default_factory=dict)
    root: int = 0

    def __post_init__(self) -> None:
        self._frames = list(ROOM)
        self.rng.shuffle(self._frames)
        self.root = self.frame()
        self.large(0, 0)  # the guest's program, one to one

    def frame(self) -> int:
        """Take a frame that nothing else uses."""
        return self._frames.pop()

    def entry(self, linear: int, level: int) -> int:
        """Give the address of the entry for ``linear`` at a level; tables on the way are made."""
        table = self.root
        for each in range(4, level, -1):
            place = table + 8 * (linear >> SHIFTS[each] & 511)
            if not self.words.get(place, 0) & P:
                self.words[place] = self.frame() | P | RW | US
            table = self.words[place] & FRAME
        return table + 8 * (linear >> SHIFTS[level] & 511)

    def somewhere(self) -> int:
        """Give an address that nothing is mapped at, in the lower half."""
        while True:
            linear = self.rng.randrange(1 << 27, 1 << 35) << 12
            if not any(self.words.get(self.entry_if_there(linear, level), 0) for level in (2, 1)):
                return linear

    def entry_if_there(self, linear: int, level: int) -> int:
        """Give the address of an entry as `entry` does, -1 where its table is not there."""
        table = self.root
        for each in range(4, level, -1):
            entry = self.words.get(table + 8 * (linear >> SHIFTS[each] & 511), 0)
            if not entry & P or entry & PS:
                return -1
            table = entry & FRAME
        return table + 8 * (linear >> SHIFTS[level] & 511)

    def small(self) -> int:
        """Map a page of 4 KiB; give an address in it, which the guest will read."""
        linear = self.somewhere()
        self.words[self.entry(linear, 1)] = self.frame() | P | RW | US
        return self.read(linear + 8 * self.rng.randrange(511))

    def large(self, linear: int | None = None, frame: int = LARGE_PAGE) -> int:
        """Map a page of 2 MiB; give its address."""
        linear = self.somewhere() & -LARGE_PAGE if linear is None else linear
        self.words[self.entry(linear, 2)] = frame | P | RW | US | PS
        return linear

    def read(self, linear: int) -> int:
        """Have the guest read 8 bytes there."""
        self.reads.append(linear)
        return linear

    def guest(self) -> bytes:
        """Give a guest that loads CR3 and keeps what it reads at RESULTS."""
        code = b"\x48\xc7\xc0" + struct.pack("<I", self.root) + b"\x0f\x22\xd8"  # mov rax, root; mov cr3, rax
        code += b"\x48\xc7\xc7" + struct.pack("<I", RESULTS)  # mov rdi, RESULTS
        for linear in self.reads:
            code += b"\x48\xa1" + struct.pack("<Q", linear)  # mov rax, [linear]
            code += b"\x48\x89\x07\x48\x83\xc7\x08"  # mov [rdi], rax; add rdi, 8
        return image64(code + leave(0))

    def write(self, ram: memoryview) -> None:
        """Fill pages with noise and tables with their entries."""
        noise = self.rng.randbytes(ROOM.stop - ROOM.start)
        ram[ROOM.start : ROOM.stop] = noise
        for start in {address & -PAGE for address in self.words}:
            ram[start : start + PAGE] = bytes(PAGE)
        for address, entry in self.words.items():
            struct.pack_into("<Q", ram, address, entry)


def smalls(layout: Layout) -> list[int]:
    """Map pages of 4 KiB, and have the guest read in them."""
    return [layout.small() for _ in range(5)]


def larges(layout: Layout) -> list[int]:
    """Map pages of 2 MiB, and have the guest read in them."""
    pages = [layout.large() for _ in range(3)]
    return [layout.read(page + 8 * layout.rng.randrange(LARGE_PAGE // 8)) for page in pages]


def absents(layout: Layout) -> list[int]:
    """Take P out of an entry at each level; the rest of the entry stays."""
    found = []
    for level in (4, 3, 2, 1):
        linear = layout.small()
        while level == 4 and linear >> 39 == 0:  # the guest's own program is there
            linear = (linear + (1 << 39)) & (1 << 46) - 1
            layout.words[layout.entry(linear, 1)] = layout.frame() | P | RW | US
        layout.reads.clear()
        place = layout.entry(linear, level)
        layout.words[place] &= ~P
        found.append(linear)
    return found


def nowheres(layout: Layout) -> list[int]:
    """Let the guest's entries lead to where it has no memory: a page, then a table."""
    found = []
    for level in (1, 2, 3):
        linear = layout.somewhere()
        nowhere = layout.rng.randrange(0x1_0000, 0x8_0000) << 12
        layout.words[layout.entry(linear, level)] = nowhere | P | RW | US
        found.append(linear)
    return found


def everywhere(rng: Random, size: int, *, rom: bool = False) -> bytes:
    """A 64-bit guest that stores and loads all over its memory."""
    code = b""
    pages = rng.sample(range(0x120, size >> 12), 24) + rng.sample(range(0x30, 0x90), 8)
    pages += [(size >> 12) - 1, 0x9F]
    for page in pages:
        place = page << 12 | 8 * rng.randrange(512)
        code += b"\x48\xb8" + rng.randbytes(8)  # mov rax, value
        code += b"\x48\xa3" + struct.pack("<Q", place)  # mov [place], rax
        code += b"\x48\xa1" + struct.pack("<Q", rng.choice(pages) << 12)  # mov rax, [...]
        code += b"\x48\x01\xc3"  # add rbx, rax
    if rom:
        for _ in range(3):
            place = rng.randrange(0xF0000, 0xFFFF8)
            code += b"\x48\xa3" + struct.pack("<Q", place) + b"\x48\xa1" + struct.pack("<Q", place)
            code += b"\x48\x01\xc3"
        code += b"\x48\xa1" + struct.pack("<Q", 0xFFFFFFF0) + b"\x48\x01\xc3"  # its second address
    return image64(code + leave(0) + SPIN)
