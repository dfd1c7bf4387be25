"""A walk of the guest's own page tables, with the accessed and dirty bits that the processor would set.

Sections are those of AMD APM vol. 2, rev. 3.42.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Final, NamedTuple

from vlab.isa.paging import (
    Access,
    Fault,
    PagingControls,
    PagingMode,
    Prefix,
    Translation,
    translate_and_keep,
    translate_from,
)
from vlab.machine.memory import PAGE, PhysicalMemory
from vlab.vmm.paging.shadow.entries import (
    ACCESSED,
    DIRTY,
    FRAME,
    MAY_WRITE,
    NO_EXECUTE,
    RIGHTS,
    USER,
    WRITABLE,
)
from vlab.vmm.paging.shadow.physical import NOTHING, PhysicalMap


@dataclass(frozen=True, slots=True)
class Unbacked:
    """The access reaches a guest-physical address without memory, or writes to firmware."""

    gpa: int


class GuestEntry(NamedTuple):
    """An entry of the guest's, as it is after the walk: guest-physical address, bytes, value."""

    gpa: int
    size: int
    value: int


class Walked(NamedTuple):
    """A walk that arrived.

    gpa: guest-physical address. page: the widest shadow entry for its page. rights: what that may allow (see
    ``entries``). above: the entries on the way to the last one. last: that one; None without paging.
    """

    gpa: int
    page: int
    rights: int
    above: tuple[GuestEntry, ...]
    last: GuestEntry | None


_entry: Callable[[tuple[int, int, int]], GuestEntry] = partial(tuple.__new__, GuestEntry)
_walked: Callable[[tuple[int, int, int, tuple[GuestEntry, ...], GuestEntry | None]], Walked] = partial(
    tuple.__new__, Walked
)
"""A third of the cost of calling the classes: every fill makes one of each."""


class _NoTable(Exception):
    """A page table of the guest's is where no memory is."""

    def __init__(self, gpa: int) -> None:
        super().__init__(gpa)
        self.gpa = gpa


class _LastTable(NamedTuple):
    """A last-level table that a walk has come to, with everything that the next one needs in one unpacking.

    prefix: the way to it. above: its entries. words: all memory as numbers of ``size`` bytes; first: index
    of the table's first. writable: whether accessed and dirty bits can be set there. way: the rights that
    are left on the way to it, as a digest has them.
    """

    prefix: Prefix
    above: tuple[GuestEntry, ...]
    words: memoryview
    first: int
    index_mask: int
    size: int
    writable: bool
    way: int


_PAE: Final = PagingMode.PAE
_WRITTEN: Final = ACCESSED | DIRTY
_REGION: Final = 21
"""Linear address bits below what a last table maps, the larger ones of legacy paging halved."""

_DIGESTED: Final = (1 << 64) - (1 << 32) | PAGE - 1
"""The bits of a last entry that its digest has; those between are of the page's address in all formats."""
_WRITE_AT, _USER_AT, _FETCH_AT, _RIGHTS_AT, _NX_AT = 12, 13, 14, 15, 20
"""Where a digest has what is not in the entry."""
_MOST_DIGESTS: Final = 1 << 12
"""Enough for any guest that does not try out all values of the bits that are its own."""


class GuestWalker:
    """Walks for one guest.

    What it keeps until ``forget``: the way to each last table, as a processor's caches do, and what the one
    walker (``vlab.isa.paging``) has said of last entries. That depends on the entry's flags, on the rights
    of the way to it and on the access, but not on where the page is: all that is the *digest*, of which a
    guest has few, and the walker is asked once for each.
    """

    def __init__(self, memory: PhysicalMemory, physical: PhysicalMap) -> None:
        self._words = {4: memory.bytes.cast("I"), 8: memory.bytes.cast("Q")}
        self._physical = physical
        self._known = physical.known
        self._path: list[GuestEntry] = []
        self._tables: dict[int, _LastTable] = {}
        self._rights: dict[int, int] = {}

    def forget(self) -> None:
        """Forget earlier walks: the guest flushes, other controls hold, or memory changes unseen."""
        self._tables.clear()
        self._rights.clear()

    def walk(self, linear: int, controls: PagingControls, access: Access) -> Walked | Fault | Unbacked:
        """Walk for one access and set accessed and dirty bits (APM2 5.4.2)."""
        table = self._tables.get(linear >> _REGION)
        if table is None:
            return self._walk_down(linear, controls, access)
        prefix, above, words, first, index_mask, size, writable, way = table
        index = linear >> 12 & index_mask
        entry, write = words[first + index], access.write
        digest = (
            entry & _DIGESTED | way | write << _WRITE_AT | access.user << _USER_AT | access.fetch << _FETCH_AT
        )
        rights = self._rights.get(digest)
        if rights is None:
            result = translate_from(prefix, linear, controls, access, lambda _gpa, _size: entry)
            if isinstance(result, Fault):
                return result
            if len(self._rights) >= _MOST_DIGESTS:
                self._rights.clear()
            rights = self._rights[digest] = _rights(result, controls, access, paged=True)
        used = entry | (_WRITTEN if write else ACCESSED)
        if used != entry and writable:
            words[first + index] = used
        gpa = entry & FRAME | linear & PAGE - 1
        page = self._physical.page(gpa // PAGE)
        if page == NOTHING:
            return Unbacked(gpa)
        return _walked((gpa, page, rights, above, _entry((prefix.table + index * size, size, used))))

    def _walk_down(self, linear: int, controls: PagingControls, access: Access) -> Walked | Fault | Unbacked:
        """Walk from the top table on, and keep the way to the last one."""
        path = self._path
        path.clear()
        try:
            result, prefix = translate_and_keep(linear, controls, access, self._read)
        except _NoTable as missing:
            return Unbacked(missing.gpa)
        # The tables above the last entry were used in any case; PAE's pointers have no bit.
        for place in range(controls.mode is _PAE, len(path) - 1):
            if not path[place].value & ACCESSED:
                self._set_bits(place, ACCESSED)
        above = tuple(path[:-1])
        if prefix is not None:
            self._keep(linear >> _REGION, prefix, above, path[-1].size)
        if isinstance(result, Fault):
            return result
        if path:
            bits = _WRITTEN if access.write else ACCESSED
            if bits & ~path[-1].value:
                self._set_bits(len(path) - 1, bits)
        gpa = result.physical
        page = self._physical.page(gpa // PAGE)
        if page == NOTHING:
            return Unbacked(gpa)
        rights = _rights(result, controls, access, paged=bool(path))
        return Walked(gpa, page, rights, above, path[-1] if path else None)

    def _read(self, gpa: int, size: int) -> int:
        gfn = gpa // PAGE
        hpa = self._known.get(gfn) or self._physical.memory(gfn)
        if hpa is None:
            raise _NoTable(gpa)
        value: int = self._words[size][(hpa | gpa & PAGE - 1) // size]
        self._path.append(_entry((gpa, size, value)))
        return value

    def _set_bits(self, place: int, bits: int) -> None:
        """Set bits in an entry of the path, where the guest has memory."""
        gpa, size, value = self._path[place]
        gfn = gpa // PAGE
        if self._physical.page(gfn) & WRITABLE:
            self._words[size][(self._known[gfn] | gpa & PAGE - 1) // size] = value | bits
        self._path[place] = _entry((gpa, size, value | bits))

    def _keep(self, region: int, prefix: Prefix, above: tuple[GuestEntry, ...], size: int) -> None:
        """Keep the way to a last table that the walk has read from."""
        gfn = prefix.table // PAGE
        first, index_mask = self._known[gfn] // size, PAGE // size - 1
        writable = self._physical.page(gfn) & WRITABLE != 0
        way = (prefix.allowed & RIGHTS) << _RIGHTS_AT | prefix.nx >> 63 << _NX_AT
        self._tables[region] = _LastTable(
            prefix, above, self._words[size], first, index_mask, size, writable, way
        )


def _rights(result: Translation, controls: PagingControls, access: Access, *, paged: bool) -> int:
    """Say what the page's shadow may allow after ``access``. A clean page is read-only until it is written.

    CR0.WP is always 1 underneath. Where the guest's is 0, its supervisor writes to read-only pages: for that
    while the page is the supervisor's alone, and CR4.SMEP must not be fooled by it.
    """
    rights = 0 if result.executable else NO_EXECUTE
    if result.user:
        rights |= USER
    if result.writable:
        rights |= MAY_WRITE
    elif not controls.wp and not access.user and (access.write or not result.user):
        rights = rights & ~USER | MAY_WRITE
        if controls.smep and result.user:
            rights |= NO_EXECUTE
    if rights & MAY_WRITE and (access.write or result.dirty or not paged):
        rights |= WRITABLE
    return rights
