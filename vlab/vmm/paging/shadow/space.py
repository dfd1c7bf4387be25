"""The shadow of a guest's address space, as a monitor uses it.

The machine's MMU walks the tables made here. Where they have nothing, or not enough, it faults, and
``resolve`` walks the guest's own tables: either the fault is the guest's, or an entry is filled in from what
the walk found. Nothing here knows of exits or of virtualization hardware; a monitor on a processor without
any uses it alike. Sections are those of AMD APM vol. 2, rev. 3.42.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from vlab.isa.paging import Access, Fault, PagingControls, PagingMode
from vlab.machine.machine import Machine
from vlab.machine.memory import PAGE
from vlab.vmm.guest_memory import GuestMemory
from vlab.vmm.paging.shadow.composer import POINTERS, Composer
from vlab.vmm.paging.shadow.entries import ENTRIES, LINK, WRITABLE
from vlab.vmm.paging.shadow.fence import Fence
from vlab.vmm.paging.shadow.forest import Forest, OutOfFrames
from vlab.vmm.paging.shadow.frames import FramePool
from vlab.vmm.paging.shadow.guest_walk import GuestWalker, Unbacked, Walked
from vlab.vmm.paging.shadow.physical import PhysicalMap
from vlab.vmm.paging.shadow.tables import ShadowTable
from vlab.vmm.paging.shadow.watch import Watch
from vlab.vmm.paging.shadow.writers import Writers

_LONG: Final = PagingMode.LONG
_TRIES: Final = 3


class ShadowSpace:
    """Shadow tables for one guest.

    protect: keep trees over flushes, by write-protecting the guest's tables; else every flush throws all
    away. frames: the most that the tables may take. ``controls``: what steers the guest's translation.
    ``root``: address of the top table, for CR3: host-physical, or what the fence makes of that. ``fence``:
    what the tables are made for use behind, None without. ``fills``, ``flushes`` and ``reuses`` count the
    faults that an entry answered, the flushes that the guest asked for, and those after which a tree was
    found again; ``events`` all that may have changed what an address means to the guest.
    """

    def __init__(self, machine: Machine, memory: GuestMemory, *, protect: bool, frames: int) -> None:
        self._machine = machine
        self._memory = memory
        self._physical = PhysicalMap(memory)
        self._forest = Forest(machine, FramePool(machine, frames))
        self._writers = Writers(self._forest, self._physical)
        self._watch = Watch(self._forest, self._writers, machine.memory, protect=protect)
        self._composer = Composer(self._forest, self._watch, self._writers, self._physical)
        self._walker = GuestWalker(machine.memory, self._physical)
        self._protect = protect
        self.fence: Fence | None = None
        self.fills = 0
        self.flushes = 0
        self.reuses = 0
        self.events = 0
        self._crown: int | None = None
        self.controls = PagingControls(PagingMode.NONE, 0)
        self._enter()

    @property
    def long(self) -> bool:
        """Whether the tables are 4-level ones; else they are PAE's."""
        return self._forest.top.level == 4

    @property
    def stale(self) -> bool:
        """Whether the TLB must be flushed before the guest runs on; whoever does that clears it."""
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

    def put_up_fence(self) -> int:
        """Make tables for use behind a fence from now on; give its root, for the nested CR3.

        Raises UnusableInput.
        """
        self.fence = Fence(self._machine, self._memory, self._forest.pool)
        self._physical.displacement = self.fence.memory
        self._forest.displacement = self.fence.tables
        self.restart(self.controls)
        return self.fence.root

    # --- what the guest asks for --------------------------------------------------------------------------

    def switch(self, controls: PagingControls) -> None:
        """Follow a write of CR3, or a change of mode: translations of the past are to be forgotten."""
        self.flushes += 1
        self.reuses += self.enter(controls)

    def enter(self, controls: PagingControls) -> bool:
        """Translate by these controls from now on; say whether the tree for them was there."""
        self.controls = controls
        self._note_event()
        if self._protect:
            before = self._composer.context
            self._composer.follow(controls)
            # Devices write to memory too, and are not caught. Between modes they may have loaded a new guest.
            self._watch.flush(everything=self._composer.context != before)
        else:
            self._forest.root = None
            self._throw_away()
        try:
            return self._enter()
        except OutOfFrames:  # all frames are in the tree that is being left
            self._forest.root = None
            self._throw_away()
            return self._enter()

    def invalidate(self, linear: int) -> None:
        """Forget what is known of the page at ``linear``, and of all tables above the last level (INVLPG)."""
        self._note_event()
        self._watch.flush_upper()
        self._refresh_pointers()
        if self.controls.mode is not _LONG:
            linear &= 0xFFFFFFFF
        table, shift = self._forest.top, 39 if self.long else 30
        while True:
            index = linear >> shift & ENTRIES - 1
            child = table.children.get(index)
            if child is None or child.source is None:
                break
            table, shift = child, shift - 9
        if table.source is not None:
            self._watch.refresh_entry(table.source, table.first + index // table.span)

    def resolve(self, linear: int, access: Access) -> Fault | Unbacked | None:
        """Make ``access`` at ``linear`` possible, None; or say what stands against it.

        Sets the guest's accessed and dirty bits as the processor would.
        """
        controls, composer = self.controls, self._composer
        walked = self._walker.walk(linear, controls, access)
        if not isinstance(walked, Walked):
            return walked
        if controls.mode is not _LONG:
            linear &= 0xFFFFFFFF
        for _ in range(_TRIES):
            try:
                table = composer.descend(linear, walked)
                answer = composer.place(table, linear, walked, access)
            except OutOfFrames:
                self._throw_away()
            else:
                self.fills += answer is None
                return answer
        raise AssertionError("one path of tables does not fit into the frames")

    def host_address(self, gpa: int, *, write: bool) -> int | None:
        """Give the host-physical address of ``gpa``, None without memory. write: the caller writes to it."""
        gfn = gpa // PAGE
        hpa = self._physical.memory(gfn)
        if write and hpa is not None:
            if not self._physical.page(gfn) & WRITABLE:
                return None
            if gfn in self._watch.protected:
                self._watch.release(gfn)
        return None if hpa is None else hpa | gpa & PAGE - 1

    def protects(self, hpa: int) -> bool:
        """Say whether writes to a frame of RAM are watched; with A20 low any may be, at its other address."""
        gpa = hpa - self._memory.hpa
        return gpa // PAGE in self._watch.protected or not self._memory.a20

    def written(self, gpa: int, size: int) -> None:
        """Follow a write by a device or the host, which no protection catches."""
        self._walker.forget()
        self._watch.written(gpa // PAGE, (gpa + size - 1) // PAGE)

    # --- for a monitor that translates code ---------------------------------------------------------------

    def protect_code(self, gfn: int) -> None:
        """Have ``on_code_written`` called before the guest writes to a frame, once."""
        self._watch.protect_code(gfn)

    def unprotect_code(self, gfn: int) -> None:
        """Let the guest write to it."""
        self._watch.unprotect_code(gfn)

    @property
    def on_code_written(self) -> Callable[[int], None]:
        """Called with the number of a protected frame of code that the guest is let through to."""
        return self._watch.on_code_written

    @on_code_written.setter
    def on_code_written(self, listener: Callable[[int], None]) -> None:
        self._watch.on_code_written = listener

    def crown(self, wanted: bool) -> None:
        """Say whether trees are 4-level ones whatever the guest has, so that the processor is in long mode.

        The guest's 32-bit code runs there as in compatibility mode. The caller switches translation after.
        """
        if wanted and self._crown is None:
            self._crown = self._machine.frames.allocate(PAGE, use="shadow tables")
            self._machine.memory.zero(self._crown, PAGE)
        self._composer.crowned = wanted

    def directory_entry(self, linear: int) -> tuple[ShadowTable, int]:
        """Give the level-2 table of the tree in use and the index in it that stand for ``linear``.

        Where the guest has none, tables that mirror nothing are made. Raises OutOfFrames.
        """
        table = self._forest.top
        while table.level > 2:
            shift = 12 + 9 * (table.level - 1)
            index = linear >> shift & ENTRIES - 1
            child = table.children.get(index)
            table = self._composer.spare(table, index, linear >> shift) if child is None else child
        return table, linear >> 21 & ENTRIES - 1

    def put_directory_entry(self, place: tuple[ShadowTable, int], entry: int) -> None:
        """Write an entry that ``directory_entry`` gave; 0 takes it away."""
        table, index = place
        self._forest.drop(table, index)
        self._forest.words[table.first_word + index] = entry

    def read_directory_entry(self, place: tuple[ShadowTable, int]) -> int:
        """Read it."""
        return self._forest.words[place[0].first_word + place[1]]

    # --- whole trees --------------------------------------------------------------------------------------

    def forget(self) -> None:
        """Throw all tables away, but leave the top one in its frame; the memory map may be another."""
        self._map_anew()
        self._throw_away()

    def restart(self, controls: PagingControls) -> None:
        """Begin anew with other memory, by these controls; not even the top table is left of before."""
        self._map_anew()
        self._composer.executed.clear()
        self._forest.root = None
        self._throw_away()
        self.controls = controls
        self._enter()

    def close(self) -> None:
        """Give all frames back."""
        self._forest.close()
        if self._crown is not None:
            self._machine.frames.free(self._crown)
        if self.fence is not None:
            self.fence.close()

    def _map_anew(self) -> None:
        self._note_event()
        self._physical.forget()
        if self.fence is not None:
            self.fence.build()

    def _throw_away(self) -> None:
        self._forest.clear()
        self._writers.clear()
        self._watch.clear()
        root = self._forest.root
        if root is not None:
            root.source = self._composer.top_source(root.key)
            if root.source is not None:
                root.source.mirrors.append(root)

    def _enter(self) -> bool:
        """Go over to the tree for the controls; say whether it was there."""
        found = self._forest.enter(self._composer.follow(self.controls), self._composer.make_top)
        self.root = self._forest.top.frame + self._forest.displacement
        if self._crown is not None:
            self._forest.words[self._crown >> 3] = self._forest.top.frame | LINK
            if self._composer.crowned and not self.long:
                self.root = self._crown
        self._refresh_pointers()
        return found

    def _note_event(self) -> None:
        self.events += 1
        self._walker.forget()

    def _refresh_pointers(self) -> None:
        """Compare the four pointers of PAE: there is no catching writes to 32 bytes of a page."""
        source = self._forest.top.source
        if source is not None and len(source.seen) == POINTERS:
            self._watch.refresh(source)
