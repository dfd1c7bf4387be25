"""The translation modes: which tables each has, and which register bits steer a walk through them.

Sections are those of AMD APM vol. 2, rev. 3.44 (APM2), chapter 5.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from functools import lru_cache
from typing import Final, NamedTuple

from vlab.isa.control import CR0, CR4, EFER, EFlags
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


class PagingMode(Enum):
    """How linear addresses are translated (APM2 5.1)."""

    NONE = "no paging"
    LEGACY = "legacy"
    PAE = "PAE"
    LONG = "4-level"


class Level(NamedTuple):
    """One table of a mode, with everything that the walk needs in one unpacking.

    ``grants`` are the protection bits that the entries do not have and so allow; ``zero`` and ``large_zero``
    are the bits that must be zero in an entry that points to a table or 4 KB page, and in a large one.
    """

    level: int
    shift: int
    index_mask: int
    grants: int
    kind: type[PageEntry]
    zero: int
    large: type[PageEntry] | None
    large_zero: int


def _level(
    level: int, shift: int, entries: int, kind: type[PageEntry], large: type[PageEntry] | None = None
) -> Level:
    grants = LegacyPte.RW.mask | LegacyPte.US.mask if kind is PaePdpe else 0
    large_zero = large.reserved_mask() if large is not None else 0
    return Level(level, shift, entries - 1, grants, kind, kind.reserved_mask(), large, large_zero)


LEVELS: Final = {
    PagingMode.NONE: (),
    PagingMode.LEGACY: (_level(2, 22, 1024, LegacyPde, LegacyPdeLarge), _level(1, 12, 1024, LegacyPte)),
    PagingMode.PAE: (
        _level(3, 30, 4, PaePdpe),
        _level(2, 21, 512, PaePde, PaePdeLarge),
        _level(1, 12, 512, PaePte),
    ),
    PagingMode.LONG: (
        _level(4, 39, 512, Pml4e),
        _level(3, 30, 512, Pdpe, PdpeLarge),
        _level(2, 21, 512, Pde, PdeLarge),
        _level(1, 12, 512, Pte),
    ),
}
"""The tables of each mode, top first; legacy as with CR4.PSE."""

# Without CR4.PSE the PS bit of a legacy directory entry is ignored (APM2 5.2.2).
_LEGACY_SMALL: Final = (_level(2, 22, 1024, LegacyPde), LEVELS[PagingMode.LEGACY][1])

_NX: Final = Pte.NX.mask
_ROOT_MASK: Final = {
    PagingMode.NONE: 0,
    PagingMode.LEGACY: 0xFFFFF000,
    PagingMode.PAE: 0xFFFFFFE0,
    PagingMode.LONG: Pte.FRAME.mask,
}


class Plan(NamedTuple):
    """What a walk needs to know of its controls, worked out once: see ``PagingControls.plan``.

    ``top`` is the address of the top table; ``entry_size`` is in bytes.
    """

    levels: tuple[Level, ...]
    top: int
    entry_size: int


@dataclass(frozen=True, slots=True)
class PagingControls:
    """The register bits that steer a walk.

    ``root`` is CR3 as written; ``maxphyaddr`` the number of physical address bits (32 to 52); ``ac`` is
    RFLAGS.AC, to be given as False for the processor's own accesses to descriptor tables and stacks that it
    makes on behalf of CPL 3.
    """

    mode: PagingMode
    root: int
    pse: bool = False
    pge: bool = False
    nxe: bool = False
    wp: bool = False
    smep: bool = False
    smap: bool = False
    ac: bool = False
    maxphyaddr: int = 40
    plan: Plan = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not 32 <= self.maxphyaddr <= 52:
            raise ValueError(f"maxphyaddr: {self.maxphyaddr} bits is not a physical address; give 32 to 52")
        levels = _LEGACY_SMALL if self.mode is PagingMode.LEGACY and not self.pse else LEVELS[self.mode]
        small, large = _beyond(self.mode, self.maxphyaddr, self.nxe)
        judged = tuple(
            level._replace(zero=level.zero | small, large_zero=level.large_zero | large) for level in levels
        )
        size = 4 if self.mode is PagingMode.LEGACY else 8
        object.__setattr__(self, "plan", Plan(judged, self.root & _ROOT_MASK[self.mode], size))

    @classmethod
    def from_registers(
        cls, cr0: int, cr3: int, cr4: int, efer: int, rflags: int = 0, maxphyaddr: int = 40
    ) -> PagingControls:
        """Gather the controls from register values (APM2 5.1.1 to 5.1.3)."""
        return _gather(cr0 & _CR0, cr3, cr4 & _CR4, efer & _EFER, rflags & _AC, maxphyaddr)


_PG, _WP, _PAE, _PSE, _PGE = CR0.PG.mask, CR0.WP.mask, CR4.PAE.mask, CR4.PSE.mask, CR4.PGE.mask
_SMEP, _SMAP = CR4.SMEP.mask, CR4.SMAP.mask
_LMA, _NXE, _AC = EFER.LMA.mask, EFER.NXE.mask, EFlags.AC.mask
_CR0, _CR4, _EFER = _PG | _WP, _PAE | _PSE | _PGE | _SMEP | _SMAP, _LMA | _NXE


@lru_cache(maxsize=256)
def _gather(cr0: int, cr3: int, cr4: int, efer: int, rflags: int, maxphyaddr: int) -> PagingControls:
    """Make controls from the register bits that matter; the same bits give the same object."""
    if not cr0 & _PG:
        mode = PagingMode.NONE
    elif efer & _LMA:
        mode = PagingMode.LONG
    else:
        mode = PagingMode.PAE if cr4 & _PAE else PagingMode.LEGACY
    return PagingControls(
        mode,
        cr3,
        pse=bool(cr4 & _PSE),
        pge=bool(cr4 & _PGE),
        nxe=bool(efer & _NXE),
        wp=bool(cr0 & _WP),
        smep=bool(cr4 & _SMEP),
        smap=bool(cr4 & _SMAP),
        ac=bool(rflags & _AC),
        maxphyaddr=maxphyaddr,
    )


def _beyond(mode: PagingMode, maxphyaddr: int, nxe: bool) -> tuple[int, int]:
    """Give the further bits that must be zero: addresses that do not exist, and NX unless EFER.NXE is set.

    They come twice, for small and for large entries: a legacy 4 MB page has bits 39:32 of its address
    elsewhere (APM2 5.2.2), and no other legacy entry can hold such an address.
    """
    if mode is PagingMode.LEGACY:
        high = LegacyPdeLarge.FRAME_HIGH
        return 0, high.mask & ~((1 << maxphyaddr - 32 + high.lo) - 1)
    missing = (1 << 52) - (1 << maxphyaddr) | (0 if nxe else _NX)
    return missing, missing
