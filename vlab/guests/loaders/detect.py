"""What is at the start of a file: which loader takes it, or, in words, why none does."""

from __future__ import annotations

import struct

from vlab.guests.loaders import elf, multiboot
from vlab.guests.loaders.loaded import Kind

ACCEPTED = (
    "vlab boots a boot sector (55 AA at byte 510), Multiboot 1, ELF 32/64 or a Linux kernel (bzImage/vmlinux)"
)
"""The second half of every refusal."""

_LINUX_BANNER = b"Linux version "
_TEXT_BYTES = frozenset(b"\t\n\r\f\x1b") | frozenset(range(0x20, 0x7F))

_MAGICS: tuple[tuple[int, bytes, str], ...] = (
    (0, b"\x89PNG\r\n\x1a\n", "a PNG picture"),
    (0, b"\xff\xd8\xff", "a JPEG picture"),
    (0, b"GIF8", "a GIF picture"),
    (0, b"%PDF-", "a PDF document"),
    (0, b"PK\x03\x04", "a ZIP archive"),
    (0, b"7z\xbc\xaf\x27\x1c", "a 7z archive"),
    (0, b"!<arch>\ndebian-binary", "a Debian package; unpack it first"),
    (0, b"!<arch>\n", "a static library (ar archive)"),
    (0, b"\xed\xab\xee\xdb", "an RPM package; unpack it first"),
    (0, b"\x1f\x8b", "gzip-compressed data; unpack it first"),
    (0, b"\xfd7zXZ\0", "xz-compressed data; unpack it first"),
    (0, b"BZh", "bzip2-compressed data; unpack it first"),
    (0, b"\x28\xb5\x2f\xfd", "zstd-compressed data; unpack it first"),
    (0, b"\x02\x21\x4c\x18", "lz4-compressed data; unpack it first"),
    (0, b"\x04\x22\x4d\x18", "lz4-compressed data; unpack it first"),
    (0, b"070701", "a cpio archive, as for an initrd"),
    (0, b"070702", "a cpio archive, as for an initrd"),
    (0, b"QFI\xfb", "a qcow2 disk image; convert it to a raw one"),
    (0, b"KDMV", "a VMDK disk image; convert it to a raw one"),
    (0, b"conectix", "a VHD disk image; convert it to a raw one"),
    (0, b"vhdxfile", "a VHDX disk image; convert it to a raw one"),
    (64, b"\x7f\x10\xda\xbe", "a VDI disk image; convert it to a raw one"),
    (0x8001, b"CD001", "a CD image without a boot sector for disks"),
    (257, b"ustar", "a tar archive"),
    (56, b"ARM\x64", "a Linux kernel for Arm (arm64)"),
    (0x30, b"RISCV\0\0\0", "a Linux kernel for RISC-V"),
    (0, b"\xcf\xfa\xed\xfe", "a macOS program (Mach-O)"),
    (0, b"\xca\xfe\xba\xbe", "a macOS program or a Java class"),
    (0, b"\0asm", "a WebAssembly module"),
    (0, b"SQLite format 3", "an SQLite database"),
    (0, b"#!", "a script"),
    (0, b"MZ", "a Windows or UEFI program (MZ)"),
)


def kind_of(image: bytes) -> Kind | None:
    """Return the kind of a bootable image, None when no loader takes it. Looks only at the headers."""
    if image[0x202:0x206] == b"HdrS" and _has_boot_signature(image):
        return Kind.LINUX
    if multiboot.find_header(image) is not None:
        return Kind.MULTIBOOT
    if elf.is_loadable(image):
        if image.find(_LINUX_BANNER) >= 0:
            return Kind.LINUX
        return Kind.ELF64 if image[elf.CLASS_OFFSET] == elf.CLASS_64 else Kind.ELF32
    if not image.startswith(elf.MAGIC) and _has_boot_signature(image):
        return Kind.BOOT_SECTOR
    return None


def _has_boot_signature(image: bytes) -> bool:
    return image[510:512] == b"\x55\xaa"


def describe_start(image: bytes) -> str:
    """Say in a few words what `image` starts with, as the end of "the file starts with ..."."""
    if not image:
        return "nothing: it is empty"
    if image.startswith(elf.MAGIC):
        return elf.describe(image)
    if multiboot.has_multiboot2_header(image):
        return "a Multiboot 2 image without a Multiboot 1 header"
    for offset, magic, words in _MAGICS:
        if image[offset : offset + len(magic)] == magic:
            return words
    return _describe_bytes(image)


def _describe_bytes(image: bytes) -> str:
    if not image[:512].strip(b"\0"):
        return "zeros" if image.strip(b"\0") else "zeros, and nothing else is in it"
    if all(byte in _TEXT_BYTES for byte in image[:512]):
        return "text"
    shown = image[:8].hex(" ").upper()
    if len(image) < 512:
        return f"the bytes {shown} and is only {len(image)} bytes long"
    signature = struct.unpack_from("<H", image, 510)[0]
    return f"the bytes {shown}, with {signature & 0xFF:02X} {signature >> 8:02X} at byte 510"
