"""Filling shadow tables: the guest's entries and the monitor's map of memory, composed into one.

Guest tables of all formats are mirrored level by level. Legacy entries are 4 bytes and ours 8, so a directory
of the guest's becomes four of ours and a page table two (AMD APM vol. 2, rev. 3.42, 5.2). Below a large page
of the guest's, and where it does not page at all, tables of ours mirror nothing: they lie *inside* the page.
"""

from __future__ import annotations

from array import array
from typing import Final

from vlab.isa.paging import Access, PagingControls, PagingMode
from vlab.machine.memory import PAGE
from vlab.vmm.paging.shadow.entries import (
    ENTRIES,
    FRAME,
    LARGE,
    MAY_WRITE,
    NO_EXECUTE,
    PRESENT,
    RIGHTS,
    USER,
    WRITABLE,
)
from vlab.vmm.paging.shadow.forest import Forest
from vlab.vmm.paging.shadow.guest_walk import GuestEntry, Unbacked, Walked
from vlab.vmm.paging.shadow.physical import NOTHING, PhysicalMap
from vlab.vmm.paging.shadow.tables import GuestTable, Key, ShadowTable
from vlab.vmm.paging.shadow.watch import Watch
from vlab.vmm.paging.shadow.writers import Writers

POINTERS: Final = 32
"""Bytes of the four page-directory pointers of PAE."""

# What stands in a key for the index of a first entry, in tables that mirror nothing.
_INSIDE, _ABOVE_LEGACY, _UNPAGED, _SPARE = -1, -2, -3, -4
_MODES: Final = {mode: number for number, mode in enumerate(PagingMode)}
_INDEX: Final = ENTRIES - 1


class Composer:
    """Fills the tables of ``forest``. ``context``: what steers the guest's translation, its root apart.

    ``executed``: frames that were fetched from, by the number of their 2 MiB page. Where the guest lets them
    be executed they always are: of stores through other entries the emulator looks at the first alone for
    code that it has translated. ``crowned``: a top table of level 3 hangs below one of level 4.
    """

    def __init__(self, forest: Forest, watch: Watch, writers: Writers, physical: PhysicalMap) -> None:
        self._forest = forest
        self._watch = watch
        self._writers = writers
        self._physical = physical
        self._legacy = False
        self.crowned = False
        self.context = 0
        self.executed: dict[int, set[int]] = {}
        self._last: tuple[tuple[tuple[GuestEntry, ...], int, int], ShadowTable] | None = None

    # --- top tables -------------------------------------------------------------------------------------

    def follow(self, controls: PagingControls) -> Key:
        """Compose for these controls from now on; give the key of their top table."""
        mode, top = controls.mode, controls.plan.top
        self._legacy = mode is PagingMode.LEGACY
        self.context = (
            _MODES[mode] | controls.pse << 2 | controls.nxe << 3 | controls.wp << 4 | controls.smep << 5
        )
        if mode is PagingMode.LONG:
            return top, 4, RIGHTS, 0, self.context
        self.context |= self.crowned << 6
        if mode is PagingMode.PAE:
            return top, 3, RIGHTS, 0, self.context
        return top, 3, RIGHTS, _ABOVE_LEGACY if self._legacy else _UNPAGED, self.context

    def make_top(self, key: Key) -> ShadowTable:
        """Make the top table for a key of ``follow``; raises OutOfFrames."""
        self._forest.reserve()
        table = self._forest.make(key, key[1], self.top_source(key))
        if table.level == 3 and not self.crowned:
            table.link = PRESENT  # the pointers of PAE have no rights (APM2 5.2.3)
        return table

    def top_source(self, key: Key) -> GuestTable | None:
        """Give the guest's table that a top table mirrors; None where CR3 points to no memory."""
        gpa, level, _, kind, _ = key
        if kind != 0 or self._physical.memory(gpa // PAGE) is None:
            return None
        return self._source(gpa, 8, upper=True, size=PAGE if level == 4 else POINTERS)

    def _source(self, gpa: int, entry_size: int, *, upper: bool, size: int = PAGE) -> GuestTable:
        hpa = self._physical.memory(gpa // PAGE)
        assert hpa is not None  # the walk has read from it
        return self._watch.table(gpa, hpa | gpa & PAGE - 1, size, entry_size, upper=upper)

    # --- down the guest's path --------------------------------------------------------------------------

    def descend(self, linear: int, walked: Walked) -> ShadowTable:
        """Follow the guest's entries through the shadow, making what is missing, to the table of the last.

        Neighbours are touched one after the other: where all entries but the last are those of the walk
        before, and no link was made or cut since, it ends where that one did. Raises OutOfFrames.
        """
        above, end = walked.above, walked.last
        if end is None:
            return self._forest.top
        route = above, linear >> 21, self._forest.changes
        if above and self._last is not None and self._last[0] == route:
            table = self._last[1]
            _note(table, end)
            return table
        table = self._forest.top
        shift, rights = 39 if table.level == 4 else 30, RIGHTS
        if self._legacy:
            top = (above[0] if above else end).gpa & ~(PAGE - 1)
            table = self._mirror(table, linear >> 30, top, rights, linear >> 22 & 0x300, span=2)
            shift = 21
        for entry in above:
            value = entry.value
            _note(table, entry)
            if table.level != 3 or table.source is None or len(table.source.seen) != POINTERS:
                rights = rights & (value | ~RIGHTS) | value & NO_EXECUTE
            first = linear >> 21 << 9 & ENTRIES if self._legacy else 0
            table = self._mirror(table, linear >> shift & _INDEX, value & FRAME, rights, first)
            shift -= 9
        _note(table, end)
        self._last = (above, linear >> 21, self._forest.changes), table
        return table

    def _mirror(
        self, table: ShadowTable, index: int, gpa: int, rights: int, first: int, span: int = 1
    ) -> ShadowTable:
        """Give the table that mirrors the guest's at ``gpa``, below an entry of ``table``."""
        level = table.level - 1
        key = (gpa, level, rights, first, self.context)
        child = table.children.get(index)
        if child is None or child.key != key:
            child = self._forest.tables.get(key)
            if child is None:
                self._forest.reserve()
                source = self._source(gpa, 4 if self._legacy else 8, upper=level > 1)
                child = self._forest.make(key, level, source, first, span)
            self._forest.link(table, index, child)
        return child

    def spare(self, table: ShadowTable, index: int, number: int) -> ShadowTable:
        """Make a table that mirrors nothing below an entry of ``table``; number: of what the entry maps."""
        level = table.level - 1
        key = (number, level, RIGHTS, _SPARE, self.context)
        child = self._forest.tables.get(key)
        if child is None:
            self._forest.reserve()
            child = self._forest.make(key, level)
        self._forest.link(table, index, child)
        return child

    def _note_fetch(self, gfn: int) -> None:
        """Note that a frame holds code; entries through which it could be written as data alone go."""
        executed = self.executed.setdefault(gfn >> 9, set())
        if gfn not in executed:
            executed.add(gfn)
            self._writers.revoke(gfn)

    # --- the page at its end ----------------------------------------------------------------------------

    def place(self, table: ShadowTable, linear: int, walked: Walked, access: Access) -> Unbacked | None:
        """Map the page that the walk found through ``table``, whose entry stands for the guest's last one.

        Raises OutOfFrames.
        """
        if access.fetch:
            self._note_fetch(walked.gpa // PAGE)
        if table.level != 1:
            last_table = self._place_above(table, linear, walked.gpa // PAGE, walked.rights)
            if last_table is None:
                return None
            table = last_table
        return self._place_small(table, linear >> 12 & _INDEX, walked, access)

    def _place_above(self, table: ShadowTable, linear: int, gfn: int, rights: int) -> ShadowTable | None:
        """Map a large page of the guest's, or all of its memory: in one piece, or give a last-level table."""
        if table.level == 3:
            table = self._inside(table, linear >> 30 & _INDEX, (gfn >> 18, 2, rights, _INSIDE, 0))
        index, number = linear >> 21 & _INDEX, gfn >> 9
        key = (number, 1, rights, _INSIDE, 0)
        child = table.children.get(index)
        if (child is None or child.key != key) and self._place_large(table, index, number, rights):
            return None
        return self._inside(table, index, key)

    def _place_large(self, table: ShadowTable, index: int, number: int, rights: int) -> bool:
        """Map 2 MiB page ``number`` in one piece, if nothing speaks against it."""
        entry = self._physical.large(number)
        if entry == NOTHING or self._watch.any_in(number):
            return False
        if rights & MAY_WRITE and not rights & NO_EXECUTE and number in self.executed:
            return False
        entry = entry & ~WRITABLE | rights & (RIGHTS | NO_EXECUTE)
        if rights & MAY_WRITE:
            entry |= NO_EXECUTE
        self._forest.put(table, index, entry)
        if entry & WRITABLE:
            self._writers.note_large(number, table, index)
        return True

    def _inside(self, table: ShadowTable, index: int, key: Key) -> ShadowTable:
        """Give the table with ``key`` for part of a large page, below an entry of ``table``."""
        child = table.children.get(index)
        if child is None or child.key != key:
            child = self._forest.tables.get(key)
            if child is None:
                self._forest.reserve()
                number, level, rights = key[:3]
                if level == 1:
                    child = self._forest.make_inside(key, number)
                    self._fill(child, number, rights)
                else:
                    child = self._forest.make(key, level)
            self._forest.link(table, index, child)
        return child

    def _fill(self, table: ShadowTable, number: int, rights: int) -> None:
        """Map all of 2 MiB page ``number``: what the guest says of it, it says of every part."""
        words, physical = self._forest.words, self._physical
        kept = -1 if rights & WRITABLE else ~WRITABLE
        added = rights & (USER | NO_EXECUTE) | (NO_EXECUTE if rights & MAY_WRITE else 0)
        whole = physical.large(number) & ~LARGE
        if whole != NOTHING:
            start = whole & kept | added
            entries = array("Q", range(start, start + ENTRIES * PAGE, PAGE))
        else:
            pages = physical.parts(number)
            entries = array("Q", [page & kept | added if page != NOTHING else 0 for page in pages])
        words[table.first_word : table.first_word + ENTRIES] = memoryview(entries)
        if rights & MAY_WRITE and not rights & NO_EXECUTE:
            for gfn in self.executed.get(number, ()):
                words[table.first_word + (gfn & _INDEX)] &= ~NO_EXECUTE
        if rights & WRITABLE and self._watch.any_in(number):
            for index in range(ENTRIES):
                if (number << 9) + index in self._watch.protected:
                    words[table.first_word + index] &= ~WRITABLE

    def _place_small(self, table: ShadowTable, index: int, walked: Walked, access: Access) -> Unbacked | None:
        """Map one 4 KiB page by an entry of a last-level table."""
        gpa, entry, rights, _, _ = walked
        gfn = gpa // PAGE
        if (access.write and not entry & WRITABLE) or (access.fetch and entry & NO_EXECUTE):
            return Unbacked(gpa)  # firmware takes no writes, and a device's window holds no code
        if access.write and gfn in self._watch.protected:
            self._watch.release(gfn)
        if not rights & WRITABLE or gfn in self._watch.protected:
            entry &= ~WRITABLE
        entry |= rights & (USER | NO_EXECUTE)
        place = table.first_word + index
        if rights & MAY_WRITE and gfn not in self.executed.get(gfn >> 9, ()):
            entry |= NO_EXECUTE
        self._forest.put(table, index, entry)
        if entry & WRITABLE and table.source is not None:
            self._writers.note(gfn, place, entry)
        return None


def _note(table: ShadowTable, entry: GuestEntry) -> None:
    """Note that the shadow follows the guest's ``entry`` as it is now."""
    source = table.source
    assert source is not None
    source.entries[(entry.gpa - source.gpa) // entry.size] = entry.value
