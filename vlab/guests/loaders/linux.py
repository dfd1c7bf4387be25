"""Linux kernels: bzImage and vmlinux, entered as the kernel's own decompressor enters them.

The payload of a bzImage is unpacked on the host (once: see `unpacked`), its ELF segments go to their physical
addresses, and the kernel starts at its first instruction with RSI at the zero page (Linux documentation,
arch/x86/boot.rst, "64-bit boot protocol" and "32-bit boot protocol"). Nothing is randomised: this is what
``nokaslr`` gives. Where the payload cannot be unpacked here the decompressor is entered in the guest instead.
Kernels from before protocol 2.08 do not say where their payload is, and go the way of their time: see
`linux_real_mode`.
"""

from __future__ import annotations

from collections.abc import Iterator

from vlab.errors import UnusableImage
from vlab.guests.loaders import command_line, e820, elf, layout, linux_real_mode, starts, unpack, unpacked
from vlab.guests.loaders import initrd as initrd_file
from vlab.guests.loaders.boot_params import E820_TABLE, HEADER_START, BootParams, SetupHeader, parse
from vlab.guests.loaders.loaded import Kind, Loaded
from vlab.guests.loaders.ram import GuestRam
from vlab.isa.state import CpuState

_FIRST_WITH_PAYLOAD = 0x208
_HEADER_MAGIC = int.from_bytes(b"HdrS", "little")
_UNKNOWN_LOADER = 0xFF
_NORMAL_VIDEO_MODE = 0xFFFF
_ENTRY_64 = 0x200  # of the protected-mode code
_WHAT = "the kernel"
_HEADERS = 64 << 10
"""Bytes of an unpacked kernel that its ELF and program headers are expected in."""
_TAIL = 64 << 20
"""Bytes that may follow the ELF segments of a payload (relocations) before it counts as damaged."""


def load(ram: GuestRam, image: bytes, *, cmdline: str, initrd: bytes | None, disk: bytes | None) -> Loaded:
    """Load a Linux kernel, its command line and its initrd.

    Raises UnusableImage when the file is damaged or does not fit into memory, UnusableInput when the command
    line is longer than this kernel takes.
    """
    if image.startswith(elf.MAGIC):
        return _load_vmlinux(ram, image, cmdline, initrd, disk)
    header = parse(image, ram.name)
    if header.version < _FIRST_WITH_PAYLOAD:
        return linux_real_mode.load(ram, image, header, cmdline=cmdline, initrd=initrd, disk=disk)
    notes: tuple[str, ...] = ()
    if header.payload is None:
        start, form = _load_as_it_is(ram, image, header)
    else:
        try:
            start, form = _load_payload(ram, image, header.payload)
        except unpack.CannotUnpack as reason:
            start, form = _load_as_it_is(ram, image, header)
            notes = (f"{reason}; the kernel unpacks itself in the guest, which takes longer",)
    start.rsi = _write_zero_page(ram, header, cmdline, initrd)
    text = f"Linux {header.kernel_version} (boot protocol {header.version_text}, {form})"
    return Loaded(Kind.LINUX, start, text, notes, disk)


def _load_vmlinux(
    ram: GuestRam, image: bytes, cmdline: str, initrd: bytes | None, disk: bytes | None
) -> Loaded:
    kernel = elf.load_segments(ram, image, _WHAT)
    start = _enter(ram, kernel)
    start.rsi = _write_zero_page(ram, None, cmdline, initrd)
    return Loaded(Kind.LINUX, start, f"Linux vmlinux, {kernel.bits}-bit", disk=disk)


def _enter(ram: GuestRam, kernel: elf.Elf) -> CpuState:
    entry = elf.entry_address(kernel, ram.name)
    return starts.long64(ram, entry) if kernel.bits == 64 else starts.flat32(ram, entry)


def _load_payload(ram: GuestRam, image: bytes, payload: tuple[int, int]) -> tuple[CpuState, str]:
    """Unpack the payload straight into the guest's memory. Raises CannotUnpack before anything is written."""
    offset, length = payload
    form, chunks = unpacked.unpacked(memoryview(image)[offset : offset + length], ram.name)
    first = _first(chunks)
    if not elf.is_loadable(first):
        raise unpack.CannotUnpack(f"the {form} payload holds no ELF kernel")
    kernel = elf.parse(first, ram.name)
    ram.require(kernel.end, _WHAT)
    elf.claim_segments(ram, kernel, _WHAT)
    limit = kernel.file_end + _TAIL
    size = elf.scatter(_bounded(first, chunks, limit, f"{ram.name}: its {form} payload"), kernel, ram)
    if size < kernel.file_end:
        raise UnusableImage(
            f"{ram.name}: its {form} payload is damaged: it unpacks to {size} bytes and its ELF headers"
            f" promise {kernel.file_end}; get the kernel again"
        )
    return _enter(ram, kernel), f"{form} payload, {kernel.bits}-bit entry"


def _first(chunks: Iterator[bytes]) -> bytes:
    """Join as many chunks as hold the ELF headers."""
    head = b""
    for chunk in chunks:
        head += chunk
        if len(head) >= _HEADERS:
            break
    return head


def _bounded(first: bytes, rest: Iterator[bytes], limit: int, what: str) -> Iterator[bytes]:
    """Yield `first` and `rest`; raise UnusableImage once they are more than `limit` bytes."""
    yield first
    size = len(first)
    for chunk in rest:
        size += len(chunk)
        if size > limit:
            raise UnusableImage(f"{what} unpacks to more than the {limit} bytes that its ELF headers allow")
        yield chunk


def _load_as_it_is(ram: GuestRam, image: bytes, header: SetupHeader) -> tuple[CpuState, str]:
    """Load the protected-mode part; what it unpacks goes to the preferred address."""
    code = memoryview(image)[header.setup_size :]
    base = layout.HIGH_MEMORY
    ram.require(max(base + len(code), header.pref_address + header.init_size), _WHAT)
    ram.write(base, code, _WHAT)
    if header.pref_address + header.init_size > base:
        ram.claim(base, header.pref_address + header.init_size - base, _WHAT)
    if header.has_64_bit_entry:
        return starts.long64(ram, base + _ENTRY_64), "64-bit entry of the bzImage"
    return starts.flat32(ram, base), "32-bit entry of the bzImage"


def _write_zero_page(ram: GuestRam, header: SetupHeader | None, cmdline: str, initrd: bytes | None) -> int:
    """Fill the zero page (a vmlinux has no setup header to copy into it) and return its address."""
    ram.claim(layout.ZERO_PAGE, layout.PAGE, "the zero page")
    ram.zero(layout.ZERO_PAGE, layout.PAGE)
    page = BootParams(ram.view(layout.ZERO_PAGE, layout.PAGE))
    if header is not None:
        ram.fill(layout.ZERO_PAGE + HEADER_START, header.raw)
    else:
        page.boot_flag, page.header, page.version = 0xAA55, _HEADER_MAGIC, 0x20F
        page.loadflags = 1
    page.type_of_loader = _UNKNOWN_LOADER
    page.code32_start = layout.HIGH_MEMORY
    page.vid_mode = _NORMAL_VIDEO_MODE
    _describe_screen(page)
    _describe_memory(ram, page)
    limit = command_line.LIMIT if header is None else min(header.command_line_maximum, command_line.LIMIT)
    page.cmd_line_ptr = command_line.write(ram, cmdline, limit)
    if initrd is not None:
        maximum = ram.size if header is None else header.initrd_maximum + 1
        page.ramdisk_image = initrd_file.place(ram, initrd, maximum)
        page.ramdisk_size = len(initrd)
    return layout.ZERO_PAGE


def _describe_screen(page: BootParams) -> None:
    page.orig_video_mode = 3
    page.orig_video_cols, page.orig_video_lines = 80, 25
    page.orig_video_ega_bx = 3  # 256 KiB of video memory
    page.orig_video_is_vga = 1
    page.orig_video_points = 16


def _describe_memory(ram: GuestRam, page: BootParams) -> None:
    page.alt_mem_k = e820.upper_kib(ram.size)
    page.ext_mem_k = min(e820.upper_kib(ram.size), 0xFFFF)
    regions = e820.memory_map(ram.size)
    page.e820_entries = len(regions)
    ram.fill(layout.ZERO_PAGE + E820_TABLE, b"".join(region.pack() for region in regions))
