"""Device accesses in the trace: each one once, as an exit or as an event, under every monitor."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import vlab
from vlab.guests.programs import count_down, guest, leave, out
from vlab.trace.events import Kind
from vlab.trace.summary import summarize
from vlab.widgets.accesses import AccessLog

READ_VERSION = bytes.fromhex("A1 30 00 E0 FE")  # mov eax, [FEE00030h]
WRITE_PRIORITY = bytes.fromhex("C7 05 80 00 E0 FE 20 00 00 00")  # mov dword [FEE00080h], 20h
ADD_PRIORITY = bytes.fromhex("83 05 80 00 E0 FE 10")  # add dword [FEE00080h], 10h
READ_FIRMWARE = bytes.fromhex("A1 F0 FF 0F 00")  # mov eax, [FFFF0h]
READ_NOTHING = bytes.fromhex("A1 00 00 D0 FE")  # mov eax, [FED00000h]
IN = bytes.fromhex("E4 61")  # in al, 61h
CODE = (
    READ_VERSION + out(0x80, 7) + WRITE_PRIORITY + ADD_PRIORITY + READ_FIRMWARE + READ_NOTHING + IN + leave(0)
)

MEMORY = [
    (0xFEE00030, 0x50014, 0), (0xFEE00080, 0x20, 1), (0xFEE00080, 0x20, 0), (0xFEE00080, 0x30, 1),
]  # fmt: skip
EVERY = pytest.mark.parametrize(
    "options",
    [
        {"monitor": "none"}, {"paging": "nested"}, {"paging": "shadow"}, {"monitor": "trap-emulate"},
        {"monitor": "binary-translation"},
    ],
    ids=lambda options: "-".join(options.values()),
)  # fmt: skip


def accesses(vm: vlab.VM) -> list[tuple[int, int, int]]:
    """Give the address, the value and the direction of every access that is an event."""
    rows = vm.exits.source.rows()
    found = rows[rows["kind"] == Kind.IO]
    return list(zip(*(found[name].tolist() for name in ("info1", "info2", "flags")), strict=True))


@EVERY
def test_each_access_is_recorded_once(tmp_path: Path, options: dict[str, Any]) -> None:
    with vlab.VM(guest(tmp_path, CODE), memory="4M", trace="full", **options) as vm:
        vm.run(timeout=20)
        found = accesses(vm)
        assert [each for each in found if each[0] > 0xFFFF] == MEMORY
        ports = [each[0] for each in found if each[0] <= 0xFFFF]
        exits = [event.info1 & 0xFFFF for event in vm.exits if event.reason == "IOIO"]
        bare = vm.monitor == "none"
        assert (ports, exits) == (([0x80, 0x61, 0xF4], []) if bare else ([], [0x80, 0x61, 0xF4]))
        summary = summarize(vm.exits)
        assert (summary.accesses, summary.total) == (len(found), vm.exits.total)
        log = AccessLog(vm.devices)
        log.look(vm.exits.source)
        assert [(each[1], each[2], each[4]) for each in log.kept if each[3] == "FEE00080h"] == [
            ("local APIC", "TPR", "writes"), ("local APIC", "TPR", "reads"), ("local APIC", "TPR", "writes"),
        ]  # fmt: skip
        assert [each[3] for each in log.kept] == [
            "FEE00030h", "80h", "FEE00080h", "FEE00080h", "FEE00080h", "61h", "F4h",
        ]  # fmt: skip


@EVERY
def test_below_a_full_trace_nothing_is_in_the_way(tmp_path: Path, options: dict[str, Any]) -> None:
    with vlab.VM(guest(tmp_path, CODE), memory="4M", **options) as vm:
        vm.run(timeout=20)
        assert vm.exits.source.event_counts[Kind.IO] == 0
        monitor = vm.vmm
        for bus in (monitor.board.ports, monitor.board.memory_windows):
            assert monitor._recorded(bus) is bus


@EVERY
def test_a_run_that_was_stopped_on_its_way_records_the_same(tmp_path: Path, options: dict[str, Any]) -> None:
    code = count_down(300, READ_VERSION + WRITE_PRIORITY + ADD_PRIORITY + out(0x80, 7)) + leave(0)
    digests = set()
    for stops in (0, 7):
        with vlab.VM(guest(tmp_path, code), memory="4M", trace="full", **options) as vm:
            for _ in range(stops):  # between two blocks
                there = vm.virtual_time_ns + 20_000
                vm.run(until=lambda vm, there=there: vm.virtual_time_ns > there, timeout=20)
            vm.run(timeout=20)
            assert len(accesses(vm)) >= 300 * len(MEMORY)
            digests.add(vm.exits.digest())
    assert len(digests) == 1


@EVERY
def test_turned_back_time_takes_accesses_along(tmp_path: Path, options: dict[str, Any]) -> None:
    with vlab.VM(guest(tmp_path, CODE), memory="4M", trace="full", **options) as vm:
        start = vm.snapshot()
        vm.run(timeout=20)
        digest = vm.exits.digest()
        vm.restore(start)
        assert accesses(vm) == []
        vm.run(timeout=20)
        assert vm.exits.digest() == digest
