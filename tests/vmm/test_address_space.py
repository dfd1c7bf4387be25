"""All that a guest's tables map: the same as the walker says, in runs, within bounds."""

from __future__ import annotations

import itertools

import pytest

import vlab
from vlab.errors import UnusableInput
from vlab.isa.paging import PagingControls, PagingMode, Translation
from vlab.machine.machine import Machine
from vlab.vmm.address_space import MappedRange, map_space
from vlab.vmm.guest_memory import GuestMemory

P, W, U, LARGE, NX = 1, 2, 4, 0x80, 1 << 63


@pytest.mark.parametrize(
    ("guest", "monitor"),
    [("longmode", "hardware"), ("wren", "none"), ("wren-paravirt", "paravirtual"), ("wren", "hardware")],
)
def test_every_range_is_what_a_walk_of_its_ends_says(guest: str, monitor: str) -> None:
    with vlab.VM(guest, monitor=monitor) as vm:
        vm.run(until="$ ", timeout=30)
        space = vm.address_space()
        assert space.complete
        assert len(space.ranges) > 3
        for found in space.ranges:
            for away in (0, found.size - 1):
                result = vm.walk(found.linear + away).result
                assert isinstance(result, Translation)
                assert result.physical == found.physical + away
                assert (result.writable, result.user, result.executable) == found[4:7]
                assert result.page_size == found.page_size


def test_neighbouring_pages_with_the_same_rights_are_one_range_and_others_are_not() -> None:
    with vlab.VM("longmode") as vm:
        vm.run(timeout=20)
        ranges = vm.address_space().ranges
        assert MappedRange(0x100000, 0x6000, 0x100000, 4096, False, False, True, False) in ranges
        for before, after in itertools.pairwise(ranges):
            joined = before.linear + before.size == after.linear
            assert before.linear + before.size <= after.linear
            assert not (
                joined and before.physical + before.size == after.physical and before[3:] == after[3:]
            )


def test_no_more_ranges_are_given_than_were_asked_for() -> None:
    with vlab.VM("longmode") as vm:
        vm.run(timeout=20)
        space = vm.address_space(most=2)
        assert (len(space.ranges), space.complete) == (2, False)
        with pytest.raises(UnusableInput, match="most: 0 is no number of ranges; give at least 1"):
            vm.address_space(most=0)


def test_without_paging_all_of_the_memory_is_one_range() -> None:
    with vlab.VM("hello") as vm:
        (found,) = vm.address_space().ranges
        assert (found.linear, found.size, found.physical) == (0, vm.memory_bytes, 0)


def test_tables_that_point_at_themselves_are_read_a_bounded_number_of_times() -> None:
    machine = Machine(4 << 20)
    memory = GuestMemory(machine, 2 << 20)
    for index in range(512):
        memory.ram[8 * index : 8 * index + 8] = (P | W).to_bytes(8, "little")
    controls = PagingControls(PagingMode.LONG, 0, nxe=True)
    space = map_space(
        controls, lambda gpa, size: bytes(memory.ram[gpa : gpa + size]), lambda gpa: gpa, memory
    )
    assert not space.complete
    assert space.tables <= 4096
    memory.close()
    machine.close()


def test_entries_with_reserved_bits_and_tables_outside_memory_map_nothing() -> None:
    machine = Machine(4 << 20)
    memory = GuestMemory(machine, 2 << 20)
    controls = PagingControls(PagingMode.PAE, 0x1000, nxe=False)
    entries = {0x1000: 0x2000 | P, 0x2000: LARGE | P, 0x2008: 0x20_0000 | LARGE | P | NX, 0x1008: 1 << 30 | P}
    for gpa, entry in entries.items():
        memory.ram[gpa : gpa + 8] = entry.to_bytes(8, "little")

    def read(gpa: int, size: int) -> bytes | None:
        return bytes(memory.ram[gpa : gpa + size]) if gpa < memory.size else None

    space = map_space(controls, read, lambda gpa: gpa, memory)
    assert space.ranges == (MappedRange(0, 2 << 20, 0, 2 << 20, False, False, True, False),)
    memory.close()
    machine.close()
