"""The memory references of a walk: counted on the tables of a running guest and of its monitor."""

from __future__ import annotations

import pytest

import vlab
from vlab.compare.sweep import WINDOW
from vlab.compare.walk_counts import (
    SmallNestedPaging,
    WalkCount,
    expected,
    nested_walk,
    shadow_walk,
    shadowed_address,
)
from vlab.machine.memory import LARGE_PAGE, PAGE
from vlab.vmm.paging.nested import NestedPaging
from vlab.vmm.paging.shadow import ShadowPaging

LINEAR = WINDOW + 5 * PAGE + 0x123


def run(paging: NestedPaging | ShadowPaging, large: bool = False) -> vlab.VM:
    vm = vlab.VM("sweep", paging=paging, append=f"pages=64 rounds=2 touches=64 updates=2 large={large:d}")
    stop = vm.run(timeout=30)
    assert stop.exit_code == 0, stop
    return vm


@pytest.mark.parametrize(
    ("guest_levels", "nested_levels", "references"),
    [(4, 0, 4), (3, 0, 3), (4, 4, 24), (4, 3, 19), (3, 4, 19), (3, 3, 15)],
)
def test_what_the_manual_says_of_levels_on_levels(
    guest_levels: int, nested_levels: int, references: int
) -> None:
    assert expected(guest_levels, nested_levels) == references


@pytest.mark.parametrize(
    ("paging", "large", "count"),
    [
        (SmallNestedPaging, False, WalkCount(24, 3, PAGE)),
        (NestedPaging, False, WalkCount(19, 3, PAGE)),
        (SmallNestedPaging, True, WalkCount(19, 3, PAGE)),
        (NestedPaging, True, WalkCount(15, 3, LARGE_PAGE)),
    ],
)
def test_a_nested_walk_is_as_long_as_the_manual_says(
    paging: type[NestedPaging], large: bool, count: WalkCount
) -> None:
    with run(paging(), large) as vm:
        assert nested_walk(vm, LINEAR) == count
        assert vm.walk(LINEAR).memory_references == count.references


@pytest.mark.parametrize(
    ("large", "count"), [(False, WalkCount(4, 1, PAGE)), (True, WalkCount(3, 1, LARGE_PAGE))]
)
def test_a_walk_through_the_shadow_has_one_dimension_and_arrives_at_the_same_place(
    large: bool, count: WalkCount
) -> None:
    paging = ShadowPaging()
    with run(paging, large) as vm:
        assert shadow_walk(vm, paging, LINEAR) == count
        host = vm.walk(LINEAR).host
        assert host is not None
        assert shadowed_address(vm, paging, LINEAR) == host


def test_tables_in_the_first_2_mib_take_longer_for_there_nested_pages_are_small() -> None:
    with run(NestedPaging()) as vm:
        walk = vm.walk(0xB8000)
        lengths = [len(reference.nested) for reference in walk.references]
        assert lengths == [3, 4, 4], "the top table is behind the image, the others are in it"
        assert nested_walk(vm, 0xB8000) == WalkCount(3 + 3 + 4 + 4 + 4, 3, PAGE)


def test_a_shadow_entry_that_is_cleared_in_memory_is_missed() -> None:
    paging = ShadowPaging()
    with run(paging) as vm:
        space = paging.space
        assert space.fence is not None
        vm.machine.memory.zero(space.root - space.fence.tables, PAGE)
        assert shadowed_address(vm, paging, LINEAR) is None
        with pytest.raises(AssertionError, match="is not in the shadow"):
            shadow_walk(vm, paging, LINEAR)


def test_nested_tables_of_small_pages_change_nothing_for_the_guest_and_go_back_to_the_machine() -> None:
    machine, states = vlab.Machine(memory="128M"), set()
    before = dict(machine.frames.allocated)
    for paging in (NestedPaging(), SmallNestedPaging()):
        with vlab.VM("sweep", paging=paging, machine=machine) as vm:
            vm.run(timeout=30)
            states.add((vm.console.text, vm.state_hash()))
        assert machine.frames.allocated == before
    machine.close()
    assert len(states) == 1
