"""The shadow tables there are: made, linked, shared between trees, and given back.

One table serves every place that asks for the same key, so trees share branches: the kernel's half of all
processes is shadowed once. A table goes back to the pool when nothing points to it any more. Trees are kept
after the guest has left them, until frames run out; the one that was left longest ago goes first.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from vlab.machine.machine import Machine
from vlab.vmm.paging.shadow.entries import FRAME, LARGE, NO_EXECUTE, PRESENT, USER, WRITABLE
from vlab.vmm.paging.shadow.frames import FramePool
from vlab.vmm.paging.shadow.tables import GuestTable, Key, ShadowTable

_PLACE: Final = FRAME | LARGE
_LOSSES: Final = WRITABLE | USER


class OutOfFrames(Exception):
    """The tree in use alone has taken all frames; its tables must be thrown away."""


class Forest:
    """Trees of shadow tables.

    pool: the frames that they are made of. ``displacement``: what is added to a table's address in entries
    and in CR3 (see ``fence``). ``words``: the machine's memory as 64-bit numbers. ``root``: the top table in
    use. ``changes`` counts the links between tables that were made or cut. ``stale``: an entry was taken away
    or narrowed, so the processor's TLB must be flushed before the guest runs on; whoever does so clears it.
    ``on_unused`` is called for a guest's table that nothing mirrors any more.
    """

    def __init__(self, machine: Machine, pool: FramePool) -> None:
        self.pool: Final = pool
        self.displacement = 0
        self.words: Final = machine.memory.bytes.cast("Q")
        self.tables: dict[Key, ShadowTable] = {}
        self.roots: dict[Key, ShadowTable] = {}
        self.inside: dict[int, list[ShadowTable]] = {}
        self.root: ShadowTable | None = None
        self.changes = 0
        self.stale = False
        self.on_unused: Callable[[GuestTable], None] = lambda _table: None

    @property
    def top(self) -> ShadowTable:
        """The top table in use."""
        assert self.root is not None
        return self.root

    # --- tables -----------------------------------------------------------------------------------------

    def reserve(self) -> None:
        """See to it that there is a frame for one more table, at the cost of trees that are not in use.

        Raises OutOfFrames. The guest's tables that those trees alone mirrored are not watched any more.
        """
        while self.pool.used == self.pool.limit:
            self._retire_oldest()

    def make(
        self, key: Key, level: int, source: GuestTable | None = None, first: int = 0, span: int = 1
    ) -> ShadowTable:
        """Make an empty table from a frame that ``reserve`` has found."""
        frame = self.pool.take()
        assert frame is not None
        table = self.tables[key] = ShadowTable(key, frame, level, source, first, span)
        if source is not None:
            source.mirrors.append(table)
        return table

    def make_inside(self, key: Key, number: int) -> ShadowTable:
        """Make an empty last-level table for 2 MiB page ``number`` of the guest, to be mapped in order."""
        table = self.make(key, 1)
        self.inside.setdefault(number, []).append(table)
        return table

    def _release(self, table: ShadowTable) -> None:
        """Take one reference away; without any, the table and what only it points to go back."""
        table.references -= 1
        if table.references:
            return
        del self.tables[table.key]
        self.pool.give_back(table.frame)
        for child in table.children.values():
            self._release(child)
        source = table.source
        if source is not None:
            source.mirrors.remove(table)
            if not source.mirrors:
                self.on_unused(source)
        elif table.level == 1:
            number = table.key[0]
            self.inside[number].remove(table)
            if not self.inside[number]:
                del self.inside[number]

    # --- trees ------------------------------------------------------------------------------------------

    def enter(self, key: Key, make: Callable[[Key], ShadowTable]) -> bool:
        """Go over to the tree with this key, made if there is none; say whether there was one."""
        root = self.roots.pop(key, None)
        found = root is not None
        if root is None:
            root = make(key)
            root.references += 1
        self.roots[key] = self.root = root
        self.stale = True
        self.changes += 1
        return found

    def retire_unused(self, gpa: int) -> None:
        """Throw the trees away whose top table is the guest's at ``gpa``, but not the one in use."""
        for root in list(self.roots.values()):
            if root.key[0] == gpa and root is not self.root:
                self._retire(root)

    def _retire(self, root: ShadowTable) -> None:
        del self.roots[root.key]
        self.stale = True
        self._release(root)

    def _retire_oldest(self) -> None:
        for root in self.roots.values():
            if root is not self.root:
                self._retire(root)
                return
        raise OutOfFrames

    def clear(self) -> None:
        """Throw all tables away; the top one in use stays, empty."""
        root = self.root
        self.changes += 1
        self.tables.clear()
        self.roots.clear()
        self.inside.clear()
        self.pool.take_all_back(keep=None if root is None else root.frame)
        if root is not None:
            self.words[root.first_word : root.first_word + 512] = _EMPTY
            root.children.clear()
            self.tables[root.key] = self.roots[root.key] = root
        self.stale = True

    # --- entries ----------------------------------------------------------------------------------------

    def link(self, table: ShadowTable, index: int, child: ShadowTable) -> None:
        """Make an entry point to a table."""
        child.references += 1  # before the old child goes, which may hold the last other reference
        self.drop(table, index)
        self.changes += 1
        table.children[index] = child
        self.words[table.first_word + index] = child.frame + self.displacement | table.link

    def put(self, table: ShadowTable, index: int, entry: int) -> None:
        """Write an entry that maps a page."""
        place = table.first_word + index
        old = self.words[place]
        if old & PRESENT:
            if index in table.children:
                self.drop(table, index)
            elif (old ^ entry) & _PLACE or old & ~entry & _LOSSES or entry & ~old & NO_EXECUTE:
                self.stale = True
        self.words[place] = entry

    def drop(self, table: ShadowTable, index: int) -> None:
        """Empty an entry."""
        place = table.first_word + index
        if self.words[place]:
            self.words[place] = 0
            self.stale = True
            child = table.children.pop(index, None)
            if child is not None:
                self.changes += 1
                self._release(child)

    def close(self) -> None:
        """Give all frames back."""
        self.root = None
        self.tables.clear()
        self.roots.clear()
        self.inside.clear()
        self.pool.close()


_EMPTY: Final = memoryview(bytes(4096)).cast("Q")
