"""The window through which the processor executes the cache, and the guest sees nothing.

A translation must be in the linear space of the guest that executes it, and yet not be there for a guest that
looks. VMware's translator cut the guest's segments short (Adams and Agesen, ASPLOS 2006, section 3); segments
have no limits any more in long mode. Protection keys do the same page by page: the cache is in user pages of
a key that may not be accessed as data, but which does not concern fetches (AMD APM vol. 2, rev. 3.42, 5.6.7).
They exist in long mode alone, so the guest's 32-bit kernel runs there, as in compatibility mode.

The guest's own access to one of these addresses faults for its key, and the monitor carries it out on what
the guest has there. While the guest's programs run directly there is no window, and no protection key.
"""

from __future__ import annotations

from typing import Final

from vlab.isa.control import CR4
from vlab.machine.machine import Machine
from vlab.machine.memory import LARGE_PAGE, PAGE
from vlab.machine.processor import Processor
from vlab.vmm.paging.shadow.entries import ACCESSED, DIRTY, LINK, PRESENT, USER
from vlab.vmm.paging.shadow.forest import OutOfFrames
from vlab.vmm.paging.shadow.registers import VirtualRegisters
from vlab.vmm.paging.shadow.space import ShadowSpace
from vlab.vmm.translation.code_cache import CODE_SIZE, GATES, SIZE, CodeCache

LOW: Final = 0xFF000000
"""Where 32-bit code has the window."""
WRAPPED: Final = LOW + (1 << 32)
"""Where 32-bit code has it whose segment begins behind it: the emulator does not cut off the carry when it
adds RIP to the base, where a processor does. Data addresses are cut off, so this is out of the guest's reach.
"""
HIGH: Final = 0xFFFFFFFF_E0000000
"""Where 64-bit code has it: so that 32 bits reach from there to a kernel, and to what is below 2 GiB."""

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
    """The window of one guest's cache. ``open``: the processor executes through it.

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
        self._tables: Final = machine.frames.allocate(_TABLES * PAGE)
        self._map()
        self.open = False
        self.gates_open = False
        self._wrapped = False
        self._all_changed = False

    def _map(self) -> None:
        self._machine.memory.zero(self._tables, _TABLES * PAGE)
        first = self._tables >> 3
        for number in range(SIZE // PAGE):
            self._words[first + number] = self._cache.hpa + number * PAGE | _PAGE_BITS

    def contains(self, linear: int) -> bool:
        """Say whether an address is inside the window."""
        return LOW <= linear < LOW + _SPAN or HIGH <= linear < HIGH + _SPAN

    # --- opening and closing ------------------------------------------------------------------------------

    def admit(self, places: tuple[int, ...], *, gates: bool) -> None:
        """Have the window at ``places`` in the tables in use. gates: see ``gates_open``."""
        processor, core = self._processor, self._processor.core
        changed = False
        self._wrapped |= WRAPPED in places
        for linear in places:
            changed |= self._place(linear, gates)
        if not self.open:
            self.open = changed = True
            self._registers.added_cr4 = _PKE
            core.cr4 |= _PKE
        core.pkru = _NO_ACCESS
        self.gates_open = gates
        if changed:
            processor.engine.flush_tlb()
        if self._cache.changed or self._all_changed:
            self._forget_changed(places)

    def _place(self, linear: int, gates: bool) -> bool:
        """Write the entries for one address of the window; say whether any was another one."""
        space = self._space
        try:
            place = space.directory_entry(linear)
        except OutOfFrames:
            space.forget()
            place = space.directory_entry(linear)
        changed = False
        for number in range(_TABLES):
            wanted = self._tables + number * PAGE | LINK if gates or number != _GATE else 0
            entry = place[0], place[1] + number
            if space.read_directory_entry(entry) != wanted:
                space.put_directory_entry(entry, wanted)
                changed = True
        return changed

    def shut(self, places: tuple[int, ...]) -> None:
        """Take the window away: the guest's programs are to run directly, or there is no more guest."""
        if not self.open:
            return
        self.open = False
        self._registers.added_cr4 = 0
        self._processor.core.cr4 &= ~_PKE
        for linear in {*places, WRAPPED} if self._wrapped else places:
            table, index = self._space.directory_entry(linear)
            for number in range(_TABLES):
                self._space.put_directory_entry((table, index + number), 0)
        self._processor.engine.flush_tlb()

    # --- code ---------------------------------------------------------------------------------------------

    def forget_all(self) -> None:
        """Have the processor forget all of the cache's code before it executes any of it again."""
        self._all_changed = True

    def _forget_changed(self, places: tuple[int, ...]) -> None:
        """Have the processor forget what it has translated of code that was written over."""
        engine, changed = self._processor.engine, self._cache.changed
        if self._all_changed or len(changed) > _MANY:
            engine.flush_code()
            self._processor.code.forget()
        else:
            for offset, size in changed:
                for linear in places:
                    engine.forget_code(linear + offset, linear + offset + size)
        self._all_changed = False
        changed.clear()

    def reset(self) -> None:
        """Begin with other tables, in which there is no window."""
        self.open = False
        self._registers.added_cr4 = 0

    def close(self) -> None:
        """Give the tables back."""
        self._machine.frames.free(self._tables)


def base(bits: int) -> int:
    """Give the address that offset 0 of the cache has for a kind of code."""
    return HIGH if bits == 64 else LOW
