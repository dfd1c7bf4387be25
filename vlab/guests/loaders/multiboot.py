"""Multiboot 1 images (Multiboot Specification version 0.6.96).

The kernel is loaded either at the addresses in its Multiboot header (the a.out kludge, flag 16) or as an ELF
file, and entered in 32-bit protected mode with the magic number in EAX and the information structure's
address in EBX. An initrd becomes the only module; the command line is passed as it is, without a file name.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from vlab.errors import UnusableImage
from vlab.guests.loaders import command_line, e820, elf, layout
from vlab.guests.loaders import initrd as initrd_file
from vlab.guests.loaders.loaded import Kind, Loaded
from vlab.guests.loaders.ram import GuestRam
from vlab.isa.blocks import Block, at
from vlab.isa.state import CpuState

HEADER_MAGIC = 0x1BADB002
BOOT_MAGIC = 0x2BADB002
_SEARCH = 8192  # 3.1: the header is within the first 8192 bytes, on a 4-byte boundary
_MULTIBOOT2 = struct.pack("<I", 0xE85250D6)
_MULTIBOOT2_SEARCH = 32768

_UNDERSTOOD = 0b111  # page-aligned modules, memory information, video mode (3.1.2)
_WANTS_VIDEO = 1 << 2
_HAS_ADDRESSES = 1 << 16
# flags of the information structure (3.3)
_MEMORY, _COMMAND_LINE, _MODULES, _MEMORY_MAP, _LOADER_NAME = 1 << 0, 1 << 2, 1 << 3, 1 << 6, 1 << 9


class Information(Block):
    """The information structure that EBX points to, as far as vlab fills it."""

    SIZE = 88
    REFERENCE = "Multiboot Specification 3.3"

    flags = at(0, 4, "which of the fields below are valid")
    mem_lower = at(4, 4, "KiB of memory from 0")
    mem_upper = at(8, 4, "KiB of memory from 1 MiB")
    boot_device = at(12, 4, "BIOS disk the image was loaded from")
    cmdline = at(16, 4, "address of the command line")
    mods_count = at(20, 4, "number of modules")
    mods_addr = at(24, 4, "address of the module list")
    mmap_length = at(44, 4, "bytes of the memory map")
    mmap_addr = at(48, 4, "address of the memory map")
    boot_loader_name = at(64, 4, "address of the boot loader's name")


@dataclass(frozen=True, slots=True)
class Header:
    """A Multiboot header: where it is in the file, its flags, and the five addresses of the a.out kludge."""

    offset: int
    flags: int
    addresses: tuple[int, int, int, int, int] | None


def find_header(image: bytes) -> Header | None:
    """Return the first Multiboot 1 header whose checksum is right, None without one."""
    window = image[:_SEARCH]
    magic = struct.pack("<I", HEADER_MAGIC)
    offset = window.find(magic)
    while offset >= 0:
        if offset % 4 == 0 and offset + 12 <= len(window):
            _, flags, checksum = struct.unpack_from("<III", window, offset)
            if (HEADER_MAGIC + flags + checksum) & 0xFFFFFFFF == 0:
                return _header_at(image, offset, flags)
        offset = window.find(magic, offset + 1)
    return None


def _header_at(image: bytes, offset: int, flags: int) -> Header:
    if flags & _HAS_ADDRESSES and offset + 32 <= len(image):
        header, load, load_end, bss_end, entry = struct.unpack_from("<5I", image, offset + 12)
        return Header(offset, flags, (header, load, load_end, bss_end, entry))
    return Header(offset, flags, None)


def has_multiboot2_header(image: bytes) -> bool:
    """Tell whether a Multiboot 2 header is in `image`."""
    window = image[:_MULTIBOOT2_SEARCH]
    offset = window.find(_MULTIBOOT2)
    while offset >= 0:
        if offset % 8 == 0 and offset + 16 <= len(window):
            fields = struct.unpack_from("<4I", window, offset)  # the fourth is a checksum
            if sum(fields) & 0xFFFFFFFF == 0:
                return True
        offset = window.find(_MULTIBOOT2, offset + 1)
    return False


def load(ram: GuestRam, image: bytes, *, cmdline: str, initrd: bytes | None, disk: bytes | None) -> Loaded:
    """Load a Multiboot image and build its information structure at `layout.MULTIBOOT_INFO`.

    Raises UnusableImage when the header asks for something unknown or the parts do not fit.
    """
    header = find_header(image)
    if header is None:
        raise UnusableImage(f"{ram.name}: has no Multiboot header in its first {_SEARCH} bytes")
    unknown = header.flags & 0xFFFF & ~_UNDERSTOOD
    if unknown:
        raise UnusableImage(
            f"{ram.name}: its Multiboot header requires features {unknown:#06x},"
            " which Multiboot 1 does not define"
        )
    entry, form = _load_kernel(ram, image, header)
    state = CpuState.flat32(entry)
    state.rax = BOOT_MAGIC
    state.rbx = _write_information(ram, cmdline, initrd)
    notes = ("the image asks for a video mode; it gets 80x25 text",) if header.flags & _WANTS_VIDEO else ()
    return Loaded(Kind.MULTIBOOT, state, f"Multiboot 1 ({form}), entry {entry:#x}", notes, disk)


def _load_kernel(ram: GuestRam, image: bytes, header: Header) -> tuple[int, str]:
    what = "the Multiboot image"
    if header.addresses is not None:
        entry = _load_by_addresses(ram, image, header.offset, header.addresses, what)
        return entry, "addresses in the header"
    if not elf.is_loadable(image):
        raise UnusableImage(
            f"{ram.name}: has a Multiboot header without load addresses (flag 16) and is no ELF executable"
        )
    loaded = elf.load_segments(ram, image, what)
    entry = elf.entry_address(loaded, ram.name)
    return entry, f"ELF {loaded.bits}-bit"


def _load_by_addresses(
    ram: GuestRam, image: bytes, offset: int, addresses: tuple[int, int, int, int, int], what: str
) -> int:
    header, load, load_end, bss_end, entry = addresses  # 3.1.3
    start = offset - (header - load)
    size = load_end - load if load_end else len(image) - start
    if load > header or start < 0 or size <= 0:
        raise UnusableImage(
            f"{ram.name}: the addresses in its Multiboot header contradict each other"
            f" (header {header:#x} at byte {offset:#x}, load {load:#x}-{load_end:#x})"
        )
    if start + size > len(image):
        raise UnusableImage(
            f"{ram.name}: is truncated: its Multiboot header promises {start + size} bytes,"
            f" the file has {len(image)}"
        )
    end = max(bss_end, load + size)
    if not load <= entry < end:
        raise UnusableImage(
            f"{ram.name}: the entry point {entry:#x} in its Multiboot header"
            f" is outside the image {load:#x}-{end:#x}"
        )
    ram.claim(load, end - load, what)
    ram.fill(load, memoryview(image)[start : start + size])
    ram.zero(load + size, end - load - size)
    return entry


def _write_information(ram: GuestRam, cmdline: str, initrd: bytes | None) -> int:
    """Write the information structure, module list and memory map; return the structure's address."""
    # the size field of an entry does not count itself
    memory_map = b"".join(struct.pack("<I", 20) + region.pack() for region in e820.memory_map(ram.size))
    base = layout.MULTIBOOT_INFO
    name_at = base + Information.SIZE
    module_at = name_at + 8
    map_at = module_at + 16
    ram.claim(base, layout.MULTIBOOT_INFO_SIZE, "the Multiboot information")
    ram.zero(base, layout.MULTIBOOT_INFO_SIZE)
    info = Information(ram.view(base, Information.SIZE))
    info.flags = _MEMORY | _MEMORY_MAP | _LOADER_NAME
    info.mem_lower = e820.lower_kib(ram.size)
    info.mem_upper = e820.upper_kib(ram.size)
    info.mmap_addr, info.mmap_length = map_at, len(memory_map)
    info.boot_loader_name = name_at
    ram.fill(name_at, b"vlab\0")
    ram.fill(map_at, memory_map)
    if cmdline:
        info.flags |= _COMMAND_LINE
        info.cmdline = command_line.write(ram, cmdline)
    if initrd is not None:
        where = initrd_file.place(ram, initrd, ram.size)
        ram.fill(module_at, struct.pack("<4I", where, where + len(initrd), name_at + 4, 0))  # an empty string
        info.flags |= _MODULES
        info.mods_count, info.mods_addr = 1, module_at
    return base
