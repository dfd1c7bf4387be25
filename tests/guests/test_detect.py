"""What the loaders say about files, bootable or not."""

from __future__ import annotations

import gzip

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tests.guests import synthetic
from vlab.errors import UnusableImage, UnusableInput
from vlab.guests import loaders
from vlab.guests.loaders import Kind, detect

ACCEPTED = (
    "vlab boots a boot sector (55 AA at byte 510), Multiboot 1, ELF 32/64 or a Linux kernel (bzImage/vmlinux)"
)


@pytest.mark.parametrize(
    ("image", "kind"),
    [
        (synthetic.boot_sector(), Kind.BOOT_SECTOR),
        (synthetic.boot_sector() + bytes(1 << 20), Kind.BOOT_SECTOR),
        (synthetic.elf(32, [synthetic.Part(0x100000, b"\xf4")]), Kind.ELF32),
        (synthetic.elf(64, [synthetic.Part(0x100000, b"\xf4")]), Kind.ELF64),
        (synthetic.elf(64, [synthetic.Part(0x100000, b"Linux version 6.1")]), Kind.LINUX),
        (synthetic.elf(32, [synthetic.Part(0x100000, synthetic.multiboot_header())]), Kind.MULTIBOOT),
        (synthetic.bzimage(b"payload"), Kind.LINUX),
        (synthetic.bzimage(b"payload", version=0x200), Kind.LINUX),
    ],
    ids=["sector", "disk", "elf32", "elf64", "vmlinux", "multiboot", "bzImage", "zImage"],
)
def test_a_bootable_image_is_recognised_by_its_headers(image: bytes, kind: Kind) -> None:
    assert loaders.identify(image) is kind


@pytest.mark.parametrize(
    ("image", "words"),
    [
        (b"", "nothing: it is empty"),
        (b"\x89PNG\r\n\x1a\n" + bytes(600), "a PNG picture"),
        (b"%PDF-1.7 ...", "a PDF document"),
        (gzip.compress(b"x", mtime=0), "gzip-compressed data; unpack it first"),
        (b"070701" + b"0" * 104, "a cpio archive, as for an initrd"),
        (b"QFI\xfb" + bytes(100), "a qcow2 disk image; convert it to a raw one"),
        (b"MZ" + bytes(1000), "a Windows or UEFI program (MZ)"),
        (b"#!/bin/sh\necho\n", "a script"),
        (b"Dear diary,\nnothing boots today.\n", "text"),
        (bytes(4096), "zeros, and nothing else is in it"),
        (bytes(4096) + b"x", "zeros"),
        (b"\x01\x02\x03", "the bytes 01 02 03 and is only 3 bytes long"),
        (b"\xfa" * 1024, "the bytes FA FA FA FA FA FA FA FA, with FA FA at byte 510"),
        (b"\x7fELF", "an ELF header that is cut off"),
        (
            synthetic.elf(64, [synthetic.Part(0x100000, b"\0")], machine=183),
            "an ELF file for Arm 64, executable",
        ),
        (
            synthetic.elf(64, [synthetic.Part(0x100000, b"\0")], kind=1),
            "an ELF file for x86-64, relocatable (an object file)",
        ),
        (
            b"\xd6\x50\x52\xe8\0\0\0\0\x10\0\0\0\x1a\xaf\xad\x17" + bytes(500),
            "a Multiboot 2 image without a Multiboot 1 header",
        ),
    ],
)
def test_a_file_that_does_not_boot_is_named_for_what_it_is(image: bytes, words: str) -> None:
    with pytest.raises(UnusableImage) as caught:
        loaders.identify(image, "boot.png")
    assert str(caught.value) == f"boot.png starts with {words}; {ACCEPTED}"


def test_the_refusal_ends_the_command_with_status_2() -> None:
    assert UnusableImage.exit_status == 2


MEMORY = memoryview(bytearray(4 << 20))

HEADERS = [
    synthetic.boot_sector(),
    synthetic.elf(32, [synthetic.Part(0x100000, bytes(64))]),
    synthetic.elf(64, [synthetic.Part(0x100000, bytes(64))]),
    synthetic.elf(64, [synthetic.Part(0x100000, b"Linux version 6.1")]),
    synthetic.elf(32, [synthetic.Part(0x100000, synthetic.multiboot_header())]),
    synthetic.multiboot_header(addresses=(0x100000, 0x100000, 0, 0, 0x100000)) + bytes(64),
    synthetic.bzimage(synthetic.pack("gzip", synthetic.kernel_elf())),
    synthetic.bzimage(b"", version=0x203),
]


def _loads_or_refuses(image: bytes) -> None:
    """Load an arbitrary image: it works, or it is refused in one line."""
    try:
        loaders.load(image, MEMORY, name="it")
    except UnusableInput as error:
        text = str(error)
        assert text.startswith("it")
        assert "\n" not in text
        assert not text.endswith(".")


@given(st.binary(max_size=2048))
@example(b"")
def test_random_bytes_are_refused_in_one_line(image: bytes) -> None:
    _loads_or_refuses(image)


@given(st.sampled_from(HEADERS), st.integers(0, 4096))
def test_a_truncated_image_is_refused_in_one_line(image: bytes, size: int) -> None:
    _loads_or_refuses(image[:size])


@given(st.sampled_from(HEADERS), st.lists(st.tuples(st.integers(0, 0x2A0), st.integers(0, 255)), max_size=12))
def test_an_image_with_damaged_headers_is_refused_in_one_line(
    image: bytes, damage: list[tuple[int, int]]
) -> None:
    damaged = bytearray(image)
    for offset, value in damage:
        damaged[offset % len(damaged)] = value
    _loads_or_refuses(bytes(damaged))


@given(st.sampled_from(HEADERS), st.integers(0, 100), st.binary(min_size=1, max_size=64))
def test_random_bytes_over_a_header_are_refused_in_one_line(image: bytes, where: int, noise: bytes) -> None:
    damaged = bytearray(image)
    damaged[where * 8 : where * 8 + len(noise)] = noise
    _loads_or_refuses(bytes(damaged))


def test_header_fields_of_extreme_values_are_refused_in_one_line() -> None:
    extremes = [0, 1, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF, 1 << 40, (1 << 64) - 1]
    for image in HEADERS:
        for offset in range(0, min(len(image), 0x270), 4):
            for value in extremes:
                damaged = bytearray(image)
                damaged[offset : offset + 8] = value.to_bytes(8, "little")
                _loads_or_refuses(bytes(damaged))


def test_describing_any_start_gives_words() -> None:
    for first in range(256):
        assert detect.describe_start(bytes([first]) * 700)
