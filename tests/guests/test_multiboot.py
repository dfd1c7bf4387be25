"""Multiboot 1: what the kernel finds in its registers and behind EBX."""

from __future__ import annotations

import struct

import pytest

from tests.guests import synthetic
from vlab.errors import UnusableImage
from vlab.guests import loaders
from vlab.guests.loaders import Kind, Loaded
from vlab.guests.loaders.multiboot import Information
from vlab.isa.state import Mode

AT = 0x100000
MIB = 1 << 20


def _load(image: bytes, size: int = 8 * MIB, **arguments: object) -> tuple[Loaded, memoryview]:
    memory = memoryview(bytearray(b"\xcc" * size))
    return loaders.load(image, memory, name="kernel", **arguments), memory  # type: ignore[arg-type]


def _kernel(flags: int = 0) -> bytes:
    return synthetic.elf(
        32, [synthetic.Part(AT, synthetic.multiboot_header(flags) + b"code", 0x2000)], entry=AT + 12
    )


def _text(memory: memoryview, address: int) -> bytes:
    return memory[address : address + 256].tobytes().split(b"\0", 1)[0]


def test_an_elf_kernel_starts_in_flat_protected_mode_with_the_magic_number() -> None:
    loaded, memory = _load(_kernel())
    assert loaded.kind is Kind.MULTIBOOT
    assert loaded.start.mode is Mode.PROTECTED32
    assert loaded.start.rip == AT + 12
    assert loaded.start.rax == 0x2BADB002
    assert not loaded.start.rflags & 0x200
    assert (loaded.start.cs.base, loaded.start.cs.limit) == (0, 0xFFFFFFFF)
    assert memory[AT + 12 : AT + 16] == b"code"
    assert not memory[AT + 16 : AT + 0x2000].tobytes().strip(b"\0")
    assert memory[AT + 0x2000] == 0xCC


def test_the_information_names_memory_and_boot_loader() -> None:
    loaded, memory = _load(_kernel())
    info = Information(memory, loaded.start.rbx)
    assert info.flags == 0b10_0100_0001
    assert (info.mem_lower, info.mem_upper) == (636, 7 * 1024)
    assert _text(memory, info.boot_loader_name) == b"vlab"


def test_the_memory_map_lists_ram_around_the_hole() -> None:
    loaded, memory = _load(_kernel())
    info = Information(memory, loaded.start.rbx)
    raw = memory[info.mmap_addr : info.mmap_addr + info.mmap_length]
    entries = [struct.unpack_from("<IQQI", raw, offset) for offset in range(0, len(raw), 24)]
    assert all(entry[0] == 20 for entry in entries)
    ram = [(base, length) for _, base, length, kind in entries if kind == 1]
    assert ram == [(0, 0x9F000), (MIB, 7 * MIB)]


def test_the_command_line_arrives_as_given() -> None:
    loaded, memory = _load(_kernel(), cmdline="verbose test=3")
    info = Information(memory, loaded.start.rbx)
    assert info.flags & 4
    assert _text(memory, info.cmdline) == b"verbose test=3"


def test_an_initrd_becomes_the_only_module_on_a_page() -> None:
    loaded, memory = _load(_kernel(flags=1), initrd=b"module contents")
    info = Information(memory, loaded.start.rbx)
    assert info.flags & 8
    assert info.mods_count == 1
    start, end, string, _ = struct.unpack_from("<4I", memory, info.mods_addr)
    assert start % 4096 == 0
    assert memory[start:end] == b"module contents"
    assert _text(memory, string) == b""


def test_a_64_bit_elf_file_is_entered_in_32_bit_mode() -> None:
    image = synthetic.elf(64, [synthetic.Part(AT, synthetic.multiboot_header() + b"code")])
    loaded, _ = _load(image)
    assert loaded.start.mode is Mode.PROTECTED32
    assert loaded.description == "Multiboot 1 (ELF 64-bit), entry 0x100000"


def test_addresses_in_the_header_say_what_goes_where() -> None:
    header = synthetic.multiboot_header(addresses=(AT + 64, AT, AT + 128, AT + 256, AT + 4))
    image = b"J" * 64 + (b"S" * 64 + header).ljust(200, b"T")
    loaded, memory = _load(image)
    assert loaded.start.rip == AT + 4
    assert memory[AT : AT + 64] == b"S" * 64
    assert memory[AT + 64 : AT + 96] == header
    assert memory[AT + 96 : AT + 128] == b"T" * 32
    assert memory[AT + 128 : AT + 256] == bytes(128)
    assert memory[AT + 256] == 0xCC


def test_a_load_end_of_zero_means_the_whole_file() -> None:
    header = synthetic.multiboot_header(addresses=(AT, AT, 0, 0, AT))
    _, memory = _load(header + b"all of it")
    assert memory[AT + 32 : AT + 41] == b"all of it"


@pytest.mark.parametrize(
    ("image", "text"),
    [
        (
            synthetic.multiboot_header(flags=8) + bytes(64),
            "kernel: its Multiboot header requires features 0x0008, which Multiboot 1 does not define",
        ),
        (
            synthetic.multiboot_header() + bytes(64),
            "kernel: has a Multiboot header without load addresses (flag 16) and is no ELF executable",
        ),
        (
            synthetic.multiboot_header(addresses=(AT, AT, AT + 500, 0, AT)),
            "kernel: is truncated: its Multiboot header promises 500 bytes, the file has 32",
        ),
        (
            synthetic.multiboot_header(addresses=(AT, AT, AT + 32, 0, AT + 0x5000)),
            "kernel: the entry point 0x105000 in its Multiboot header is outside the image 0x100000-0x100020",
        ),
        (
            synthetic.multiboot_header(addresses=(AT, AT + 4, 0, 0, AT)),
            (
                "kernel: the addresses in its Multiboot header contradict each other"
                " (header 0x100000 at byte 0x0, load 0x100004-0x0)"
            ),
        ),
        (
            synthetic.multiboot_header(addresses=(0xA0000, 0xA0000, 0, 0, 0xA0000)),
            (
                "kernel: the Multiboot image at 0xa0000-0xa0020 is not in memory that a guest is loaded to:"
                " 0x1000-0x9f000 and from 0x100000"
            ),
        ),
        (
            synthetic.multiboot_header(addresses=(AT, AT, 0, 16 * MIB, AT)),
            (
                "kernel: the Multiboot image at 0x100000-0x1000000 does not fit into 8M of memory;"
                " give the guest at least 16M"
            ),
        ),
        (
            synthetic.multiboot_header(addresses=(0x9A000, 0x9A000, 0, 0, 0x9A000)),
            (
                "kernel: the Multiboot information at 0x9a000-0x9c000 and the Multiboot image"
                " at 0x9a000-0x9a020 overlap"
            ),
        ),
    ],
)
def test_a_header_that_cannot_be_honoured_is_refused_with_the_reason(image: bytes, text: str) -> None:
    with pytest.raises(UnusableImage) as caught:
        _load(image)
    assert str(caught.value) == text


def test_a_wish_for_a_video_mode_is_noted() -> None:
    loaded, _ = _load(_kernel(flags=4))
    assert loaded.notes == ("the image asks for a video mode; it gets 80x25 text",)


def test_a_disk_is_passed_on() -> None:
    loaded, _ = _load(_kernel(), disk=bytes(512))
    assert loaded.disk == bytes(512)
