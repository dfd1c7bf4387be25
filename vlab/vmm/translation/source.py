"""The guest's code that was translated, and how the monitor hears when it is not the same any more.

Two things can change under a translation. The guest can write to the code: its frames are write-protected in
the shadow tables, like page tables. And it can map something else where the code was: the entries that led to
it are looked at again whenever the guest has its TLB flushed, which is when a processor would see a change
(AMD APM vol. 2, rev. 3.42, 5.5).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from vlab.isa.paging import Access, PagingMode, Pte, Translation, translate
from vlab.machine.faults import CpuFault
from vlab.machine.memory import PAGE, PhysicalMemory
from vlab.machine.mmu import NestedFault
from vlab.vmm.deprivileged.virtual_core import VirtualCore
from vlab.vmm.paging.shadow.space import ShadowSpace
from vlab.vmm.translation.blocks import Block

PATIENCE: Final = 32
"""So many writes in a row to a frame of code the monitor carries out, and drops what was really written over.
After that, the frame is being used for something else: all that was translated from it is dropped."""

_IGNORED: Final = ~(Pte.A.mask | Pte.D.mask)

_Entry = tuple[bool, int, int, int]
"""A guest's page-table entry: whether its address is relative to CR3, address, size in bytes, and value."""


@dataclass(eq=False, slots=True)
class SourcePage:
    """A page of code. linear: its address. gfn, hpa: where it is. user: fetched at CPL 3.

    entries: of the guest's tables that lead to it. blocks: translated from it. seen: its bytes, as they were.
    loose: writes to it are not caught, so what is translated from it is good for once. shared: a page that
    CPL 3 may access, executed in an inner ring, which CR4.SMEP forbids.
    """

    linear: int
    user: bool
    gfn: int
    hpa: int
    entries: tuple[_Entry, ...]
    seen: bytes
    blocks: set[Block] = field(default_factory=set)
    loose: bool = False
    shared: bool = False


class SourceCode:
    """The pages that one guest's translations come from.

    on_change(blocks): these are void. ``writes``: how many the monitor carried out to a frame of code.
    """

    def __init__(self, memory: PhysicalMemory, cpu: VirtualCore, space: ShadowSpace) -> None:
        self._bytes = memory.bytes
        self._cpu = cpu
        self._space = space
        self._pages: dict[tuple[int, bool], SourcePage] = {}
        self._frames: dict[int, list[SourcePage]] = {}
        self._entries: dict[_Entry, set[SourcePage]] = {}
        self._loose: set[int] = set()
        self._controls: tuple[object, ...] = ()
        self._seen = space.events
        self.writes: dict[int, int] = {}
        self.on_change: Callable[[list[Block]], None] = lambda _blocks: None
        space.on_code_written = self._released

    # --- reading ------------------------------------------------------------------------------------------

    def page(self, linear: int, *, user: bool) -> SourcePage:
        """Give the page at ``linear``, protected from now on; raises CpuFault and NestedFault."""
        key = linear // PAGE, user
        page = self._pages.get(key)
        if page is None:
            page = self._find(linear, user)
            if not page.loose:
                self._keep(page)
        return page

    def _find(self, linear: int, user: bool) -> SourcePage:
        cpu = self._cpu
        controls, mmu = cpu.paging, cpu.mmu
        hpa = mmu.translate(linear, controls, user=user, fetch=True) & -PAGE
        linear &= -PAGE
        found, path = self._walk(linear, user)
        entries = tuple(
            (not depth, gpa - (0 if depth else controls.plan.top), size, value)
            for depth, (gpa, size, value) in enumerate(path)
        )
        gfn = found.physical // PAGE
        page = SourcePage(linear, user, gfn, hpa, entries, bytes(self._bytes[hpa : hpa + PAGE]))
        page.loose = gfn in self._loose
        page.shared = found.user and not user and controls.mode is not PagingMode.NONE
        return page

    def _walk(self, linear: int, user: bool) -> tuple[Translation, list[tuple[int, int, int]]]:
        """Walk to a page that can be fetched from; give the entries on the way too."""
        mmu, path = self._cpu.mmu, []

        def read(gpa: int, size: int) -> int:
            value = mmu.read_physical(gpa, size)
            path.append((gpa, size, value & _IGNORED))
            return value

        found = translate(linear, self._cpu.paging, Access(user=user, fetch=True), read)
        assert isinstance(found, Translation)
        return found, path

    def _keep(self, page: SourcePage) -> None:
        self._pages[page.linear // PAGE, page.user] = page
        self._space.protect_code(page.gfn)
        self._frames.setdefault(page.gfn, []).append(page)
        self._list(page)

    def _list(self, page: SourcePage) -> None:
        for entry in page.entries:
            self._entries.setdefault(entry, set()).add(page)

    def _unlist(self, page: SourcePage) -> None:
        for entry in page.entries:
            users = self._entries[entry]
            users.discard(page)
            if not users:
                del self._entries[entry]

    # --- changes ------------------------------------------------------------------------------------------

    def follow(self) -> None:
        """See whether what the guest has made its processor forget was the way to some code."""
        if self._space.events == self._seen:
            return
        self._seen = self._space.events
        controls = self._cpu.paging
        steering = controls.mode, controls.pse and controls.mode is PagingMode.LEGACY, controls.nxe
        if steering != self._controls:
            self._controls = steering
            self._drop(list(self._pages.values()))
            return
        changed = [page for page in self._pages.values() if page.shared] if controls.smep else []
        top, mmu = controls.plan.top, self._cpu.mmu
        for (relative, address, size, value), pages in self._entries.items():
            try:
                now = mmu.read_physical(address + top if relative else address, size) & _IGNORED
            except NestedFault:
                now = 0
            if now != value:
                changed += pages
        self._drop([page for page in dict.fromkeys(changed) if not self._is_still_there(page)])

    def _is_still_there(self, page: SourcePage) -> bool:
        """Look again for a page of which an entry has changed: kernels split large pages and protect them."""
        try:
            found = self._find(page.linear, page.user)
        except (CpuFault, NestedFault):
            return False
        if found.gfn != page.gfn or found.loose:
            return False
        self._unlist(page)
        page.entries, page.shared = found.entries, found.shared
        self._list(page)
        return True

    def _released(self, gfn: int) -> None:
        """The guest writes to a frame of code, and was let through."""
        self.writes.pop(gfn, None)
        self._drop(list(self._frames.get(gfn, ())))

    def written(self, gpa: int, size: int) -> None:
        """Somebody else wrote: drop what was translated from other bytes."""
        first, last = gpa // PAGE, (gpa + size - 1) // PAGE
        frames = [gfn for gfn in self._frames if first <= gfn <= last]
        pages = [page for gfn in frames for page in self._frames[gfn]]
        self._drop([page for page in pages if self._bytes[page.hpa : page.hpa + PAGE] != page.seen])

    def carried_out(self, gpa: int, size: int) -> None:
        """The monitor carried out a guest's write: drop the blocks that were made of these very bytes."""
        for page in self._frames.get(gpa // PAGE, ()):
            page.seen = bytes(self._bytes[page.hpa : page.hpa + PAGE])
            start = page.linear + gpa % PAGE
            hit = [block for block in page.blocks if block.covers(start, size)]
            if hit:
                self.on_change(hit)
                page.blocks.difference_update(hit)

    def is_patched(self, gfn: int) -> bool:
        """Note a write to a frame; say whether to carry it out: the frame holds code, and still will."""
        if gfn not in self._frames:
            return False
        count = self.writes[gfn] = self.writes.get(gfn, 0) + 1
        return count <= PATIENCE

    def covers(self, gfn: int) -> bool:
        """Say whether a frame holds code that is translated."""
        return gfn in self._frames

    def loosen(self, gfn: int) -> None:
        """Catch no writes to a frame any more: it holds a stack, or the like, beside code."""
        self._loose.add(gfn)
        self._drop(list(self._frames.get(gfn, ())))

    def clear(self) -> None:
        """Forget all."""
        for gfn in self._frames:
            self._space.unprotect_code(gfn)
        self._loose.clear()
        self.writes.clear()
        self._pages.clear()
        self._frames.clear()
        self._entries.clear()

    def _drop(self, pages: list[SourcePage]) -> None:
        void: list[Block] = []
        for page in pages:
            if self._pages.pop((page.linear // PAGE, page.user), None) is None:
                continue
            frames = self._frames[page.gfn]
            frames.remove(page)
            if not frames:
                del self._frames[page.gfn]
                self._space.unprotect_code(page.gfn)
            self._unlist(page)
            void += page.blocks
        if void:
            self.on_change(void)
