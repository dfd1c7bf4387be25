"""Linux kernels, built in Python with every header and packing, and what they find when they start."""

from __future__ import annotations

import struct

import pytest

from tests.guests import synthetic
from tests.guests.synthetic import KERNEL_AT, KERNEL_TEXT, MEMORY
from vlab.errors import UnusableImage, UnusableInput
from vlab.guests import loaders
from vlab.guests.loaders import Kind, Loaded, unpack
from vlab.guests.loaders.boot_params import BootParams
from vlab.isa.state import CpuState, Mode

MIB = 1 << 20
FORMATS = ["gzip", "xz", "lzma", "bzip2", "lz4", "uncompressed"]


def _load(image: bytes, size: int = MEMORY, **arguments: object) -> tuple[Loaded, memoryview]:
    memory = memoryview(bytearray(b"\xcc" * size))
    return loaders.load(image, memory, name="vmlinuz", **arguments), memory  # type: ignore[arg-type]


def _image(form: str = "gzip", bits: int = 64, **header: int) -> bytes:
    return synthetic.bzimage(synthetic.pack(form, synthetic.kernel_elf(bits)), **header)  # type: ignore[arg-type]


@pytest.mark.parametrize("form", FORMATS)
def test_the_payload_is_unpacked_to_the_kernels_physical_addresses(form: str) -> None:
    loaded, memory = _load(_image(form))
    end = KERNEL_AT + len(KERNEL_TEXT)
    assert loaded.kind is Kind.LINUX
    assert loaded.description == f"Linux 6.1.0-test (boot protocol 2.15, {form} payload, 64-bit entry)"
    assert loaded.notes == ()
    assert memory[KERNEL_AT:end] == KERNEL_TEXT
    assert memory[end : end + 5000] == bytes(5000)
    assert memory[end + 5000] == 0xCC


def test_a_64_bit_kernel_is_entered_by_the_64_bit_protocol() -> None:
    loaded, memory = _load(_image())
    state = loaded.start
    assert (state.mode, state.rip) == (Mode.LONG64, KERNEL_AT + 16)
    assert (state.cs.selector, state.ds.selector, state.es.selector, state.ss.selector) == (16, 24, 24, 24)
    assert not state.rflags & 0x200
    page = BootParams(memory, state.rsi)
    assert bytes(memory[state.rsi + 0x202 : state.rsi + 0x206]) == b"HdrS"
    assert (page.version, page.type_of_loader, page.sentinel) == (0x20F, 0xFF, 0)


def test_a_32_bit_kernel_is_entered_by_the_32_bit_protocol() -> None:
    loaded, _ = _load(_image(bits=32))
    state = loaded.start
    assert (state.mode, state.rip) == (Mode.PROTECTED32, KERNEL_AT + 16)
    assert (state.cs.selector, state.ds.selector) == (16, 24)
    assert (state.rbp, state.rdi, state.rbx) == (0, 0, 0)
    assert state.rsi == 0x90000


def test_the_zero_page_describes_screen_and_memory() -> None:
    loaded, memory = _load(_image())
    page = BootParams(memory, loaded.start.rsi)
    assert (page.orig_video_mode, page.orig_video_cols, page.orig_video_lines) == (3, 80, 25)
    assert (page.orig_video_is_vga, page.orig_video_points) == (1, 16)
    assert (page.ext_mem_k, page.alt_mem_k) == (15 * 1024, 15 * 1024)
    table = loaded.start.rsi + 0x2D0
    entries = [struct.unpack_from("<QQI", memory, table + 20 * n) for n in range(page.e820_entries)]
    assert entries == [
        (0, 0x9F000, 1),
        (0x9F000, 0x1000, 2),
        (0xE0000, 0x20000, 2),
        (MIB, 15 * MIB, 1),
        (0xFEC00000, 0x1000, 2),
        (0xFEE00000, 0x1000, 2),
        (0xFFFF0000, 0x10000, 2),
    ]


def test_the_command_line_and_the_initrd_are_where_the_zero_page_says() -> None:
    loaded, memory = _load(_image(), cmdline="console=ttyS0", initrd=b"cpio" * 2000)
    page = BootParams(memory, loaded.start.rsi)
    assert memory[page.cmd_line_ptr : page.cmd_line_ptr + 14] == b"console=ttyS0\0"
    assert page.ramdisk_image % 4096 == 0
    assert page.ramdisk_size == 8000
    assert page.ramdisk_image + 8000 <= MEMORY < page.ramdisk_image + 8000 + 4096
    assert memory[page.ramdisk_image : page.ramdisk_image + 8000] == b"cpio" * 2000


def test_the_initrd_stays_below_the_kernels_limit() -> None:
    loaded, memory = _load(_image(initrd_addr_max=8 * MIB - 1), initrd=bytes(5000))
    page = BootParams(memory, loaded.start.rsi)
    assert page.ramdisk_image + 5000 <= 8 * MIB


def test_an_initrd_moves_below_what_is_already_in_memory() -> None:
    end = KERNEL_AT + len(KERNEL_TEXT) + 5000
    loaded, memory = _load(_image(initrd_addr_max=end + 3), initrd=bytes(5000))
    page = BootParams(memory, loaded.start.rsi)
    assert MIB <= page.ramdisk_image <= KERNEL_AT - 5000


def test_a_vmlinux_gets_a_zero_page_of_its_own() -> None:
    part = synthetic.Part(KERNEL_AT, b"Linux version 6.1 " * 20, virtual=0xFFFFFFFF80000000 + KERNEL_AT)
    loaded, memory = _load(synthetic.elf(64, [part]), cmdline="quiet")
    assert loaded.description == "Linux vmlinux, 64-bit"
    page = BootParams(memory, loaded.start.rsi)
    assert (page.boot_flag, page.header, page.loadflags) == (0xAA55, 0x53726448, 1)
    assert memory[page.cmd_line_ptr : page.cmd_line_ptr + 6] == b"quiet\0"


@pytest.mark.parametrize(
    ("xloadflags", "mode", "entry"), [(1, Mode.LONG64, MIB + 0x200), (0, Mode.PROTECTED32, MIB)]
)
def test_a_payload_of_unknown_format_is_left_to_the_guest(xloadflags: int, mode: Mode, entry: int) -> None:
    image = synthetic.bzimage(b"\x89LZO\0\r\n" + bytes(500), xloadflags=xloadflags)
    loaded, memory = _load(image)
    assert (loaded.start.mode, loaded.start.rip) == (mode, entry)
    assert memory[MIB : MIB + 2] == b"\xeb\xfe"
    assert BootParams(memory, loaded.start.rsi).code32_start == MIB
    assert loaded.notes == (
        (
            "the payload's format is unknown (it starts with 89 4C 5A 4F 00 0D);"
            " the kernel unpacks itself in the guest, which takes longer"
        ),
    )


def test_a_missing_library_is_no_reason_not_to_boot(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(payload: memoryview, name: str) -> None:
        raise unpack.CannotUnpack("the payload is zstd")

    monkeypatch.setattr(unpack, "unpack", missing)
    loaded, _ = _load(_image())
    assert loaded.notes == (
        "the payload is zstd; the kernel unpacks itself in the guest, which takes longer",
    )


def test_an_image_without_a_payload_is_entered_as_it_is() -> None:
    loaded, _ = _load(synthetic.bzimage(b""))
    assert loaded.start.rip == MIB + 0x200
    assert loaded.notes == ()


@pytest.mark.parametrize(
    ("version", "loadflags", "at"), [(0x200, 0, 0x10000), (0x203, 1, MIB), (0x207, 1, MIB)]
)
def test_a_kernel_from_before_2_08_is_entered_in_real_mode(version: int, loadflags: int, at: int) -> None:
    image = synthetic.bzimage(b"", version=version, loadflags=loadflags)
    loaded, memory = _load(image, cmdline="root=/dev/fd0", initrd=b"ramdisk")
    assert loaded.start == CpuState.reset()
    assert memory[at : at + 2] == b"\xeb\xfe"
    assert memory[0x90200 + 0x400 : 0x90200 + 0x410] == b"6.1.0-test (buil"
    page = BootParams(memory, 0x90000)
    assert page.type_of_loader == 0xFF
    assert page.ramdisk_size == 7
    assert memory[page.ramdisk_image : page.ramdisk_image + 7] == b"ramdisk"
    if version >= 0x202:
        line = page.cmd_line_ptr
    else:
        assert page.cmd_line_magic == 0xA33F
        line = 0x90000 + page.cmd_line_offset
    assert memory[line : line + 14] == b"root=/dev/fd0\0"
    assert loaded.description.endswith(", real-mode entry)")


def test_the_boot_sector_for_real_mode_kernels_jumps_to_their_setup_code() -> None:
    loaded, memory = _load(synthetic.bzimage(b"", version=0x203))
    sector = loaded.disk
    assert sector is not None
    assert len(sector) == 512
    assert sector[510:] == b"\x55\xaa"
    assert sector[:22] == bytes.fromhex("fa b80090 8ed8 8ec0 8ee0 8ee8 8ed0 bc00e0 ea 0000 2090")
    assert BootParams(memory, 0x90000).heap_end_ptr == 0xE000 - 0x200


def test_a_setup_sects_of_zero_means_four() -> None:
    image = synthetic.bzimage(synthetic.pack("gzip", synthetic.kernel_elf()), setup_sects=0)
    assert _load(image)[1][KERNEL_AT : KERNEL_AT + 16] == KERNEL_TEXT[:16]


def test_the_size_in_old_headers_has_two_bytes() -> None:
    image = bytearray(synthetic.bzimage(b"", version=0x203))
    image[0x1F6:0x1F8] = b"\xff\xff"
    assert _load(bytes(image))[0].start == CpuState.reset()


def test_a_truncated_kernel_names_the_promised_and_the_real_size() -> None:
    image = _image()
    promised = 2048 + -(-(len(image) - 2048) // 16) * 16
    with pytest.raises(UnusableImage) as caught:
        _load(image[: len(image) // 2])
    assert str(caught.value) == (
        f"vmlinuz: is truncated: its setup header promises {promised} bytes, the file has {len(image) // 2}"
    )


def test_too_little_memory_names_the_needed_and_the_given_size() -> None:
    part = synthetic.Part(KERNEL_AT, KERNEL_TEXT, 30 * MIB)
    image = synthetic.bzimage(synthetic.pack("gzip", synthetic.elf(64, [part])))
    with pytest.raises(UnusableImage) as caught:
        _load(image)
    assert str(caught.value) == "vmlinuz: the kernel needs 32M of memory and the guest has 16M; give it more"


def test_too_little_memory_for_a_kernel_that_unpacks_itself_counts_its_init_size() -> None:
    with pytest.raises(UnusableImage) as caught:
        _load(synthetic.bzimage(b"?" * 32, init_size=62 * MIB))
    assert str(caught.value) == "vmlinuz: the kernel needs 64M of memory and the guest has 16M; give it more"


def test_an_initrd_that_does_not_fit_is_refused() -> None:
    with pytest.raises(UnusableImage) as caught:
        _load(_image(), initrd=bytes(20 * MIB))
    assert str(caught.value) == (
        "vmlinuz: the initrd of 20M has no room beside the rest in 16M of memory; give the guest more"
    )


def test_an_empty_initrd_is_refused() -> None:
    with pytest.raises(UnusableInput) as caught:
        _load(_image(), initrd=b"")
    assert str(caught.value) == "initrd: the file is empty; give a cpio archive, or leave --initrd out"


def test_a_command_line_longer_than_the_kernel_takes_is_refused() -> None:
    with pytest.raises(UnusableInput) as caught:
        _load(_image(cmdline_size=100), cmdline="x" * 101)
    assert str(caught.value) == "append: the command line has 101 bytes; vmlinuz takes at most 100"


def test_a_real_mode_kernel_takes_no_disk() -> None:
    with pytest.raises(UnusableInput) as caught:
        _load(synthetic.bzimage(b"", version=0x203), disk=bytes(512))
    assert str(caught.value) == (
        "disk: vmlinuz uses boot protocol 2.03 and is started from a boot sector of vlab's own;"
        " leave --disk out"
    )


def test_a_payload_that_ends_before_its_segments_is_damaged() -> None:
    whole = synthetic.kernel_elf()
    with pytest.raises(UnusableImage) as caught:
        _load(synthetic.bzimage(synthetic.pack("gzip", whole[:-100])))
    assert str(caught.value) == (
        f"vmlinuz: its gzip payload is damaged: it unpacks to {len(whole) - 100} bytes and its ELF headers"
        f" promise {len(whole)}; get the kernel again"
    )


def test_a_payload_that_never_ends_is_refused_before_it_fills_the_host(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("vlab.guests.loaders.linux._TAIL", MIB)
    image = synthetic.bzimage(synthetic.pack("gzip", synthetic.kernel_elf() + bytes(4 * MIB)))
    with pytest.raises(UnusableImage, match=r"^vmlinuz: its gzip payload unpacks to more than the \d+ bytes"):
        _load(image)


def test_a_disk_is_passed_on() -> None:
    assert _load(_image(), disk=bytes(1024))[0].disk == bytes(1024)


def test_random_kernel_texts_are_tolerated_as_versions() -> None:
    image = _image(setup_sects=3)
    broken = image[:0x600] + b"\xff\xfe\x01\n" + image[0x604:]
    assert "of unknown version" in _load(broken)[0].description
