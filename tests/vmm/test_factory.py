from __future__ import annotations

import gc
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import vlab
from vlab.errors import UnusableInput
from vlab.guests import catalogue
from vlab.guests.programs import SPIN, guest
from vlab.machine.machine import Machine
from vlab.vmm import factory
from vlab.vmm.board import EPOCH

MIB = 1 << 20


@pytest.mark.parametrize(
    ("written", "size"),
    [
        ("2M", 2 * MIB), ("128m", 128 * MIB), (" 3 G ", 3 << 30), ("4MiB", 4 * MIB), ("4096kB", 4 * MIB),
        ("16777216", 16 * MIB), (16 * MIB, 16 * MIB), (2 * MIB + 1, 2 * MIB + 4096),
    ],
)  # fmt: skip
def test_sizes_are_read_with_their_units_and_rounded_up_to_pages(written: str | int, size: int) -> None:
    assert factory.memory_size(written) == size


@given(st.text(max_size=8))
def test_any_text_is_a_size_or_refused_in_one_line(text: str) -> None:
    try:
        size = factory.memory_size(text)
    except UnusableInput as refusal:
        message = str(refusal)
    else:
        assert 2 * MIB <= size <= 3 << 30
        return
    assert "\n" not in message
    assert repr(text) in message


def settings(path: Path, **changes: object) -> factory.Settings:
    options = {
        "monitor": "hardware", "paging": None, "memory": "4M", "initrd": None, "disk": None, "append": None,
        "clock": "deterministic", "trace": "counters", "trace_capacity": 100,
        "devices": None, **changes,
    }  # fmt: skip
    return factory.settings(catalogue.find(path), **options)  # type: ignore[arg-type]


def test_what_is_appended_comes_after_the_guests_own_command_line(tmp_path: Path) -> None:
    made = settings(guest(tmp_path, SPIN), append="quiet")
    assert made.cmdline == "quiet"
    linux = catalogue.find("linux")
    own = factory.settings(
        linux, "none", None, "64M", guest(tmp_path, SPIN), None, "debug", "realtime", "off", 1, None
    )
    assert own.cmdline == f"{catalogue.LINUX_COMMAND_LINE} debug"


def test_a_guest_gets_the_memory_that_suits_it_unless_told_otherwise(tmp_path: Path) -> None:
    assert settings(guest(tmp_path, SPIN), memory=None).memory_bytes == 16 * MIB
    assert settings(guest(tmp_path, SPIN), memory="5M").memory_bytes == 5 * MIB


def test_a_virtual_machine_is_put_together_with_firmware_and_tables(tmp_path: Path) -> None:
    monitor, loaded = factory.build(settings(guest(tmp_path, SPIN)), None)
    ram = monitor.memory.ram
    assert bytes(ram[0xFFFF0:0xFFFF1]) == b"\xea"  # a far jump at the reset vector
    assert b"RSD PTR " in bytes(ram[0xE0000:0x100000])
    assert b"_MP_" in bytes(ram[0xE0000:0x100000])
    assert "Multiboot" in loaded.description
    assert monitor.machine.users == 1
    monitor.machine.close()


def test_the_deterministic_clock_begins_at_the_same_date_each_time(tmp_path: Path) -> None:
    assert factory._epoch("deterministic") == EPOCH
    assert factory._epoch("realtime") > EPOCH
    path = guest(tmp_path, SPIN)
    years = []
    for _ in range(2):
        with vlab.VM(path, memory="4M") as vm:
            ports = vm.vmm.board.ports
            ports.write(0x70, 1, 0x09)
            years.append(ports.read(0x71, 1))
    assert years == [0x26, 0x26]


def test_a_disk_is_filled_up_to_whole_sectors() -> None:
    assert factory._disk(None) is None
    assert [len(factory._disk(bytes(n)) or b"") for n in (0, 1, 512, 513)] == [0, 512, 512, 1024]


def test_a_guest_that_is_refused_takes_nothing_of_a_shared_machine(tmp_path: Path) -> None:
    machine = vlab.Machine("32M")
    before = machine.frames.allocated
    broken = tmp_path / "broken.img"
    broken.write_bytes(b"\x7fELF" + bytes(100))
    for options in ({"clock": "sundial"}, {"monitor": "x"}, {"paging": "x"}, {"memory": "3G"}):
        with pytest.raises(UnusableInput):
            vlab.VM(guest(tmp_path, SPIN), machine=machine, **options)  # type: ignore[arg-type]
    with pytest.raises(UnusableInput):
        vlab.VM(broken, machine=machine, memory="4M")
    assert (machine.frames.allocated, machine.users) == (before, 0)
    machine.close()


def test_a_machine_without_a_block_counter_has_no_deterministic_clock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vlab.machine.helper.load", lambda: None)
    machine = Machine(16 * MIB, counting=False)
    try:
        if not machine.processor.engine.stops.counts:
            with pytest.raises(UnusableInput, match="made without a block counter; use clock='realtime'"):
                vlab.VM(guest(tmp_path, SPIN), memory="4M", machine=machine)
        with vlab.VM(guest(tmp_path, SPIN), memory="4M", machine=machine, clock="realtime") as vm:
            assert vm.run(timeout=0.1).kind == "timeout"
            assert vm.blocks is None or vm.blocks > 0
    finally:
        gc.collect()
        machine.close()


def test_a_strategy_object_is_remembered_only_while_it_serves(tmp_path: Path) -> None:
    from vlab.vmm.paging.nested import NestedPaging

    paging = NestedPaging()
    for _ in range(2):
        vm = vlab.VM(guest(tmp_path, SPIN), memory="4M", paging=paging)
        del vm
        gc.collect()
