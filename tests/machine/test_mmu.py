"""The microcode's own view of memory: accessed and dirty bits, nested faults, what is cached."""

from __future__ import annotations

import pytest

from tests.machine.lab import RAM, TABLES, Bench
from vlab.isa.paging import Fault, PagingControls, PagingMode, Translation
from vlab.machine.faults import CpuFault
from vlab.machine.mmu import NestedFault

A, D = 0x20, 0x40
LONG = PagingControls(PagingMode.LONG, TABLES, nxe=True, wp=True)


def table(lab: Bench, *path: int) -> None:
    """Write one 4-level path for linear address 0x1234: the four entries from the top down."""
    for level, entry in enumerate(path):
        lab.poke(TABLES + 0x1000 * level + (8 if level == 3 else 0), entry.to_bytes(8, "little"))


def path(lab: Bench, leaf: int, tables: int = 7) -> None:
    table(lab, *(TABLES + 0x1000 * level | tables for level in (1, 2, 3)), leaf)


def entries(lab: Bench) -> list[int]:
    return [lab.peek(TABLES + 0x1000 * level + (8 if level == 3 else 0), 8) & 0xFF for level in range(4)]


def test_a_read_sets_accessed_bits_all_the_way(lab: Bench) -> None:
    path(lab, 0x20007)
    assert lab.processor.mmu.translate(0x1234, LONG) == lab.base + 0x20234
    assert entries(lab) == [7 | A, 7 | A, 7 | A, 7 | A]


def test_a_write_sets_the_dirty_bit_of_the_last_entry_alone(lab: Bench) -> None:
    path(lab, 0x20007)
    lab.processor.mmu.translate(0x1234, LONG, write=True)
    assert entries(lab) == [7 | A, 7 | A, 7 | A, 7 | A | D]


def test_a_page_fault_sets_nothing_and_says_what_the_processor_says(lab: Bench) -> None:
    path(lab, 0x20005)
    with pytest.raises(CpuFault) as fault:
        lab.processor.mmu.translate(0x1234, LONG, write=True)
    assert (fault.value.vector, fault.value.error_code, fault.value.address) == (14, 3, 0x1234)
    assert entries(lab) == [7, 7, 7, 5]


def test_an_address_that_is_not_canonical_is_gp(lab: Bench) -> None:
    with pytest.raises(CpuFault) as fault:
        lab.processor.mmu.translate(1 << 47, LONG)
    assert (fault.value.vector, fault.value.error_code) == (13, 0)
    assert "not canonical" in fault.value.why


def test_the_four_pae_pointers_have_no_accessed_bit(lab: Bench) -> None:
    pae = PagingControls(PagingMode.PAE, TABLES)
    lab.poke(TABLES, (TABLES + 0x1000 | 1).to_bytes(8, "little"))
    lab.poke(TABLES + 0x1000, (0x87).to_bytes(8, "little"))
    assert lab.processor.mmu.translate(0x1234, pae, write=True) == lab.base + 0x1234
    assert lab.peek(TABLES, 8) == TABLES + 0x1000 | 1
    assert lab.peek(TABLES + 0x1000, 8) == 0x87 | A | D


def test_a_frame_outside_the_nested_tables_is_a_nested_fault(lab: Bench) -> None:
    path(lab, RAM | 7)
    with pytest.raises(NestedFault) as fault:
        lab.processor.mmu.translate(0x1234, LONG)
    assert (fault.value.gpa, fault.value.code) == (RAM + 0x234, 4)  # a user access, as the manual says


def test_a_table_outside_the_nested_tables_is_a_nested_fault(lab: Bench) -> None:
    table(lab, RAM | 7)
    with pytest.raises(NestedFault) as fault:
        lab.processor.mmu.translate(0x1234, LONG)
    assert fault.value.gpa == RAM


def test_a_read_only_nested_page_takes_reads_and_no_writes(lab: Bench) -> None:
    lab.map(RAM, lab.base, flags=5)
    mmu = lab.processor.mmu
    assert mmu.host_address(RAM + 5) == lab.base + 5
    with pytest.raises(NestedFault) as fault:
        mmu.host_address(RAM + 5, write=True)
    assert fault.value.code == 7  # user, write, present
    lab.map(RAM, lab.base, flags=7)
    assert mmu.host_address(RAM + 5, write=True) == lab.base + 5  # a walk afresh, the page was read-only


def test_no_execute_is_a_reserved_bit_in_nested_tables(lab: Bench) -> None:
    lab.map(RAM, lab.base | 1 << 63)
    with pytest.raises(NestedFault) as fault:
        lab.processor.mmu.host_address(RAM)
    assert fault.value.code == 0xD  # user, reserved, present
    lab.map(RAM, lab.base)


def test_nested_translations_are_kept_until_they_are_forgotten(lab: Bench) -> None:
    mmu = lab.processor.mmu
    lab.map(RAM, lab.base)
    assert mmu.host_address(RAM) == lab.base
    lab.map(RAM, lab.base + 0x3000)
    assert mmu.host_address(RAM) == lab.base
    mmu.forget_nested()
    assert mmu.host_address(RAM) == lab.base + 0x3000


def test_without_nested_paging_an_address_is_its_own(lab: Bench) -> None:
    lab.processor.set_nested_root(None)
    assert lab.processor.mmu.host_address(0x12345) == 0x12345


def test_guest_physical_addresses_wrap_at_48_bits_as_in_the_engine(lab: Bench) -> None:
    assert lab.processor.mmu.host_address(1 << 48 | 0x5000) == lab.base + 0x5000
    with pytest.raises(NestedFault):
        lab.processor.mmu.host_address(1 << 47)


def test_an_onlooker_leaves_no_trace(lab: Bench) -> None:
    path(lab, 0x20007)
    seen = lab.processor.mmu.look(0x1234, LONG)
    assert isinstance(seen, Translation)
    assert seen.physical == 0x20234
    assert isinstance(lab.processor.mmu.look(0x2000, LONG), Fault)
    assert entries(lab) == [7, 7, 7, 7]


def test_microcode_reads_ones_and_writes_nothing_where_a_device_window_is(lab: Bench) -> None:
    """The microcode does not reach devices: a stack there is an open bus, not an error."""
    window = lab.machine.window(lambda _offset, _size: 0, lambda _offset, _size, _value: None)
    lab.map(0xFEE00000, window)
    lab.core.load(lab.flat32())
    assert lab.core.read(0xFEE00010, 4) == 0xFFFFFFFF
    lab.core.write(0xFEE00010, 4, 1)
    assert lab.core.read_bytes(0xFEE00FFE, 2) == b"\xff\xff"


def test_a_write_across_two_pages_happens_whole_or_not_at_all(lab: Bench) -> None:
    path(lab, 0x20007)
    lab.core.load(lab.long64())
    path(lab, 0x20007)
    with pytest.raises(CpuFault):
        lab.core.write(0x1FFC, 8, (1 << 64) - 1)
    assert lab.peek(0x20FFC, 4) == 0
    lab.poke(TABLES + 0x3010, (0x30007).to_bytes(8, "little"))
    lab.core.write(0x1FFC, 8, 0x1122334455667788)
    assert (lab.peek(0x20FFC, 4), lab.peek(0x30000, 4)) == (0x55667788, 0x11223344)
    assert lab.core.read(0x1FFC, 8) == 0x1122334455667788
