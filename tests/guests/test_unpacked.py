"""The cache of unpacked kernels: used when it is right, unnoticed when it is not, and never too large."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.guests import synthetic
from vlab.errors import UnusableImage
from vlab.guests import loaders
from vlab.guests.loaders import unpack, unpacked

KERNEL = synthetic.kernel_elf() + bytes(range(256)) * 900


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VLAB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(unpacked, "WORTH_KEEPING", 1)
    monkeypatch.setattr(unpack, "CHUNK", 4096)


@pytest.fixture
def unpackings(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Note each time that a payload is really unpacked."""
    noted: list[str] = []
    original = unpack.unpack

    def noting(payload: memoryview, name: str) -> tuple[str, Iterator[bytes]]:
        form, chunks = original(payload, name)

        def first_noted() -> Iterator[bytes]:
            noted.append(form)
            yield from chunks

        return form, first_noted()

    monkeypatch.setattr(unpack, "unpack", noting)
    return noted


def contents(payload: bytes) -> bytes:
    form, chunks = unpacked.unpacked(memoryview(payload), "vmlinuz")
    assert form in ("gzip", "xz", "uncompressed")
    return b"".join(chunks)


def kept() -> list[Path]:
    return sorted(unpacked.directory().iterdir()) if unpacked.directory().exists() else []


def test_a_payload_is_unpacked_once(unpackings: list[str]) -> None:
    payload = synthetic.pack("xz", KERNEL)
    assert contents(payload) == contents(payload) == contents(payload) == KERNEL
    assert unpackings == ["xz"]
    (file,) = kept()
    assert file.stat().st_size == len(KERNEL) + 32


@pytest.mark.parametrize("damage", ["a bit", "the end", "everything", "the digest", "only the digest left"])
def test_a_damaged_file_is_unpacked_again_and_replaced(damage: str, unpackings: list[str]) -> None:
    payload = synthetic.pack("gzip", KERNEL)
    contents(payload)
    (file,) = kept()
    good = file.read_bytes()
    file.write_bytes(
        {
            "a bit": bytes([good[0] ^ 1]) + good[1:],
            "the end": good[:-100],
            "everything": b"",
            "the digest": good[:-1] + bytes([good[-1] ^ 0x80]),
            "only the digest left": good[-32:],
        }[damage]
    )
    assert contents(payload) == KERNEL
    assert unpackings == ["gzip", "gzip"]
    assert file.read_bytes() == good


def test_what_was_not_read_to_its_end_is_not_kept() -> None:
    _, chunks = unpacked.unpacked(memoryview(synthetic.pack("xz", KERNEL)), "vmlinuz")
    next(chunks)
    assert len(kept()) == 1  # the beginning of a file, under another name
    chunks.close()  # type: ignore[attr-defined]
    assert kept() == []


def test_a_damaged_payload_leaves_nothing() -> None:
    payload = bytearray(synthetic.pack("gzip", KERNEL))
    payload[-6] ^= 1  # in the checksum
    with pytest.raises(UnusableImage, match="its gzip payload is damaged"):
        contents(bytes(payload))
    assert kept() == []


def test_what_is_not_packed_or_small_is_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    assert contents(KERNEL) == KERNEL
    payload = synthetic.pack("gzip", KERNEL)
    monkeypatch.setattr(unpacked, "WORTH_KEEPING", len(payload) + 1)
    assert contents(payload) == KERNEL
    assert kept() == []


def test_a_cache_that_cannot_be_written_to_is_no_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, unpackings: list[str]
) -> None:
    (tmp_path / "file").write_bytes(b"")
    monkeypatch.setenv("VLAB_CACHE", str(tmp_path / "file" / "cache"))
    payload = synthetic.pack("gzip", KERNEL)
    assert contents(payload) == contents(payload) == KERNEL
    assert unpackings == ["gzip", "gzip"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_a_disk_that_fills_up_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    original = Path.open

    def full(path: Path, mode: str = "r", *rest: int) -> object:
        return original(Path("/dev/full"), "wb", 0) if mode == "xb" else original(path, mode, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", full)
        assert contents(synthetic.pack("gzip", KERNEL)) == KERNEL
    assert kept() == []


def test_the_kernels_used_last_are_kept(monkeypatch: pytest.MonkeyPatch, unpackings: list[str]) -> None:
    monkeypatch.setattr(unpacked, "KEPT", 3)
    payloads = [synthetic.pack("gzip", KERNEL + bytes([n])) for n in range(5)]
    used = iter(range(1, 100))

    def use(payload: bytes) -> None:
        before = set(kept())
        contents(payload)
        for file in set(kept()) - before:
            os.utime(file, ns=(0, next(used)))

    for payload in payloads[:3]:
        use(payload)
    use(payloads[0])  # now the one that was used last
    use(payloads[3])
    use(payloads[4])
    assert len(kept()) == 3
    unpackings.clear()
    use(payloads[0])
    assert unpackings == []
    use(payloads[1])
    assert unpackings == ["gzip"]


def test_what_a_killed_process_left_behind_is_deleted() -> None:
    unpacked.directory().mkdir(parents=True)
    old, new = (unpacked.directory() / f".{name}.unpacked.{name}" for name in ("old", "new"))
    for path in (old, new):
        path.write_bytes(b"half")
    os.utime(old, (0, 0))
    contents(synthetic.pack("gzip", KERNEL))
    assert not old.exists()
    assert new.exists()


def test_together_they_have_no_more_than_their_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unpacked, "ROOM", 2 * len(KERNEL) + 100)
    for n in range(4):
        contents(synthetic.pack("gzip", KERNEL + bytes([n])))
    assert len(kept()) == 2


def test_a_kernel_that_is_larger_than_the_room_is_unpacked_and_not_kept(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(unpacked, "ROOM", len(KERNEL) - 1)
    assert contents(synthetic.pack("gzip", KERNEL)) == KERNEL
    assert kept() == []


def test_a_guest_from_the_cache_is_the_same_guest(unpackings: list[str]) -> None:
    image = synthetic.bzimage(synthetic.pack("xz", synthetic.kernel_elf()))
    memories = []
    for _ in range(2):
        memory = memoryview(bytearray(b"\xcc" * synthetic.MEMORY))
        loaded = loaders.load(image, memory, name="vmlinuz")
        memories.append((bytes(memory), loaded.description, loaded.start))
    assert memories[0] == memories[1]
    assert unpackings == ["xz"]
    assert len(kept()) == 1
