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
from vlab.vmm.paging.shadow.entries import ACCESSED, DIRTY, MAY_WRITE, NO_EXECUTE, USER, WRITABLE
from vlab.vmm.paging.shadow.physical import NOTHING, PhysicalMap


@dataclass(frozen=True, slots=True)
class Unbacked:
    """The access reaches a guest-physical address without memory, or writes to firmware."""

    gpa: int


class GuestEntry(NamedTuple):
    """An entry of the guest's that a walk used: guest- and host-physical address, bytes, value."""

    gpa: int
    hpa: int
    size: int
    value: int


_entry: Callable[[tuple[int, int, int, int]], GuestEntry] = partial(tuple.__new__, GuestEntry)
"""A third of the cost of calling the class: every fill makes three or four."""


class Walked(NamedTuple):
    """A walk that arrived: guest-physical address, and what the page's shadow may allow (see ``entries``)."""

    gpa: int
    rights: int


_walked: Callable[[tuple[int, int]], Walked] = partial(tuple.__new__, Walked)
_PAE: Final = PagingMode.PAE


class _NoTable(Exception):
    """A page table of the guest's is where no memory is."""

    def __init__(self, gpa: int) -> None:
        super().__init__(gpa)
        self.gpa = gpa


_REGION: Final = 21
"""Linear address bits below what a last table maps, the larger ones of legacy paging halved."""


class GuestWalker:
    """Walks for one guest. ``path``: the entries of the last walk, as they are after it.

    Upper levels are kept, as a processor's caches do, until ``forget``.
    """

    def __init__(self, memory: PhysicalMemory, physical: PhysicalMap) -> None:
        self._memory = memory
        self._words = memory.bytes.cast("Q")
        self._physical = physical
        self._known = physical.known
        self.path: list[GuestEntry] = []
        self._upper: dict[int, tuple[Prefix, list[GuestEntry]]] = {}

    def forget(self) -> None:
        """Forget the upper levels of earlier walks: the guest flushes, or memory changes unseen."""
        self._upper.clear()

    def walk(self, linear: int, controls: PagingControls, access: Access) -> Walked | Fault | Unbacked:
        """Walk for one access and set accessed and dirty bits (APM2 5.4.2)."""
        path = self.path
        region = linear >> _REGION
        known = self._upper.get(region)
        try:
            if known is not None:
                path[:] = known[1]
                result = translate_from(known[0], linear, controls, access, self._read)
            else:
                path.clear()
                result, prefix = translate_and_keep(linear, controls, access, self._read)
                # The tables above the last entry were used in any case; PAE's pointers have no bit.
                for place in range(controls.mode is _PAE, len(path) - 1):
                    if not path[place].value & ACCESSED:
                        self._set_bits(place, ACCESSED)
                if prefix is not None:
                    self._upper[region] = prefix, path[:-1]
        except _NoTable as missing:
            return Unbacked(missing.gpa)
        if isinstance(result, Fault):
            return result
        if path:
            bits = ACCESSED | DIRTY if access.write else ACCESSED
            if bits & ~path[-1].value:
                self._set_bits(len(path) - 1, bits)
        gpa = result.physical
        if self._physical.page(gpa // PAGE) == NOTHING:
            return Unbacked(gpa)
        return _walked((gpa, _rights(result, controls, access, paged=bool(path))))

    def _read(self, gpa: int, size: int) -> int:
        gfn = gpa // PAGE
        hpa = self._known.get(gfn) or self._physical.memory(gfn)
        if hpa is None:
            raise _NoTable(gpa)
        hpa |= gpa & PAGE - 1
        value = self._words[hpa >> 3] if size == 8 else self._memory.read(hpa, size)
        self.path.append(_entry((gpa, hpa, size, value)))
        return value

    def _set_bits(self, place: int, bits: int) -> None:
        gpa, hpa, size, value = self.path[place]
        if self._physical.page(gpa // PAGE) & WRITABLE:
            self._memory.write(hpa, size, value | bits)
        self.path[place] = _entry((gpa, hpa, size, value | bits))


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
