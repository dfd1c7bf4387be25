"""Small guests made in Python, for tests that need an image of a given shape."""

from __future__ import annotations

import bz2
import functools
import gzip
import lzma
import struct
from dataclasses import dataclass

from vlab.guests.loaders.boot_params import BootParams

MEMORY = 16 << 20
KERNEL_AT = 0x200000
KERNEL_TEXT = b"\x0f\x0b kernel " * 600


@dataclass(frozen=True)
class Part:
    """A PT_LOAD segment of a synthetic ELF file."""

    physical: int
    data: bytes
    memory_size: int | None = None
    virtual: int | None = None


def elf(
    bits: int, parts: list[Part], entry: int | None = None, machine: int | None = None, kind: int = 2
) -> bytes:
    """Build an ELF executable; the segments' data follow the program headers."""
    wide = bits == 64
    machine = machine if machine is not None else (62 if wide else 3)
    entry = parts[0].physical if entry is None else entry
    header_size, program_size = (64, 56) if wide else (52, 32)
    ident = b"\x7fELF" + bytes([2 if wide else 1, 1, 1]) + bytes(9)
    form = "<16sHHIQQQIHHHHHH" if wide else "<16sHHIIIIIHHHHHH"
    out = struct.pack(
        form,
        ident,
        kind,
        machine,
        1,
        entry,
        header_size,
        0,
        0,
        header_size,
        program_size,
        len(parts),
        0,
        0,
        0,
    )
    offset = header_size + program_size * len(parts)
    body = b""
    for part in parts:
        size = len(part.data) if part.memory_size is None else part.memory_size
        virtual = part.physical if part.virtual is None else part.virtual
        if wide:
            out += struct.pack("<IIQQQQQQ", 1, 7, offset, virtual, part.physical, len(part.data), size, 1)
        else:
            out += struct.pack("<8I", 1, offset, virtual, part.physical, len(part.data), size, 7, 1)
        offset += len(part.data)
        body += part.data
    return out + body


def kernel_elf(bits: int = 64) -> bytes:
    """Build what a bzImage's payload unpacks to: a kernel linked high, with some bss."""
    virtual = 0xFFFFFFFF80000000 + KERNEL_AT if bits == 64 else 0xC0000000 + KERNEL_AT
    return elf(bits, [Part(KERNEL_AT, KERNEL_TEXT, len(KERNEL_TEXT) + 5000, virtual)], entry=KERNEL_AT + 16)


def bzimage(
    payload: bytes,
    *,
    version: int = 0x20F,
    setup_sects: int = 3,
    loadflags: int = 1,
    xloadflags: int = 1,
    cmdline_size: int = 2047,
    initrd_addr_max: int = 0x7FFFFFFF,
    init_size: int = 1 << 20,
    name: bytes = b"6.1.0-test (builder) #1",
) -> bytes:
    """Build a bzImage around a packed payload, with a setup header of the given protocol version."""
    setup = bytearray((1 + (setup_sects or 4)) * 512)
    code = b"\xeb\xfe".ljust(0x300, b"\x90") + payload
    page = BootParams(bytearray(BootParams.SIZE))
    page.setup_sects = setup_sects
    page.syssize = -(-len(code) // 16)
    page.boot_flag = 0xAA55
    page.jump = 0x66EB
    page.header = int.from_bytes(b"HdrS", "little")
    page.version = version
    page.kernel_version = 0x400
    page.loadflags = loadflags
    page.code32_start = 0x100000
    page.initrd_addr_max = initrd_addr_max
    page.kernel_alignment = 0x200000
    page.xloadflags = xloadflags
    page.cmdline_size = cmdline_size
    page.payload_offset, page.payload_length = (0x300, len(payload)) if payload else (0, 0)
    page.pref_address, page.init_size = KERNEL_AT, init_size
    setup[0x1F1:0x268] = bytes(page._buffer)[0x1F1:0x268]
    if len(setup) > 0x600 + len(name):
        setup[0x600 : 0x600 + len(name)] = name
    return bytes(setup) + code


@functools.cache
def pack(form: str, data: bytes) -> bytes:
    """Compress as a kernel's build does, with the unpacked size appended for all formats but gzip."""
    size = struct.pack("<I", len(data))
    if form == "gzip":
        return gzip.compress(data, mtime=0)
    if form == "xz":
        filters = [{"id": lzma.FILTER_X86}, {"id": lzma.FILTER_LZMA2, "preset": 0}]
        return lzma.compress(data, lzma.FORMAT_XZ, lzma.CHECK_CRC32, filters=filters) + size
    if form == "lzma":
        return lzma.compress(data, lzma.FORMAT_ALONE, preset=0) + size
    if form == "bzip2":
        return bz2.compress(data) + size
    if form == "lz4":
        return lz4_legacy(data) + size
    if form == "uncompressed":
        return data
    raise ValueError(form)


def lz4_legacy(data: bytes) -> bytes:
    """Write an LZ4 legacy frame of one block that holds literals only."""
    length = len(data)
    token = bytes([min(length, 15) << 4])
    rest = b"" if length < 15 else b"\xff" * ((length - 15) // 255) + bytes([(length - 15) % 255])
    block = token + rest + data
    return b"\x02\x21\x4c\x18" + struct.pack("<I", len(block)) + block


def multiboot_header(flags: int = 0, addresses: tuple[int, int, int, int, int] | None = None) -> bytes:
    """Build a Multiboot 1 header; `addresses` sets flag 16."""
    if addresses is not None:
        flags |= 1 << 16
    header = struct.pack("<III", 0x1BADB002, flags, -(0x1BADB002 + flags) & 0xFFFFFFFF)
    return header + (struct.pack("<5I", *addresses) if addresses else b"")


def boot_sector(code: bytes = b"\xeb\xfe") -> bytes:
    """Build a boot sector that starts with `code`."""
    return code.ljust(510, b"\0") + b"\x55\xaa"
