"""The memory map as a view: who has which addresses, what joins them, and how much of it is looked at."""

from __future__ import annotations

import itertools
import time
from xml.etree import ElementTree

import pytest

import vlab
from tests.widgets.waiting import wait_for
from vlab.errors import UnusableInput
from vlab.vmm.address_space import MappedRange
from vlab.widgets.map_facts import _clusters, _merged, _shared
from vlab.widgets.memory_map import MemoryMap


def run(linear: int, size: int = 0x1000, physical: int = 0) -> MappedRange:
    return MappedRange(linear, size, physical, 4096, True, False, True, False)


def test_each_column_says_who_owns_what() -> None:
    with vlab.VM("wren", monitor="binary-translation") as vm:
        vm.run(until="$ ", timeout=30)
        view = MemoryMap(vm)
        virtual, physical = view.words().split("physical:\n")
        assert "0x400000 to 0x400fff: 4 KiB, RO X U" in virtual
        assert "0xc0000000 to 0xc0ffffff: 16 MiB, RW X S D" in virtual
        physical, host = physical.split("host:\n")
        assert "0xf0000 to 0xfffff: firmware ROM, RO ×2" in physical
        assert "0xfee00000 to 0xfee00fff: local APIC" in physical
        for use in ("RAM of VM 1", "shadow tables", "translation cache", "free", "device windows"):
            assert use in host


def test_hardware_assistance_has_its_vmcb_and_nested_tables_among_the_frames() -> None:
    with vlab.VM("longmode") as vm:
        words = MemoryMap(vm).words()
        assert "VMCB" in words
        assert "permission maps" in words
        assert "nested tables" in words


def test_several_guests_on_one_machine_share_its_frames() -> None:
    machine = vlab.Machine("64M")
    with vlab.VM("longmode", machine=machine) as one, vlab.VM("hello", machine=machine) as two:
        words = MemoryMap(one, two).words()
        assert words.count("machine's own") == 1
        assert "RAM of VM 1" in words
        assert "RAM of VM 2" in words
        assert "RAM of a VM that is not shown" in MemoryMap(two).words()
    machine.close()


def test_bands_join_parts_of_boxes_from_column_to_column() -> None:
    with vlab.VM("longmode") as vm:
        vm.run(timeout=20)
        view = MemoryMap(vm)
        root = ElementTree.fromstring(view.picture())
        keys = {each.attrib["data-key"] for each in root.iter() if "data-key" in each.attrib}
        bands = [each.attrib for each in root.iter() if "data-source" in each.attrib]
        assert keys == set(view.details)
        assert {band["data-source"][0] + band["data-target"][0] for band in bands} == {"vp", "ph"}
        assert all(band["data-source"] in keys and band["data-target"] in keys for band in bands)


def test_zooming_shows_a_part_alone_with_all_of_its_ranges() -> None:
    with vlab.VM("longmode") as vm:
        vm.run(timeout=20)
        view = MemoryMap(vm)
        view.zoom = {"vm": 0, "space": "virtual", "start": "0x100000", "end": "0x108000"}
        assert "0x100000 to 0x105fff: 24 KiB, RO X S" in view.words()
        assert "0x108000" not in view.words().partition("physical:")[0]
        view.zoom = {"vm": 0, "space": "physical", "start": "0x100000", "end": "0x101000"}
        assert "0x100000 to 0x100fff" in view.words()
        view.zoom = {"vm": 4, "space": "virtual", "start": "0", "end": "1"}
        assert "names no part of these 1 VMs" in view.problem
        view.zoom = {"vm": 0}
        assert "is no part; give vm, space, start and end" in view.problem
        view.zoom = {}
        assert view.problem == ""


def test_it_follows_the_guest_but_looks_at_most_once_a_second() -> None:
    with vlab.VM("wren") as vm:
        view = MemoryMap(vm)
        looks: list[float] = []
        view.observe(lambda _change: looks.append(time.monotonic()), "drawing")
        vm.start(until="$ ")
        vm.wait(30)
        wait_for(lambda: "0xc0000000" in view.words())
        assert all(after - before > 0.9 for before, after in itertools.pairwise(looks))
        vm.close()
        wait_for(lambda: not view.alive)
        view.asked += 1
        assert "a VM of this view is gone" in view.problem


def test_what_is_no_vm_is_refused_politely() -> None:
    with pytest.raises(UnusableInput, match="vms: none is given; give at least one"):
        MemoryMap()
    with pytest.raises(UnusableInput, match=r"vms: 5 is no VM; make one with vlab\.VM"):
        MemoryMap(5)  # type: ignore[arg-type]


def test_ranges_are_gathered_at_the_widest_gaps_and_evenly_where_there_are_none() -> None:
    near = [run(0x1000 * number) for number in (0, 1, 2)]
    far = [run(0x4000_0000 + 0x2000 * number) for number in range(3)]
    assert _clusters(near + far, 2) == [near, far]
    assert _clusters(near, 3) == [[each] for each in near]
    even = _clusters([run(0x1000 * number) for number in range(100)], 4)
    assert [len(each) for each in even] == [25, 25, 25, 25]


def test_frames_with_two_addresses_are_found() -> None:
    ranges = [run(0, physical=0x5000), run(0x8000, physical=0x5000), run(0x9000, physical=0x6000)]
    assert _shared(ranges) == {0, 0x8000}


def test_intervals_that_touch_are_one_and_there_are_never_many() -> None:
    assert _merged([(4, 6), (0, 4), (9, 9)]) == [(0, 6)]
    assert len(_merged((10 * number, 10 * number + 1) for number in range(40))) == 8
