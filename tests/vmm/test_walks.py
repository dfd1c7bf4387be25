"""A walk of a walk: 24 references for four levels on four, fewer with large pages, and faults told."""

from __future__ import annotations

import pytest

import vlab
from vlab.isa.paging import Fault, PagingControls, PagingMode, Translation
from vlab.vmm.walks import walk_guest, walk_shadow

P, W, U, LARGE = 1, 2, 4, 0x80
ALL = P | W | U


class Memory:
    """Host-physical memory of 8-byte words; guest-physical addresses lie BASE higher."""

    BASE = 0x10_0000_0000

    def __init__(self) -> None:
        self.words: dict[int, int] = {}
        self._next = 0x1000

    def table(self) -> int:
        self._next += 0x1000
        return self._next

    def map(self, root: int, address: int, frame: int, levels: int, base: int = 0) -> None:
        """Map a page in a tree, whose tables lie at `base` + what is in the entries; 1 GiB for levels=2."""
        table = root
        for level in range(4, 4 - levels, -1):
            place = base + table + 8 * (address >> 12 + 9 * (level - 1) & 0x1FF)
            last = level == 4 - levels + 1
            if last:
                self.words[place] = frame | ALL | (LARGE if level > 1 else 0)
            else:
                table = self.words.setdefault(place, self.table() | ALL) & ~0xFFF

    def read(self, address: int, _size: int) -> int:
        return self.words.get(address, 0)


@pytest.fixture
def memory() -> Memory:
    return Memory()


def nested_identity(memory: Memory, levels: int) -> PagingControls:
    """Nested tables that map guest-physical addresses to BASE higher, in pages of the level asked for."""
    root, size = memory.table(), 1 << 12 + 9 * (4 - levels)
    for gpa in range(0, 0x400000, size):
        memory.map(root, gpa, memory.BASE + gpa, levels)
    return PagingControls(PagingMode.LONG, root, nxe=True, wp=True)


LINEAR = 0xFFFF_8000_1234_5678


def guest(memory: Memory, levels: int, frame: int) -> PagingControls:
    root = 0x8000
    memory._next = 0x8000
    memory.map(root, LINEAR, frame, levels, base=memory.BASE)
    return PagingControls(PagingMode.LONG, root, nxe=True, wp=True)


@pytest.mark.parametrize(
    ("guest_levels", "nested_levels", "references"),
    [(4, 4, 24), (4, 3, 19), (4, 2, 14), (3, 4, 19), (2, 2, 8)],
)
def test_four_levels_on_four_take_24_references_and_large_pages_save_some(
    memory: Memory, guest_levels: int, nested_levels: int, references: int
) -> None:
    nested = nested_identity(memory, nested_levels)
    frame = 0x20000 if guest_levels == 4 else 0
    controls = guest(memory, guest_levels, frame)
    walk = walk_guest(
        LINEAR, controls, lambda gpa, size: memory.read(memory.BASE + gpa, size), nested, memory.read
    )
    assert walk.memory_references == references
    assert [reference.step.level for reference in walk.references] == [4, 3, 2, 1][:guest_levels]
    assert walk.physical == frame + LINEAR % (1 << 12 + 9 * (4 - guest_levels))
    assert walk.host == memory.BASE + walk.physical
    assert f"{references} memory references" in str(walk)


def test_without_nested_tables_only_the_guests_own_count(memory: Memory) -> None:
    controls = guest(memory, 4, frame=0x20000)
    walk = walk_guest(
        LINEAR, controls, lambda gpa, size: memory.read(memory.BASE + gpa, size), None, memory.read
    )
    assert walk.memory_references == 4
    assert walk.host == walk.physical == 0x20678


def test_a_guest_fault_is_told_with_its_reason_and_the_way_to_it(memory: Memory) -> None:
    controls = guest(memory, 4, frame=0x20000)
    nested = nested_identity(memory, 4)
    walk = walk_guest(
        LINEAR + 0x40000000,
        controls,
        lambda gpa, size: memory.read(memory.BASE + gpa, size),
        nested,
        memory.read,
    )
    assert isinstance(walk.result, Fault)
    assert (walk.physical, walk.host, walk.last) == (None, None, ())
    assert len(walk.references) == 2
    assert "page fault with error code 0x0" in str(walk)


def test_a_frame_that_the_nested_tables_do_not_map_has_no_host_address(memory: Memory) -> None:
    nested = nested_identity(memory, 4)
    controls = guest(memory, 4, frame=0x7777_0000)
    walk = walk_guest(
        LINEAR, controls, lambda gpa, size: memory.read(memory.BASE + gpa, size), nested, memory.read
    )
    assert isinstance(walk.result, Translation)
    assert (walk.physical, walk.host) == (0x7777_0678, None)
    assert "host-physical" not in str(walk)
    assert "nothing" in str(walk)


def test_the_result_of_each_nested_walk_is_kept(memory: Memory) -> None:
    nested = nested_identity(memory, 3)
    controls = guest(memory, 4, frame=0x7777_0000)
    walk = walk_guest(
        LINEAR, controls, lambda gpa, size: memory.read(memory.BASE + gpa, size), nested, memory.read
    )
    sizes = [reference.nested_result.page_size for reference in walk.references]  # type: ignore[union-attr]
    assert sizes == [2 << 20] * 4
    assert isinstance(walk.last_result, Fault)
    assert "is not present" in walk.last_result.why


def test_what_is_behind_an_address_is_asked_where_no_nested_tables_say_it(memory: Memory) -> None:
    controls = guest(memory, 4, frame=0x20000)
    walk = walk_guest(
        LINEAR, controls, lambda gpa, size: memory.read(memory.BASE + gpa, size), None, memory.read,
        lambda gpa: gpa + memory.BASE,
    )  # fmt: skip
    assert (walk.physical, walk.host) == (0x20678, memory.BASE + 0x20678)


def test_a_shadow_walk_goes_by_the_real_tables_and_through_the_fence(memory: Memory) -> None:
    real = guest(memory, 4, frame=0x20000)
    fence = nested_identity(memory, 4)
    found = walk_shadow(LINEAR, real, fence, memory.read)
    assert found.fenced
    assert found.steps[0].table == memory.BASE + 0x8000
    assert found.host == memory.BASE + 0x20678
    missing = walk_shadow(LINEAR + 0x1000, real, fence, memory.read)
    assert isinstance(missing.result, Fault)
    assert f"Pte at {missing.steps[-1].entry_address:#x} is not present" in missing.result.why
    assert missing.steps[-1].entry_address > memory.BASE


@pytest.mark.parametrize("monitor", ["hardware", "binary-translation"])
def test_a_guest_on_shadow_tables_has_both_walks(monitor: str) -> None:
    with vlab.VM("wren", monitor=monitor, paging="shadow") as vm:
        vm.run(until="$ ", timeout=30)
        walk = vm.walk(0x400000)
        assert walk.shadow is not None
        assert walk.shadow.fenced == (monitor == "hardware")
        assert walk.shadow.host == walk.host
        assert not walk.shadow.foreign
        assert walk.backing == "RAM"
        assert walk.memory_references == len(walk.shadow.steps)
        assert "the processor walks shadow tables" in str(walk)
        assert vm.walk(0xFEC0_0000).backing == ""


def test_a_guest_has_a_shadow_under_shadow_paging_alone() -> None:
    with vlab.VM("hello", paging="nested") as vm:
        assert vm.walk(0x7C00).shadow is None
    with vlab.VM("hello", monitor="none") as vm:
        assert vm.walk(0x7C00).shadow is None
        assert vm.walk(0xFEE0_0000).backing == "device window"
        assert vm.walk(0x9000_0000).host is None
