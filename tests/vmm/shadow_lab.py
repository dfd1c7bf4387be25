"""A guest whose page tables are written by hand, its shadow, and the MMU that walks the shadow."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from vlab.isa.paging import Access, Fault, PagingControls, PagingMode, Translation, translate
from vlab.isa.paging_modes import LEVELS
from vlab.machine.machine import Machine
from vlab.vmm.guest_memory import GuestMemory
from vlab.vmm.paging.shadow.guest_walk import Unbacked
from vlab.vmm.paging.shadow.space import ShadowSpace

P, RW, US, A, D, PS, G, NX = 1, 2, 4, 1 << 5, 1 << 6, 1 << 7, 1 << 8, 1 << 63
ALL = P | RW | US
READ, WRITE, FETCH = Access(), Access(write=True), Access(fetch=True)
USER_READ, USER_WRITE, USER_FETCH = (
    Access(user=True), Access(write=True, user=True), Access(user=True, fetch=True),
)  # fmt: skip
ACCESSES = (READ, WRITE, FETCH, USER_READ, USER_WRITE, USER_FETCH)

PAGED = (PagingMode.LEGACY, PagingMode.PAE, PagingMode.LONG)
RAM = 16 << 20
ROOT = 0x400000
DIRECT = 0x80000000
"""The guest sees the first 16 MiB of its memory from this linear address on, in large pages."""


class ShadowLab:
    """One guest in one paging mode. All its tables lie from ROOT on; ``take`` gives the next page of
    there."""

    def __init__(self, machine: Machine, mode: PagingMode, *, protect: bool, frames: int = 128) -> None:
        self.machine = machine
        self.memory = GuestMemory(machine, RAM)
        self.mode = mode
        self.entry_size = 4 if mode is PagingMode.LEGACY else 8
        self.controls = PagingControls(mode, ROOT, pse=True, nxe=mode is not PagingMode.LEGACY, wp=True)
        self._next = ROOT
        self.root = self.take()
        if mode is not PagingMode.NONE:
            for gpa in range(0, RAM, self.large_size):
                self.map(DIRECT + gpa, gpa, P | RW, size=self.large_size)
        self.space = ShadowSpace(machine, self.memory, protect=protect, frames=frames)
        self.space.enter(self.controls)
        self.flush_tlb()

    @property
    def large_size(self) -> int:
        return 4 << 20 if self.mode is PagingMode.LEGACY else 2 << 20

    def close(self) -> None:
        self.space.close()
        self.memory.close()

    # --- the guest's tables -----------------------------------------------------------------------------

    def take(self) -> int:
        self._next += 0x1000
        return self._next - 0x1000

    def entry(self, gpa: int) -> int:
        return int.from_bytes(self.memory.ram[gpa : gpa + self.entry_size], "little")

    def poke(self, gpa: int, value: int) -> None:
        """Write an entry behind the guest's back, as before it runs."""
        self.memory.ram[gpa : gpa + self.entry_size] = value.to_bytes(self.entry_size, "little")

    def place(self, linear: int, level: int, root: int | None = None, flags: int = ALL) -> int:
        """Give the address of the entry of ``level`` for ``linear``; tables on the way are made with
        ``flags``."""
        table = self.root if root is None else root
        for row in LEVELS[self.mode]:
            address = table + (linear >> row.shift & row.index_mask) * self.entry_size
            if row.level == level:
                return address
            if not self.entry(address) & P:
                pointer = self.mode is PagingMode.PAE and row.level == 3
                self.poke(address, self.take() | (P if pointer else flags))
            table = self.entry(address) & 0x000FFFFFFFFFF000
        raise AssertionError(f"level {level} is none of {self.mode}")

    def map(
        self,
        linear: int,
        gpa: int,
        flags: int,
        *,
        size: int = 4096,
        root: int | None = None,
        upper: int = ALL,
    ) -> int:
        """Map a page; give the address of its entry."""
        level = next(row.level for row in LEVELS[self.mode] if 1 << row.shift == size)
        address = self.place(linear, level, root, upper)
        self.poke(address, gpa | flags | (PS if level > 1 else 0))
        return address

    def path(self, linear: int) -> list[int]:
        """Give the addresses of all entries that a walk reads."""
        found: list[int] = []

        def read(gpa: int, size: int) -> int:
            found.append(gpa)
            return self.entry(gpa)

        translate(linear, self.controls, READ, read)
        return found

    # --- running ----------------------------------------------------------------------------------------

    def reference(self, linear: int, access: Access) -> Translation | Fault:
        """What the guest's tables say now."""
        return translate(linear, self.controls, access, self.read_guest)

    def read_guest(self, gpa: int, size: int) -> int:
        hpa = self.memory.host_address(gpa)
        return (1 << 8 * size) - 1 if hpa is None else self.machine.memory.read(hpa, size)

    def mmu(self, linear: int, access: Access) -> Translation | Fault:
        """What the machine's MMU makes of the shadow, without a TLB: the strictest one there is."""
        mode = PagingMode.LONG if self.space.long else PagingMode.PAE
        real = PagingControls(mode, self.space.root, nxe=True, wp=True, smep=self.controls.smep)
        return translate(linear, real, access, self.machine.memory.read)

    def flush_tlb(self) -> None:
        self.space.stale = False

    def use(self, linear: int, access: Access) -> int | Fault | Unbacked:
        """Access an address as the guest does, with exits where the MMU asks for them: host address or
        failure."""
        for _ in range(3):
            result = self.mmu(linear, access)
            if isinstance(result, Translation):
                return result.physical
            answer = self.space.resolve(linear, access)
            self.flush_tlb()
            if answer is not None:
                return answer
        raise AssertionError(f"{linear:#x} {access}: the shadow does not get better: {result}")

    def guest_writes(self, gpa: int, value: int) -> None:
        """Write an entry as the guest does, through its direct map."""
        hpa = self.use(DIRECT + gpa, WRITE)
        assert isinstance(hpa, int)
        self.machine.memory.write(hpa, self.entry_size, value)

    def reload_cr3(self, root: int | None = None, **changes: bool) -> None:
        """Write CR3, or change the other controls."""
        self.controls = replace(self.controls, **changes)
        if root is not None:
            self.controls = replace(self.controls, root=root)
        self.space.switch(self.controls)
        self.flush_tlb()

    def hpa(self, gpa: int) -> int:
        hpa = self.memory.host_address(gpa)
        assert hpa is not None
        return hpa


@contextmanager
def lab(
    machine: Machine, mode: PagingMode, *, protect: bool = True, frames: int = 128
) -> Iterator[ShadowLab]:
    """A lab on ``machine`` that gives everything back."""
    made = ShadowLab(machine, mode, protect=protect, frames=frames)
    try:
        yield made
    finally:
        made.close()
