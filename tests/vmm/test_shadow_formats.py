"""Guest tables of every format reach the right host frames through the shadow."""

from __future__ import annotations

import pytest

from tests.vmm.shadow_lab import (
    ALL,
    DIRECT,
    FETCH,
    NX,
    PAGED,
    PS,
    RAM,
    READ,
    RW,
    USER_READ,
    WRITE,
    P,
    ShadowLab,
    lab,
)
from vlab.isa.paging import Fault, PagingMode, Translation
from vlab.machine.machine import Machine
from vlab.vmm.guest_memory import ROM_ALIAS, ROM_BASE
from vlab.vmm.paging.shadow.guest_walk import Unbacked

PAGE = 0x00500000
LINEARS = {
    PagingMode.LEGACY: (0x0, 0x3FF000, 0x400000, 0x7FFFF000, 0xC0001000, 0xFFFFF000),
    PagingMode.PAE: (0x0, 0x1FF000, 0x200000, 0x7FFFF000, 0xC0001000, 0xFFFFF000),
    PagingMode.LONG: (0x0, 0x200000, 0x7FFFFFFFF000, 0xFFFF800000000000, 0xFFFFFFFFFFFFF000),
}


@pytest.mark.parametrize("mode", PAGED)
@pytest.mark.parametrize("protect", [True, False])
def test_each_end_of_the_address_space_maps_where_the_guest_says(
    shadow_machine: Machine, mode: PagingMode, protect: bool
) -> None:
    with lab(shadow_machine, mode, protect=protect) as guest:
        for number, linear in enumerate(LINEARS[mode]):
            guest.map(linear, PAGE + 0x1000 * number, ALL)
        for number, linear in enumerate(LINEARS[mode]):
            expected = guest.hpa(PAGE + 0x1000 * number) + 0x123
            assert guest.use(linear + 0x123, USER_READ) == expected
            fills = guest.space.fills
            assert guest.use(linear + 0x123, USER_READ) == expected
            assert guest.space.fills == fills, "a page that is mapped needs no second exit"


@pytest.mark.parametrize("mode", PAGED)
def test_what_the_guest_does_not_map_is_the_guests_own_fault(
    shadow_machine: Machine, mode: PagingMode
) -> None:
    with lab(shadow_machine, mode) as guest:
        answer = guest.use(0x40000000, WRITE)
        assert isinstance(answer, Fault)
        assert answer.error_code == 2


def test_both_halves_of_a_4_mib_page_are_mapped(shadow_machine: Machine) -> None:
    with lab(shadow_machine, PagingMode.LEGACY) as guest:
        guest.map(0x40000000, 0x800000, ALL, size=4 << 20)
        assert guest.use(0x40000000, READ) == guest.hpa(0x800000)
        assert guest.use(0x40200000, READ) == guest.hpa(0xA00000)
        assert guest.use(0x403FFFFF, READ) == guest.hpa(0xBFFFFF)


def test_a_4_mib_page_beyond_4_gib_has_no_memory_behind_it(shadow_machine: Machine) -> None:
    with lab(shadow_machine, PagingMode.LEGACY) as guest:
        guest.poke(guest.place(0x40000000, 2), ALL | PS | 1 << 13)  # address bit 32
        assert guest.use(0x40000010, READ) == Unbacked(0x100000010)


def test_without_pse_a_directory_entry_with_ps_points_to_a_table(shadow_machine: Machine) -> None:
    with lab(shadow_machine, PagingMode.LEGACY) as guest:
        place = guest.map(0x40000000, PAGE, ALL)
        directory = guest.place(0x40000000, 2)
        guest.poke(directory, guest.entry(directory) | PS)
        guest.reload_cr3(pse=False)
        assert place in guest.path(0x40000000)
        assert guest.use(0x40000000, READ) == guest.hpa(PAGE)


@pytest.mark.parametrize("mode", [PagingMode.PAE, PagingMode.LONG])
def test_a_2_mib_page_of_the_guests_takes_one_shadow_entry(shadow_machine: Machine, mode: PagingMode) -> None:
    with lab(shadow_machine, mode) as guest:
        guest.map(0x40000000, 0x800000, ALL, size=2 << 20)
        assert guest.use(0x40000000, READ) == guest.hpa(0x800000)
        fills = guest.space.fills
        assert guest.use(0x401FF000, READ) == guest.hpa(0x9FF000)
        assert guest.space.fills == fills
        seen = guest.mmu(0x40000000, READ)
        assert isinstance(seen, Translation)
        assert seen.page_size == 2 << 20


def test_a_large_page_over_the_first_megabyte_keeps_its_holes(shadow_machine: Machine) -> None:
    with lab(shadow_machine, PagingMode.LONG) as guest:
        assert guest.use(DIRECT + 0x7C00, WRITE) == guest.hpa(0x7C00)
        assert guest.use(DIRECT + ROM_BASE, READ) == guest.hpa(ROM_BASE)
        assert guest.use(DIRECT + ROM_BASE + 4, WRITE) == Unbacked(ROM_BASE + 4)
        assert guest.use(DIRECT + 0xA0008, READ) == Unbacked(0xA0008)
        assert guest.use(DIRECT + 0xB8000, WRITE) == guest.hpa(0xB8000)


def test_a_1_gib_page_is_composed_of_smaller_ones(shadow_machine: Machine) -> None:
    with lab(shadow_machine, PagingMode.LONG) as guest:
        guest.map(0x10_4000_0000, 0, ALL, size=1 << 30)
        for gpa in (0x1000, 0x1FFFFF, 0x800000, RAM - 1):
            assert guest.use(0x10_4000_0000 + gpa, WRITE) == guest.hpa(gpa)
        assert guest.use(0x10_4000_0000 + RAM, READ) == Unbacked(RAM)


def test_without_paging_linear_addresses_are_physical(shadow_machine: Machine) -> None:
    with lab(shadow_machine, PagingMode.NONE) as guest:
        for gpa in (0, 0x7C00, 0x9FFFF, 0x100000, RAM - 1):
            for access in (READ, WRITE, FETCH):
                assert guest.use(gpa, access) == guest.hpa(gpa)
        assert guest.use(ROM_ALIAS + 0xFFF0, FETCH) == guest.hpa(ROM_BASE + 0xFFF0)
        assert guest.use(ROM_ALIAS + 0xFFF0, WRITE) == Unbacked(ROM_ALIAS + 0xFFF0)
        assert guest.use(0xA0001, READ) == Unbacked(0xA0001)
        assert guest.use(RAM, READ) == Unbacked(RAM)
        assert guest.use(1 << 32 | 0x7C00, READ) == guest.hpa(0x7C00), "addresses wrap at 4 GiB"


def test_the_shadow_is_long_only_while_the_guest_is(shadow_machine: Machine) -> None:
    for mode in (*PAGED, PagingMode.NONE):
        with lab(shadow_machine, mode) as guest:
            assert guest.space.long is (mode is PagingMode.LONG)
            assert guest.space.root < 1 << 32


def test_pae_pointers_of_the_shadow_have_no_reserved_bits(shadow_machine: Machine) -> None:
    with lab(shadow_machine, PagingMode.LEGACY) as guest:
        assert guest.use(DIRECT, READ) == guest.hpa(0)
        pointer = shadow_machine.memory.read(guest.space.root + 8 * (DIRECT >> 30), 8)
        assert pointer & 0xFFF == P


def test_a_device_window_is_mapped_where_the_guest_maps_it(shadow_machine: Machine) -> None:
    window = 1 << 38
    with lab(shadow_machine, PagingMode.LONG) as guest:
        guest.memory.add_window(0xFEE00000, window)
        guest.space.forget()
        guest.map(0x40000000, 0xFEE00000, ALL)
        assert guest.use(0x40000020, WRITE) == window + 0x20
        assert guest.use(0x40000020, FETCH) == Unbacked(0xFEE00020), "a chip holds no code"


def test_tables_where_no_memory_is_are_named(shadow_machine: Machine) -> None:
    with lab(shadow_machine, PagingMode.LONG) as guest:
        guest.poke(guest.place(0x40000000, 2), RAM | ALL)
        assert guest.use(0x40003000, READ) == Unbacked(RAM + 8 * 3)
        guest.reload_cr3(root=RAM + 0x1000)
        assert guest.use(0x40003000, READ) == Unbacked(RAM + 0x1000)
        guest.reload_cr3(root=guest.root)
        assert guest.use(DIRECT, READ) == guest.hpa(0)


def test_reserved_bits_are_the_guests_fault(shadow_machine: Machine) -> None:
    with lab(shadow_machine, PagingMode.LONG) as guest:
        guest.map(0x40000000, PAGE, ALL | 1 << 51)
        answer = guest.use(0x40000000, READ)
        assert isinstance(answer, Fault)
        assert answer.error_code == 0b1001
        guest.map(0x40000000, PAGE, ALL | NX)
        guest.reload_cr3(nxe=False)
        answer = guest.use(0x40000000, READ)
        assert isinstance(answer, Fault)
        assert answer.error_code == 0b1001


def test_other_memory_maps_are_followed(shadow_machine: Machine) -> None:
    with lab(shadow_machine, PagingMode.NONE) as guest:
        assert guest.use(0x100000, WRITE) == guest.hpa(0x100000)
        root = guest.space.root
        guest.memory.a20 = False
        guest.space.forget()
        assert guest.space.root == root, "the instruction that did it is still running over this table"
        assert guest.use(0x100000, WRITE) == guest.memory.hpa
        guest.memory.a20 = True
        guest.space.forget()
        assert guest.use(0x100000, WRITE) == guest.memory.hpa + 0x100000


def test_pages_are_not_executable_before_they_are_fetched_from(shadow_machine: Machine) -> None:
    def executable(guest: ShadowLab, linear: int) -> bool:
        seen = guest.mmu(linear, READ)
        assert isinstance(seen, Translation)
        return seen.executable

    with lab(shadow_machine, PagingMode.LEGACY) as guest:
        guest.map(0x1000, PAGE, P | RW)
        guest.map(0x2000, PAGE + 0x1000, P)
        guest.use(0x1000, WRITE)
        guest.use(0x2000, READ)
        assert not executable(guest, 0x1000)
        assert executable(guest, 0x2000), "nobody writes there"
        guest.use(0x1000, FETCH)
        assert executable(guest, 0x1000)
        guest.use(DIRECT + 0x800000, WRITE)
        guest.use(DIRECT + 0x801000, FETCH)
        assert executable(guest, DIRECT + 0x801000)
        assert not executable(guest, DIRECT + 0x800000)
