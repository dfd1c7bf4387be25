"""When the guest's changes to its tables take effect: not before a flush, always after it."""

from __future__ import annotations

import pytest

from tests.vmm.shadow_lab import ALL, DIRECT, PAGED, READ, RW, USER_READ, WRITE, A, D, P, ShadowLab, lab
from vlab.isa.paging import Fault, PagingMode, Translation
from vlab.machine.machine import Machine
from vlab.vmm.paging.shadow.watch import MOST_FREE, PATIENCE

LINEAR = 0x40005000
PAGE, OTHER = 0x500000, 0x501000


@pytest.fixture(params=[True, False], ids=["write-protect", "lazy"])
def protect(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


@pytest.mark.parametrize("mode", PAGED)
def test_a_new_entry_needs_no_flush(shadow_machine: Machine, mode: PagingMode, protect: bool) -> None:
    with lab(shadow_machine, mode, protect=protect) as guest:
        entry = guest.map(LINEAR, PAGE, ALL)
        guest.use(LINEAR, READ)
        assert isinstance(guest.use(LINEAR + 0x1000, READ), Fault)
        guest.guest_writes(entry + guest.entry_size, OTHER | ALL)
        assert guest.use(LINEAR + 0x1000, READ) == guest.hpa(OTHER)


@pytest.mark.parametrize("mode", PAGED)
def test_more_rights_need_no_flush(shadow_machine: Machine, mode: PagingMode, protect: bool) -> None:
    with lab(shadow_machine, mode, protect=protect) as guest:
        entry = guest.map(LINEAR, PAGE, P)
        assert isinstance(guest.use(LINEAR, WRITE), Fault)
        guest.guest_writes(entry, PAGE | ALL)
        assert guest.use(LINEAR, WRITE) == guest.hpa(PAGE)


@pytest.mark.parametrize("mode", PAGED)
def test_a_changed_entry_takes_effect_with_invlpg(
    shadow_machine: Machine, mode: PagingMode, protect: bool
) -> None:
    with lab(shadow_machine, mode, protect=protect) as guest:
        entry = guest.map(LINEAR, PAGE, ALL)
        guest.map(LINEAR + 0x1000, PAGE + 0x2000, ALL)
        guest.use(LINEAR, READ)
        guest.use(LINEAR + 0x1000, READ)
        guest.guest_writes(entry, OTHER | ALL)
        assert guest.use(LINEAR, READ) == guest.hpa(PAGE), "as from a TLB"
        fills = guest.space.fills
        guest.space.invalidate(LINEAR + 0x123)
        assert guest.space.stale
        assert guest.use(LINEAR, READ) == guest.hpa(OTHER)
        guest.use(LINEAR + 0x1000, READ)
        assert guest.space.fills == fills + 1, "INVLPG is for one page"


@pytest.mark.parametrize("mode", PAGED)
def test_all_changes_take_effect_with_a_write_of_cr3(
    shadow_machine: Machine, mode: PagingMode, protect: bool
) -> None:
    with lab(shadow_machine, mode, protect=protect) as guest:
        entries = [guest.map(LINEAR + 0x1000 * n, PAGE + 0x1000 * n, ALL) for n in range(3)]
        for n in range(3):
            guest.use(LINEAR + 0x1000 * n, WRITE)
        guest.guest_writes(entries[0], 0)
        guest.guest_writes(entries[1], OTHER | P)
        guest.reload_cr3()
        assert isinstance(guest.use(LINEAR, READ), Fault)
        assert guest.use(LINEAR + 0x1000, READ) == guest.hpa(OTHER)
        assert isinstance(guest.use(LINEAR + 0x1000, WRITE), Fault)
        assert guest.use(LINEAR + 0x2000, WRITE) == guest.hpa(PAGE + 0x2000)


@pytest.mark.parametrize("mode", PAGED)
def test_an_entry_of_a_directory_takes_effect_with_invlpg_of_any_page(
    shadow_machine: Machine, mode: PagingMode, protect: bool
) -> None:
    """Without EFER.TCE, INVLPG forgets everything above the last level (APM2 5.5)."""
    with lab(shadow_machine, mode, protect=protect) as guest:
        guest.map(LINEAR, PAGE, ALL)
        other = LINEAR + (8 << 20)
        guest.map(other, OTHER, ALL)
        directory, second = guest.place(LINEAR, 2), guest.place(other, 2)
        guest.use(LINEAR, READ)
        guest.guest_writes(directory, guest.entry(second))
        guest.space.invalidate(DIRECT)
        assert guest.use(LINEAR, READ) == guest.hpa(OTHER)
        guest.guest_writes(directory, 0)
        guest.space.invalidate(DIRECT)
        assert isinstance(guest.use(LINEAR, READ), Fault)


def test_the_pointers_of_pae_take_effect_with_a_flush(shadow_machine: Machine, protect: bool) -> None:
    with lab(shadow_machine, PagingMode.PAE, protect=protect) as guest:
        guest.map(LINEAR, PAGE, ALL)
        guest.use(LINEAR, READ)
        pointer = guest.place(LINEAR, 3)
        directory = guest.entry(pointer)
        for flush in (guest.reload_cr3, lambda: guest.space.invalidate(0)):
            guest.guest_writes(pointer, 0)
            flush()
            assert isinstance(guest.use(LINEAR, READ), Fault)
            guest.guest_writes(pointer, directory)
            assert guest.use(LINEAR, READ) == guest.hpa(PAGE)


def test_invlpg_of_what_has_not_changed_costs_no_flush_of_the_tlb(
    shadow_machine: Machine, protect: bool
) -> None:
    with lab(shadow_machine, PagingMode.LONG, protect=protect) as guest:
        guest.map(LINEAR, PAGE, ALL)
        guest.use(LINEAR, READ)
        guest.space.invalidate(LINEAR)
        guest.space.invalidate(0x12345000)
        assert not guest.space.stale


def test_invlpg_without_paging_is_harmless(shadow_machine: Machine, protect: bool) -> None:
    with lab(shadow_machine, PagingMode.NONE, protect=protect) as guest:
        guest.use(0x7C00, READ)
        guest.space.invalidate(0x7C00)
        assert guest.use(0x7C00, READ) == guest.hpa(0x7C00)


def test_the_lazy_variant_throws_everything_away_at_a_flush(shadow_machine: Machine) -> None:
    with lab(shadow_machine, PagingMode.LONG, protect=False) as guest:
        guest.map(LINEAR, PAGE, ALL)
        guest.use(LINEAR, READ)
        guest.reload_cr3()
        assert guest.space.table_frames == 1
        assert (guest.space.flushes, guest.space.reuses) == (1, 0)
        fills = guest.space.fills
        guest.use(LINEAR, READ)
        assert guest.space.fills == fills + 1


# --- write protection ---------------------------------------------------------------------------------------


def table_of(guest: ShadowLab, linear: int) -> int:
    return guest.entry(guest.place(linear, 2)) & ~0xFFF


@pytest.mark.parametrize("mode", PAGED)
def test_a_page_table_in_use_cannot_be_written_without_an_exit(
    shadow_machine: Machine, mode: PagingMode
) -> None:
    with lab(shadow_machine, mode) as guest:
        entry = guest.map(LINEAR, PAGE, ALL)
        guest.use(DIRECT + entry, WRITE)
        assert isinstance(guest.mmu(DIRECT + entry, WRITE), Translation), "no table in use yet"
        guest.use(LINEAR, READ)
        assert isinstance(guest.mmu(DIRECT + entry, WRITE), Fault)
        guest.use(DIRECT + entry, READ)
        assert isinstance(guest.mmu(DIRECT + entry, WRITE), Fault)
        guest.use(DIRECT + PAGE, WRITE)
        assert isinstance(guest.mmu(DIRECT + PAGE, WRITE), Translation), "its neighbours are not protected"


def test_a_small_mapping_of_a_page_table_is_caught_too(shadow_machine: Machine) -> None:
    with lab(shadow_machine, PagingMode.LONG) as guest:
        guest.map(LINEAR, PAGE, ALL)
        alias = LINEAR + (2 << 30)
        guest.map(alias, table_of(guest, LINEAR), ALL)
        guest.use(alias, WRITE)
        guest.use(LINEAR, READ)
        assert isinstance(guest.mmu(alias, WRITE), Fault)


def test_the_first_write_frees_a_table_until_it_has_been_quiet(shadow_machine: Machine) -> None:
    with lab(shadow_machine, PagingMode.LONG) as guest:
        entry = guest.map(LINEAR, PAGE, ALL)
        guest.use(LINEAR, READ)
        guest.guest_writes(entry + 8, OTHER | ALL)
        assert guest.space.released == 1
        for number in range(5):
            guest.guest_writes(entry + 16 + 8 * number, OTHER | ALL)
            guest.reload_cr3()
        assert guest.space.released == 1, "a burst of writes costs one exit"
        for _ in range(PATIENCE):
            assert isinstance(guest.mmu(DIRECT + entry, WRITE), Translation)
            guest.reload_cr3()
        assert isinstance(guest.mmu(DIRECT + entry, WRITE), Fault)
        guest.guest_writes(entry, 0)
        assert guest.space.released == 2
        guest.reload_cr3()
        assert isinstance(guest.use(LINEAR, READ), Fault)


def test_a_value_that_comes_back_does_not_hide_the_one_between(shadow_machine: Machine) -> None:
    with lab(shadow_machine, PagingMode.LONG) as guest:
        entry = guest.map(LINEAR, PAGE, ALL | A)
        guest.use(LINEAR, READ)
        before = guest.entry(entry)
        guest.guest_writes(entry, 0)
        guest.space.invalidate(LINEAR)
        guest.guest_writes(entry, OTHER | ALL | A)
        assert guest.use(LINEAR, READ) == guest.hpa(OTHER)
        guest.guest_writes(entry, before)
        guest.reload_cr3()
        assert guest.use(LINEAR, READ) == guest.hpa(PAGE)


def test_not_more_tables_than_can_be_compared_are_free(shadow_machine: Machine) -> None:
    count = MOST_FREE + 8
    with lab(shadow_machine, PagingMode.LONG, frames=512) as guest:
        entries = [guest.map(LINEAR + n * (2 << 20), PAGE, ALL) for n in range(count)]
        for n in range(count):
            guest.use(LINEAR + n * (2 << 20), READ)
        for entry in entries:
            guest.guest_writes(entry, OTHER | ALL)
        still = sum(isinstance(guest.mmu(DIRECT + entry, WRITE), Translation) for entry in entries)
        assert still <= MOST_FREE
        guest.reload_cr3()
        for n in range(count):
            assert guest.use(LINEAR + n * (2 << 20), READ) == guest.hpa(OTHER)


def test_a_frame_that_is_no_table_any_more_is_written_freely(shadow_machine: Machine) -> None:
    with lab(shadow_machine, PagingMode.LONG) as guest:
        entry = guest.map(LINEAR, PAGE, ALL)
        guest.use(LINEAR, READ)
        guest.guest_writes(guest.place(LINEAR, 2), 0)
        guest.reload_cr3()
        released = guest.space.released
        guest.use(DIRECT + entry, WRITE)
        assert guest.space.released == released
        assert isinstance(guest.mmu(DIRECT + entry, WRITE), Translation)


def test_tables_that_a_device_loaded_between_two_modes_are_seen(shadow_machine: Machine) -> None:
    with lab(shadow_machine, PagingMode.LONG) as guest:
        entry = guest.map(LINEAR, PAGE, ALL)
        guest.use(LINEAR, READ)
        guest.reload_cr3(wp=False)
        guest.poke(entry, OTHER | ALL)  # as a disk does
        guest.reload_cr3(wp=True)
        assert guest.use(LINEAR, READ) == guest.hpa(OTHER)


def test_a_shadow_of_a_page_that_became_read_only_is_narrowed(shadow_machine: Machine, protect: bool) -> None:
    with lab(shadow_machine, PagingMode.PAE, protect=protect) as guest:
        entry = guest.map(LINEAR, PAGE, ALL)
        guest.use(LINEAR, WRITE)
        guest.guest_writes(entry, PAGE | P | RW | A | D)
        guest.space.invalidate(LINEAR)
        assert isinstance(guest.use(LINEAR, USER_READ), Fault)
        assert guest.use(LINEAR, WRITE) == guest.hpa(PAGE)
