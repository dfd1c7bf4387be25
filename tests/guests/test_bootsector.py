"""Boot sectors and disk images: handed to the firmware."""

from __future__ import annotations

import pytest

from tests.guests import synthetic
from vlab.errors import UnusableInput
from vlab.guests import loaders
from vlab.guests.loaders import Kind
from vlab.isa.state import CpuState, Mode


def _memory(size: int = 4 << 20) -> memoryview:
    return memoryview(bytearray(size))


def test_a_boot_sector_starts_at_the_reset_vector_with_itself_as_the_disk() -> None:
    image = synthetic.boot_sector()
    loaded = loaders.load(image, _memory())
    assert loaded.kind is Kind.BOOT_SECTOR
    assert loaded.start == CpuState.reset()
    assert loaded.start.mode is Mode.REAL
    assert loaded.disk == image
    assert loaded.description == "boot sector"


def test_a_disk_image_is_filled_up_to_whole_sectors() -> None:
    loaded = loaders.load(synthetic.boot_sector() + b"second sector", _memory())
    assert loaded.disk is not None
    assert len(loaded.disk) == 1024
    assert loaded.disk[512:].rstrip(b"\0") == b"second sector"
    assert loaded.description == "disk image of 1K"


def test_nothing_is_written_to_memory_for_a_boot_sector() -> None:
    memory = _memory()
    loaders.load(synthetic.boot_sector(), memory)
    assert not memory.tobytes().strip(b"\0")


@pytest.mark.parametrize("argument", ["append", "initrd", "disk"])
def test_what_a_boot_sector_cannot_take_is_refused_by_name(argument: str) -> None:
    image = synthetic.boot_sector()
    with pytest.raises(UnusableInput) as caught:
        loaders.load(
            image,
            _memory(),
            cmdline="quiet" if argument == "append" else "",
            initrd=b"x" if argument == "initrd" else None,
            disk=b"x" if argument == "disk" else None,
            name="hello.img",
        )
    assert str(caught.value) == (
        f"{argument}: hello.img is a boot sector or disk image, which the firmware boots by itself;"
        f" leave --{argument} out"
    )


@pytest.mark.parametrize(("size", "text"), [(1 << 20, "1M"), (4 << 30, "4096M")])
def test_a_memory_size_that_no_guest_can_have_is_refused(
    size: int, text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    class View:
        def __len__(self) -> int:
            return size

    from vlab.guests.loaders import ram

    with pytest.raises(UnusableInput) as caught:
        ram.GuestRam(View(), "hello")  # type: ignore[arg-type]
    assert str(caught.value) == (
        f"memory: {text} is not possible; a guest can have from 2M to 3072M"
        " (the addresses above belong to devices)"
    )
