from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vlab.machine.machine import Machine
from vlab.machine.memory import PAGE
from vlab.vmm.guest_memory import ROM_ALIAS, ROM_BASE, Backing, GuestMemory

MIB = 1 << 20
SIZE = 4 * MIB


@pytest.fixture(scope="module")
def machine() -> Iterator[Machine]:
    computer = Machine(16 << 20)
    yield computer
    computer.close()


@pytest.fixture(scope="module")
def memory(machine: Machine) -> Iterator[GuestMemory]:
    machine.frames.allocate(PAGE)  # so that host and guest addresses differ
    guest = GuestMemory(machine, SIZE)
    guest.add_window(0xFEE00000, 0x77000)
    guest.add_window(0xFEC00000, 0x78000)
    yield guest
    guest.close()


@pytest.mark.parametrize("a20", [True, False])
def test_regions_are_in_order_and_do_not_overlap(memory: GuestMemory, a20: bool) -> None:
    memory.a20 = a20
    regions = list(memory.regions())
    memory.a20 = True
    ends = [(region.gpa, region.gpa + region.size) for region in regions]
    assert all(end <= start for (_, end), (start, _) in pairwise(ends))
    assert all(region.gpa % PAGE == region.size % PAGE == region.hpa % PAGE == 0 for region in regions)
    assert ends[-1][1] == 1 << 32


@given(st.integers(0, (1 << 32) + MIB), st.booleans())
def test_looking_up_an_address_agrees_with_the_regions(memory: GuestMemory, gpa: int, a20: bool) -> None:
    memory.a20 = a20
    try:
        inside = [region for region in memory.regions() if region.gpa <= gpa < region.gpa + region.size]
        found, host = memory.find(gpa), memory.host_address(gpa)
    finally:
        memory.a20 = True
    if not inside:
        assert found is host is None
        return
    assert found is not None
    assert found.backing is inside[0].backing
    assert host == inside[0].hpa + gpa - inside[0].gpa


@pytest.mark.parametrize(
    ("gpa", "backing"),
    [
        (0, Backing.RAM),
        (0x9FFFF, Backing.RAM),
        (0xA0000, None),
        (0xB7FFF, None),
        (0xB8000, Backing.RAM),
        (0xC0000, Backing.ROM),
        (ROM_BASE, Backing.ROM),
        (0xFFFFF, Backing.ROM),
        (MIB, Backing.RAM),
        (SIZE - 1, Backing.RAM),
        (SIZE, None),
        (0xFEE00FFF, Backing.WINDOW),
        (0xFEE01000, None),
        (ROM_ALIAS, Backing.ROM),
        (1 << 32, None),
    ],
)
def test_the_map_is_a_pcs(memory: GuestMemory, gpa: int, backing: Backing | None) -> None:
    region = memory.find(gpa)
    assert (region.backing if region else None) is backing
    if region:
        assert region.writable is (backing is not Backing.ROM)


def test_both_views_of_the_firmware_are_the_same_frames(memory: GuestMemory) -> None:
    assert memory.host_address(ROM_BASE + 0x123) == memory.host_address(ROM_ALIAS + 0x123)


def test_with_a20_low_the_second_megabyte_is_the_first_again(memory: GuestMemory) -> None:
    memory.a20 = False
    try:
        for gpa in (0x500, 0xB8000, ROM_BASE):
            assert memory.host_address(MIB + gpa) == memory.host_address(gpa)
        assert memory.host_address(2 * MIB) == memory.hpa + 2 * MIB
    finally:
        memory.a20 = True


def test_ram_is_a_view_of_the_machines_memory(machine: Machine, memory: GuestMemory) -> None:
    memory.ram[0x1234] = 0x5A
    assert machine.memory.bytes[memory.hpa + 0x1234] == 0x5A
    assert len(memory.ram) == memory.size


def test_the_space_of_expansion_cards_reads_as_ones(memory: GuestMemory) -> None:
    assert set(memory.ram[0xC0000:0xE0000]) == {0xFF}


def test_frames_go_back_cleared(machine: Machine) -> None:
    before = machine.frames.allocated
    guest = GuestMemory(machine, 2 * MIB)
    place = guest.hpa
    guest.ram[5] = guest.ram[-1] = 1
    guest.close()
    assert machine.frames.allocated == before
    assert not any(machine.memory.bytes[place : place + 2 * MIB])


def test_a_new_guest_finds_nothing_of_what_its_frames_were_used_for(machine: Machine) -> None:
    """Frames of a monitor's tables and VMCB are given back as they were."""
    used = machine.frames.allocate(SIZE, 2 * MIB)
    machine.memory.bytes[used : used + SIZE] = b"\xa5" * SIZE
    machine.frames.free(used)
    guest = GuestMemory(machine, SIZE)
    assert guest.hpa == used
    assert b"\xa5" not in bytes(guest.ram)
    guest.close()
