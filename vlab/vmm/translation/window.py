"""The window through which the processor executes the cache, and the guest sees nothing.

A translation must be in the linear space of the guest that executes it, and yet not be there for a guest that
looks. VMware's translator cut the guest's segments short (Adams and Agesen, ASPLOS 2006, section 3); segments
have no limits any more in long mode. Protection keys do the same page by page: the cache is in user pages of
a key that may not be accessed as data, but which does not concern fetches (AMD APM vol. 2, rev. 3.42, 5.6.7).
They exist in long mode alone, so the guest's 32-bit kernel runs there, as in compatibility mode.

The guest's own access to one of these addresses faults for its key, and the monitor carries it out on what
the guest has there; where it cannot, the window moves out of the way. While the guest's programs run directly
there is no window, and no protection key.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from vlab.isa.control import CR4
from vlab.machine.machine import Machine
from vlab.machine.memory import LARGE_PAGE, PAGE
from vlab.machine.processor import Processor
from vlab.vmm.paging.shadow.entries import ACCESSED, DIRTY, LINK, PRESENT, USER
from vlab.vmm.paging.shadow.forest import OutOfFrames
from vlab.vmm.paging.shadow.registers import VirtualRegisters
from vlab.vmm.paging.shadow.space import ShadowSpace
from vlab.vmm.paging.shadow.tables import ShadowTable
from vlab.vmm.translation.code_cache import CODE_SIZE, GATES, SIZE, CodeCache


class Place(NamedTuple):
    """Where the window can be: at ``low`` for 16- and 32-bit code, at ``high`` for 64-bit code.

    high: from there 32 bits reach to a kernel, and to what is below 1.5 GiB.
    """

    low: int
    high: int

    @property
    def wrapped(self) -> int:
        """Where 32-bit code finds ``low`` whose segment begins behind it.

        The emulator does not cut off the carry when it adds RIP to the base, where a processor does. Data
        addresses are cut off, so this is out of the guest's reach.
        """
        return self.low + (1 << 32)

    def base(self, bits: int) -> int:
        """Give the address that offset 0 of the cache has for a kind of code."""
        return self.high if bits == 64 else self.low

    def offset(self, linear: int) -> int:
        """Give the offset in the cache of what is at a linear address."""
        return linear - self.high if linear >= self.high else (linear & 0xFFFFFFFF) - self.low


PLACES: Final = tuple(Place(0xFF000000 - away, 0xFFFFFFFF_E0000000 - away) for away in (0, 1 << 25, 1 << 26))
"""Three, for one instruction can have two operands."""
_KEY: Final = 1
_KEY_SHIFT: Final = 59  # in entries
_NO_ACCESS: Final = 1 << 2 * _KEY
"""In PKRU: AD of the key. A supervisor is held to it as well as a user."""
_PAGE_BITS: Final = PRESENT | USER | ACCESSED | DIRTY | _KEY << _KEY_SHIFT
_PKE: Final = CR4.PKE.mask
_SUPERVISOR: Final = CR4.SMEP.mask | CR4.SMAP.mask
"""What a guest's kernel may not do with user pages is asked when its code is translated; the cache is in user
pages itself."""
_TABLES: Final = -(-SIZE // LARGE_PAGE)
_SPAN: Final = _TABLES * LARGE_PAGE
_GATE: Final = GATES // LARGE_PAGE
"""Index of the gates' page table."""
_MANY: Final = 16
"""So many changed runs of code cost more, one by one, than forgetting all code."""

assert CODE_SIZE % LARGE_PAGE == 0


class Window:
    """The window of one guest's cache. ``open``: the processor executes through it. ``place``: where it is.

    ``gates_open``: and may go from code for interrupts off to code for interrupts on.
    """

    def __init__(
        self, machine: Machine, cache: CodeCache, space: ShadowSpace, registers: VirtualRegisters
    ) -> None:
        self._machine = machine
        self._cache = cache
        self._space = space
        self._registers = registers
        registers.withheld_cr4 = _SUPERVISOR
        self._processor: Processor = machine.processor
        self._words = machine.memory.bytes.cast("Q")
        self._tables: Final = machine.frames.allocate(_TABLES * PAGE, use="tables of the translation window")
        self._map()
        self.open = False
        self.gates_open = False
        self.place = PLACES[0]
        self._entries: list[tuple[ShadowTable, int]] = []
        self._all_changed = False

    def _map(self) -> None:
        self._machine.memory.zero(self._tables, _TABLES * PAGE)
        first = self._tables >> 3
        for number in range(SIZE // PAGE):
            self._words[first + number] = self._cache.hpa + number * PAGE | _PAGE_BITS

    def contains(self, linear: int) -> bool:
        """Say whether an address is inside the window."""
        return any(0 <= linear - first < _SPAN for first in self.place)

    # --- opening and closing ------------------------------------------------------------------------------

    def admit(self, addresses: tuple[int, ...], *, gates: bool) -> None:
        """Have the window at these ``addresses`` in the tables in use, and nowhere else.

        gates: see ``gates_open``.
        """
        processor, core = self._processor, self._processor.core
        entries = self._find(addresses)
        if entries != self._entries:
            self._take_away()
            self._entries = entries
        changed = False
        for entry in entries:
            changed |= self._put(entry, gates)
        if not self.open:
            self.open = changed = True
            self._registers.added_cr4 = _PKE
            core.cr4 |= _PKE
        core.pkru = _NO_ACCESS
        self.gates_open = gates
        if changed:
            processor.engine.flush_tlb()
        if self._cache.changed or self._all_changed:
            self._forget_changed(addresses)

    def _find(self, addresses: tuple[int, ...]) -> list[tuple[ShadowTable, int]]:
        """Give the first entry of the tables in use for each address."""
        space = self._space
        try:
            return [space.directory_entry(linear) for linear in addresses]
        except OutOfFrames:
            space.forget()
            return [space.directory_entry(linear) for linear in addresses]

    def _link(self, number: int) -> int:
        return self._tables + number * PAGE | LINK

    def _put(self, first: tuple[ShadowTable, int], gates: bool) -> bool:
        """Write the entries for one address of the window; say whether any was another one."""
        space, (table, index) = self._space, first
        changed = False
        for number in range(_TABLES):
            wanted = self._link(number) if gates or number != _GATE else 0
            entry = table, index + number
            if space.read_directory_entry(entry) != wanted:
                space.put_directory_entry(entry, wanted)
                changed = True
        return changed

    def _take_away(self) -> None:
        """Take the entries away, but from tables that were given up and are something else by now."""
        space = self._space
        for table, index in self._entries:
            for number in range(_TABLES):
                if space.read_directory_entry((table, index + number)) == self._link(number):
                    space.put_directory_entry((table, index + number), 0)
        self._entries = []

    def shut(self) -> None:
        """Take the window away: the guest's programs are to run directly, or there is no more guest."""
        if not self.open:
            return
        self.open = False
        self._registers.added_cr4 = 0
        self._processor.core.cr4 &= ~_PKE
        self._take_away()
        self._processor.engine.flush_tlb()

    def move(self) -> None:
        """Go somewhere else: the guest needs the place. No code in the cache may be executed any more."""
        self.shut()
        self.place = PLACES[(PLACES.index(self.place) + 1) % len(PLACES)]

    # --- code ---------------------------------------------------------------------------------------------

    def forget_all(self) -> None:
        """Have the processor forget all of the cache's code before it executes any of it again."""
        self._all_changed = True

    def _forget_changed(self, addresses: tuple[int, ...]) -> None:
        """Have the processor forget what it has translated of code that was written over."""
        engine, changed = self._processor.engine, self._cache.changed
        if self._all_changed or len(changed) > _MANY:
            engine.flush_code()
            self._processor.code.forget()
        else:
            for offset, size in changed:
                for linear in addresses:
                    engine.forget_code(linear + offset, linear + offset + size)
        self._all_changed = False
        changed.clear()

    def reset(self) -> None:
        """Begin with other tables, in which there is no window."""
        self.open = False
        self.place, self._entries = PLACES[0], []
        self._registers.added_cr4 = 0

    def close(self) -> None:
        """Give the tables back."""
        self._machine.frames.free(self._tables)
