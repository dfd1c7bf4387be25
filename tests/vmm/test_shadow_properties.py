"""Whatever a guest does to its tables: after a flush the shadow agrees with them, and never allows more."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.vmm.shadow_lab import (
    ACCESSES,
    NX,
    PAGED,
    PS,
    RAM,
    RW,
    US,
    A,
    D,
    P,
    ShadowLab,
    lab,
)
from vlab.isa.paging import Fault, PagingMode, Translation
from vlab.machine.machine import Machine
from vlab.vmm.paging.shadow.frames import LEAST

BASE = 0x40000000
"""Where the random tables map: a directory entry's worth each for a few page tables."""

_ENTRIES = 6
_ACCESS = st.tuples(
    st.just("access"), st.integers(0, 3), st.integers(0, _ENTRIES - 1), st.sampled_from(ACCESSES)
)
_FLAGS = st.tuples(st.booleans(), st.booleans(), st.booleans(), st.booleans(), st.booleans())
_EDIT = st.tuples(st.just("edit"), st.integers(0, 3), st.integers(0, _ENTRIES - 1), st.integers(0, 7), _FLAGS)
_DIRECTORY = st.tuples(st.just("directory"), st.integers(0, 3), st.integers(0, 5), _FLAGS)
_FLUSH = st.tuples(st.just("cr3"), st.booleans(), st.booleans())
_INVLPG = st.tuples(st.just("invlpg"), st.integers(0, 3), st.integers(0, _ENTRIES - 1))
STEPS = st.lists(st.one_of(_ACCESS, _ACCESS, _ACCESS, _EDIT, _DIRECTORY, _FLUSH, _INVLPG), max_size=40)


class Player:
    """A guest with four page tables below one directory, edited through its own mappings."""

    def __init__(self, guest: ShadowLab) -> None:
        self.guest = guest
        self.tables = [guest.take() for _ in range(4)]
        self.step = 4 << 20 if guest.mode is PagingMode.LEGACY else 2 << 20
        self.directory = guest.place(BASE, 2)
        self.changed: set[int] = set()
        self.above = False
        for number, table in enumerate(self.tables):
            guest.poke(self.directory + number * guest.entry_size, table | P | RW | US)

    def linear(self, table: int, index: int) -> int:
        return BASE + table * self.step + index * 4096 + 0x18

    def flags(self, chosen: tuple[bool, ...]) -> int:
        nx = 0 if self.guest.mode is PagingMode.LEGACY else NX
        return sum(bit for bit, on in zip((RW, US, nx, A, A | D), chosen, strict=True) if on) | P

    def play(self, step: tuple) -> None:  # type: ignore[type-arg]
        guest = self.guest
        match step:
            case ("access", table, index, access):
                self.access(self.linear(table, index), access)
            case ("edit", table, index, what, chosen):
                # A page, one of the tables themselves, firmware, a hole, or nothing.
                targets = (0x500000, 0x501000, self.tables[0], self.tables[1], 0xF0000, RAM, 0x502000)
                value = 0 if what == 7 else targets[what] | self.flags(chosen)
                guest.guest_writes(self.tables[table] + index * guest.entry_size, value)
                self.changed.add(self.linear(table, index))
            case ("directory", table, what, chosen):
                large = 0x800000 | PS
                targets = (0, large, *self.tables)
                value = targets[what] | self.flags(chosen) if what else 0
                guest.guest_writes(self.directory + table * guest.entry_size, value)
                self.above = True
            case ("cr3", wp, smep):
                guest.reload_cr3(wp=wp, smep=smep)
                self.changed.clear()
                self.above = False
            case ("invlpg", table, index):
                guest.space.invalidate(self.linear(table, index))
                guest.flush_tlb()
                self.changed.discard(self.linear(table, index))
                if self.above:
                    guest.reload_cr3()
                    self.changed.clear()
                    self.above = False

    def access(self, linear: int, access: object) -> None:
        """Where nothing was changed since the last flush, the shadow does what the guest's tables say."""
        guest = self.guest
        if self.above or linear in self.changed:
            guest.use(linear, access)  # type: ignore[arg-type]
            return
        expected = guest.reference(linear, access)  # type: ignore[arg-type]
        answer = guest.use(linear, access)  # type: ignore[arg-type]
        if isinstance(expected, Fault):
            assert isinstance(answer, Fault)
            assert answer.error_code == expected.error_code
            return
        hpa = guest.memory.host_address(expected.physical)
        if isinstance(answer, int):
            assert answer == hpa
        else:
            region = guest.memory.find(expected.physical)
            assert not isinstance(answer, Fault)
            assert answer.gpa == expected.physical
            assert region is None or not region.writable

    def settle(self) -> None:
        """After a flush, everything agrees, and nothing more than that is allowed."""
        guest = self.guest
        guest.reload_cr3()
        self.changed.clear()
        self.above = False
        for table in range(4):
            for index in range(_ENTRIES):
                linear = self.linear(table, index)
                for access in ACCESSES:
                    if isinstance(guest.mmu(linear, access), Translation):
                        assert isinstance(guest.reference(linear, access), Translation)
                for access in ACCESSES:
                    self.access(linear, access)


@pytest.mark.parametrize("mode", PAGED)
@pytest.mark.parametrize("protect", [True, False], ids=["write-protect", "lazy"])
def test_random_edits_and_accesses_agree_with_the_guests_tables(
    shadow_machine: Machine, mode: PagingMode, protect: bool
) -> None:
    @given(STEPS, st.sampled_from([LEAST, 128]))
    @settings(max_examples=40)
    def run(steps: list[tuple], frames: int) -> None:  # type: ignore[type-arg]
        with lab(shadow_machine, mode, protect=protect, frames=frames) as guest:
            player = Player(guest)
            for step in steps:
                player.play(step)
            player.settle()

    run()
