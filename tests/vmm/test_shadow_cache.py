"""Trees of shadow tables are kept, shared and thrown away within their bound."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.vmm.shadow_lab import (
    ALL,
    DIRECT,
    PAGED,
    RAM,
    READ,
    RW,
    WRITE,
    P,
    ShadowLab,
    lab,
)
from vlab.errors import UnusableInput
from vlab.isa.paging import PagingMode, Translation
from vlab.machine.machine import Machine
from vlab.machine.memory import PAGE as PAGE_SIZE
from vlab.vmm.guest_memory import GuestMemory
from vlab.vmm.paging.shadow.frames import LEAST
from vlab.vmm.paging.shadow.space import ShadowSpace

LINEAR = 0x40005000
PAGE, OTHER = 0x500000, 0x501000


def second_root(guest: ShadowLab) -> int:
    """Make an address space that shares the direct map and nothing else, as a new process has."""
    root = guest.take()
    if guest.mode is PagingMode.PAE:
        guest.poke(root + 16, guest.entry(guest.root + 16))
    else:
        size = 4 << 20 if guest.mode is PagingMode.LEGACY else 1 << 39
        first = DIRECT // size
        for index in range(first, first + (RAM // size if guest.mode is PagingMode.LEGACY else 1)):
            at = index * guest.entry_size
            guest.poke(root + at, guest.entry(guest.root + at))
    return root


@pytest.mark.parametrize("mode", [PagingMode.LEGACY, PagingMode.PAE])
def test_a_tree_is_found_again_with_what_was_filled_in(shadow_machine: Machine, mode: PagingMode) -> None:
    with lab(shadow_machine, mode) as guest:
        guest.map(LINEAR, PAGE, ALL)
        other = second_root(guest)
        guest.map(LINEAR, OTHER, ALL, root=other)
        for _ in range(2):
            guest.reload_cr3(other)
            assert guest.use(LINEAR, WRITE) == guest.hpa(OTHER)
            guest.reload_cr3(guest.root)
            assert guest.use(LINEAR, WRITE) == guest.hpa(PAGE)
        assert guest.space.reuses == 3
        fills = guest.space.fills
        guest.reload_cr3(other)
        guest.use(LINEAR, WRITE)
        assert guest.space.fills == fills


def test_address_spaces_share_the_shadow_of_what_they_share(shadow_machine: Machine) -> None:
    with lab(shadow_machine, PagingMode.PAE) as guest:
        guest.use(DIRECT + 0x800000, WRITE)
        fills, frames = guest.space.fills, guest.space.table_frames
        guest.reload_cr3(second_root(guest))
        guest.use(DIRECT + 0x800000, WRITE)
        assert guest.space.fills == fills + 1, "its pointer table is new, and the directory below it is not"
        assert guest.space.table_frames == frames + 1


@pytest.mark.parametrize("mode", PAGED)
@pytest.mark.parametrize("protect", [True, False])
def test_the_bound_on_frames_holds_while_everything_stays_right(
    shadow_machine: Machine, mode: PagingMode, protect: bool
) -> None:
    step = guest_step(mode)
    with lab(shadow_machine, mode, protect=protect, frames=LEAST) as guest:
        pages = [(0x10000000 + n * step, PAGE + n % 16 * 0x1000) for n in range(3 * LEAST)]
        for linear, gpa in pages:
            guest.map(linear, gpa, ALL)
        for _ in range(2):
            for linear, gpa in pages:
                assert guest.use(linear, WRITE) == guest.hpa(gpa)
                assert guest.use(DIRECT + gpa, READ) == guest.hpa(gpa)
                assert guest.space.table_frames <= LEAST


def guest_step(mode: PagingMode) -> int:
    """So many bytes apart, two pages need tables of their own."""
    return 4 << 20 if mode is PagingMode.LEGACY else 2 << 20


def test_the_tree_left_longest_ago_is_thrown_away_first(shadow_machine: Machine) -> None:
    with lab(shadow_machine, PagingMode.LEGACY, frames=LEAST) as guest:
        roots = [guest.root]
        for number in range(9):  # a top table, a directory and a page table: 4 frames each
            roots.append(second_root(guest))
            guest.map(LINEAR, PAGE + number * 0x1000, ALL, root=roots[-1])
        for root in roots[1:]:
            guest.reload_cr3(root)
            guest.use(LINEAR, WRITE)
            guest.use(LINEAR + 1, READ)
            guest.use(DIRECT, READ)
        assert guest.space.table_frames <= LEAST
        reuses = guest.space.reuses
        guest.reload_cr3(roots[-2])
        assert guest.space.reuses == reuses + 1
        guest.reload_cr3(roots[1])
        assert guest.space.reuses == reuses + 1, "the oldest tree is gone"
        assert guest.use(LINEAR, READ) == guest.hpa(PAGE)


@pytest.mark.parametrize("mode", [PagingMode.LEGACY, PagingMode.LONG])
def test_a_top_table_that_is_written_while_it_is_not_in_use_loses_its_tree(
    shadow_machine: Machine, mode: PagingMode
) -> None:
    with lab(shadow_machine, mode) as guest:
        other = second_root(guest)
        guest.map(LINEAR, OTHER, ALL, root=other)
        guest.reload_cr3(other)
        guest.use(LINEAR, READ)
        guest.reload_cr3(guest.root)
        reuses = guest.space.reuses
        guest.guest_writes(other + guest.entry_size, 0xFFFFFFFF)
        guest.reload_cr3()
        guest.reload_cr3(other)
        assert guest.space.reuses == reuses + 1, "the tree in use was there, the other was not"
        assert guest.use(LINEAR, READ) == guest.hpa(OTHER)


def test_a_large_page_becomes_one_entry_again_when_no_table_is_in_it(shadow_machine: Machine) -> None:
    with lab(shadow_machine, PagingMode.LONG) as guest:
        inside = DIRECT + 0x800000
        table = 0x800000
        guest.poke(guest.place(LINEAR, 2), table | ALL)
        guest.poke(table + 8 * 5, PAGE | ALL)
        guest.use(LINEAR, READ)
        guest.use(inside, WRITE)
        small = guest.mmu(inside + 0x1000, READ)
        assert isinstance(small, Translation)
        assert small.page_size == 4096
        guest.guest_writes(guest.place(LINEAR, 2), 0)
        guest.guest_writes(guest.place(inside, 2), 0x800000 | P | RW | 0x80)
        guest.reload_cr3()
        guest.use(inside, WRITE)
        whole = guest.mmu(inside, READ)
        assert isinstance(whole, Translation)
        assert whole.page_size == 2 << 20


def test_all_frames_come_back(shadow_machine: Machine) -> None:
    before = shadow_machine.frames.allocated
    with lab(shadow_machine, PagingMode.LONG) as guest:
        guest.map(LINEAR, PAGE, ALL)
        guest.use(LINEAR, WRITE)
    assert shadow_machine.frames.allocated == before


def test_too_few_frames_are_refused_with_the_least_number(shadow_machine: Machine) -> None:
    memory = GuestMemory(shadow_machine, 2 << 20)
    try:
        with pytest.raises(
            UnusableInput, match=f"frames: 8 is too few for shadow tables; give at least {LEAST}"
        ):
            ShadowSpace(shadow_machine, memory, protect=True, frames=8)
    finally:
        memory.close()


def test_where_memory_is_short_fewer_frames_are_taken() -> None:
    machine = Machine(4 << 20)
    memory = GuestMemory(machine, 2 << 20)
    rest = machine.frames.largest
    space = ShadowSpace(machine, memory, protect=True, frames=rest // PAGE_SIZE * 2)
    assert LEAST <= (rest - machine.frames.largest) // PAGE_SIZE <= rest // PAGE_SIZE
    space.close()
    taken = machine.frames.allocate(machine.frames.largest)
    with pytest.raises(UnusableInput, match="no free run"):
        ShadowSpace(machine, memory, protect=True, frames=LEAST)
    machine.frames.free(taken)
    memory.close()
    machine.close()


def test_trees_for_other_controls_are_other_trees(shadow_machine: Machine) -> None:
    with lab(shadow_machine, PagingMode.LONG) as guest:
        guest.reload_cr3(wp=False)
        assert guest.space.reuses == 0
        guest.reload_cr3(wp=True)
        assert guest.space.reuses == 1
        guest.controls = replace(guest.controls, pge=True)
        guest.reload_cr3()
        assert guest.space.reuses == 2, "global pages are none of the shadow's business"
