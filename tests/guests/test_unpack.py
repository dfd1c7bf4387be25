"""Payloads unpacked on the host."""

from __future__ import annotations

import builtins
import contextlib
import struct
from collections.abc import Callable
from types import ModuleType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.guests import synthetic
from vlab.errors import UnusableImage
from vlab.guests.loaders import lz4, unpack

TEXT = b"".join(b"line %d of a kernel\n" % n for n in range(200_000))
FORMATS = ["gzip", "xz", "lzma", "bzip2", "lz4", "uncompressed"]


def _unpacked(payload: bytes) -> tuple[str, bytes]:
    form, chunks = unpack.unpack(memoryview(payload), "vmlinuz")
    return form, b"".join(chunks)


@pytest.mark.parametrize("form", FORMATS)
def test_a_payload_is_unpacked_by_its_magic_number(form: str) -> None:
    data = b"\x7fELF" + TEXT if form == "uncompressed" else TEXT
    assert _unpacked(synthetic.pack(form, data)) == (form, data)


@pytest.mark.parametrize("form", FORMATS)
def test_pieces_stay_small(form: str) -> None:
    data = b"\x7fELF" + TEXT
    _, chunks = unpack.unpack(memoryview(synthetic.pack(form, data)), "vmlinuz")
    limit = lz4.BLOCK_MAXIMUM if form == "lz4" else unpack.CHUNK
    assert max(map(len, chunks)) <= limit


def test_a_zstd_payload_is_unpacked_where_python_can() -> None:
    packed = _zstd_compress()(TEXT) + struct.pack("<I", len(TEXT))
    assert _unpacked(packed) == ("zstd", TEXT)


def _zstd_compress() -> Callable[[bytes], bytes]:
    try:
        from compression import zstd
    except ImportError:
        zstandard = pytest.importorskip("zstandard")
        return lambda data: zstandard.ZstdCompressor().compress(data)
    return zstd.compress


def test_without_a_zstd_library_the_payload_is_left_to_the_guest(monkeypatch: pytest.MonkeyPatch) -> None:
    original = builtins.__import__

    def fails(name: str, *rest: object) -> ModuleType:
        if name.startswith(("compression", "zstandard")):
            raise ImportError(name)
        return original(name, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(builtins, "__import__", fails)
    with pytest.raises(unpack.CannotUnpack, match="zstd, which this Python does not read"):
        unpack.unpack(memoryview(b"\x28\xb5\x2f\xfd"), "vmlinuz")


def test_a_format_that_is_unknown_is_shown() -> None:
    with pytest.raises(unpack.CannotUnpack) as caught:
        unpack.unpack(memoryview(b"\x89LZO\0\r\n"), "vmlinuz")
    assert str(caught.value) == "the payload's format is unknown (it starts with 89 4C 5A 4F 00 0D)"


@pytest.mark.parametrize("form", ["gzip", "xz", "lzma", "bzip2"])
def test_a_payload_that_is_cut_off_is_damaged(form: str) -> None:
    payload = synthetic.pack(form, TEXT)
    with pytest.raises(
        UnusableImage, match=rf"^vmlinuz: its {form} payload is damaged \(.*\); get the kernel again$"
    ):
        _unpacked(payload[: len(payload) // 2])


@given(
    st.sampled_from([synthetic.pack(form, TEXT[:3000]) for form in FORMATS]),
    st.lists(st.tuples(st.integers(4, 3000), st.integers(0, 255)), max_size=8),
    st.integers(0, 4000),
)
def test_a_damaged_payload_unpacks_to_something_or_is_refused(
    payload: bytes, damage: list[tuple[int, int]], size: int
) -> None:
    damaged = bytearray(payload[:size])
    for offset, value in damage:
        if offset < len(damaged):
            damaged[offset] = value
    with contextlib.suppress(UnusableImage, unpack.CannotUnpack):
        _unpacked(bytes(damaged))


def test_lz4_copies_a_match_that_overlaps_itself() -> None:
    block = bytes.fromhex("5f766c6162200500b0f007616e64207468656e20736f6d65206c69746572616c73")
    assert lz4.decode_block(block) == b"vlab " * 40 + b"and then some literals"


@pytest.mark.parametrize(
    ("block", "text"),
    [
        (b"", "an lz4 block ends too early"),
        (b"\xf0", "an lz4 block ends too early"),
        (b"\x30ab", "an lz4 block ends too early"),
        (b"\x10a\x02\x00", "an lz4 match goes back 2 bytes of 1"),
        (b"\x10a\x00\x00", "an lz4 match goes back 0 bytes of 1"),
        (b"\x1fa\x01\x00" + b"\xff" * 40000 + b"\0", "an lz4 block unpacks to more than 8 MiB"),
    ],
)
def test_a_damaged_lz4_block_is_refused(block: bytes, text: str) -> None:
    with pytest.raises(ValueError, match=text):
        lz4.decode_block(block)
