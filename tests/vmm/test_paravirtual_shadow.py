"""A paravirtual guest over shadow paging: the same transcript, and its tables need not be believed."""

from __future__ import annotations

import random
import struct
from functools import cache
from pathlib import Path

import pytest

import vlab
from tests.vmm.paravirtual_lab import (
    BEGIN,
    MEMORY,
    TRAPPED,
    Place,
    call,
    computer,
    done,
    fetch,
    keep,
    linear,
    open_guest,
    outcome,
    page,
    place_of,
    results,
    run,
    store,
)
from tests.vmm.replay_lab import finish
from tests.vmm.replay_lab import outcome as everything
from vlab.errors import UnusableInput
from vlab.guests.programs import SPIN
from vlab.vmm.paging.shadow import ShadowPaging
from vlab.vmm.paravirtual.interface import MONITOR_BASE, Call
from vlab.vmm.stop import StopKind

EINVAL, EFAULT, EBUSY = -1, -2, -3
A, B, DIRECTORY, TABLE = page(0), page(1), page(2), page(3)
HIGH = 0x40000000
"""A linear address that the guest maps nothing at."""
VARIANTS = ["write-protect", "lazy"]


def kernel(paging: object, **options: object) -> vlab.VM:
    return vlab.VM("wren-paravirt", monitor="paravirtual", paging=paging, **options)  # type: ignore[arg-type]


def shadow(vm: vlab.VM) -> ShadowPaging:
    paging = vm.vmm.tables.paging  # type: ignore[attr-defined]
    assert isinstance(paging, ShadowPaging)
    return paging


# --- the same kernel --------------------------------------------------------------------------------------


@cache
def direct() -> tuple[str, int | None, dict[str, int]]:
    with kernel("direct", append="selftest") as vm:
        stop = vm.run(timeout=120)
        return vm.console.text, stop.exit_code, dict(vm.exits.by_reason())


def test_the_transcript_is_that_of_direct_paging_and_so_are_the_hypercalls() -> None:
    console, status, reasons = direct()
    with kernel("shadow", append="selftest") as vm:
        stop = vm.run(timeout=120)
        assert (vm.console.text, stop.exit_code) == (console, status)
        assert "PASS 68" in console
        seen = dict(vm.exits.by_reason())
        fills = shadow(vm).fills
    assert abs(seen["VMMCALL"] - reasons["VMMCALL"]) <= 5  # a timer's tick more or less
    assert seen["PF"] >= reasons["PF"] + fills > reasons["PF"]


def test_the_big_tlb_is_as_good() -> None:
    with kernel(ShadowPaging("lazy")) as vm:
        vm.run("$ ", timeout=60)
        vm.send("forkwait 5\n")
        assert vm.run("forkwait: 5 children\r\n$ ", timeout=60).kind is StopKind.EXPECTED


def test_an_address_space_is_found_again() -> None:
    with kernel("shadow", append="selftest") as vm:
        vm.run(timeout=120)
        assert shadow(vm).reuses > shadow(vm).flushes // 2


def test_a_shell_answers_beside_another_guest() -> None:
    machine = vlab.Machine("64M")
    with vlab.VM("hello", machine=machine), kernel("shadow", machine=machine) as vm:
        vm.run("$ ", timeout=60)
        vm.send("echo one two | wc\n")
        assert vm.run("1 2 8\r\n$ ", timeout=60).kind is StopKind.EXPECTED
    machine.close()


def test_the_guest_takes_its_own_addresses_for_the_machines(tmp_path: Path) -> None:
    def program(place: Place) -> bytes:
        return b"\x8b\x46\x08" + keep(0) + done()  # mov eax, [esi + 8]

    machine = computer()
    with open_guest(tmp_path, program, machine=machine, paging="shadow") as vm:
        seen = outcome(vm, vm.run(timeout=20))
        assert vm.vmm.memory.hpa
        layout = place_of(vm).layout
        assert vm.registers().cr3 == layout.directory
        walk = vm.walk(linear(A))
        assert (walk.physical, len(walk.references)) == (A, 2)
    assert seen.results[0] == 0


def test_records_tell_a_fill_from_a_fault_of_the_guests(tmp_path: Path) -> None:
    with open_guest(tmp_path, lambda _: BEGIN + done(), trace="full", paging="shadow") as vm:
        vm.run(timeout=20)
        handlers = {each.reason: each.handler for each in vm.exits}
    assert handlers == {"PF": "paging", "VMMCALL": "hypercalls"}


# --- hypercalls -------------------------------------------------------------------------------------------


def map_at_high(place: Place, entry: int) -> bytes:
    """Have TABLE be the table for HIGH, in the directory that is loaded, with one entry."""
    code = store(linear(TABLE), entry)
    code += store(linear(B), place.slot(place.layout.directory, HIGH >> 22)) + store(linear(B) + 4, TABLE | 7)
    return code + call(Call.MMU_UPDATE, linear(B), 1)


def test_a_mapping_is_there_when_it_was_asked_for_and_gone_when_it_was_flushed(tmp_path: Path) -> None:
    def calls(place: Place) -> list[bytes]:
        change = store(linear(B), TABLE) + store(linear(B) + 4, page(5) | 7)
        return [
            store(linear(page(4)), 44) + store(linear(page(5)), 55) + map_at_high(place, page(4) | 7),
            fetch(HIGH),
            change + call(Call.MMU_UPDATE, linear(B), 1),
            call(Call.FLUSH_PAGE, HIGH) + fetch(HIGH),
            call(Call.UPDATE_VA_MAPPING, HIGH, page(4) | 7) + fetch(HIGH),
            change + call(Call.MMU_UPDATE, linear(B), 1) + call(Call.FLUSH_ALL) + fetch(HIGH),
        ]

    assert results(tmp_path, calls, paging="shadow") == [1, 44, 1, 55, 44, 55]


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_table_that_the_guest_maps_writable_may_be_written_and_is_followed(
    variant: str, tmp_path: Path
) -> None:
    def calls(place: Place) -> list[bytes]:
        return [
            store(linear(page(4)), 44) + store(linear(page(5)), 55) + map_at_high(place, page(4) | 7),
            fetch(HIGH),
            store(linear(TABLE), page(5) | 7) + call(Call.FLUSH_PAGE, HIGH) + fetch(HIGH),
        ]

    assert results(tmp_path, calls, paging=ShadowPaging(variant)) == [1, 44, 55]


def test_what_is_refused_is_what_is_not_the_guests(tmp_path: Path) -> None:
    def calls(place: Place) -> list[bytes]:
        return [
            call(Call.PIN, MEMORY),
            call(Call.PIN, A + 4),
            call(Call.PIN, A),
            call(Call.PIN, A),
            call(Call.UNPIN, place.layout.directory),
            call(Call.LOAD_CR3, B),
            call(Call.UNPIN, A),
            call(Call.UNPIN, A),
            store(linear(B), MEMORY) + call(Call.MMU_UPDATE, linear(B), 1),
            store(linear(B), A + 2) + call(Call.MMU_UPDATE, linear(B), 1),
            call(Call.UPDATE_VA_MAPPING, MONITOR_BASE, A | 3),
            call(Call.UPDATE_VA_MAPPING, HIGH, A | 3),
            call(Call.CONSOLE_WRITE, MONITOR_BASE, 4),
            call(Call.CONSOLE_WRITE, 0xD0000000, 4),
        ]

    refused = results(tmp_path, calls, paging="shadow")
    assert refused[:8] == [EINVAL, EINVAL, 0, EINVAL, EBUSY, EINVAL, 0, EINVAL]
    assert refused[8:] == [EINVAL] * 4 + [EFAULT] * 2


def test_an_argument_that_a_program_could_not_write_is_not_written(tmp_path: Path) -> None:
    """A page that the guest's own entry has read-only is so for its monitor."""
    calls = [
        call(Call.UPDATE_VA_MAPPING, linear(A), A | 1) + call(Call.CONSOLE_READ, linear(A), 4),
        call(Call.UPDATE_VA_MAPPING, linear(A), A | 3) + call(Call.CONSOLE_READ, linear(A), 4),
    ]
    with open_guest(
        tmp_path, lambda _: BEGIN + calls[0] + keep(0) + calls[1] + keep(1) + done(), paging="shadow"
    ) as vm:
        vm.send("abcd")
        words = outcome(vm, vm.run(timeout=20)).results
    assert words[0] in (0, EFAULT & 0xFFFFFFFF)
    assert words[1] in (0, 4)


# --- lies -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("frame", [MEMORY, 0x800000, 0xFFFFF000, MONITOR_BASE])
def test_a_frame_that_is_not_its_own_ends_the_guest_that_uses_it(frame: int, tmp_path: Path) -> None:
    def program(place: Place) -> bytes:
        return BEGIN + map_at_high(place, frame | 7) + keep(0) + store(HIGH + 8, 0x666) + done()

    seen = run(tmp_path, program, paging="shadow")
    assert (seen.stop.kind, seen.results[0]) == (StopKind.FAILED, 1)
    assert f"its tables lead to {frame + 8:#x}, where it has no memory" in seen.stop.story


def test_a_table_that_is_not_its_own_ends_the_guest_that_uses_it(tmp_path: Path) -> None:
    def program(place: Place) -> bytes:
        code = store(linear(B), place.slot(place.layout.directory, HIGH >> 22))
        code += store(linear(B) + 4, MEMORY | 7) + call(Call.MMU_UPDATE, linear(B), 1)
        return BEGIN + code + fetch(HIGH) + done()

    seen = run(tmp_path, program, paging="shadow")
    assert seen.stop.kind is StopKind.FAILED
    assert f"its tables lead to {MEMORY:#x}" in seen.stop.story


def test_the_monitors_part_is_the_monitors_whatever_the_directory_says(tmp_path: Path) -> None:
    """The guest puts a table of its own there, for a page of descriptors of its own."""

    def program(place: Place) -> bytes:
        first = MONITOR_BASE >> 22
        code = store(linear(TABLE), A | 7) + store(linear(TABLE) + 4, A | 7)
        code += store(linear(B), place.slot(place.layout.directory, first)) + store(linear(B) + 4, TABLE | 7)
        code += call(Call.MMU_UPDATE, linear(B), 1) + keep(0) + call(Call.FLUSH_ALL)
        code += fetch(MONITOR_BASE + 0x18) + keep(1)  # the low half of HV_KERNEL_CODE's descriptor
        code += b"\x66\xb8\x21\x00\x8e\xd8"  # mov ax, HV_KERNEL_DATA; mov ds, ax
        return BEGIN + code + store(MONITOR_BASE + 8, 0x666)

    seen = run(tmp_path, program, paging="shadow")
    assert seen.results[:2] == (1, 0x0000FFFF)
    assert seen.stop.exit_code == TRAPPED
    assert (seen.frame[:2], seen.shared[2]) == ((14, 3), MONITOR_BASE + 8)


@pytest.mark.parametrize("offset", [0x1000, 0x200000, 0x3FFFFFC])
def test_there_is_nothing_else_in_the_monitors_part(offset: int, tmp_path: Path) -> None:
    def program(place: Place) -> bytes:
        code = store(linear(TABLE) + 4, A | 7)
        for index in range(MONITOR_BASE >> 22, 1024):
            code += store(linear(place.layout.directory) + 4 * index, TABLE | 7)
        entry = call(
            Call.UPDATE_VA_MAPPING, linear(place.layout.directory), place.layout.directory | 3
        )  # it maps its directory writable, and writes to it
        return BEGIN + entry + code + call(Call.FLUSH_ALL) + fetch(MONITOR_BASE + offset) + done()

    seen = run(tmp_path, program, paging="shadow")
    assert seen.stop.exit_code == TRAPPED
    assert (seen.frame[:2], seen.shared[2]) == ((14, 0), MONITOR_BASE + offset)


@pytest.mark.parametrize("seed", range(12))
def test_whatever_is_in_the_tables_the_neighbours_memory_is_not_touched(seed: int, tmp_path: Path) -> None:
    """Directories and tables of noise, loaded, written to by hypercall and by store, and used."""
    noise = random.Random(seed)
    contents = {page(2 + n): noise.randbytes(4096) for n in range(6)}
    addresses = [noise.randrange(1 << 32) & ~3 for _ in range(24)]

    def program(place: Place) -> bytes:
        code = BEGIN
        for n in range(6):
            code += call(Call.PIN, page(2 + n))
        for n, address in enumerate(addresses):
            entry = noise.randrange(1 << 32)
            code += store(linear(page(2 + n % 6)) + 4 * noise.randrange(768), entry | 7)
            code += store(linear(B), page(2 + n % 6) + 4 * noise.randrange(768))
            code += store(linear(B) + 4, noise.randrange(1 << 10) << 12 | 7)
            code += call(Call.MMU_UPDATE, linear(B), 1)
            code += store(linear(page(2 + n % 6)) + 0xC00, place.layout.tables | 3)
            code += call(Call.LOAD_CR3, page(2 + n % 6)) + store(address, entry)
        return code + done()

    machine = vlab.Machine("24M")
    with vlab.VM("hello", machine=machine, memory="4M") as neighbour:
        neighbour.run(timeout=20)
        before = neighbour.state_hash()
        with open_guest(tmp_path, program, contents, machine=machine, paging="shadow") as vm:
            stop = vm.run(timeout=20)
            area = vm.vmm.tables._area.table + 4096  # type: ignore[attr-defined]
            descriptors = machine.memory.read_bytes(area, 56)
        assert stop.kind in (StopKind.EXIT, StopKind.FAILED)
        assert neighbour.state_hash() == before
    assert struct.unpack("<7Q", descriptors)[3] == 0x00CFBB000000FFFF
    machine.close()


# --- snapshots --------------------------------------------------------------------------------------------


def test_a_snapshot_goes_on_at_another_machine_address() -> None:
    machine = vlab.Machine("64M")
    with (
        kernel("shadow", append="selftest", machine=machine) as vm,
        kernel("shadow", append="selftest", machine=machine) as other,
    ):
        vm.run("process.many_children_run_at_once", timeout=60)
        middle = vm.snapshot()
        vm.run("memory.fork_shares_frames", timeout=60)
        later = everything(vm)
        vm.restore(middle)
        other.restore(middle)
        for each in (vm, other):
            each.run("memory.fork_shares_frames", timeout=60)
            assert everything(each) == later
        finish(other)
        assert "PASS 68" in other.console.text
    machine.close()


def test_a_snapshot_of_direct_paging_does_not_fit() -> None:
    with kernel("direct") as vm, kernel("shadow") as other:
        moment = vm.snapshot()
        with pytest.raises(UnusableInput, match="it was taken with paging 'direct' and this VM has 'shadow'"):
            other.restore(moment)


def test_closing_gives_all_frames_back(tmp_path: Path) -> None:
    machine = vlab.Machine("16M")
    for _ in range(8):
        with open_guest(tmp_path, lambda _: BEGIN + SPIN, machine=machine, paging="shadow") as vm:
            vm.run(exits=2)
            assert shadow(vm).table_frames
    whole = machine.frames.allocate(16 << 20)
    machine.frames.free(whole)
    machine.close()
