"""Keeping shadow tables in step with the guest's: protected while they are, compared when they may not be.

The processor's TLB may keep a translation until the guest asks for its removal (AMD APM vol. 2, rev. 3.42,
5.5), and so may we. A guest's table that is mirrored is therefore in one of two states:

- *protected*: no shadow entry lets the guest write to it, so it is as we saw it;
- *free*: the guest wrote, was let through, and writes on at full speed. At its next flush the table is
  compared with what was seen of it, and the entries that differ are dropped.

A free table is protected again when a few flushes in a row found nothing changed. One exit pays for a burst
of writes, where carrying out each write for the guest would pay one exit for every word of a fork or an exit.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from vlab.machine.memory import PAGE, PhysicalMemory
from vlab.vmm.paging.shadow.forest import Forest
from vlab.vmm.paging.shadow.tables import GuestTable
from vlab.vmm.paging.shadow.writers import Writers

PATIENCE: Final = 4
"""Flushes without a change after which a free table is protected again."""
MOST_FREE: Final = 64
"""Free tables at a time: each is compared at every flush."""

_REGION = 9


class Watch:
    """The guest's tables that ``forest`` mirrors. protect: catch writes; else none is ever *protected*."""

    def __init__(self, forest: Forest, writers: Writers, memory: PhysicalMemory, *, protect: bool) -> None:
        self._forest = forest
        self._writers = writers
        self._memory = memory
        self._protect = protect
        self._tables: dict[tuple[int, int, int], GuestTable] = {}
        self._frames: dict[int, list[GuestTable]] = {}
        self._regions: dict[int, int] = {}
        self._free: dict[GuestTable, None] = {}
        self._code: set[int] = set()
        self.protected: set[int] = set()
        self.released = 0
        self.on_code_written: Callable[[int], None] = lambda _gfn: None
        forest.on_unused = self._forget

    # --- what is watched --------------------------------------------------------------------------------

    def table(self, gpa: int, hpa: int, size: int, entry_size: int, *, upper: bool) -> GuestTable:
        """Give the guest's table at ``gpa``, watched from now on."""
        table = self._tables.get((gpa, size, entry_size))
        if table is None:
            table = GuestTable(self._memory, gpa, hpa, size, entry_size)
            self._tables[gpa, size, entry_size] = table
            if self._protect and size == PAGE:
                self._frames.setdefault(table.gfn, []).append(table)
                self._note_region(table.gfn)
                self._shut(table)
        table.upper |= upper
        return table

    def any_in(self, number: int) -> bool:
        """Say whether 2 MiB page ``number`` holds what is watched: it cannot be mapped in one piece."""
        return number in self._regions

    def _note_region(self, gfn: int) -> None:
        number = gfn >> _REGION
        self._regions[number] = self._regions.get(number, 0) + 1

    def _leave_region(self, gfn: int) -> None:
        number = gfn >> _REGION
        self._regions[number] -= 1
        if not self._regions[number]:
            del self._regions[number]

    def _forget(self, table: GuestTable) -> None:
        del self._tables[table.gpa, len(table.seen), table.entry_size]
        self._free.pop(table, None)
        tables = self._frames.get(table.gfn)
        if tables is None or table not in tables:
            return
        tables.remove(table)
        if table.gfn not in self._code and not any(other.protected for other in tables):
            self.protected.discard(table.gfn)
        if not tables:
            del self._frames[table.gfn]
        self._leave_region(table.gfn)

    def clear(self) -> None:
        """Forget all tables: the forest was cleared."""
        for tables in (self._tables, self._frames, self._regions, self._free, self.protected):
            tables.clear()
        for gfn in self._code:
            self.protected.add(gfn)
            self._note_region(gfn)

    # --- code that was translated -----------------------------------------------------------------------

    def protect_code(self, gfn: int) -> None:
        """Catch the guest's next write to a frame of code that somebody has translated."""
        if gfn in self._code:
            return
        self._code.add(gfn)
        self._note_region(gfn)
        if gfn not in self.protected:
            self.protected.add(gfn)
            self._writers.revoke(gfn)

    def unprotect_code(self, gfn: int) -> None:
        """Catch no more of them."""
        if gfn in self._code:
            self._code.remove(gfn)
            self._leave_region(gfn)
            if not any(table.protected for table in self._frames.get(gfn, ())):
                self.protected.discard(gfn)

    # --- two states -------------------------------------------------------------------------------------

    def _shut(self, table: GuestTable) -> None:
        """Protect a table that is in step."""
        table.protected = True
        self._free.pop(table, None)
        if table.gfn not in self.protected:
            self.protected.add(table.gfn)
            self._writers.revoke(table.gfn)

    def release(self, gfn: int) -> None:
        """Let the guest write to a protected frame from now on."""
        self.released += 1
        if gfn in self._code:
            self.unprotect_code(gfn)
            self.on_code_written(gfn)
        self.protected.discard(gfn)
        for table in self._frames.get(gfn, ()):
            table.protected = False
            table.quiet = 0
            self._free[table] = None
        while len(self._free) > MOST_FREE:
            oldest = next(iter(self._free))
            if oldest.gfn == gfn:
                return
            self._compare(oldest)
            if oldest.mirrors:
                self._shut(oldest)

    # --- comparing --------------------------------------------------------------------------------------

    def flush(self, *, everything: bool) -> None:
        """Bring the free tables in step: the guest wants its changes to be seen (APM2 5.5).

        everything: the protected ones too.
        """
        if everything:
            for table in list(self._tables.values()):
                if table.protected and table.mirrors:
                    self._compare(table)
        for table in list(self._free):
            if not table.mirrors:
                continue  # an earlier one in the list was all that needed it
            if self._compare(table):
                table.quiet = 0
            elif table.mirrors:
                table.quiet += 1
                if table.quiet >= PATIENCE:
                    self._shut(table)

    def flush_upper(self) -> None:
        """Bring the tables above the last level in step: INVLPG forgets all that is cached of them."""
        tables = self._free if self._protect else self._tables.values()
        for table in [table for table in tables if table.upper]:
            if table.mirrors:
                self._compare(table)

    def written(self, first: int, last: int) -> None:
        """Bring the protected tables in step that lie in frames ``first`` to ``last``: no guest wrote there.

        A free one waits for its flush, as it does for the guest's own writes.
        """
        frames = self._frames
        for gfn in [gfn for gfn in frames if first <= gfn <= last]:
            for table in tuple(frames.get(gfn, ())):
                if table.protected and table.mirrors:
                    self._compare(table)

    def refresh(self, table: GuestTable) -> None:
        """Bring one table in step that is never protected."""
        self._compare(table)

    def refresh_entry(self, table: GuestTable, index: int) -> None:
        """Bring one entry in step."""
        if table.changed(index):
            self._drop(table, index)

    def _compare(self, table: GuestTable) -> bool:
        """Drop what was made of entries that have changed; say whether there were any."""
        changes = table.changes()
        if not changes:
            return False
        if table.upper:
            self._forest.retire_unused(table.gpa)  # CR3 points elsewhere: it is being made or unmade
        for index in changes:
            self._drop(table, index)
        return True

    def _drop(self, table: GuestTable, index: int) -> None:
        forest = self._forest
        for mirror in tuple(table.mirrors):
            place = (index - mirror.first) * mirror.span
            if 0 <= place < 512:
                for offset in range(mirror.span):
                    forest.drop(mirror, place + offset)
