"""Plain ELF guests: where their segments go and how they start."""

from __future__ import annotations

import pytest

from tests.guests import synthetic
from tests.guests.synthetic import Part
from vlab.errors import UnusableImage, UnusableInput
from vlab.guests import loaders
from vlab.guests.loaders import Kind, Loaded, layout
from vlab.isa.state import Mode

MIB = 1 << 20


def _load(image: bytes, size: int = 8 * MIB, **arguments: object) -> tuple[Loaded, memoryview]:
    memory = memoryview(bytearray(b"\xcc" * size))
    return loaders.load(image, memory, name="kernel", **arguments), memory  # type: ignore[arg-type]


@pytest.mark.parametrize("bits", [32, 64])
def test_segments_go_to_their_physical_addresses_and_bss_is_cleared(bits: int) -> None:
    image = synthetic.elf(bits, [Part(MIB, b"text", 16), Part(2 * MIB, b"data", 3 * MIB)])
    _, memory = _load(image)
    assert memory[MIB : MIB + 17] == b"text" + bytes(12) + b"\xcc"
    assert memory[2 * MIB : 2 * MIB + 4] == b"data"
    assert memory[2 * MIB + 4 : 5 * MIB] == bytes(3 * MIB - 4)
    assert memory[5 * MIB] == 0xCC


def test_a_32_bit_image_starts_flat_and_unpaged_over_the_loaders_gdt() -> None:
    loaded, memory = _load(synthetic.elf(32, [Part(MIB, b"\xf4" * 32)], entry=MIB + 8))
    state = loaded.start
    assert loaded.kind is Kind.ELF32
    assert (state.mode, state.rip, state.cpl) == (Mode.PROTECTED32, MIB + 8, 0)
    assert (state.cs.selector, state.ss.selector) == (0x10, 0x18)
    assert memory[state.gdtr.base + 0x10 : state.gdtr.base + 0x18] == bytes.fromhex("ffff0000009bcf00")
    assert state.gdtr.limit == 31


def test_a_64_bit_image_starts_in_long_mode_with_the_low_4_gib_mapped_to_themselves() -> None:
    loaded, memory = _load(synthetic.elf(64, [Part(MIB, b"\xf4" * 32)]))
    state = loaded.start
    assert (state.mode, state.rip, state.rflags) == (Mode.LONG64, MIB, 2)
    for address in (0, MIB, 0x12345678, 0xFEE00000, 0xFFFFFFFF):
        assert _walk(memory, state.cr3, address) == address


def _walk(memory: memoryview, table: int, linear: int) -> int:
    """Translate through 2 MiB pages, with arithmetic of this test's own."""
    for shift in (39, 30, 21):
        index = linear >> shift & 511
        entry = int.from_bytes(memory[table + 8 * index : table + 8 * index + 8], "little")
        assert entry & 3 == 3
        table = entry & ~0xFFF
    assert entry & 0x80
    return table + (linear & 0x1FFFFF)


def test_the_command_lines_address_is_in_rdi() -> None:
    loaded, memory = _load(synthetic.elf(64, [Part(MIB, b"\xf4")]), cmdline="fast")
    assert memory[loaded.start.rdi : loaded.start.rdi + 5] == b"fast\0"
    without, _ = _load(synthetic.elf(64, [Part(MIB, b"\xf4")]))
    assert without.start.rdi == 0


def test_an_entry_point_linked_as_a_virtual_address_is_translated() -> None:
    image = synthetic.elf(64, [Part(MIB, b"\xf4" * 64, virtual=0xFFFFFFFF80000000)], entry=0xFFFFFFFF80000010)
    assert _load(image)[0].start.rip == MIB + 16


def test_segments_of_one_image_may_share_bytes() -> None:
    _, memory = _load(synthetic.elf(32, [Part(MIB, b"aaaa", 8), Part(MIB + 4, b"bbbb")]))
    assert memory[MIB : MIB + 8] == b"aaaabbbb"


@pytest.mark.parametrize(
    ("image", "text"),
    [
        (
            synthetic.elf(64, [Part(MIB, b"text")], entry=0x5000),
            "kernel: its ELF entry point 0x5000 lies in none of its segments",
        ),
        (
            synthetic.elf(64, [Part(MIB, b"text", 2)]),
            "kernel: an ELF segment at 0x100000 has 4 bytes in the file for 2 in memory",
        ),
        (
            synthetic.elf(64, [Part(MIB, b"", 0)]),
            "kernel: its ELF header has nothing to load (no PT_LOAD program header)",
        ),
        (
            synthetic.elf(64, [Part(MIB, b"text", 64 * MIB)]),
            (
                "kernel: the ELF image at 0x100000-0x4100000 does not fit into 8M of memory;"
                " give the guest at least 65M"
            ),
        ),
        (
            synthetic.elf(64, [Part(1 << 40, b"text")]),
            (
                "kernel: the ELF image at 0x10000000000-0x10000000004 is not in memory that a guest is"
                " loaded to: 0x1000-0x9f000 and from 0x100000"
            ),
        ),
        (
            synthetic.elf(64, [Part(0x94000, b"text")]),
            (
                "kernel: the loader's page tables at 0x94000-0x9a000 and the ELF image at 0x94000-0x94004"
                " overlap"
            ),
        ),
        (
            synthetic.elf(32, [Part(MIB, b"text")])[:-1],
            "kernel: is truncated: its ELF headers promise 88 bytes, the file has 87",
        ),
        (
            synthetic.elf(32, [Part(MIB, b"text")])[:60],
            "kernel: is truncated: its ELF headers take 84 bytes, and 60 are there",
        ),
    ],
)
def test_an_image_that_cannot_be_loaded_is_refused_with_the_reason(image: bytes, text: str) -> None:
    with pytest.raises(UnusableImage) as caught:
        _load(image)
    assert str(caught.value) == text


def test_an_elf_image_takes_no_initrd() -> None:
    with pytest.raises(UnusableInput) as caught:
        _load(synthetic.elf(32, [Part(MIB, b"text")]), initrd=b"x")
    assert str(caught.value) == (
        "initrd: kernel is a plain ELF image, which takes none;"
        " leave it out, or give the image a Multiboot header"
    )


@pytest.mark.parametrize(
    ("cmdline", "text"),
    [
        ("x" * 4096, "append: the command line has 4096 bytes; kernel takes at most 4095"),
        ("a\0b", "append: the command line 'a\\x00b' has a NUL character in it; leave it out"),
    ],
)
def test_a_command_line_that_does_not_fit_is_refused(cmdline: str, text: str) -> None:
    with pytest.raises(UnusableInput) as caught:
        _load(synthetic.elf(32, [Part(MIB, b"text")]), cmdline=cmdline)
    assert str(caught.value) == text


def test_the_loaders_areas_do_not_overlap_and_leave_the_firmware_alone() -> None:
    areas = [
        (layout.ZERO_PAGE, layout.PAGE),
        (layout.COMMAND_LINE, layout.PAGE),
        (layout.GDT, layout.PAGE),
        (layout.STACK_TOP - layout.PAGE, layout.PAGE),
        (layout.PML4, layout.PAGE),
        (layout.PDPT, layout.PAGE),
        (layout.PAGE_DIRECTORIES, 4 * layout.PAGE),
        (layout.MULTIBOOT_INFO, layout.MULTIBOOT_INFO_SIZE),
    ]
    ends = [start + size for start, size in areas]
    assert all(end <= start for end, (start, _) in zip(ends, areas[1:], strict=False))
    assert areas[0][0] >= layout.LOW_START
    assert ends[-1] <= layout.EBDA
