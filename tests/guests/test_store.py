"""The cache: what is written is whole, and what is damaged is noticed."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from vlab.errors import UnusableInput
from vlab.guests import store
from vlab.paths import expand


@pytest.fixture(autouse=True)
def _own_directories(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VLAB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("VLAB_DATA", str(tmp_path / "data"))


def test_an_object_is_found_by_its_digest() -> None:
    entry = store.put("vmlinuz", b"kernel")
    assert entry.size == 6
    assert entry.path.name == "vmlinuz"
    assert entry.path.read_bytes() == b"kernel"
    assert store.intact(entry)


@pytest.mark.parametrize("damage", [b"kernal", b"kern", b""])
def test_a_damaged_object_is_noticed_and_replaced(damage: bytes) -> None:
    entry = store.put("vmlinuz", b"kernel")
    entry.path.write_bytes(damage)
    assert not store.intact(entry)
    assert store.put("vmlinuz", b"kernel") == entry
    assert store.intact(entry)


def test_an_object_that_is_gone_is_not_intact() -> None:
    assert not store.intact(store.Entry("vmlinuz", "0" * 64, 6))


def test_a_write_that_fails_leaves_the_old_file_and_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "file"
    store.write_atomically(path, b"old")

    def fails(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fails)
    with pytest.raises(UnusableInput, match="No space left on device"):
        store.write_atomically(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(("variable", "word"), [("VLAB_CACHE", "cache"), ("VLAB_DATA", "data")])
def test_an_unwritable_directory_is_named_with_the_way_out(
    variable: str, word: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    blocker = tmp_path / "a file"
    blocker.write_bytes(b"")
    directory = blocker / "below"
    monkeypatch.setenv(variable, str(directory))
    with pytest.raises(UnusableInput) as caught:
        store.write_atomically(directory / "x", b"")
    assert str(caught.value) == (
        f"{word}: cannot write to {directory} (Not a directory);"
        f" set {variable} to a directory that you can write to"
    )


def test_a_file_that_cannot_be_used_is_named_with_the_reason(tmp_path: Path) -> None:
    with pytest.raises(UnusableInput) as caught:
        store.read_input("initrd", tmp_path / "none")
    assert str(caught.value) == f"initrd: there is no file {tmp_path / 'none'}; check the path"
    with pytest.raises(UnusableInput) as caught:
        store.read_input("disk", tmp_path)
    assert str(caught.value) == f"disk: {tmp_path} is a directory; give the path of a file"


@pytest.mark.skipif(not Path("/dev/zero").exists(), reason="needs a device file")
def test_a_device_is_not_read_for_ever() -> None:
    with pytest.raises(UnusableInput) as caught:
        store.read_input("disk", Path("/dev/zero"))
    assert str(caught.value) == "disk: /dev/zero is not a regular file; copy its contents to one"


def test_a_file_larger_than_any_memory_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "FILE_MAXIMUM", 10)
    (tmp_path / "big").write_bytes(bytes(11))
    with pytest.raises(UnusableInput, match="is larger than 3 GiB, which no guest's memory holds"):
        store.read_input("guest", tmp_path / "big")


@pytest.mark.parametrize("path", ["~nobody-of-this-name/x", "~\0", "x" * 5000])
def test_strange_paths_are_only_not_there(path: str) -> None:
    with pytest.raises(UnusableInput):
        store.read_input("guest", expand(path))
