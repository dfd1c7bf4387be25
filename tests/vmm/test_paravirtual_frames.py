"""Direct paging: a paravirtual guest that lies about its page tables is refused, not believed."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.vmm.paravirtual_lab import (
    BEGIN,
    MEMORY,
    RESULTS,
    TRAPPED,
    Place,
    call,
    done,
    fetch,
    keep,
    linear,
    page,
    results,
    run,
    store,
)
from vlab.vmm.paravirtual.interface import KERNEL_BASE, MONITOR_BASE, Call

EINVAL, EBUSY = -1, -3
A, B, DIRECTORY, TABLE = page(0), page(1), page(2), page(3)
PRESENT, WRITABLE, USER = 1, 2, 4


def map_page(place: Place, gpa: int, entry: int) -> bytes:
    """Have a page of the kernel's mapping be this entry; machine addresses."""
    return call(Call.UPDATE_VA_MAPPING, linear(gpa), entry)


def read_only(place: Place, gpa: int) -> bytes:
    return map_page(place, gpa, place.base + gpa | PRESENT)


def table(entries: dict[int, int]) -> bytes:
    return b"".join(struct.pack("<I", entries.get(index, 0)) for index in range(1024))


def fill(place: Place, gpa: int, entries: dict[int, int]) -> bytes:
    """Stores that make the frame this table; it is zero before."""
    return b"".join(store(linear(gpa) + 4 * index, entry) for index, entry in entries.items())


def kernel_entries(place: Place) -> dict[int, int]:
    return {768: place.base + place.layout.tables | PRESENT | WRITABLE}


def pin_with(place: Place, directory: dict[int, int], contents: dict[int, int] | None = None) -> bytes:
    """Make DIRECTORY and TABLE of these entries, show them read-only, and pin."""
    code = fill(place, DIRECTORY, directory) + fill(place, TABLE, contents or {})
    code += read_only(place, DIRECTORY) + read_only(place, TABLE)
    return code + call(Call.PIN, place.base + DIRECTORY)


LIES: dict[str, Callable[[Place], int]] = {
    "the first frame of the machine": lambda place: PRESENT | WRITABLE,
    "the frame below its own": lambda place: place.base - 4096 | PRESENT,
    "the frame above its own": lambda place: place.base + MEMORY | PRESENT,
    "the last frame of all": lambda place: 0xFFFFF000 | PRESENT,
    "a directory, writable": lambda place: place.base + place.layout.directory | PRESENT | WRITABLE,
    "a table, writable": lambda place: place.base + place.layout.tables | PRESENT | WRITABLE,
    "user access in the kernel's part": lambda place: place.base + A | PRESENT | USER,
    "PWT": lambda place: place.base + A | PRESENT | 1 << 3,
    "PCD": lambda place: place.base + A | PRESENT | 1 << 4,
    "PAT": lambda place: place.base + A | PRESENT | 1 << 7,
    "a global page": lambda place: place.base + A | PRESENT | 1 << 8,
}


@pytest.mark.parametrize("lie", LIES)
def test_an_entry_that_lies_is_refused_and_changes_nothing(lie: str, tmp_path: Path) -> None:
    entry = LIES[lie]

    def calls(place: Place) -> list[bytes]:
        update = store(linear(B), place.entry(A)) + store(linear(B) + 4, entry(place))
        read = fetch(linear(place.layout.tables) + A // 4096 * 4)
        return [
            fetch(linear(A)) + read,
            map_page(place, A, entry(place)),
            update + call(Call.MMU_UPDATE, linear(B), 1),
            read,
        ]

    before, by_address, by_entry, after = results(tmp_path, calls)
    assert (by_address, by_entry) == (EINVAL, EINVAL)
    assert before | 0x60 == after | 0x60  # A and D aside


def test_an_absent_entry_is_in_order_whatever_it_says(tmp_path: Path) -> None:
    assert results(tmp_path, lambda place: [map_page(place, A, 0xFFFFFFFE)]) == [0]


def test_the_monitors_own_frames_are_refused(tmp_path: Path) -> None:
    """The page that is mapped at FC000000h: read where it is, from the monitor's entry of the directory."""

    def calls(place: Place) -> list[bytes]:
        entry = fetch(linear(place.layout.directory) + 4 * (MONITOR_BASE >> 22))
        code = entry + b"\x89\xc1\x83\xc9\x03"  # mov ecx, eax; or ecx, 3
        update = b"\xb8\x07\x00\x00\x00\xbb" + struct.pack("<I", linear(A)) + b"\xcd\x82"
        return [code + update]

    assert results(tmp_path, calls) == [EINVAL]


def test_an_address_of_the_monitors_part_has_no_entry_to_update(tmp_path: Path) -> None:
    calls = [call(Call.UPDATE_VA_MAPPING, MONITOR_BASE, 0), call(Call.UPDATE_VA_MAPPING, 0x1000, 0)]
    assert results(tmp_path, lambda place: calls) == [EINVAL, EINVAL]


def test_a_directory_is_pinned_once_its_frame_is_nowhere_writable(tmp_path: Path) -> None:
    def calls(place: Place) -> list[bytes]:
        pin, unpin = (call(number, place.base + DIRECTORY) for number in (Call.PIN, Call.UNPIN))
        write = map_page(place, DIRECTORY, place.base + DIRECTORY | PRESENT | WRITABLE)
        return [
            pin,  # it is writable
            fill(place, DIRECTORY, kernel_entries(place)) + read_only(place, DIRECTORY),
            pin,
            pin,  # again
            write,
            call(Call.LOAD_CR3, place.base + DIRECTORY),
            unpin,
            call(Call.LOAD_CR3, place.base + place.layout.directory),
            unpin,
            unpin,
            write,
            call(Call.LOAD_CR3, place.base + DIRECTORY),
        ]

    assert results(tmp_path, calls) == [EINVAL, 0, 0, EINVAL, EINVAL, 0, EBUSY, 0, 0, EINVAL, 0, EINVAL]


BAD_DIRECTORIES: dict[str, Callable[[Place], tuple[dict[int, int], dict[int, int]]]] = {
    "a page of 4 MB": lambda place: ({0: place.base + TABLE | 0x83}, {}),
    "PWT": lambda place: ({0: place.base + TABLE | 0xB}, {}),
    "PCD": lambda place: ({0: place.base + TABLE | 0x13}, {}),
    "a table in a frame that is not its own": lambda place: ({0: 0x1000 | 3}, {}),
    "itself as a table": lambda place: ({0: place.base + DIRECTORY | 1}, {}),
    "another directory as a table": lambda place: ({0: place.base + place.layout.directory | 1}, {}),
    "a table that is writable elsewhere": lambda place: ({0: place.base + A | 1}, {}),
    "the shared page as a table": lambda place: ({0: place.base + place.layout.shared_info | 1}, {}),
    "another table in the kernel's part": lambda place: ({768: place.base + TABLE | 3}, {}),
    "a table where the kernel's part has none": lambda place: ({800: place.base + TABLE | 3}, {}),
    "user access in the kernel's part": lambda place: ({768: place.base + place.layout.tables | 7}, {}),
    "a table that maps itself writable": lambda place: (
        {0: place.base + TABLE | 7},
        {5: place.base + TABLE | 3},
    ),
    "a table that maps the directory writable": lambda place: (
        {0: place.base + TABLE | 7},
        {5: place.base + DIRECTORY | 7},
    ),
    "a table that maps a foreign frame": lambda place: ({0: place.base + TABLE | 7}, {1023: 0x1001}),
}


@pytest.mark.parametrize("lie", BAD_DIRECTORIES)
def test_a_directory_that_lies_is_not_pinned_and_stays_ordinary_memory(lie: str, tmp_path: Path) -> None:
    def calls(place: Place) -> list[bytes]:
        directory, contents = BAD_DIRECTORIES[lie](place)
        again = [place.base + gpa | PRESENT | WRITABLE for gpa in (DIRECTORY, TABLE)]
        return [
            pin_with(place, directory, contents),
            map_page(place, DIRECTORY, again[0]),
            map_page(place, TABLE, again[1]),
        ]

    assert results(tmp_path, calls) == [EINVAL, 0, 0]


def test_what_is_refused_late_in_a_directory_releases_what_was_taken_before(tmp_path: Path) -> None:
    def calls(place: Place) -> list[bytes]:
        directory = {0: place.base + TABLE | 7, 1: 0x1003}
        write = place.base + TABLE | PRESENT | WRITABLE
        return [pin_with(place, directory), map_page(place, TABLE, write)]

    assert results(tmp_path, calls) == [EINVAL, 0]


def test_the_shared_page_cannot_become_a_directory(tmp_path: Path) -> None:
    """The monitor writes to it, so it would write to a page table."""

    def calls(place: Place) -> list[bytes]:
        shared = place.layout.shared_info
        return [read_only(place, shared), call(Call.PIN, place.base + shared)]

    assert results(tmp_path, calls) == [0, EINVAL]


@pytest.mark.parametrize("address", [0, 1, 0x1000, 0xFFFFF000])
def test_only_frames_of_the_guest_are_pinned_and_loaded(address: int, tmp_path: Path) -> None:
    calls = [call(number, address) for number in (Call.PIN, Call.UNPIN, Call.LOAD_CR3)]
    assert results(tmp_path, lambda place: calls) == [EINVAL] * 3


def test_an_address_inside_a_frame_is_no_frame(tmp_path: Path) -> None:
    def calls(place: Place) -> list[bytes]:
        inside = place.base + place.layout.directory + 4
        return [call(Call.PIN, inside), call(Call.UNPIN, inside), call(Call.LOAD_CR3, inside)]

    assert results(tmp_path, calls) == [EINVAL] * 3


def test_a_batch_goes_up_to_the_first_refusal(tmp_path: Path) -> None:
    def calls(place: Place) -> list[bytes]:
        right = (place.entry(A), place.base + A | PRESENT)
        wrong = {
            "ordinary memory": (place.base + A, 0),
            "not a multiple of 4": (place.entry(A) + 2, 0),
            "not its own": (0x1000, 0),
            "the kernel's part of a directory": (place.slot(place.layout.directory, 800), 0),
            "the monitor's part of a directory": (place.slot(place.layout.directory, 1008), 0),
        }
        pieces = []
        for entry, value in wrong.values():
            words = (*right, *right, entry, value, *right)
            stores = b"".join(store(linear(B) + 4 * n, word) for n, word in enumerate(words))
            pieces.append(stores + call(Call.MMU_UPDATE, linear(B), 4))
        return [*pieces, call(Call.MMU_UPDATE, linear(B), 2), call(Call.MMU_UPDATE, linear(B), 0)]

    assert results(tmp_path, calls) == [2] * 5 + [2, 0]


def test_a_table_in_use_is_read_only_to_the_kernel(tmp_path: Path) -> None:
    """CR0.WP is on, and the error code says: supervisor, write, page present."""

    def program(place: Place) -> bytes:
        return BEGIN + store(place.layout.tables + KERNEL_BASE, 0)

    seen = run(tmp_path, program)
    assert seen.stop.exit_code == TRAPPED
    assert seen.frame[:2] == (14, 3)
    assert seen.shared[2] >> 22 == KERNEL_BASE >> 22


def test_what_the_processor_remembers_of_a_mapping_does_not_outlive_it(tmp_path: Path) -> None:
    """The page was writable and is touched; it becomes read-only without a flush, then a directory."""

    def program(place: Place) -> bytes:
        update = store(linear(B), place.entry(DIRECTORY)) + store(linear(B) + 4, place.base + DIRECTORY | 1)
        code = BEGIN + store(linear(DIRECTORY) + 4 * 768, kernel_entries(place)[768])
        code += update + call(Call.MMU_UPDATE, linear(B), 1) + keep(0)
        code += call(Call.PIN, place.base + DIRECTORY) + keep(1)
        return code + store(linear(DIRECTORY), 0x1003) + done(1)

    seen = run(tmp_path, program)
    assert seen.results[:2] == (1, 0)
    assert (seen.stop.exit_code, seen.frame[0]) == (TRAPPED, 14)


def test_a_table_becomes_plain_when_its_last_reference_goes(tmp_path: Path) -> None:
    def calls(place: Place) -> list[bytes]:
        first = place.layout.directory

        def refer(index: int, entry: int) -> bytes:
            stores = store(linear(B), place.slot(first, index)) + store(linear(B) + 4, entry)
            return stores + call(Call.MMU_UPDATE, linear(B), 1)

        entry, write = place.base + TABLE | 7, map_page(place, TABLE, place.base + TABLE | 3)
        return [
            refer(0, entry),  # TABLE is writable
            read_only(place, TABLE),
            refer(0, entry),
            refer(1, entry),
            write,
            refer(0, 0),
            write,
            refer(1, 0x5554),  # absent, whatever it says
            write,
        ]

    assert results(tmp_path, calls) == [EINVAL, 0, 1, 1, EINVAL, 1, EINVAL, 1, 0]


def test_a_mapping_in_the_lower_part_counts_too(tmp_path: Path) -> None:
    """A frame that a program's table maps writable does not become a directory."""

    def calls(place: Place) -> list[bytes]:
        code = fill(place, TABLE, {3: place.base + DIRECTORY | 7}) + read_only(place, TABLE)
        code += fill(place, DIRECTORY, kernel_entries(place)) + read_only(place, DIRECTORY)
        code += store(linear(B), place.slot(place.layout.directory, 0))
        code += store(linear(B) + 4, place.base + TABLE | 7) + call(Call.MMU_UPDATE, linear(B), 1)
        pin = call(Call.PIN, place.base + DIRECTORY)
        unmap = call(Call.UPDATE_VA_MAPPING, 0x3000, 0)
        through = store(0x3000 + 8, 0x1234) + fetch(linear(DIRECTORY) + 8)
        return [code, through, pin, unmap, pin]

    # 1234h is what the program's mapping put into the directory: an absent entry
    assert results(tmp_path, calls) == [1, 0x1234, EINVAL, 0, 0]


def test_the_monitors_entries_are_filled_whatever_the_guest_put_there(tmp_path: Path) -> None:
    def calls(place: Place) -> list[bytes]:
        mine = linear(DIRECTORY) + 4 * 1008
        entries = kernel_entries(place) | {1008: 0x1003, 1023: 0x2003}
        firsts = fetch(linear(place.layout.directory) + 4 * 1008)
        difference = firsts + b"\x2b\x05" + struct.pack("<I", mine)  # sub eax, [mine]
        mark = b"\x83\xe0\xdf"  # and eax, ~20h: A aside
        return [
            pin_with(place, entries),
            difference + mark,
            fetch(mine + 4 * 15),
            call(Call.UNPIN, place.base + DIRECTORY),
            fetch(mine),
        ]

    assert results(tmp_path, calls) == [0, 0, 0, 0, 0]


def test_results_are_where_the_tests_look(tmp_path: Path) -> None:
    assert results(tmp_path, lambda place: [fetch(linear(RESULTS))]) == [0]
