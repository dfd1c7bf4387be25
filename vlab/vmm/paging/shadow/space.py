"""The shadow of a guest's address space: the guest's tables and ours, composed entry by entry.

The machine's MMU walks the tables made here. Where they have nothing, or not enough, it faults, and ``resolve``
walks the guest's own tables: either the fault is the guest's, or the entry is filled in from what the walk found.
Nothing here knows of exits or of virtualization hardware; a monitor on a processor without any uses it
alike. Sections are those of AMD APM vol. 2, rev. 3.42.
"""

from __future__ import annotations

from array import array
from dataclasses import dataclass
from typing import Final, NamedTuple

from vlab.isa.paging import Access, Fault, PagingControls, PagingMode, Translation, translate
from vlab.machine.machine import Machine
from vlab.machine.memory import PAGE
from vlab.vmm.guest_memory import GuestMemory
from vlab.vmm.paging.shadow.entries import (
    ACCESSED,
    DIRTY,
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
from vlab.vmm.paging.shadow.forest import Forest, OutOfFrames
from vlab.vmm.paging.shadow.physical import NOTHING, PhysicalMap
from vlab.vmm.paging.shadow.tables import GuestTable, Key, ShadowTable
from vlab.vmm.paging.shadow.watch import Watch
from vlab.vmm.paging.shadow.writers import Writers

_POINTERS: Final = 32  # bytes of the four page-directory pointers of PAE
_INSIDE, _SYNTHETIC, _FLAT = -1, -2, -3  # in a key, in place of a first index
_MODES: Final = {mode: number for number, mode in enumerate(PagingMode)}
_TRIES: Final = 3


@dataclass(frozen=True, slots=True)
class Unbacked:
    """The access reaches a guest-physical address without memory, or writes to firmware."""

    gpa: int


class _Entry(NamedTuple):
    gpa: int
    hpa: int
    size: int
    value: int


class _NoTable(Exception):
    """A page table of the guest's is where no memory is."""

    def __init__(self, gpa: int) -> None:
        super().__init__(gpa)
        self.gpa = gpa


class ShadowSpace:
    """Shadow tables for one guest.

    protect: keep trees over flushes, by write-protecting the guest's tables; else every flush throws all away.
    frames: the most that the tables may take. ``controls``: what steers the guest's translation. ``root``:
    host-physical address for CR3; ``long`` says in which format. ``stale``: the TLB must be flushed before the
    guest runs on; whoever does that clears it. ``fills``, ``flushes`` and ``reuses`` count entries written,
    flushes that the guest asked for, and those after which a tree was found again.
    """

    def __init__(self, machine: Machine, memory: GuestMemory, *, protect: bool, frames: int) -> None:
        self._memory = machine.memory
        self._physical = PhysicalMap(memory)
        self._forest = Forest(machine, frames)
        self._writers = Writers(self._forest)
        self._watch = Watch(self._forest, self._writers, machine.memory, protect=protect)
        self._protect = protect
        self._path: list[_Entry] = []
        self.fills = 0
        self.flushes = 0
        self.reuses = 0
        self.controls = PagingControls(PagingMode.NONE, 0)
        self._enter()

    @property
    def root(self) -> int:
        """Host-physical address of the top table."""
        return self._top.frame

    @property
    def _top(self) -> ShadowTable:
        root = self._forest.root
        assert root is not None
        return root

    @property
    def long(self) -> bool:
        """Whether the tables are 4-level ones; else they are PAE's."""
        return self._top.level == 4

    @property
    def stale(self) -> bool:
        """Whether the processor's TLB must be flushed."""
        return self._forest.stale

    @stale.setter
    def stale(self, value: bool) -> None:
        self._forest.stale = value

    @property
    def table_frames(self) -> int:
        """Frames that the tables take now."""
        return self._forest.pool.used

    @property
    def released(self) -> int:
        """How often the guest wrote to a protected table."""
        return self._watch.released

    # --- what the guest asks for --------------------------------------------------------------------------

    def switch(self, controls: PagingControls) -> None:
        """Follow a write of CR3, or a change of mode: translations of the past are to be forgotten."""
        self.flushes += 1
        self.controls = controls
        if self._protect:
            self._watch.flush()
        else:
            self._forest.root = None
            self._throw_away()
        try:
            self.reuses += self._enter()
        except OutOfFrames:  # all frames are in the tree that is being left
            self._forest.root = None
            self._throw_away()
            self._enter()

    def invalidate(self, linear: int) -> None:
        """Forget what is known of the page at ``linear``, and of all tables above the last level (INVLPG)."""
        self._watch.flush_upper()
        self._refresh_pointers()
        if self.controls.mode is not PagingMode.LONG:
            linear &= 0xFFFFFFFF
        table, shift = self._top, 39 if self.long else 30
        while True:
            child = table.children.get(linear >> shift & 511)
            if child is None or (child.source is None):
                break
            table, shift = child, shift - 9
        source = table.source
        if source is not None:
            index = table.first + (linear >> shift & 511) // table.span
            self._watch.refresh_entry(source, index)

    def host_address(self, gpa: int, *, write: bool) -> int | None:
        """Give the host-physical address of ``gpa``, None without memory for that. A write may be to a table."""
        gfn = gpa // PAGE
        hpa = self._physical.memory(gfn)
        if write and hpa is not None:
            if not self._physical.page(gfn) & WRITABLE:
                return None
            if gfn in self._watch.protected:
                self._watch.release(gfn)
        return None if hpa is None else hpa | gpa & PAGE - 1

    def forget(self) -> None:
        """Throw all tables away but the top one, whose frame stays where it is."""
        self._physical.forget()
        self._throw_away()

    def close(self) -> None:
        """Give all frames back."""
        self._forest.close()

    def _throw_away(self) -> None:
        self._forest.clear()
        self._writers.clear()
        self._watch.clear()
        root = self._forest.root
        if root is not None:
            root.source = self._top_source(root.key)
            if root.source is not None:
                root.source.mirrors.append(root)

    # --- top tables ---------------------------------------------------------------------------------------

    def _enter(self) -> bool:
        """Go over to the tree for the controls; say whether it was there."""
        controls, mode = self.controls, self.controls.mode
        key: Key
        self._legacy = mode is PagingMode.LEGACY
        # What a table's entries mean, apart from what they point to: the rest of its key.
        self._context = (
            _MODES[mode] | controls.pse << 2 | controls.nxe << 3 | controls.wp << 4 | controls.smep << 5
        )
        top = controls.plan.top
        match mode:
            case PagingMode.LONG:
                key = (top, 4, RIGHTS, 0, self._context)
            case PagingMode.PAE:
                key = (top, 3, RIGHTS, 0, self._context)
            case PagingMode.LEGACY:
                key = (top, 3, RIGHTS, _SYNTHETIC, self._context)
            case PagingMode.NONE:
                key = (0, 3, RIGHTS, _FLAT, self._context)
        found = self._forest.enter(key, self._make_top)
        self._refresh_pointers()
        return found

    def _make_top(self, key: Key) -> ShadowTable:
        self._forest.reserve()
        table = self._forest.make(key, key[1], self._top_source(key))
        if table.level == 3:
            table.link = PRESENT  # the pointers of PAE have no rights (APM2 5.2.3)
        return table

    def _top_source(self, key: Key) -> GuestTable | None:
        """Give the guest's table that the top table mirrors; None where CR3 points to no memory."""
        gpa, level, _, kind, _ = key
        if kind != 0 or self._physical.memory(gpa // PAGE) is None:
            return None
        return self._watch_table(gpa, 8, upper=True, size=PAGE if level == 4 else _POINTERS)

    def _refresh_pointers(self) -> None:
        """Compare the four pointers of PAE: there is no catching writes to 32 bytes of a page."""
        source = self._top.source
        if source is not None and len(source.seen) == _POINTERS:
            self._watch.refresh(source)

    def _watch_table(self, gpa: int, entry_size: int, *, upper: bool, size: int = PAGE) -> GuestTable:
        hpa = self._physical.memory(gpa // PAGE)
        assert hpa is not None  # the walk has read from it
        return self._watch.table(gpa, hpa | gpa & PAGE - 1, size, entry_size, upper=upper)

    # --- faults -------------------------------------------------------------------------------------------

    def resolve(self, linear: int, access: Access) -> Fault | Unbacked | None:
        """Make ``access`` at ``linear`` possible, None; or say what the guest must be told.

        Sets the guest's accessed and dirty bits as the processor would.
        """
        for _ in range(_TRIES):
            try:
                return self._resolve(linear, access)
            except OutOfFrames:
                self._throw_away()
        raise AssertionError("one path of tables does not fit into the frames")

    def _resolve(self, linear: int, access: Access) -> Fault | Unbacked | None:
        path = self._path
        path.clear()
        try:
            result = translate(linear, self.controls, access, self._read)
        except _NoTable as missing:
            return Unbacked(missing.gpa)
        if isinstance(result, Fault):
            self._mark_upper()
            return result
        rights = self._mark(result, access)
        if self._physical.page(result.physical // PAGE) == NOTHING:
            return Unbacked(result.physical)
        self.fills += 1
        if self.controls.mode is not PagingMode.LONG:
            linear &= 0xFFFFFFFF
        return self._place(self._descend(linear), linear, result.physical, rights, access)

    def _read(self, gpa: int, size: int) -> int:
        hpa = self._physical.memory(gpa // PAGE)
        if hpa is None:
            raise _NoTable(gpa)
        hpa |= gpa & PAGE - 1
        value = self._forest.words[hpa >> 3] if size == 8 else self._memory.read(hpa, size)
        self._path.append(_Entry(gpa, hpa, size, value))
        return value

    # --- accessed and dirty -------------------------------------------------------------------------------

    def _mark_upper(self) -> None:
        """Set the accessed bits above the entry that the walk ended at: those tables were used (APM2 5.4.2)."""
        first = 1 if self.controls.mode is PagingMode.PAE else 0  # the pointers of PAE have none
        for place in range(first, len(self._path) - 1):
            self._set_bits(place, ACCESSED)

    def _mark(self, result: Translation, access: Access) -> int:
        """Set accessed and dirty bits as the walk did; give the rights of the page."""
        self._mark_upper()
        if self._path:
            self._set_bits(len(self._path) - 1, ACCESSED | DIRTY if access.write else ACCESSED)
        controls = self.controls
        rights = 0 if result.executable else NO_EXECUTE
        if result.user:
            rights |= USER
        if result.writable:
            rights |= MAY_WRITE
        elif not controls.wp and not access.user and (access.write or not result.user):
            # CR0.WP is always 1 underneath. Where the guest's is 0 its supervisor writes to read-only pages: for
            # that while the page is the supervisor's alone, and CR4.SMEP must not be fooled by it.
            rights = rights & ~USER | MAY_WRITE
            if controls.smep and result.user:
                rights |= NO_EXECUTE
        if rights & MAY_WRITE and (access.write or result.dirty or not self._path):
            rights |= WRITABLE
        return rights

    def _set_bits(self, place: int, bits: int) -> None:
        gpa, hpa, size, value = self._path[place]
        wanted = value | bits
        if wanted != value:
            if self._physical.page(gpa // PAGE) & WRITABLE:
                self._memory.write(hpa, size, wanted)
            self._path[place] = _Entry(gpa, hpa, size, wanted)

    # --- filling ------------------------------------------------------------------------------------------

    def _descend(self, linear: int) -> ShadowTable:
        """Follow the path of the last walk through the shadow, making what is missing, to the table of its
        last entry."""
        table, path, rights = self._top, self._path, RIGHTS
        shift = 39 if table.level == 4 else 30
        if self._legacy:
            top = path[0].gpa & ~(PAGE - 1)
            table = self._child(table, linear >> 30, top, rights, linear >> 22 & 0x300, span=2)
            shift = 21
        for entry in path[:-1]:
            value = entry.value
            self._note(table, entry)
            if table.link != PRESENT:
                rights = rights & (value | ~RIGHTS) | value & NO_EXECUTE
            first = linear >> 21 << 9 & 0x200 if self._legacy else 0
            table = self._child(table, linear >> shift & 511, value & FRAME, rights, first)
            shift -= 9
        if path:
            self._note(table, path[-1])
        return table

    def _note(self, table: ShadowTable, entry: _Entry) -> None:
        """Note that the shadow follows the guest's ``entry`` as it is now."""
        source = table.source
        assert source is not None
        source.entries[(entry.gpa - source.gpa) // entry.size] = entry.value

    def _child(
        self, table: ShadowTable, index: int, gpa: int, rights: int, first: int, span: int = 1
    ) -> ShadowTable:
        """Give the table that mirrors the guest's at ``gpa`` below an entry of ``table``."""
        level = table.level - 1
        key = (gpa, level, rights, first, self._context)
        child = table.children.get(index)
        if child is None or child.key != key:
            child = self._forest.tables.get(key)
            if child is None:
                self._forest.reserve()
                source = self._watch_table(gpa, 4 if self._legacy else 8, upper=level > 1)
                child = self._forest.make(key, level, source, first, span)
            self._forest.link(table, index, child)
        return child

    def _place(
        self, table: ShadowTable, linear: int, gpa: int, rights: int, access: Access
    ) -> Unbacked | None:
        """Map the page at ``gpa`` through ``table``, whose entry stands for the guest's last one."""
        gfn = gpa // PAGE
        if table.level == 3:
            table = self._inside(table, linear >> 30 & 511, (gfn >> 18, 2, rights, _INSIDE, 0))
        if table.level == 2:
            index, number = linear >> 21 & 511, gfn >> 9
            key = (number, 1, rights, _INSIDE, 0)
            child = table.children.get(index)
            if (child is None or child.key != key) and self._place_large(
                table, index, number, rights, access
            ):
                return None
            table = self._inside(table, index, key)
        return self._place_small(table, linear >> 12 & 511, gfn, rights, access)

    def _place_large(self, table: ShadowTable, index: int, number: int, rights: int, access: Access) -> bool:
        """Map 2 MiB in one piece if nothing speaks against it."""
        entry = self._physical.large(number)
        if entry == NOTHING or self._watch.any_in(number) or (access.fetch and rights & MAY_WRITE):
            return False
        entry = entry & ~WRITABLE | rights & (RIGHTS | NO_EXECUTE)
        if rights & MAY_WRITE:
            entry |= NO_EXECUTE
        self._forest.put(table, index, entry)
        if entry & WRITABLE:
            self._writers.note_large(number, table, index)
        return True

    def _inside(self, table: ShadowTable, index: int, key: Key) -> ShadowTable:
        """Give the table with ``key`` for a part of a large page of the guest's, below an entry of ``table``."""
        child = table.children.get(index)
        if child is None or child.key != key:
            child = self._forest.tables.get(key)
            if child is None:
                self._forest.reserve()
                level, rights = key[1], key[2]
                if level == 1:
                    child = self._forest.make_inside(key, key[0])
                    self._fill_inside(child, key[0], rights)
                else:
                    child = self._forest.make(key, level)
            self._forest.link(table, index, child)
        return child

    def _fill_inside(self, table: ShadowTable, number: int, rights: int) -> None:
        """Map all 512 pages of 2 MiB page ``number`` at once: the guest has said of all what it says of one."""
        words, physical = self._forest.words, self._physical
        kept = -1 if rights & WRITABLE else ~WRITABLE
        added = rights & (USER | NO_EXECUTE) | (NO_EXECUTE if rights & MAY_WRITE else 0)
        whole = physical.large(number) & ~LARGE
        if whole != NOTHING:
            start = whole & kept | added
            entries = array("Q", range(start, start + ENTRIES * PAGE, PAGE))
        else:
            pages = map(physical.page, range(number << 9, (number << 9) + ENTRIES))
            entries = array("Q", [page & kept | added if page != NOTHING else 0 for page in pages])
        words[table.first_word : table.first_word + ENTRIES] = memoryview(entries)
        if rights & WRITABLE and self._watch.any_in(number):
            for index in range(ENTRIES):
                if (number << 9) + index in self._watch.protected:
                    words[table.first_word + index] &= ~WRITABLE

    def _place_small(
        self, table: ShadowTable, index: int, gfn: int, rights: int, access: Access
    ) -> Unbacked | None:
        """Map one 4 KiB page by an entry of a last-level table."""
        entry = self._physical.page(gfn)
        if access.write and not entry & WRITABLE:
            return Unbacked(gfn * PAGE)
        if access.write and gfn in self._watch.protected:
            self._watch.release(gfn)
        if not rights & WRITABLE or gfn in self._watch.protected:
            entry &= ~WRITABLE
        entry |= rights & (USER | NO_EXECUTE)
        place = table.first_word + index
        if rights & MAY_WRITE and not access.fetch:
            old = self._forest.words[place]
            if not old & PRESENT or (old ^ entry) & FRAME or old & NO_EXECUTE:
                entry |= NO_EXECUTE
        self._forest.put(table, index, entry)
        if entry & WRITABLE and table.source is not None:
            self._writers.note(gfn, place, entry)
        return None
