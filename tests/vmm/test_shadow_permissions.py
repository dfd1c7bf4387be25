"""The shadow allows what the guest's tables allow, and refuses with the guest's own error code."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import pytest

from tests.vmm.shadow_lab import (
    ACCESSES,
    ALL,
    FETCH,
    NX,
    PAGED,
    READ,
    RW,
    US,
    USER_FETCH,
    USER_READ,
    USER_WRITE,
    WRITE,
    P,
    ShadowLab,
    lab,
)
from vlab.isa.paging import Fault, PagingMode, Translation
from vlab.machine.machine import Machine

LINEAR = 0x40005000
PAGE = 0x500000


def check_all(guest: ShadowLab, linear: int) -> None:
    """After each access, whatever the MMU lets through the guest's tables let through too."""
    for access in ACCESSES:
        expected, answer = guest.reference(linear, access), guest.use(linear, access)
        if isinstance(expected, Fault):
            assert isinstance(answer, Fault), access
            assert answer.error_code == expected.error_code
        else:
            assert answer == guest.hpa(expected.physical), access
        for other in ACCESSES:
            if isinstance(guest.mmu(linear, other), Translation):
                assert isinstance(guest.reference(linear, other), Translation), (access, other)


@pytest.mark.parametrize("mode", PAGED)
@pytest.mark.parametrize("large", [False, True])
def test_rights_of_all_levels_combine_as_in_the_guests_tables(
    shadow_machine: Machine, mode: PagingMode, large: bool
) -> None:
    with lab(shadow_machine, mode) as guest:
        size, level = (guest.large_size, 2) if large else (4096, 1)
        linear = LINEAR & -size
        entry = guest.map(linear, 0x800000, ALL, size=size)
        directory = guest.place(linear, 2)
        bits = (0, RW, US, RW | US) if mode is PagingMode.LEGACY else tuple(
            rw | us | nx for rw, us, nx in product((0, RW), (0, US), (0, NX))
        )  # fmt: skip
        upper = (0,) if large else bits
        for above, below, wp, smep in product(upper, bits, (True, False), (True, False)):
            if level == 1:
                guest.poke(directory, guest.entry(directory) & ~(RW | US | NX) | above)
            guest.poke(entry, guest.entry(entry) & ~(RW | US | NX | 0x60) | below)
            guest.reload_cr3(wp=wp, smep=smep)
            guest.space.forget()
            check_all(guest, linear + 0x10)


def test_a_supervisor_without_wp_writes_to_a_read_only_user_page(shadow_machine: Machine) -> None:
    with lab(shadow_machine, PagingMode.LEGACY) as guest:
        guest.map(LINEAR, PAGE, P | US)
        guest.reload_cr3(wp=False)
        assert guest.use(LINEAR, USER_READ) == guest.hpa(PAGE)
        assert guest.use(LINEAR, WRITE) == guest.hpa(PAGE)
        assert isinstance(guest.use(LINEAR, USER_WRITE), Fault), "the user still may not"
        assert guest.use(LINEAR, USER_READ) == guest.hpa(PAGE)
        assert guest.use(LINEAR, WRITE) == guest.hpa(PAGE)


def test_a_supervisor_without_wp_can_execute_a_page_that_it_writes_to(shadow_machine: Machine) -> None:
    with lab(shadow_machine, PagingMode.LEGACY) as guest:
        guest.map(LINEAR, PAGE, P | US)
        guest.reload_cr3(wp=False)
        guest.use(LINEAR, WRITE)
        guest.use(LINEAR, FETCH)
        guest.use(LINEAR, WRITE)
        assert isinstance(guest.mmu(LINEAR, FETCH), Translation)
        assert isinstance(guest.mmu(LINEAR, WRITE), Translation), "one instruction may do both"


def test_smep_holds_for_a_user_page_that_the_supervisor_has_written_to(shadow_machine: Machine) -> None:
    with lab(shadow_machine, PagingMode.LONG) as guest:
        guest.map(LINEAR, PAGE, P | US)
        guest.reload_cr3(wp=False, smep=True)
        guest.use(LINEAR, WRITE)
        answer = guest.use(LINEAR, FETCH)
        assert isinstance(answer, Fault)
        assert answer.error_code == 0b10001
        assert guest.use(LINEAR, USER_FETCH) == guest.hpa(PAGE)


def test_setting_wp_takes_the_supervisors_writes_away(shadow_machine: Machine) -> None:
    with lab(shadow_machine, PagingMode.LONG) as guest:
        guest.map(LINEAR, PAGE, P)
        guest.reload_cr3(wp=False)
        assert guest.use(LINEAR, WRITE) == guest.hpa(PAGE)
        guest.reload_cr3(wp=True)
        assert isinstance(guest.use(LINEAR, WRITE), Fault)
        guest.reload_cr3(wp=False)
        assert guest.use(LINEAR, WRITE) == guest.hpa(PAGE)


def test_one_table_under_two_directories_keeps_their_rights_apart(shadow_machine: Machine) -> None:
    with lab(shadow_machine, PagingMode.LONG) as guest:
        guest.map(LINEAR, PAGE, ALL)
        table = guest.entry(guest.place(LINEAR, 2)) & ~0xFFF
        other = LINEAR + (2 << 30)
        guest.poke(guest.place(other, 2), table | P)
        assert guest.use(LINEAR, USER_WRITE) == guest.hpa(PAGE)
        assert isinstance(guest.use(other, USER_READ), Fault)
        assert isinstance(guest.use(other, WRITE), Fault)
        assert guest.use(other, READ) == guest.hpa(PAGE)
        assert guest.use(LINEAR, USER_WRITE) == guest.hpa(PAGE)
        assert isinstance(guest.use(other, USER_READ), Fault), "the other directory withholds more"
        assert isinstance(guest.use(other, WRITE), Fault)


def test_nx_means_nothing_to_a_guest_in_legacy_paging(shadow_machine: Machine) -> None:
    with lab(shadow_machine, PagingMode.LEGACY) as guest:
        guest.controls = replace(guest.controls, nxe=True)
        guest.reload_cr3()
        guest.map(LINEAR, PAGE, ALL)
        guest.use(LINEAR, USER_WRITE)
        assert guest.use(LINEAR, USER_FETCH) == guest.hpa(PAGE)
