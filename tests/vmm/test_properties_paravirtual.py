"""Resource control where the guest knows its monitor: it may ask for everything, and gets what is its own."""

from __future__ import annotations

import struct
from collections.abc import Iterator

import pytest

from tests.vmm.paravirtual_lab import (
    BEGIN,
    TRAPPED,
    Place,
    Program,
    call,
    done,
    dwords,
    fetch,
    keep,
    linear,
    open_guest,
    outcome,
    page,
    store,
)
from tests.vmm.properties_lab import SECRET, Fortress
from vlab.machine.memory import PAGE
from vlab.vmm import monitors
from vlab.vmm.paravirtual.interface import MONITOR_BASE, Call
from vlab.vmm.stop import Stop, StopKind

WAYS = monitors.ways_for("wren-paravirt")
BATCH, LIAR = page(0), page(2)


@pytest.fixture(scope="module")
def fortress(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fortress]:
    made = Fortress(tmp_path_factory.mktemp("paravirtual"))
    yield made
    made.close()


def attack(
    fortress: Fortress, paging: str, program: Program, contents: dict[int, bytes] | None = None
) -> tuple[Stop, tuple[int, ...], tuple[int, ...]]:
    """Let a guest attack: how it ended, what it kept, and what its handlers found on the stack."""
    fortress.begin()
    machine = fortress.machine
    with open_guest(fortress.directory, program, contents, machine=machine, paging=paging) as vm:
        stop = fortress.run(vm)
        assert SECRET not in bytes(vm.memory)
        seen = outcome(vm, stop)
        return stop, seen.results, seen.frame


def wishes(place: Place, target: int) -> list[bytes]:
    """All the ways to ask for the frame at machine address ``target``."""
    spare = place.entry(page(1))
    update = store(linear(BATCH), spare) + store(linear(BATCH) + 4, target | 3)
    directory = store(linear(BATCH), place.slot(place.layout.directory, 0)) + store(
        linear(BATCH) + 4, target | 7
    )
    return [
        update + call(Call.MMU_UPDATE, linear(BATCH), 1),
        directory + call(Call.MMU_UPDATE, linear(BATCH), 1),
        call(Call.UPDATE_VA_MAPPING, linear(page(1)), target | 3),
        call(Call.UPDATE_VA_MAPPING, linear(page(1)), target | 1),
        call(Call.PIN, target),
        call(Call.LOAD_CR3, target),
        call(Call.UNPIN, target),
    ]


@pytest.mark.parametrize(("_monitor", "paging"), WAYS)
@pytest.mark.parametrize("aim", ["victim", "victim's tables", "host", "monitor", "beyond", "below"])
def test_no_wish_for_a_frame_of_others_is_granted(
    fortress: Fortress, _monitor: str, paging: str, aim: str
) -> None:
    host = fortress.machine.host

    def program(place: Place) -> bytes:
        own = range(place.base // PAGE, (place.base + (4 << 20)) // PAGE)
        target = {
            "victim": fortress.victim_hpa,
            "victim's tables": fortress.victim_hpa + (2 << 20),
            "host": host.page_tables,
            "monitor": next(iter(fortress.taken.difference(own))) * PAGE,
            "beyond": place.base + (4 << 20),
            "below": place.base - PAGE & 0xFFFFF000,
        }[aim]
        pieces = [*wishes(place, target), fetch(linear(page(1)))]
        return BEGIN + b"".join(piece + keep(n) for n, piece in enumerate(pieces)) + done()

    stop, results, frame = attack(fortress, paging, program)
    if paging == "direct":
        assert (stop.kind, stop.exit_code) == (StopKind.EXIT, 0), f"{stop} {frame}"
        assert all(value >> 31 for value in results[:7]), results
    assert stop.kind in (StopKind.EXIT, StopKind.FAILED)
    assert results[7] in (0, 0xFFFFFFFF), "over shadow tables the frame is guest-physical, where nothing is"


@pytest.mark.parametrize(("_monitor", "paging"), WAYS)
def test_a_directory_full_of_lies_is_not_believed(fortress: Fortress, _monitor: str, paging: str) -> None:
    def program(place: Place) -> bytes:
        lies = b"".join(store(linear(LIAR) + 4 * n, (fortress.victim_hpa + PAGE * n) | 7) for n in range(4))
        machine = place.base + LIAR
        unmap = call(Call.UPDATE_VA_MAPPING, linear(LIAR), machine | 1)
        return (
            BEGIN
            + lies
            + unmap
            + call(Call.PIN, machine)
            + keep(0)
            + call(Call.LOAD_CR3, machine)
            + keep(1)
            + done()
        )

    stop, results, frame = attack(fortress, paging, program)
    if paging == "direct":
        assert (stop.kind, stop.exit_code) == (StopKind.EXIT, 0), f"{stop} {frame}"
        assert results[0] >> 31
        assert results[1] >> 31
    assert stop.kind in (StopKind.EXIT, StopKind.FAILED)


TOUCHES = {
    "a load from the monitor's part": lambda address: fetch(address),
    "a store into the monitor's part": lambda address: store(address, 0xDEADBEEF),
    "a jump into the monitor's part": lambda address: b"\xb8" + dwords(address) + b"\xff\xe0",
}


@pytest.mark.parametrize(("_monitor", "paging"), WAYS)
@pytest.mark.parametrize("what", TOUCHES)
def test_the_monitors_part_of_the_address_space_is_closed(
    fortress: Fortress, _monitor: str, paging: str, what: str
) -> None:
    """Its descriptors can be read, for the processor lets SGDT tell where they are; that is all."""
    addresses = [
        MONITOR_BASE,
        MONITOR_BASE + PAGE,
        MONITOR_BASE + 0x1000000,
        0xFF000000,
        0xFF400000,
        0xFFFFFFF0,
    ]
    for address in addresses:
        stop, _, frame = attack(
            fortress, paging, lambda _, address=address: BEGIN + TOUCHES[what](address) + done()
        )
        if stop.exit_code != TRAPPED:
            assert (what, address) == ("a load from the monitor's part", MONITOR_BASE), f"{address:#x} {stop}"
        else:
            assert frame[0] in (13, 14), f"{address:#x}: {frame}"


@pytest.mark.parametrize(("_monitor", "paging"), WAYS)
def test_own_tables_cannot_be_written_to_and_not_by_the_monitor_either(
    fortress: Fortress, _monitor: str, paging: str
) -> None:
    def program(place: Place) -> bytes:
        tables = linear(place.layout.tables)
        typed = call(Call.CONSOLE_READ, tables, 4) + keep(0)
        return BEGIN + typed + store(tables, 0xDEADB000 | 7) + done()

    stop, results, frame = attack(fortress, paging, program)
    if paging == "direct":
        assert (stop.exit_code, frame[:2]) == (TRAPPED, (14, 3)), f"{stop} {frame}"
    assert stop.exit_code in (TRAPPED, 0)
    assert struct.pack("<I", results[0]) in (bytes(4), dwords(-2))


def test_the_victim_ends_as_one_that_nobody_attacked(fortress: Fortress) -> None:
    for _, paging in WAYS:
        attack(fortress, paging, lambda place: BEGIN + b"".join(wishes(place, fortress.victim_hpa)) + done())
    assert fortress.finish() == fortress.undisturbed()
