from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from vlab.isa.paging import Access, Fault, PagingControls, PagingMode, Translation, translate
from vlab.machine.machine import Machine
from vlab.machine.memory import LARGE_PAGE, PAGE
from vlab.vmm.guest_memory import Backing, GuestMemory
from vlab.vmm.paging.nested import NestedTables
from vlab.vmm.paging.tables import LARGE, PRESENT, USER, WRITABLE, TableTree

USER_READ, USER_WRITE = Access(user=True), Access(user=True, write=True)
NX = 1 << 63


@dataclass
class Lab:
    machine: Machine
    memory: GuestMemory
    tables: NestedTables

    def look(self, gpa: int, access: Access = USER_READ) -> Translation | Fault:
        controls = PagingControls(PagingMode.LONG, self.tables.root, nxe=True, wp=True)
        return translate(gpa, controls, access, self.machine.memory.read)


@pytest.fixture
def lab() -> Iterator[Lab]:
    machine = Machine(16 << 20)
    machine.frames.allocate(PAGE)
    memory = GuestMemory(machine, 4 << 20)
    memory.add_window(0xFEE00000, 0x77000)
    tables = NestedTables(TableTree(machine), memory)
    yield Lab(machine, memory, tables)
    machine.close()


@pytest.mark.parametrize("a20", [True, False])
def test_the_tables_lead_where_the_memory_map_says_page_by_page(lab: Lab, a20: bool) -> None:
    lab.memory.a20 = a20
    lab.tables.build()
    for gpa in [*range(0, 5 << 20, PAGE), 0xFEE00000, 0xFEE01000, *range(0xFFFF0000, 1 << 32, PAGE)]:
        region, result = lab.memory.find(gpa), lab.look(gpa + 5)
        if region is None:
            assert isinstance(result, Fault), hex(gpa)
            continue
        assert isinstance(result, Translation), hex(gpa)
        assert result.physical == lab.memory.host_address(gpa + 5)
        written = lab.look(gpa, USER_WRITE)
        assert isinstance(written, Translation) is (region.backing is not Backing.ROM), hex(gpa)


def test_aligned_ram_is_mapped_in_large_pages(lab: Lab) -> None:
    result = lab.look(2 << 20)
    assert isinstance(result, Translation)
    assert result.page_size == LARGE_PAGE
    first = lab.look(0)
    assert isinstance(first, Translation)
    assert first.page_size == PAGE


def test_no_entry_anywhere_has_nx(lab: Lab) -> None:
    """The emulator dies of a guest page table in a page that is mapped so."""

    def entries(table: int, level: int) -> Iterator[int]:
        for place in range(table, table + PAGE, 8):
            entry = lab.machine.memory.read(place, 8)
            if entry & PRESENT:
                yield entry
                if level > 1 and not (entry & LARGE and level < 4):
                    yield from entries(entry & 0xFFFFFFFFFF000, level - 1)

    found = list(entries(lab.tables.root, 4))
    assert len(found) > 500
    assert not any(entry & NX for entry in found)
    assert all(entry & USER for entry in found)


def test_a_page_can_be_turned_into_a_device_window(lab: Lab) -> None:
    lab.tables.map_window(0xF0000000, 0x4000000000)
    result = lab.look(0xF0000123, USER_WRITE)
    assert isinstance(result, Translation)
    assert result.physical == 0x4000000123


def test_building_anew_forgets_windows_and_takes_no_more_frames(lab: Lab) -> None:
    lab.tables.map_window(0xF0000000, 0x4000000000)
    lab.tables.build()
    assert isinstance(lab.look(0xF0000000), Fault)
    taken = lab.machine.frames.allocated
    lab.tables.build()
    assert len(lab.machine.frames.allocated) == len(taken)


def test_all_frames_go_back(lab: Lab) -> None:
    before = lab.machine.frames.allocated
    tables = NestedTables(TableTree(lab.machine), lab.memory)
    assert len(lab.machine.frames.allocated) > len(before)
    tables.close()
    assert lab.machine.frames.allocated == before


def test_a_tree_counts_its_tables(lab: Lab) -> None:
    tree = TableTree(lab.machine)
    assert tree.table_count == 1
    tree.map(0x12345000, 0x1000, PRESENT | WRITABLE)
    assert tree.table_count == 4
    tree.map(0x12346000, 0x2000, PRESENT)
    assert tree.table_count == 4
    tree.clear()
    assert tree.table_count == 1
    assert not any(lab.machine.memory.bytes[tree.root : tree.root + PAGE])
