"""Snapshot files: written whole or not at all, read back exactly, and refused with one sentence."""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Callable
from pathlib import Path

import pytest

import vlab
from tests.vmm.replay_lab import echo, finish, outcome, run_for
from vlab.errors import UnusableInput
from vlab.guests.catalogue import find
from vlab.guests.programs import SPIN, guest
from vlab.session import VM
from vlab.vmm import monitors
from vlab.vmm.paging.nested import NestedPaging
from vlab.vmm.snapshot_file import FORMAT, MAGIC, SnapshotFileError

_HEADER_AT = 56


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    """A file of a small guest in the middle of its life."""
    path = tmp_path / "moment.vlabsnap"
    with echo(tmp_path) as vm:
        run_for(vm, 2_000_000)
        vm.save(path)
    return path


def refusal(path: Path, **options: object) -> str:
    with pytest.raises(SnapshotFileError) as caught:
        VM.load(path, **options)  # type: ignore[arg-type]
    text = str(caught.value)
    assert text.startswith(f"{path}: ")
    assert "\n" not in text
    return text.removeprefix(f"{path}: ")


# --- there and back ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", monitors.ways_for("hello"), ids="/".join)
def test_a_loaded_guest_goes_on_as_the_saved_one(way: tuple[str, str], tmp_path: Path) -> None:
    path = tmp_path / "moment"
    with echo(tmp_path, monitor=way[0], paging=way[1]) as vm:
        run_for(vm, 2_000_000)
        vm.send("ab")
        vm.save(path)
        with VM.load(path) as other:
            assert (other.monitor, other.paging, other.memory_bytes) == (*way, vm.memory_bytes)
            assert other.state_hash() == vm.state_hash()
            for each in (vm, other):
                each.run(until="ab", timeout=60)
                each.send("cq")
                finish(each)
            assert outcome(other) == outcome(vm)
            assert other.console.text == "abc"


def test_neither_the_image_nor_the_disk_is_needed_again(tmp_path: Path) -> None:
    image, path = tmp_path / "disk.img", tmp_path / "moment"
    image.write_bytes(find("hello").read_kernel() + b"more" * 128)
    with vlab.VM(image) as vm:
        run_for(vm, 100_000)
        vm.save(path)
        image.unlink()
        with VM.load(path) as other:
            assert other.guest.name == "disk.img"
            assert other.loaded.description == vm.loaded.description
            assert other.loaded.disk == vm.loaded.disk
            for each in (vm, other):
                finish(each)
            assert outcome(other) == outcome(vm)


def test_what_was_set_for_the_saved_vm_holds_for_the_loaded_one(tmp_path: Path) -> None:
    path = tmp_path / "moment"
    options = {"memory": "6M", "clock": "realtime", "trace": "full", "trace_capacity": 77}
    with vlab.VM(guest(tmp_path, SPIN), **options) as vm:  # type: ignore[arg-type]
        vm.save(path)
    with VM.load(path) as vm:
        assert (vm.memory_bytes, vm.clock, vm.vmm.recorder.level) == (6 << 20, "realtime", "full")
        assert vm.vmm.recorder.capacity == 77
    with VM.load(path, trace="off") as vm:
        assert vm.vmm.recorder.level == "off"


def test_a_strategy_of_the_users_own_is_given_again(tmp_path: Path) -> None:
    class Mine(NestedPaging):
        name = "mine"

    path = tmp_path / "moment"
    with vlab.VM(guest(tmp_path, SPIN), memory="4M", paging=Mine()) as vm:
        run_for(vm, 1000)
        vm.save(path)
        state = vm.state_hash()
    with pytest.raises(
        UnusableInput, match=r"^paging: 'mine' does not go with the monitor hardware; choose "
    ):
        VM.load(path)
    with VM.load(path, paging=Mine()) as vm:
        assert vm.state_hash() == state
    with pytest.raises(UnusableInput, match=r"^snapshot: it was taken with paging 'mine' and this VM has "):
        VM.load(path, paging=NestedPaging())


def test_a_loaded_vm_can_share_a_machine_and_have_a_history(saved: Path) -> None:
    machine = vlab.Machine("16M")
    with VM.load(saved, machine=machine, history=True) as one, VM.load(saved, machine=machine) as two:
        assert one.machine is two.machine is machine
        for vm in (one, two):
            vm.run(exits=50)
        one.step_back()
        one.step()
        assert outcome(one) == outcome(two)
    machine.close()


def test_equal_moments_make_equal_files(saved: Path, tmp_path: Path) -> None:
    with echo(tmp_path) as vm:
        run_for(vm, 2_000_000)
        vm.save(tmp_path / "again")
    assert (tmp_path / "again").read_bytes() == saved.read_bytes()


def test_a_file_is_much_smaller_than_the_memory(tmp_path: Path) -> None:
    with vlab.VM(guest(tmp_path, SPIN), memory="512M") as vm:
        vm.save(tmp_path / "moment")
    assert (tmp_path / "moment").stat().st_size < 100_000


# --- what is no snapshot ----------------------------------------------------------------------------------


def test_another_file_is_no_snapshot(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"")
    assert refusal(path) == "this is no vlab snapshot: it is empty; vm.save(path) writes one"
    path.write_bytes(b"\x7fELF and so on")
    assert refusal(path) == (
        "this is no vlab snapshot: it starts with the bytes 7F 45 4C 46 20 61 6E 64 (.ELF and); "
        "vm.save(path) writes one"
    )
    assert refusal(tmp_path / "none") == "the snapshot cannot be read: No such file or directory"
    assert refusal(tmp_path) == "the snapshot cannot be read: Is a directory"


def test_a_newer_format_is_named(saved: Path) -> None:
    content = bytearray(saved.read_bytes())
    content[8:10] = (FORMAT + 1).to_bytes(2, "little")
    saved.write_bytes(content)
    assert refusal(saved) == (
        f"the snapshot has format {FORMAT + 1}, and this vlab reads up to {FORMAT}: use a newer vlab"
    )


def test_a_file_cut_short_anywhere_is_noticed(saved: Path) -> None:
    content = saved.read_bytes()
    for length in (9, 20, _HEADER_AT, 500, len(content) // 2, len(content) - 1):
        saved.write_bytes(content[:length])
        expected = f" of {len(content):,}" if length >= _HEADER_AT else ""
        assert refusal(saved) == (
            f"the snapshot is cut short: {length:,}{expected} bytes are there; copy it again"
        )


def test_a_changed_byte_anywhere_is_noticed(saved: Path) -> None:
    content = saved.read_bytes()
    header_length = struct.unpack_from("<I", content, 12)[0]
    sections = json.loads(content[_HEADER_AT : _HEADER_AT + header_length])["sections"]
    places = {"header": _HEADER_AT + 5}
    start = _HEADER_AT + header_length
    for name in ("registers", "console", "debug console", "disk", "frames", "pages"):
        places[f"section '{name}'"] = start + sections[name]["length"] // 2
        start += sections[name]["length"]
    assert start == len(content)
    for what, place in places.items():
        changed = bytearray(content)
        changed[place] ^= 0x10
        saved.write_bytes(changed)
        assert refusal(saved) == (
            f"the snapshot was changed since it was written: the checksum of its {what} does not match"
        )
    saved.write_bytes(content + b"x")
    assert refusal(saved).startswith("the snapshot was changed since it was written: ")


def edited(path: Path, change: Callable[[dict[str, object]], object]) -> Path:
    """Write the file again with another header, checksums and all."""
    content = path.read_bytes()
    magic, version, flags, length, _, _ = struct.unpack_from("<8sHHIQ32s", content)
    assert magic == MAGIC
    header, rest = json.loads(content[_HEADER_AT : _HEADER_AT + length]), content[_HEADER_AT + length :]
    change(header)
    text = json.dumps(header).encode()
    total = _HEADER_AT + len(text) + len(rest)
    prefix = struct.pack("<8sHHIQ32s", magic, version, flags, len(text), total, hashlib.sha256(text).digest())
    path.write_bytes(prefix + text + rest)
    return path


@pytest.mark.parametrize(
    "change",
    [
        lambda header: header.clear(),
        lambda header: header.pop("sections"),
        lambda header: header.pop("mark"),
        lambda header: header.update(loaded=[]),
        lambda header: header.update(loaded={"kind": "cake"}),
        lambda header: header.update(registers={"build": 1}),
        lambda header: header.update(msrs=[[1]]),
        lambda header: header.update(state={"halted": "no"}),
        lambda header: header.update(ended=["tired", "", None]),
        lambda header: header.update(waiting=[[1, "no hex"]]),
        lambda header: header["sections"]["pages"].update(size=1),
        lambda header: header["sections"]["pages"].update(size=1 << 60),
        lambda header: header["sections"].pop("frames"),
        lambda header: header.update(memory_bytes=1 << 20),
        lambda header: header["mark"].update(counts="many"),
    ],
)
def test_a_header_that_makes_no_sense_is_refused(
    saved: Path, change: Callable[[dict[str, object]], object]
) -> None:
    with pytest.raises(UnusableInput) as caught:
        VM.load(edited(saved, change))
    assert "\n" not in str(caught.value)


def test_a_snapshot_of_another_emulator_build_is_refused(saved: Path) -> None:
    def change(header: dict[str, dict[str, object]]) -> None:
        header["registers"]["build"] = "unicorn-3.0/0000"

    with pytest.raises(UnusableInput, match=r"restore it with the unicorn release that it was taken with$"):
        VM.load(edited(saved, change))  # type: ignore[arg-type]


def test_a_chip_saved_by_another_version_is_refused(saved: Path) -> None:
    def change(header: dict[str, dict[str, dict[str, object]]]) -> None:
        header["devices"]["pit"]["version"] = 99

    with pytest.raises(UnusableInput, match=r"^PitState: saved as version 99, this vlab reads version \d+; "):
        VM.load(edited(saved, change))  # type: ignore[arg-type]


def test_a_refused_file_leaves_no_machine_behind(saved: Path) -> None:
    machine = vlab.Machine("16M")
    free = machine.frames.largest
    edited(saved, lambda header: header.update(msrs=[[1]]))
    for _ in range(3):
        with pytest.raises(UnusableInput):
            VM.load(saved, machine=machine)
    assert machine.frames.largest == free
    machine.close()


# --- writing ----------------------------------------------------------------------------------------------


def test_a_save_that_fails_leaves_the_old_file_alone(
    saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = saved.read_bytes()

    def full(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    with echo(tmp_path) as vm:
        run_for(vm, 1000)
        with pytest.raises(SnapshotFileError, match=r"cannot be written: No such file or directory$"):
            vm.save(tmp_path / "nowhere" / "moment")
        monkeypatch.setattr("os.fsync", full)
        with pytest.raises(SnapshotFileError) as caught:
            vm.save(saved)
    assert str(caught.value) == f"{saved}: the snapshot cannot be written: No space left on device"
    assert saved.read_bytes() == before
    assert sorted(each.name for each in tmp_path.iterdir()) == ["echo.bin", "moment.vlabsnap"]


def test_a_running_guest_can_be_saved(tmp_path: Path) -> None:
    with echo(tmp_path) as vm:
        vm.start()
        vm.send("hello")
        while "hello" not in vm.console.text:
            vm.save(tmp_path / "moment")
        vm.save(tmp_path / "moment")
        with VM.load(tmp_path / "moment") as other:
            other.send("!q")
            finish(other)
            assert other.console.text == "hello!"
