"""A shadow that fills as it is told: what a TLB is that software fills, and a seam for rules of your own.

`ShadowPaging` mirrors the guest's tables level by level. Here the shadow is flat: for each page that is
touched, ``fill`` says where it is and what may be done to it, and it stays until somebody drops it. Nothing
is dropped by itself but at a change of the paging mode. Sections are those of AMD APM vol. 2, rev. 3.42.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

from vlab.isa.paging import Access, Fault, PagingControls, PagingMode, Translation, translate
from vlab.machine.memory import PAGE
from vlab.vmm.paging.shadow.entries import ENTRIES, NO_EXECUTE, RIGHTS, USER, WRITABLE
from vlab.vmm.paging.shadow.forest import OutOfFrames
from vlab.vmm.paging.shadow.guest_walk import Unbacked
from vlab.vmm.paging.shadow.physical import NOTHING
from vlab.vmm.paging.shadow.space import ShadowSpace
from vlab.vmm.paging.shadow.strategy import FRAMES, ShadowPaging
from vlab.vmm.paging.shadow.tables import Key, ShadowTable
from vlab.vmm.paging.strategy import PagingHost

__all__ = ["Fill", "FilledPaging", "FilledSpace", "Unbacked"]

_INDEX: Final = ENTRIES - 1
_FLAT: Final = -5
"""In the key of a top table that mirrors nothing."""


@dataclass(frozen=True, slots=True)
class Fill:
    """What a page's shadow entry is to say. gpa: guest-physical address of the page, in bytes."""

    gpa: int
    writable: bool = True
    user: bool = True
    executable: bool = True


class FilledSpace(ShadowSpace):
    """Shadow tables whose entries are what ``answer`` says, until ``drop`` takes them away.

    on_switch: called with the controls before and after, when the guest wrote a register that translation
    depends on and the mode stayed the same. on_invalidate: called with the address of an INVLPG.
    by_root: keep a tree for each CR3 of the guest's, found again when it is loaded; CR3 then drops nothing.
    """

    answer: Callable[[int, Access], Fill | Fault | Unbacked]
    on_switch: Callable[[PagingControls, PagingControls], None]
    on_invalidate: Callable[[int], None]
    by_root = False

    @property
    def top(self) -> int:
        """What tells the tree in use from others: the guest's top table, or 0 for the only tree."""
        return self.controls.plan.top if self.by_root else 0

    # --- filling ------------------------------------------------------------------------------------------

    def resolve(self, linear: int, access: Access) -> Fault | Unbacked | None:
        """Ask for the page at ``linear``, and write its entry."""
        found = self.answer(linear, access)
        if not isinstance(found, Fill):
            return found
        gfn = found.gpa // PAGE
        entry = self._physical.page(gfn)
        if entry == NOTHING or (access.write and not entry & WRITABLE):
            return Unbacked(found.gpa & -PAGE | linear & PAGE - 1)
        kept = entry if found.writable else entry & ~WRITABLE
        kept |= (USER if found.user else 0) | (0 if found.executable else NO_EXECUTE)
        linear = self._low(linear)
        try:
            last = self._make(linear)
        except OutOfFrames:
            self._throw_away()
            last = self._make(linear)
        self._forest.put(last, linear >> 12 & _INDEX, kept)
        self.fills += 1
        return None

    def _make(self, linear: int) -> ShadowTable:
        table, index = self.directory_entry(linear)
        child = table.children.get(index)
        return self._composer.spare(table, index, linear >> 21) if child is None else child

    def _low(self, linear: int) -> int:
        return linear if self.controls.mode is PagingMode.LONG else linear & 0xFFFFFFFF

    # --- what the guest asks for --------------------------------------------------------------------------

    def enter(self, controls: PagingControls) -> bool:
        """Begin anew in another mode; else leave to ``on_switch`` what is to be forgotten."""
        before, self.controls = self.controls, controls
        self._note_event()
        if self._forest.root is None or before.mode is not controls.mode:
            self._forest.root = None
            self._throw_away()
            return self._enter()
        if self.by_root and replace(before, root=controls.root) == controls:
            return self._enter()
        self.on_switch(before, controls)
        return True

    def invalidate(self, linear: int) -> None:
        """INVLPG: leave to ``on_invalidate`` what is to be forgotten."""
        self._note_event()
        self.on_invalidate(self._low(linear))

    def written(self, gpa: int, size: int) -> None:
        """Devices do not flush TLBs."""
        self._note_event()

    # --- forgetting ---------------------------------------------------------------------------------------

    def drop(self, linear: int, top: int | None = None) -> None:
        """Take the entry of one 4 KiB page away. top: of which tree, None for the one in use."""
        linear = self._low(linear)
        table = self._forest.roots.get(self._key(self.top if top is None else top))
        while table is not None and table.level > 1:
            table = table.children.get(linear >> 12 + 9 * (table.level - 1) & _INDEX)
        if table is not None:
            self._forest.drop(table, linear >> 12 & _INDEX)

    def drop_all(self) -> None:
        """Take all entries of all trees away."""
        self._throw_away()

    # --- trees that mirror nothing ------------------------------------------------------------------------

    def _key(self, top: int) -> Key:
        return top, 4 if self.controls.mode is PagingMode.LONG else 3, RIGHTS, _FLAT, 0

    def _enter(self) -> bool:
        self._composer.context = self.top  # tables of different trees are not shared
        try:
            found = self._forest.enter(self._key(self.top), self._composer.make_top)
        except OutOfFrames:
            self._forest.root = None
            self._throw_away()
            found = self._forest.enter(self._key(self.top), self._composer.make_top)
        self.root = self._forest.top.frame + self._forest.displacement
        return found


class FilledPaging(ShadowPaging):
    """Shadow paging that decides nothing by itself: override `fill`, `invalidate` and `switch`.

    As it stands it is a processor's TLB that software fills: `fill` walks the guest's tables, INVLPG drops a
    page, and everything else drops all.
    """

    space: FilledSpace

    def __init__(self, *, frames: int = FRAMES) -> None:
        super().__init__("lazy", frames=frames)

    def make_space(self, host: PagingHost) -> FilledSpace:
        """Make a shadow that asks this object."""
        space = FilledSpace(host.machine, host.memory, protect=False, frames=self._frames)
        space.answer, space.on_switch, space.on_invalidate = self.fill, self.switch, self.invalidate
        return space

    def walk_tables(self, linear: int, access: Access) -> Translation | Fault:
        """Walk the guest's own tables for one access, looking only."""
        return translate(linear, self.registers.controls(), access, self.read_guest)

    def read_guest(self, gpa: int, size: int) -> int:
        """Read ``size`` bytes at a guest-physical address. Raises NestedFault where there is no memory."""
        return self._guest_core.mmu.read_physical(gpa, size)

    def write_guest(self, gpa: int, size: int, value: int) -> None:
        """Write ``size`` bytes there, as a processor sets bits in page tables. Raises NestedFault."""
        mmu = self._guest_core.mmu
        self._host.machine.memory.write(mmu.host_address(gpa, write=True), size, value)

    def fill(self, linear: int, access: Access) -> Fill | Fault | Unbacked:
        """Say what the shadow is to hold for the page at ``linear``: override it for a rule of your own.

        A Fault goes to the guest. Accessed and dirty bits are not kept here.
        """
        found = self.walk_tables(linear, access)
        return found if isinstance(found, Fault) else self.granted(found, access)

    def granted(self, found: Translation, access: Access) -> Fill:
        """Give the entry that grants what the guest's tables grant.

        CR0.WP is always 1 underneath. Where the guest's is 0, its supervisor writes to read-only pages: for
        that while the page is the supervisor's alone.
        """
        controls = self.registers.controls()
        free = not found.writable and not controls.wp and not access.user and (access.write or not found.user)
        return Fill(
            found.physical & -PAGE,
            found.writable or free,
            found.user and not free,
            found.executable and not (free and found.user and controls.smep),
        )

    def invalidate(self, linear: int) -> None:
        """INVLPG of an address (APM2 5.5)."""
        self.space.drop(linear)

    def switch(self, before: PagingControls, after: PagingControls) -> None:
        """CR3 was written, or another register that translation depends on (APM2 5.5)."""
        self.space.drop_all()
