"""The page walk: from a linear address to a physical one, or to the fault that the processor would raise.

There is one walker. ``walk`` is a generator that yields every entry it reads, before it judges it, so that a
drawing shows the entry that stopped the walk; ``translate`` runs the same walk for its result alone. Guest
paging, shadow tables, nested tables, widgets and graders all use it, each with its own ``read``.

Sections are those of AMD APM vol. 2, rev. 3.44 (APM2), chapter 5. Not modelled: 5-level paging, protection
keys, shadow stacks.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

from vlab.isa.page_entries import (
    LegacyPde,
    LegacyPdeLarge,
    LegacyPte,
    PaePde,
    PaePdeLarge,
    PaePdpe,
    PaePte,
    PageEntry,
    Pde,
    PdeLarge,
    Pdpe,
    PdpeLarge,
    Pml4e,
    Pte,
)
from vlab.isa.paging_modes import LEVELS, PagingControls, PagingMode
from vlab.isa.vectors import PageFaultError, Vector

__all__ = [
    "Access",
    "Fault",
    "LegacyPde",
    "LegacyPdeLarge",
    "LegacyPte",
    "PaePde",
    "PaePdeLarge",
    "PaePdpe",
    "PaePte",
    "PageEntry",
    "PagingControls",
    "PagingMode",
    "Pde",
    "PdeLarge",
    "Pdpe",
    "PdpeLarge",
    "Pml4e",
    "Prefix",
    "Pte",
    "Step",
    "Translation",
    "accessed_dirty_updates",
    "canonical",
    "index_of",
    "translate",
    "translate_and_keep",
    "translate_from",
    "walk",
    "walk_whole",
]

Reader = Callable[[int, int], int]
"""``read(address, size)`` gives the ``size`` bytes (4 or 8) at any physical address as a number."""


@dataclass(frozen=True, slots=True)
class Access:
    """What is done at the address: a read unless ``write`` or ``fetch``; ``user`` means at CPL 3."""

    write: bool = False
    user: bool = False
    fetch: bool = False


@dataclass(frozen=True, slots=True)
class Step:
    """One entry of a walk: ``level`` 4 to 1, the address of its table, its index, its own address.

    ``entry`` is the raw value, ``entry_size`` 4 or 8 bytes, and ``kind`` the Register that decodes it.
    """

    level: int
    table: int
    index: int
    entry_address: int
    entry: int
    entry_size: int
    kind: type[PageEntry]


class Translation(NamedTuple):
    """A successful walk: where ``linear`` is, and what the entries on the way allow together.

    ``page_size`` is in bytes (4096 without paging); ``global_`` and ``dirty`` are the bits of the last entry.
    """

    linear: int
    physical: int
    page_size: int
    writable: bool
    user: bool
    executable: bool
    global_: bool
    dirty: bool


@dataclass(frozen=True, slots=True)
class Fault:
    """A walk that failed: the error code of #PF, the step whose entry is to blame, and why in words.

    ``step`` is None for one case alone: an address that is not canonical, which is no page fault.
    """

    linear: int
    error_code: int
    step: Step | None
    why: str

    @property
    def vector(self) -> Vector:
        """#PF, or #GP for an address that is not canonical (#SS when it is used through SS)."""
        return Vector.GP if self.step is None else Vector.PF


_P, _RW, _US, _A, _D, _PS, _G, _NX = 1 << 0, 1 << 1, 1 << 2, 1 << 5, 1 << 6, 1 << 7, 1 << 8, 1 << 63
_4M = 1 << 22
_LONG = PagingMode.LONG
_ADDRESS, _FRAME_HIGH = Pte.FRAME.mask, LegacyPdeLarge.FRAME_HIGH.mask
_PRESENT, _WRITE, _USER = PageFaultError.P.mask, PageFaultError.W.mask, PageFaultError.U.mask
_RESERVED, _FETCH = PageFaultError.RSVD.mask, PageFaultError.I.mask

_translation: Callable[[tuple[int, int, int, bool, bool, bool, bool, bool]], Translation] = partial(
    tuple.__new__, Translation
)
"""A third of the cost of calling the class, for the hot path."""

_RawStep = tuple[int, int, int, int, int, int, type[PageEntry]]


class Prefix(NamedTuple):
    """A walk down to the last level, as a processor caches it between two flushes (APM2 5.5).

    table: the last table. allowed, nx: what the entries on the way allow together. path: their steps.
    """

    table: int
    allowed: int
    nx: int
    path: tuple[_RawStep, ...]


def canonical(linear: int) -> bool:
    """Say whether bits 63 to 47 of a 64-bit linear address are all equal (APM2 5.3.1)."""
    return linear >> 47 in (0, 0x1FFFF)


def index_of(linear: int, level: int, mode: PagingMode) -> int:
    """Give the index of ``linear`` in its table of ``level``; raises ValueError when the mode has none."""
    for row in LEVELS[mode]:
        if row.level == level:
            return linear >> row.shift & row.index_mask
    known = ", ".join(str(row.level) for row in LEVELS[mode]) or "none"
    raise ValueError(f"level: {level} is not a level of {mode.value} translation; its levels are: {known}")


def walk(
    linear: int, controls: PagingControls, access: Access, read: Reader
) -> Generator[Step, None, Translation | Fault]:
    """Walk the tables for one access, yielding each entry before its faults are decided.

    ``linear`` is the linear address (its low 32 bits count outside 4-level paging). Returns the Translation
    or the Fault. Reads only: for the accessed and dirty bits see ``accessed_dirty_updates``.
    """
    path: list[_RawStep] = []
    try:
        result = _walk(linear, controls, access, read, path)
    finally:  # where the reader raises, the way there all the same
        for raw in path:
            yield Step(*raw)
    return result


def walk_whole(
    linear: int, controls: PagingControls, access: Access, read: Reader
) -> tuple[tuple[Step, ...], Translation | Fault]:
    """Walk as ``walk`` does, and give the entries at once, with what it came to."""
    path: list[_RawStep] = []
    result = _walk(linear, controls, access, read, path)
    return tuple(Step(*raw) for raw in path), result


def translate(linear: int, controls: PagingControls, access: Access, read: Reader) -> Translation | Fault:
    """Give the result of ``walk`` alone; arguments are the same."""
    return _walk(linear, controls, access, read, [])


def translate_and_keep(
    linear: int, controls: PagingControls, access: Access, read: Reader
) -> tuple[Translation | Fault, Prefix | None]:
    """Translate, and give what ``translate_from`` needs for other pages of the same last table, if any."""
    path: list[_RawStep] = []
    result = _walk(linear, controls, access, read, path)
    if isinstance(result, Fault) or not path or path[-1][0] != 1:
        return result, None
    allowed, nx = _RW | _US, 0
    for raw, level in zip(path[:-1], controls.plan.levels, strict=False):
        allowed &= raw[4] | level.grants
        nx |= raw[4]
    return result, Prefix(path[-1][1], allowed, nx, tuple(path[:-1]))


def translate_from(
    prefix: Prefix, linear: int, controls: PagingControls, access: Access, read: Reader
) -> Translation | Fault:
    """Translate by the last table alone; the rest is as ``prefix`` has it."""
    return _walk(linear, controls, access, read, list(prefix.path), prefix)


def accessed_dirty_updates(steps: Sequence[Step], access: Access) -> list[tuple[int, int, int]]:
    """Give the entries that the processor rewrites after a successful walk (APM2 5.4.2).

    ``steps`` are those of a walk that ended in a Translation. Each item is (entry address, size in bytes, new
    entry): A is set in every entry, D in the last when ``access`` writes. Entries that change are listed.
    """
    updates = []
    for step in steps:
        if step.kind is PaePdpe:
            continue
        entry = step.entry | _A
        if access.write and step is steps[-1]:
            entry |= _D
        if entry != step.entry:
            updates.append((step.entry_address, step.entry_size, entry))
    return updates


def _walk(
    linear: int,
    controls: PagingControls,
    access: Access,
    read: Reader,
    path: list[_RawStep],
    prefix: Prefix | None = None,
) -> Translation | Fault:
    """Walk with plain tuples for steps, in ``path``: this is the hot path of shadow fills and of delivery."""
    levels, table, size = controls.plan
    if controls.mode is not _LONG:
        linear &= 0xFFFFFFFF
    elif not canonical(linear):
        return Fault(linear, 0, None, f"{linear:#x} is not canonical: bits 63 to 47 differ")
    allowed, nx = _RW | _US, 0
    if prefix is not None:
        table, allowed, nx, _ = prefix
        levels = levels[-1:]
    for level, shift, index_mask, grants, kind, zero, large, large_zero in levels:
        index = linear >> shift & index_mask
        address = table + index * size
        entry = read(address, size)
        if not entry & _P:
            raw = (level, table, index, address, entry, size, kind)
            path.append(raw)
            return _fault(linear, controls, access, raw, 0, "is not present")
        leaf = level == 1
        if large is not None and entry & _PS:
            kind, zero, leaf = large, large_zero, True
        path.append((level, table, index, address, entry, size, kind))
        if entry & zero:
            why = f"has reserved bits set: {entry & zero:#x}"
            return _fault(linear, controls, access, path[-1], _PRESENT | _RESERVED, why)
        allowed &= entry | grants
        nx |= entry
        if leaf:
            executable = not (nx & _NX and controls.nxe)
            return _arrive(linear, controls, access, path, allowed, executable, 1 << shift)
        table = entry & _ADDRESS
    return Translation(linear, linear, 4096, True, True, True, False, False)  # a mode without tables


def _arrive(
    linear: int,
    controls: PagingControls,
    access: Access,
    path: list[_RawStep],
    allowed: int,
    executable: bool,
    page: int,
) -> Translation | Fault:
    """End a walk that met every entry: refuse the access, or put the physical address together."""
    if (refusal := _refusal(controls, access, allowed, executable)) is not None:
        mask, why = refusal
        return _fault(linear, controls, access, _blamed(path, mask), _PRESENT, why)
    entry = path[-1][4]
    frame = entry & _ADDRESS
    if page == _4M:
        frame |= (entry & _FRAME_HIGH) << 19  # bits 39:32 of the address (APM2 5.2.2)
    physical = frame & -page | linear & page - 1
    writable, user = allowed & _RW != 0, allowed & _US != 0
    return _translation(
        (linear, physical, page, writable, user, executable, entry & _G != 0, entry & _D != 0)
    )


def _refusal(
    controls: PagingControls, access: Access, allowed: int, executable: bool
) -> tuple[int, str] | None:
    """Judge what the whole path allows (APM2 5.6): None, or the bit to blame and why.

    Bit 0 blames the last entry.
    """
    if access.user:
        if not allowed & _US:
            return _US, "is for the supervisor and the access is at CPL 3"
        if access.write and not allowed & _RW:
            return _RW, "is read-only and the access is a write"
    else:
        if access.write and not allowed & _RW and controls.wp:
            return _RW, "is read-only and CR0.WP holds the supervisor to it"
        if allowed & _US and access.fetch and controls.smep:
            return 0, "is a user page and CR4.SMEP forbids the supervisor to fetch from it"
        if allowed & _US and not access.fetch and controls.smap and not controls.ac:
            return 0, "is a user page and CR4.SMAP forbids the supervisor to touch it while RFLAGS.AC is 0"
    if access.fetch and not executable:
        return _NX, "has NX set and the access is a fetch"
    return None


def _blamed(path: list[_RawStep], mask: int) -> _RawStep:
    """Find the first entry of the path that withholds R/W or U/S, or sets NX; the last for mask 0."""
    for raw in path:
        entry, kind = raw[4], raw[6]
        if entry & _NX if mask == _NX else mask and not entry & mask and kind is not PaePdpe:
            return raw
    return path[-1]


def _fault(
    linear: int, controls: PagingControls, access: Access, raw: _RawStep, code: int, why: str
) -> Fault:
    """Make the fault of ``raw`` with the access's bits in its error code (APM2 8.4.2)."""
    if access.write:
        code |= _WRITE
    if access.user:
        code |= _USER
    nx_exists = controls.nxe and controls.mode is not PagingMode.LEGACY
    if access.fetch and (nx_exists or controls.smep):
        code |= _FETCH
    step = Step(*raw)
    return Fault(linear, code, step, f"{step.kind.__name__} at {step.entry_address:#x} {why}")
