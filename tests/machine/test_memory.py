"""Physical memory and the frames handed out of it."""

from __future__ import annotations

import ctypes
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vlab.errors import UnusableInput
from vlab.machine.memory import LARGE_PAGE, PAGE, FrameAllocator, PhysicalMemory


@pytest.fixture
def memory() -> PhysicalMemory:
    return PhysicalMemory(LARGE_PAGE)


@pytest.mark.parametrize("size", [0, -LARGE_PAGE, PAGE, LARGE_PAGE + 1])
def test_a_size_that_is_no_multiple_of_2_mib_is_refused(size: int) -> None:
    with pytest.raises(UnusableInput) as refusal:
        PhysicalMemory(size)
    assert str(refusal.value) == f"memory: {size} is not a positive multiple of 2 MiB; round it up"


def test_more_than_the_host_gives_is_a_user_error() -> None:
    with pytest.raises(UnusableInput, match=r"this computer refuses \d+ MiB .*; ask for less"):
        PhysicalMemory(1 << 56)


def test_python_and_the_processor_share_the_bytes(memory: PhysicalMemory) -> None:
    memory.bytes[0x1234] = 0x5A
    assert ctypes.string_at(memory.address + 0x1234, 1) == b"\x5a"


def test_numbers_are_little_endian(memory: PhysicalMemory) -> None:
    memory.write(8, 4, 0x11223344)
    assert memory.read_bytes(8, 4) == b"\x44\x33\x22\x11"
    assert memory.read(8, 2) == 0x3344


def test_beyond_the_memory_are_ones_and_writes_are_dropped(memory: PhysicalMemory) -> None:
    memory.write(LARGE_PAGE - 2, 4, 0)
    memory.write(LARGE_PAGE, 8, 0)
    memory.write_bytes(LARGE_PAGE - 1, b"ab")
    assert memory.read(LARGE_PAGE, 4) == 0xFFFFFFFF
    assert memory.read_bytes(LARGE_PAGE - 1, 3) == b"\x00\xff\xff"


def test_zero_clears_a_run(memory: PhysicalMemory) -> None:
    memory.write_bytes(0, b"abcd")
    memory.zero(1, 2)
    assert memory.read_bytes(0, 4) == b"a\0\0d"


def test_closing_leaves_a_view_that_is_still_in_use() -> None:
    memory = PhysicalMemory(LARGE_PAGE)
    view = memory.bytes[:4].cast("I")
    memory.close()
    view[0] = 7
    assert view[0] == 7


def test_frames_are_handed_out_lowest_first() -> None:
    frames = FrameAllocator(0, 16 * PAGE)
    assert [frames.allocate() for _ in range(3)] == [0, PAGE, 2 * PAGE]
    assert frames.allocated == {0: PAGE, PAGE: PAGE, 2 * PAGE: PAGE}


def test_an_allocation_is_whole_pages_at_its_alignment() -> None:
    frames = FrameAllocator(PAGE, 64 * PAGE)
    assert frames.allocate(PAGE + 1, 16 * PAGE) == 16 * PAGE
    assert frames.allocated[16 * PAGE] == 2 * PAGE
    assert frames.allocate() == PAGE  # what alignment skipped is not lost


def test_freed_neighbours_are_merged() -> None:
    frames = FrameAllocator(0, 4 * PAGE)
    for _ in range(4):
        frames.allocate()
    for address in (PAGE, 3 * PAGE, 0, 2 * PAGE):
        frames.free(address)
    assert frames.largest == 4 * PAGE
    assert frames.allocate(4 * PAGE) == 0


def test_running_out_says_how_much_is_left() -> None:
    frames = FrameAllocator(0, 4 * PAGE)
    with pytest.raises(UnusableInput) as refusal:
        frames.allocate(5 * PAGE)
    assert str(refusal.value) == (
        "memory: the machine has no free run of 20 KiB (largest: 16 KiB); "
        "give vlab.Machine(memory=...) more, or close a VM"
    )


def test_freeing_what_was_never_given_is_refused() -> None:
    frames = FrameAllocator(0, 4 * PAGE)
    frames.allocate(2 * PAGE)
    with pytest.raises(ValueError, match=r"free\(0x1000\): no allocation starts there"):
        frames.free(PAGE)


@given(st.lists(st.tuples(st.integers(1, 5), st.sampled_from((PAGE, 4 * PAGE)), st.booleans()), max_size=40))
def test_allocations_never_overlap_and_nothing_is_lost(requests: list[tuple[int, int, bool]]) -> None:
    frames = FrameAllocator(0, 64 * PAGE)
    for pages, align, give_back in requests:
        try:
            address = frames.allocate(pages * PAGE, align)
        except UnusableInput:
            continue
        assert address % align == 0
        if give_back:
            frames.free(address)
    runs = sorted(frames.allocated.items())
    assert all(start + size <= after for (start, size), (after, _) in pairwise(runs))
    for address in frames.allocated:
        frames.free(address)
    assert frames.largest == 64 * PAGE


def test_what_frames_are_for_is_told_while_they_are_taken() -> None:
    frames = FrameAllocator(0, 16 * PAGE)
    first, second = frames.allocate(use="RAM"), frames.allocate()
    assert frames.uses == {first: "RAM"}
    frames.free(first)
    frames.free(second)
    assert frames.uses == {}
