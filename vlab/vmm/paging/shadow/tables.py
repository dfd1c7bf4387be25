"""Shadow tables, and the guest's tables that they mirror."""

from __future__ import annotations

from typing import Final, TypeAlias

from vlab.machine.memory import PAGE, PhysicalMemory
from vlab.vmm.paging.shadow.entries import LINK

Key: TypeAlias = tuple[int, ...]

_CHUNK: Final = 512  # bytes compared at once


class GuestTable:
    """A page table of the guest's, in its memory.

    gpa, hpa: where it is. size: bytes, 4096, or 32 for the four pointers of PAE. entry_size: 4 or 8 bytes.
    ``seen`` holds for each entry the value that what is shadowed of it was made from, so a difference to the
    memory says that the guest has changed it since. ``mirrors``: the shadow tables made from it. ``upper``:
    whether it is one above the last level in any of them. ``protected``: whether writes to it are caught.
    ``quiet``: how many comparisons in a row found nothing changed.
    """

    __slots__ = (
        "_memory", "entries", "entry_size", "gpa", "hpa", "mirrors", "protected", "quiet", "seen", "upper",
    )  # fmt: skip

    def __init__(self, memory: PhysicalMemory, gpa: int, hpa: int, size: int, entry_size: int) -> None:
        self.gpa = gpa
        self.hpa = hpa
        self.entry_size = entry_size
        self._memory = memory.bytes[hpa : hpa + size]
        self.seen = bytearray(self._memory)
        self.entries = memoryview(self.seen).cast("Q" if entry_size == 8 else "I")
        self.mirrors: list[ShadowTable] = []
        self.upper = False
        self.protected = False
        self.quiet = 0

    @property
    def gfn(self) -> int:
        """The guest frame number of the page that it lies in."""
        return self.gpa // PAGE

    def changes(self) -> list[int]:
        """Give the indexes of entries that the guest has changed, and take note of their new values."""
        memory, seen, width = self._memory, self.seen, self.entry_size
        if seen == memory:
            return []
        found = []
        for start in range(0, len(seen), _CHUNK):
            if seen[start : start + _CHUNK] != memory[start : start + _CHUNK]:
                for place in range(start, min(start + _CHUNK, len(seen)), width):
                    if seen[place : place + width] != memory[place : place + width]:
                        found.append(place // width)
        seen[:] = memory
        return found

    def changed(self, index: int) -> bool:
        """Say whether the guest has changed one entry, and take note of its new value."""
        start = index * self.entry_size
        now = self._memory[start : start + self.entry_size]
        if self.seen[start : start + self.entry_size] == now:
            return False
        self.seen[start : start + self.entry_size] = now
        return True


class ShadowTable:
    """A frame of shadow entries.

    key: what it stands for; a table with the same key serves wherever that is needed. frame: host-physical
    address; ``first_word`` the same as an index of 64-bit words. level: 4 to 1; 3 is the top one of PAE.
    source: the guest's table that it mirrors, None for one that lies inside one large page of the guest's, or
    in no page at all. first: index of the guest's entry that its entry 0 stands for. span: how many of its
    entries stand for one of the guest's: 2 in the directories of legacy paging, whose entries map 4 MiB.
    ``children``: the tables that its entries point to. ``references``: how many entries (and registers) point
    to it. ``link``: the bits of an entry that points to a table.
    """

    __slots__ = (
        "children", "first", "first_word", "frame", "key", "level", "link", "references", "source", "span",
    )  # fmt: skip

    def __init__(
        self, key: Key, frame: int, level: int, source: GuestTable | None, first: int = 0, span: int = 1
    ) -> None:
        self.key = key
        self.frame = frame
        self.first_word = frame >> 3
        self.level = level
        self.source = source
        self.first = first
        self.span = span
        self.children: dict[int, ShadowTable] = {}
        self.references = 0
        self.link = LINK
