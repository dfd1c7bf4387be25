"""The bare machine, and what it must have in common with a monitor: the guest's view of the computer."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

import vlab
from vlab.guests.programs import CPUID, SCRATCH, count_down, guest, increment, leave, sector, timer
from vlab.session import StopKind

BOTH = pytest.mark.parametrize("monitor", ["none", "hardware"])


def probe(address: int) -> bytes:
    """Read a word, write another one there, read it again: both readings go to SCRATCH."""
    place = struct.pack("<I", address)
    return (
        b"\xa1" + place + b"\xa3\x00\x80\x00\x00"  # mov eax, [address]; mov [8000h], eax
        + b"\xc7\x05" + place + bytes.fromhex("44 33 22 11")  # mov dword ptr [address], 11223344h
        + b"\xa1" + place + b"\xa3\x04\x80\x00\x00"  # mov eax, [address]; mov [8004h], eax
        + leave(0)
    )  # fmt: skip


def readings(vm: vlab.VM) -> tuple[int, int]:
    first, second = struct.unpack("<II", vm.memory[SCRATCH : SCRATCH + 8])
    return first, second


@BOTH
@pytest.mark.parametrize(
    "address", [0xFFFF0, 0xF0000, 0xFFFFFFF0, 0xC8000], ids=["reset vector", "ROM", "ROM below 4G", "cards"]
)
def test_the_firmware_takes_no_writes_and_stays_readable(tmp_path: Path, monitor: str, address: int) -> None:
    with vlab.VM(guest(tmp_path, probe(address)), memory="4M", monitor=monitor) as vm:
        before = int.from_bytes(vm.memory[address & 0xFFFFF :][:4], "little")
        assert vm.run(timeout=20).kind == StopKind.EXIT
        assert readings(vm) == (before, before)
        assert int.from_bytes(vm.memory[address & 0xFFFFF :][:4], "little") == before


@BOTH
@pytest.mark.parametrize("address", [0xA0000, 0x400000, 0x10000000, 0xFEE01000])
def test_where_nothing_answers_the_bus_reads_as_ones(tmp_path: Path, monitor: str, address: int) -> None:
    with vlab.VM(guest(tmp_path, probe(address)), memory="4M", monitor=monitor) as vm:
        assert vm.run(timeout=20).kind == StopKind.EXIT
        assert readings(vm) == (0xFFFFFFFF, 0xFFFFFFFF)


@BOTH
def test_the_local_apic_answers_in_memory_without_an_exit(tmp_path: Path, monitor: str) -> None:
    with vlab.VM(guest(tmp_path, probe(0xFEE00080)), memory="4M", monitor=monitor) as vm:  # task priority
        assert vm.run(timeout=20).kind == StopKind.EXIT
        assert readings(vm) == (0, 0x44)
        assert "NPF" not in dict(vm.exits.by_reason())


A20 = bytes.fromhex(
    "FA 31 C0 8E D8 48 8E C0"  # cli; xor ax, ax; mov ds, ax; dec ax; mov es, ax: FFFF
    "C6 06 00 05 11 26 C6 06 10 05 22"  # mov byte [500h], 11h; mov byte es:[510h], 22h (100500h)
    "A0 00 05 A2 02 05"  # mov al, [500h]; mov [502h], al
    "30 C0 E6 92 B0 D1 E6 64 B0 DD E6 60"  # out 92h, 0; out 64h, D1h; out 60h, DDh
    "26 C6 06 10 05 33 A0 00 05 A2 03 05"  # mov byte es:[510h], 33h; mov al, [500h]; mov [503h], al
    "B0 02 E6 92 26 A0 10 05 A2 04 05"  # out 92h, 2; mov al, es:[510h]; mov [504h], al
    "30 C0 E6 F4 EB FE"  # out F4h, 0
)


@BOTH
def test_the_second_megabyte_folds_onto_the_first_while_a20_is_low(tmp_path: Path, monitor: str) -> None:
    path = tmp_path / "a20.img"
    path.write_bytes(sector(A20))
    with vlab.VM(path, memory="4M", monitor=monitor) as vm:
        assert vm.run(timeout=20).kind == StopKind.EXIT
        assert bytes(vm.memory[0x502:0x505]) == b"\x11\x33\x22"


def test_the_bare_machine_counts_no_exits_and_shows_no_hypervisor(tmp_path: Path) -> None:
    code = b"\xb8\x01\x00\x00\x00" + CPUID + b"\x89\x0d\x00\x80\x00\x00" + leave(0)  # mov [8000h], ecx
    seen = {}
    for monitor in ("none", "hardware"):
        with vlab.VM(guest(tmp_path, code), memory="4M", monitor=monitor) as vm:
            vm.run(timeout=20)
            seen[monitor] = readings(vm)[0]
            assert (vm.exits.total == 0) is (monitor == "none")
    assert seen["none"] == seen["hardware"] & ~(1 << 31)
    assert seen["hardware"] >> 31


def test_interrupts_are_counted_and_recorded_without_a_monitor_too(tmp_path: Path) -> None:
    code = timer(then=count_down(500_000, increment(SCRATCH + 8)) + leave(0), hertz=1000)
    with vlab.VM(guest(tmp_path, code), memory="4M", monitor="none", trace="full") as vm:
        vm.run(timeout=60)
        events = vm.exits.events()
        taken = events[events["kind"] == "INTERRUPT"]
        assert vm.interrupts_delivered == len(taken) > 3
        assert set(taken["info1"]) == {0x20}
        assert set(events["kind"]) == {"INTERRUPT", "IO"}


@pytest.mark.parametrize("seed", range(3))
def test_time_passes_as_under_a_monitor(tmp_path: Path, seed: int) -> None:
    """Exits that bare hardware would not have do not show in the guest's time: MMIO, ROM writes, holes."""
    address = (0xA0000, 0xFFFF0, 0xFEE00080)[seed]
    body = b"\xa1" + struct.pack("<I", address) + b"\x0f\x31"  # mov eax, [address]; rdtsc
    body += b"\x01\x05\x00\x80\x00\x00" + b"\xc7\x05" + struct.pack("<II", address, seed)  # add [8000h], eax
    code = count_down(50, body) + leave(0)
    ends = set()
    for monitor in ("none", "hardware"):
        with vlab.VM(guest(tmp_path, code), memory="4M", monitor=monitor) as vm:
            vm.run(timeout=60)
            ends.add((vm.virtual_time_ns, readings(vm), vm.state_hash()))
    assert len(ends) == 1
