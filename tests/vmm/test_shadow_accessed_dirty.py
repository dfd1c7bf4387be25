"""The guest's accessed and dirty bits are set when the processor would set them."""

from __future__ import annotations

import pytest

from tests.vmm.shadow_lab import (
    ALL,
    DIRECT,
    FETCH,
    PAGED,
    READ,
    RW,
    USER_READ,
    USER_WRITE,
    WRITE,
    A,
    D,
    P,
    ShadowLab,
    lab,
)
from vlab.isa.paging import Fault, PagingMode, Translation
from vlab.machine.machine import Machine

LINEAR = 0x40005000
PAGE = 0x500000


def bits(guest: ShadowLab, linear: int) -> list[str]:
    """The bits of each entry on the path, top first."""
    return [
        "AD" if value & A and value & D else "A" if value & A else "D" if value & D else ""
        for value in map(guest.entry, guest.path(linear))
    ]


def expected(guest: ShadowLab, last: str) -> list[str]:
    first = ["", "A"] if guest.mode is PagingMode.PAE else ["A"] * (len(guest.path(LINEAR)) - 1)
    return [*first, last]


@pytest.mark.parametrize("mode", PAGED)
@pytest.mark.parametrize("protect", [True, False])
def test_a_read_sets_accessed_and_a_write_dirty_in_the_last_entry(
    shadow_machine: Machine, mode: PagingMode, protect: bool
) -> None:
    with lab(shadow_machine, mode, protect=protect) as guest:
        guest.map(LINEAR, PAGE, ALL)
        assert not any(bits(guest, LINEAR))
        guest.use(LINEAR, USER_READ)
        assert bits(guest, LINEAR) == expected(guest, "A")
        guest.use(LINEAR, FETCH)
        assert bits(guest, LINEAR) == expected(guest, "A")
        assert isinstance(guest.mmu(LINEAR, WRITE), Fault), (
            "a clean page is read-only, to see the first write"
        )
        guest.use(LINEAR, USER_WRITE)
        assert bits(guest, LINEAR) == expected(guest, "AD")
        assert isinstance(guest.mmu(LINEAR, WRITE), Translation)


@pytest.mark.parametrize("mode", PAGED)
def test_a_page_that_is_dirty_already_is_writable_at_once(shadow_machine: Machine, mode: PagingMode) -> None:
    with lab(shadow_machine, mode) as guest:
        guest.map(LINEAR, PAGE, ALL | D)
        guest.use(LINEAR, READ)
        assert isinstance(guest.mmu(LINEAR, WRITE), Translation)


@pytest.mark.parametrize("mode", PAGED)
def test_a_large_page_has_one_pair_of_bits(shadow_machine: Machine, mode: PagingMode) -> None:
    with lab(shadow_machine, mode) as guest:
        entry = guest.place(DIRECT + 0x800000, 2)
        guest.use(DIRECT + 0x800000, READ)
        assert guest.entry(entry) & (A | D) == A
        assert isinstance(guest.mmu(DIRECT + 0x801000, WRITE), Fault)
        guest.use(DIRECT + 0x801000, WRITE)
        assert guest.entry(entry) & (A | D) == A | D


def test_a_refused_access_marks_the_tables_above_but_not_the_page(shadow_machine: Machine) -> None:
    with lab(shadow_machine, PagingMode.LONG) as guest:
        entry = guest.map(LINEAR, PAGE, P)
        assert isinstance(guest.use(LINEAR, WRITE), Fault)
        assert bits(guest, LINEAR) == ["A", "A", "A", ""]
        guest.poke(entry, 0)
        assert isinstance(guest.use(LINEAR + 0x1000, READ), Fault)
        assert guest.entry(entry) == 0


def test_a_write_past_cr0_wp_makes_the_page_dirty(shadow_machine: Machine) -> None:
    with lab(shadow_machine, PagingMode.LONG) as guest:
        guest.map(LINEAR, PAGE, P)
        guest.reload_cr3(wp=False)
        guest.use(LINEAR, READ)
        assert bits(guest, LINEAR)[-1] == "A"
        guest.use(LINEAR, WRITE)
        assert bits(guest, LINEAR)[-1] == "AD"


@pytest.mark.parametrize("protect", [True, False])
def test_a_cleared_accessed_bit_is_set_again_after_a_flush(shadow_machine: Machine, protect: bool) -> None:
    with lab(shadow_machine, PagingMode.LONG, protect=protect) as guest:
        entry = guest.map(LINEAR, PAGE, P | RW)
        guest.use(LINEAR, WRITE)
        guest.guest_writes(entry, guest.entry(entry) & ~(A | D))
        guest.use(LINEAR, READ)
        assert not guest.entry(entry) & A, "the TLB may still know the page"
        guest.space.invalidate(LINEAR)
        guest.use(LINEAR, READ)
        assert guest.entry(entry) & (A | D) == A
        guest.use(LINEAR, WRITE)
        assert guest.entry(entry) & (A | D) == A | D


def test_a_page_table_that_maps_itself_is_marked_once_for_each_use(shadow_machine: Machine) -> None:
    """As recursive page tables do: the top table is its own page table."""
    with lab(shadow_machine, PagingMode.LONG) as guest:
        guest.poke(guest.root + 8 * 510, guest.root | P | RW)
        linear = 0xFFFF000000000000 | 510 << 39 | 510 << 30 | 510 << 21 | 510 << 12
        assert guest.use(linear, READ) == guest.hpa(guest.root)
        assert guest.entry(guest.root + 8 * 510) & (A | D) == A
        hpa = guest.use(linear + 8 * 3, WRITE)
        assert hpa == guest.hpa(guest.root) + 8 * 3
        assert guest.entry(guest.root + 8 * 510) & (A | D) == A | D
