"""Which shadow entries let the guest write to a frame of its memory: the way back from frame to entries.

Entries are noted when they are written and never struck out, for that would cost more than it gives:
``revoke`` looks at each entry again, and one that maps something else by now is none of its business.
"""

from __future__ import annotations

from vlab.vmm.paging.shadow.entries import FRAME, LARGE, PRESENT, WRITABLE
from vlab.vmm.paging.shadow.forest import Forest
from vlab.vmm.paging.shadow.physical import PhysicalMap
from vlab.vmm.paging.shadow.tables import ShadowTable

_REGION = 9  # a 2 MiB page is 1 << 9 frames
_MANY = 16


class Writers:
    """The writable mappings in ``forest`` of the pages of ``physical``."""

    def __init__(self, forest: Forest, physical: PhysicalMap) -> None:
        self._forest = forest
        self._physical = physical
        self._small: dict[int, tuple[int, ...]] = {}
        self._large: dict[int, list[tuple[ShadowTable, int]]] = {}

    def note(self, gfn: int, place: int, entry: int) -> None:
        """Note the entry at word ``place``, which maps frame ``gfn`` writable."""
        places = self._small.get(gfn, ())
        if place not in places:
            if len(places) >= _MANY:
                places = tuple(place for place in places if self._maps(place, entry & FRAME))
            self._small[gfn] = (*places, place)

    def note_large(self, number: int, table: ShadowTable, index: int) -> None:
        """Note an entry that maps all of 2 MiB page ``number`` writable."""
        places = self._large.setdefault(number, [])
        if (table, index) not in places:
            places.append((table, index))

    def _maps(self, place: int, frame: int) -> bool:
        entry = self._forest.words[place]
        return bool(entry & PRESENT) and entry & FRAME == frame

    def revoke(self, gfn: int) -> None:
        """Leave no writable mapping of frame ``gfn``; a large page is unmapped for that."""
        forest, words, number = self._forest, self._forest.words, gfn >> _REGION
        frame = self._physical.page(gfn) & FRAME
        places = list(self._small.pop(gfn, ()))
        places += [table.first_word + (gfn & 511) for table in forest.inside.get(number, ())]
        for place in places:
            entry = words[place]
            if self._maps(place, frame) and entry & WRITABLE:
                words[place] = entry & ~WRITABLE
                forest.stale = True
        for table, index in self._large.pop(number, ()):
            entry = words[table.first_word + index]
            if (
                forest.tables.get(table.key) is table
                and entry & LARGE
                and entry & FRAME == frame & -(1 << 21)
            ):
                forest.drop(table, index)

    def clear(self) -> None:
        """Forget all: the forest was cleared."""
        self._small.clear()
        self._large.clear()
