"""The page walk, case by case: what it yields, what it grants, and why it stops."""

from __future__ import annotations

import pytest

from vlab.isa.paging import (
    Access,
    Fault,
    LegacyPde,
    LegacyPdeLarge,
    LegacyPte,
    PaePde,
    PaePdpe,
    PaePte,
    PagingControls,
    PagingMode,
    Pde,
    PdeLarge,
    Pdpe,
    PdpeLarge,
    Pml4e,
    Pte,
    Step,
    Translation,
    accessed_dirty_updates,
    canonical,
    index_of,
    translate,
    walk,
)
from vlab.isa.vectors import Vector

P, RW, US, A, D, PS, G, NX = 1, 2, 4, 0x20, 0x40, 0x80, 0x100, 1 << 63
READ, WRITE, FETCH = Access(), Access(write=True), Access(fetch=True)
USER, USER_WRITE, USER_FETCH = Access(user=True), Access(write=True, user=True), Access(user=True, fetch=True)

LINEAR = 0x0000_1234_5678_9ABC
LINEAR32 = 0x5678_9ABC


class Memory:
    """Table memory as a dictionary of entries; what was never written reads as 0."""

    def __init__(self) -> None:
        self.entries: dict[int, int] = {}

    def read(self, address: int, size: int) -> int:
        assert address % size == 0
        return self.entries.get(address, 0)


def long_tables(*flags: int, linear: int = LINEAR, leaf: int = 0xABC000) -> Memory:
    """Tables at 0x1000, 0x2000, ... with flags from the PML4E down; the last entry points to ``leaf``."""
    memory = Memory()
    for place, flag in enumerate(flags):
        index = linear >> (39 - 9 * place) & 511
        target = leaf if place == len(flags) - 1 else 0x2000 + 0x1000 * place
        memory.entries[0x1000 * (place + 1) + 8 * index] = target | flag
    return memory


def long_mode(**bits: bool) -> PagingControls:
    return PagingControls(PagingMode.LONG, 0x1000, **({"nxe": True} | bits))


def steps_of(
    memory: Memory, linear: int, controls: PagingControls, access: Access
) -> tuple[list[Step], Translation | Fault]:
    steps: list[Step] = []
    generator = walk(linear, controls, access, memory.read)
    while True:
        try:
            steps.append(next(generator))
        except StopIteration as stop:
            return steps, stop.value


def code(memory: Memory, controls: PagingControls, access: Access, linear: int = LINEAR) -> int | None:
    """The error code, or None when the access is allowed."""
    result = translate(linear, controls, access, memory.read)
    return result.error_code if isinstance(result, Fault) else None


# --- what a walk yields and gives


def test_a_4_level_walk_yields_four_entries_and_the_address() -> None:
    memory = long_tables(P | RW | US, P | RW | US, P | RW | US, P | RW | US)
    steps, result = steps_of(memory, LINEAR, long_mode(), READ)
    assert [(s.level, s.table, s.index) for s in steps] == [
        (4, 0x1000, 0x024),
        (3, 0x2000, 0x0D1),
        (2, 0x3000, 0x0B3),
        (1, 0x4000, 0x189),
    ]
    assert [s.kind for s in steps] == [Pml4e, Pdpe, Pde, Pte]
    assert all(s.entry_address == s.table + 8 * s.index and s.entry_size == 8 for s in steps)
    assert steps[3].entry == 0xABC000 | P | RW | US
    assert result == Translation(LINEAR, 0xABCABC, 4096, True, True, True, False, False)


def test_a_1_gb_page_ends_at_the_second_entry() -> None:
    memory = long_tables(P | RW, P | RW | PS | G | D, leaf=0x4000_0000)
    steps, result = steps_of(memory, LINEAR, long_mode(), READ)
    assert [s.kind for s in steps] == [Pml4e, PdpeLarge]
    assert result == Translation(LINEAR, 0x5678_9ABC, 1 << 30, True, False, True, True, True)


def test_a_2_mb_page_ends_at_the_third_entry() -> None:
    memory = long_tables(P | US, P | US, P | US | PS | NX, leaf=0x0020_0000)
    steps, result = steps_of(memory, LINEAR, long_mode(), READ)
    assert [s.kind for s in steps] == [Pml4e, Pdpe, PdeLarge]
    assert result == Translation(
        LINEAR, 0x0020_0000 + (LINEAR & 0x1FFFFF), 1 << 21, False, True, False, False, False
    )


def test_a_legacy_walk_reads_two_entries_of_four_bytes() -> None:
    memory = Memory()
    memory.entries = {0x1000 + 4 * 0x159: 0x2000 | P | RW, 0x2000 + 4 * 0x389: 0x7000 | P | RW | G}
    controls = PagingControls(PagingMode.LEGACY, 0x1018, pse=True)
    steps, result = steps_of(memory, 0xFFFF_0000_0000_0000 | LINEAR32, controls, READ)
    assert [(s.level, s.entry_address, s.entry_size, s.kind) for s in steps] == [
        (2, 0x1564, 4, LegacyPde),
        (1, 0x2E24, 4, LegacyPte),
    ]
    assert result == Translation(LINEAR32, 0x7ABC, 4096, True, False, True, True, False)


def test_a_4_mb_page_keeps_address_bits_39_to_32_in_bits_20_to_13() -> None:
    memory = Memory()
    memory.entries = {0x1000 + 4 * 0x159: 0x0040_0000 | 0xAB << 13 | P | PS}
    controls = PagingControls(PagingMode.LEGACY, 0x1000, pse=True)
    steps, result = steps_of(memory, LINEAR32, controls, READ)
    assert [s.kind for s in steps] == [LegacyPdeLarge]
    assert LegacyPdeLarge(steps[0].entry).address == 0xAB_0040_0000
    assert isinstance(result, Translation)
    assert (result.physical, result.page_size) == (0xAB_0040_0000 + (LINEAR32 & 0x3FFFFF), 1 << 22)


def test_without_pse_the_ps_bit_of_a_legacy_directory_entry_is_ignored() -> None:
    memory = Memory()
    memory.entries = {0x1000 + 4 * 0x159: 0x2000 | P | PS, 0x2000 + 4 * 0x389: 0x7000 | P}
    steps, result = steps_of(memory, LINEAR32, PagingControls(PagingMode.LEGACY, 0x1000), READ)
    assert [s.kind for s in steps] == [LegacyPde, LegacyPte]
    assert isinstance(result, Translation)


def test_a_pae_walk_starts_at_one_of_four_pointers_that_carry_no_protection() -> None:
    memory = Memory()
    memory.entries = {
        0x1020 + 8 * 1: 0x2000 | P,
        0x2000 + 8 * 0x0B3: 0x3000 | P | RW | US,
        0x3000 + 8 * 0x189: 0x9000 | P | RW | US,
    }
    steps, result = steps_of(memory, LINEAR32, PagingControls(PagingMode.PAE, 0x1020), USER_WRITE)
    assert [(s.level, s.index, s.kind) for s in steps] == [
        (3, 1, PaePdpe),
        (2, 0x0B3, PaePde),
        (1, 0x189, PaePte),
    ]
    assert result == Translation(LINEAR32, 0x9ABC, 4096, True, True, True, False, False)


def test_without_paging_the_address_is_the_address() -> None:
    controls = PagingControls(PagingMode.NONE, 0x1000)
    steps, result = steps_of(Memory(), 0x1_0000_0000 | LINEAR32, controls, USER_WRITE)
    assert steps == []
    assert result == Translation(LINEAR32, LINEAR32, 4096, True, True, True, False, False)


def test_pcid_and_cache_bits_of_cr3_do_not_move_the_table() -> None:
    memory = long_tables(P, P, P, P)
    assert code(memory, PagingControls(PagingMode.LONG, 0x1FFF), READ) is None


# --- why a walk stops


def test_an_entry_that_is_not_present_is_yielded_before_it_stops_the_walk() -> None:
    memory = long_tables(P, P | RW, 0, leaf=0xFFFF_F000)
    steps, result = steps_of(memory, LINEAR, long_mode(), USER_WRITE)
    assert [s.kind for s in steps] == [Pml4e, Pdpe, Pde]
    assert isinstance(result, Fault)
    assert result.step == steps[-1]
    assert (result.vector, result.error_code) == (Vector.PF, 0b110)
    assert result.why == "Pde at 0x3598 is not present"


def test_the_error_code_of_a_missing_page_tells_the_access() -> None:
    memory = Memory()
    nx, plain = long_mode(), long_mode(nxe=False)
    assert code(memory, plain, READ) == 0b00000
    assert code(memory, plain, WRITE) == 0b00010
    assert code(memory, plain, USER) == 0b00100
    assert code(memory, plain, FETCH) == 0b00000
    assert code(memory, nx, FETCH) == 0b10000
    assert code(memory, long_mode(nxe=False, smep=True), USER_FETCH) == 0b10100


def test_a_legacy_fetch_is_not_reported_as_one_even_with_nxe() -> None:
    controls = PagingControls(PagingMode.LEGACY, 0x1000, nxe=True)
    assert code(Memory(), controls, FETCH, LINEAR32) == 0


def test_the_ps_bit_of_an_entry_that_is_not_present_means_nothing() -> None:
    steps, _ = steps_of(long_tables(P, PS), LINEAR, long_mode(), READ)
    assert steps[-1].kind is Pdpe


@pytest.mark.parametrize(
    ("flags", "leaf", "bad"),
    [
        ((P | PS,), 0x2000, PS),
        ((P | G,), 0x2000, G),
        ((P | 1 << 40,), 0x2000, 1 << 40),
        ((P, P | PS), 0x2000, 0x2000),
        ((P, P, P | PS | 1 << 20), 0x20_0000, 1 << 20),
        ((P, P, P, P | 1 << 51), 0x9000, 1 << 51),
    ],
    ids=[
        "PS in a PML4E",
        "bit 8 in a PML4E",
        "bit 40",
        "low bits of 1 GB",
        "low bits of 2 MB",
        "bit 51 in a PTE",
    ],
)
def test_a_reserved_bit_is_a_protection_fault_with_rsvd(flags: tuple[int, ...], leaf: int, bad: int) -> None:
    result = translate(LINEAR, long_mode(), READ, long_tables(*flags, leaf=leaf).read)
    assert isinstance(result, Fault)
    assert result.error_code == 0b01001
    assert result.why.endswith(f"has reserved bits set: {bad:#x}")


def test_nx_is_a_reserved_bit_until_efer_nxe_is_set() -> None:
    memory = long_tables(P, P, P, P | NX)
    assert code(memory, long_mode(nxe=False), READ) == 0b01001
    assert code(memory, long_mode(), READ) is None


def test_software_bits_of_long_mode_are_reserved_under_pae() -> None:
    memory = long_tables(P, P, P | 1 << 52, P | 1 << 58)
    assert code(memory, long_mode(), READ) is None
    pae = Memory()
    pae.entries = {0x1000: 0x2000 | P, 0x2000: 0x3000 | P | 1 << 52}
    assert code(pae, PagingControls(PagingMode.PAE, 0x1000), READ, 0) == 0b01001


@pytest.mark.parametrize("bit", [1, 2, 5, 6, 7, 8, 52, 63])
def test_a_pae_pointer_has_few_bits_of_its_own(bit: int) -> None:
    memory = Memory()
    memory.entries = {0x1000: 0x2000 | P | 1 << bit}
    assert code(memory, PagingControls(PagingMode.PAE, 0x1000, nxe=True), READ, 0) == 0b01001


def test_bit_21_of_a_4_mb_page_is_reserved_and_so_are_addresses_that_do_not_exist() -> None:
    memory = Memory()
    memory.entries = {0x1000: P | PS | 1 << 21, 0x1004: P | PS | 1 << 17}
    wide, narrow = (PagingControls(PagingMode.LEGACY, 0x1000, pse=True, maxphyaddr=n) for n in (40, 36))
    assert code(memory, wide, READ, 0) == 0b01001
    assert code(memory, wide, READ, 1 << 22) is None
    assert code(memory, narrow, READ, 1 << 22) == 0b01001


def test_a_user_needs_the_user_bit_at_every_level() -> None:
    for missing in range(4):
        flags = [P | US] * 4
        flags[missing] = P
        memory = long_tables(*flags)
        assert code(memory, long_mode(), USER) == 0b00101
        assert code(memory, long_mode(), READ) is None
        steps, result = steps_of(memory, LINEAR, long_mode(), USER)
        assert isinstance(result, Fault)
        assert result.step == steps[missing]
        assert "is for the supervisor and the access is at CPL 3" in result.why


def test_a_user_write_needs_the_write_bit_at_every_level_whatever_cr0_wp_says() -> None:
    for missing in range(4):
        flags = [P | US | RW] * 4
        flags[missing] = P | US
        for wp in (False, True):
            assert code(long_tables(*flags), long_mode(wp=wp), USER_WRITE) == 0b00111
            assert code(long_tables(*flags), long_mode(wp=wp), USER) is None


def test_a_supervisor_writes_a_read_only_page_unless_cr0_wp_is_set() -> None:
    memory = long_tables(P | RW, P | RW, P | RW, P)
    assert code(memory, long_mode(wp=False), WRITE) is None
    assert code(memory, long_mode(wp=True), WRITE) == 0b00011
    result = translate(LINEAR, long_mode(wp=True), WRITE, memory.read)
    assert isinstance(result, Fault)
    assert result.why == "Pte at 0x4c48 is read-only and CR0.WP holds the supervisor to it"


def test_nx_at_any_level_forbids_a_fetch_at_every_ring() -> None:
    for place in range(4):
        flags = [P | US] * 4
        flags[place] |= NX
        memory = long_tables(*flags)
        assert code(memory, long_mode(), FETCH) == 0b10001
        assert code(memory, long_mode(), USER_FETCH) == 0b10101
        assert code(memory, long_mode(), USER) is None
        steps, result = steps_of(memory, LINEAR, long_mode(), FETCH)
        assert isinstance(result, Fault)
        assert result.step == steps[place]


def test_smep_keeps_the_supervisor_from_fetching_from_user_pages() -> None:
    user, kernel = long_tables(*[P | US] * 4), long_tables(P | US, P | US, P | US, P)
    smep = long_mode(smep=True)
    assert code(user, smep, FETCH) == 0b10001
    assert code(user, smep, USER_FETCH) is None
    assert code(user, smep, READ) is None
    assert code(kernel, smep, FETCH) is None


def test_smap_keeps_the_supervisor_from_user_data_unless_ac_is_set() -> None:
    user, kernel = long_tables(*[P | US | RW] * 4), long_tables(P | US | RW, P | US | RW, P | US | RW, P | RW)
    smap = long_mode(smap=True)
    assert code(user, smap, READ) == 0b00001
    assert code(user, smap, WRITE) == 0b00011
    assert code(user, smap, FETCH) is None
    assert code(user, smap, USER_WRITE) is None
    assert code(kernel, smap, WRITE) is None
    assert code(user, long_mode(smap=True, ac=True), WRITE) is None


def test_an_address_that_is_not_canonical_is_a_general_protection_fault_and_no_step() -> None:
    steps, result = steps_of(long_tables(P, P, P, P), 0x8000_0000_0000, long_mode(), READ)
    assert steps == []
    assert isinstance(result, Fault)
    assert (result.step, result.vector, result.error_code) == (None, Vector.GP, 0)
    assert result.why == "0x800000000000 is not canonical: bits 63 to 47 differ"


# --- accessed and dirty


def test_a_read_sets_the_accessed_bit_in_every_entry() -> None:
    memory = long_tables(P | RW, P | RW | A, P | RW, P | RW)
    steps, _ = steps_of(memory, LINEAR, long_mode(), READ)
    assert accessed_dirty_updates(steps, READ) == [
        (steps[place].entry_address, 8, steps[place].entry | A) for place in (0, 2, 3)
    ]


def test_a_write_sets_the_dirty_bit_in_the_last_entry_alone() -> None:
    memory = long_tables(P | RW | A, P | RW | A, P | RW | A | PS, leaf=0x20_0000)
    steps, _ = steps_of(memory, LINEAR, long_mode(), WRITE)
    assert accessed_dirty_updates(steps, WRITE) == [(steps[2].entry_address, 8, steps[2].entry | D)]


def test_a_second_walk_has_nothing_to_update() -> None:
    memory = long_tables(P | RW, P | RW, P | RW, P | RW)
    steps, _ = steps_of(memory, LINEAR, long_mode(), WRITE)
    for address, _, entry in accessed_dirty_updates(steps, WRITE):
        memory.entries[address] = entry
    steps, result = steps_of(memory, LINEAR, long_mode(), WRITE)
    assert accessed_dirty_updates(steps, WRITE) == []
    assert isinstance(result, Translation)
    assert result.dirty


def test_a_pae_pointer_has_no_accessed_bit() -> None:
    memory = Memory()
    memory.entries = {0x1000: 0x2000 | P, 0x2000: 0x3000 | P, 0x3000: 0x9000 | P}
    steps, _ = steps_of(memory, 0, PagingControls(PagingMode.PAE, 0x1000), READ)
    assert [address for address, _, _ in accessed_dirty_updates(steps, READ)] == [0x2000, 0x3000]


# --- the helpers around a walk


def test_the_controls_come_from_the_registers() -> None:
    gather = PagingControls.from_registers
    assert gather(0x11, 0x1000, 0x20, 0).mode is PagingMode.NONE
    assert gather(0x80000011, 0x1000, 0x10, 0) == PagingControls(PagingMode.LEGACY, 0x1000, pse=True)
    assert gather(0x80000011, 0x1000, 0x20, 0x100).mode is PagingMode.PAE
    assert gather(0x80010011, 0x1000, 0x3000A0, 0xD01, 0x40246, maxphyaddr=48) == PagingControls(
        PagingMode.LONG,
        0x1000,
        pge=True,
        nxe=True,
        wp=True,
        smep=True,
        smap=True,
        ac=True,
        maxphyaddr=48,
    )


def test_a_physical_address_width_that_cannot_be_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^maxphyaddr: 53 bits is not a physical address; give 32 to 52$"):
        PagingControls(PagingMode.LONG, 0, maxphyaddr=53)


@pytest.mark.parametrize(
    ("linear", "expected"),
    [
        (0, True),
        (0x7FFF_FFFF_FFFF, True),
        (0x8000_0000_0000, False),
        (0xFFFF_7FFF_FFFF_FFFF, False),
        (0xFFFF_8000_0000_0000, True),
        (2**64 - 1, True),
    ],
)
def test_canonical_addresses_are_sign_extended_from_bit_47(linear: int, expected: bool) -> None:
    assert canonical(linear) is expected


def test_an_index_is_found_for_each_level_of_a_mode() -> None:
    assert [index_of(LINEAR, level, PagingMode.LONG) for level in (4, 3, 2, 1)] == [
        0x024,
        0x0D1,
        0x0B3,
        0x189,
    ]
    assert [index_of(LINEAR32, level, PagingMode.PAE) for level in (3, 2, 1)] == [1, 0x0B3, 0x189]
    assert [index_of(LINEAR32, level, PagingMode.LEGACY) for level in (2, 1)] == [0x159, 0x389]


def test_a_level_that_a_mode_does_not_have_is_refused() -> None:
    with pytest.raises(
        ValueError, match=r"^level: 4 is not a level of PAE translation; its levels are: 3, 2, 1$"
    ):
        index_of(0, 4, PagingMode.PAE)
    with pytest.raises(
        ValueError, match=r"^level: 1 is not a level of no paging translation; its levels are: none$"
    ):
        index_of(0, 1, PagingMode.NONE)
