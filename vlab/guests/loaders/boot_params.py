"""Linux's zero page (struct boot_params) and the setup header inside it.

Source: Linux documentation, arch/x86/zero-page.rst and arch/x86/boot.rst (boot protocol 2.15). The setup
header has the same offsets in a bzImage file and in the zero page.
"""

from __future__ import annotations

from dataclasses import dataclass

from vlab.errors import UnusableImage
from vlab.isa.blocks import Block, at
from vlab.isa.fields import Register, bit

E820_TABLE = 0x2D0
HEADER_START = 0x1F1
_HEADER_SHORTEST = 0x224  # protocol 2.00
_HEADER_LONGEST = 0x290  # where the zero page goes on with other things

_SECTOR = 512
_DEFAULT_SETUP_SECTORS = 4
_DEFAULT_INITRD_MAXIMUM = 0x37FFFFFF
_DEFAULT_COMMAND_LINE_SIZE = 255
_REAL_MODE_MAXIMUM = 64
_PARAGRAPH = 16


class LoadFlags(Register):
    """The header's `loadflags`."""

    WIDTH = 8
    REFERENCE = "boot.rst, loadflags"
    LOADED_HIGH = bit(0, "the protected-mode part is loaded at 0x100000 (bzImage), not at 0x10000 (zImage)")
    KASLR_FLAG = bit(1, "the decompressor randomised the kernel's address")
    QUIET_FLAG = bit(5, "print no early messages")
    KEEP_SEGMENTS = bit(6, "do not reload the segment registers in the 32-bit entry")
    CAN_USE_HEAP = bit(7, "heap_end_ptr is valid")


class XLoadFlags(Register):
    """The header's `xloadflags`."""

    WIDTH = 16
    REFERENCE = "boot.rst, xloadflags"
    KERNEL_64 = bit(0, "there is a 64-bit entry point at 0x200")
    CAN_BE_LOADED_ABOVE_4G = bit(1, "kernel, zero page, command line and initrd can be above 4 GiB")
    EFI_HANDOVER_32 = bit(2, "there is a 32-bit EFI handover entry")
    EFI_HANDOVER_64 = bit(3, "there is a 64-bit EFI handover entry")
    EFI_KEXEC = bit(4, "the kernel supports kexec with EFI runtime services")
    FIVE_LEVEL = bit(5, "the kernel knows 5-level paging")
    FIVE_LEVEL_ENABLED = bit(6, "the kernel uses 5-level paging where the processor has it")


class BootParams(Block):
    """The zero page: what the real-mode code or a boot loader tells the kernel."""

    SIZE = 0x1000
    REFERENCE = "zero-page.rst"

    ext_mem_k = at(0x002, 2, "KiB of memory from 1 MiB, at most 64 MiB (INT 15h AH=88h)")
    cmd_line_magic = at(0x020, 2, "0xA33F when cmd_line_offset is valid (protocol before 2.02)")
    cmd_line_offset = at(0x022, 2, "command line, from the start of the zero page")
    orig_video_mode = at(0x006, 1, "BIOS video mode")
    orig_video_cols = at(0x007, 1, "columns of text")
    orig_video_ega_bx = at(0x00A, 2, "BX of INT 10h AH=12h BL=10h")
    orig_video_lines = at(0x00E, 1, "lines of text")
    orig_video_is_vga = at(0x00F, 1, "1 for a VGA")
    orig_video_points = at(0x010, 2, "scan lines of a character")
    acpi_rsdp_addr = at(0x070, 8, "address of ACPI's RSDP, 0 to search for it")
    alt_mem_k = at(0x1E0, 4, "KiB of memory from 1 MiB (INT 15h AX=E801h)")
    e820_entries = at(0x1E8, 1, "number of entries in the E820 table")
    sentinel = at(0x1EF, 1, "0, or the kernel clears what the loader did not set")

    setup_sects = at(0x1F1, 1, "512-byte sectors of real-mode code after the first; 0 means 4")
    syssize = at(0x1F4, 4, "16-byte paragraphs of protected-mode code (2 bytes before protocol 2.04)")
    vid_mode = at(0x1FA, 2, "0xFFFF for the normal text mode")
    boot_flag = at(0x1FE, 2, "0xAA55")
    jump = at(0x200, 2, "jump instruction; its second byte is the header's length from 0x202")
    header = at(0x202, 4, "HdrS")
    version = at(0x206, 2, "boot protocol, major and minor byte")
    kernel_version = at(0x20E, 2, "version text, from 0x200 of the file")
    type_of_loader = at(0x210, 1, "0xFF for a loader without a number")
    loadflags = at(0x211, 1, "flags", LoadFlags)
    code32_start = at(0x214, 4, "32-bit entry point")
    ramdisk_image = at(0x218, 4, "address of the initrd")
    ramdisk_size = at(0x21C, 4, "bytes of the initrd")
    heap_end_ptr = at(0x224, 2, "end of the setup code's heap, from 0x200 of the real-mode code (2.01)")
    cmd_line_ptr = at(0x228, 4, "address of the command line (2.02)")
    initrd_addr_max = at(0x22C, 4, "highest address that the initrd's last byte may have (2.03)")
    kernel_alignment = at(0x230, 4, "alignment of the kernel's address (2.05)")
    relocatable_kernel = at(0x234, 1, "the protected-mode code runs at any aligned address (2.05)")
    xloadflags = at(0x236, 2, "more flags (2.12)", XLoadFlags)
    cmdline_size = at(0x238, 4, "longest command line, without its NUL (2.06)")
    payload_offset = at(0x248, 4, "compressed kernel, from the start of the protected-mode code (2.08)")
    payload_length = at(0x24C, 4, "bytes of the compressed kernel (2.08)")
    setup_data = at(0x250, 8, "list of further data (2.09)")
    pref_address = at(0x258, 8, "preferred load address (2.10)")
    init_size = at(0x260, 4, "bytes that the kernel needs from its load address while it starts (2.10)")


@dataclass(frozen=True, slots=True)
class SetupHeader:
    """A bzImage's setup header, checked against the file, with the defaults of its protocol filled in.

    Sizes are in bytes; `payload` is None where the header gives none; `raw` is the header as the zero page
    takes it, from offset 0x1F1.
    """

    version: int
    setup_size: int
    loaded_high: bool
    has_64_bit_entry: bool
    initrd_maximum: int
    command_line_maximum: int
    payload: tuple[int, int] | None
    pref_address: int
    init_size: int
    kernel_version: str
    raw: bytes

    @property
    def version_text(self) -> str:
        """The protocol version as the documentation writes it, such as 2.15."""
        return f"{self.version >> 8}.{self.version & 0xFF:02}"


def parse(image: bytes, name: str) -> SetupHeader:
    """Read the setup header of a bzImage or zImage.

    Raises UnusableImage when the file is shorter than the header says or the header contradicts itself.
    """
    view = BootParams(image[: BootParams.SIZE].ljust(BootParams.SIZE, b"\0"))
    setup_size = (1 + (view.setup_sects or _DEFAULT_SETUP_SECTORS)) * _SECTOR
    version = view.version
    # the upper half of syssize belonged to other fields before 2.04
    paragraphs = view.syssize if version >= 0x204 else view.syssize & 0xFFFF
    promised = setup_size + paragraphs * _PARAGRAPH
    if len(image) <= promised - _PARAGRAPH or len(image) <= setup_size:
        raise UnusableImage(
            f"{name}: is truncated: its setup header promises {promised} bytes, the file has {len(image)}"
        )
    if setup_size > _REAL_MODE_MAXIMUM * _SECTOR:
        raise UnusableImage(
            f"{name}: its setup header has {setup_size} bytes of real-mode code; at most 32768 are possible"
        )
    return SetupHeader(
        version=version,
        setup_size=setup_size,
        loaded_high=bool(view.loadflags.LOADED_HIGH),
        has_64_bit_entry=version >= 0x20C and bool(view.xloadflags.KERNEL_64),
        initrd_maximum=view.initrd_addr_max if version >= 0x203 else _DEFAULT_INITRD_MAXIMUM,
        command_line_maximum=view.cmdline_size if version >= 0x206 else _DEFAULT_COMMAND_LINE_SIZE,
        payload=_payload(view, image, setup_size, name) if version >= 0x208 else None,
        pref_address=view.pref_address if version >= 0x20A else 0x100000,
        init_size=view.init_size if version >= 0x20A else 0,
        kernel_version=_kernel_version(image, view.kernel_version, setup_size),
        raw=image[HEADER_START : min(max(0x202 + (view.jump >> 8), _HEADER_SHORTEST), _HEADER_LONGEST)],
    )


def _payload(view: BootParams, image: bytes, setup_size: int, name: str) -> tuple[int, int] | None:
    if view.payload_length == 0:
        return None
    start = setup_size + view.payload_offset
    if start + view.payload_length > len(image):
        raise UnusableImage(
            f"{name}: is truncated: its payload needs {start + view.payload_length} bytes,"
            f" the file has {len(image)}"
        )
    return start, view.payload_length


def _kernel_version(image: bytes, pointer: int, setup_size: int) -> str:
    if pointer == 0 or pointer + 0x200 >= setup_size:
        return "of unknown version"
    text = image[pointer + 0x200 : pointer + 0x300].split(b"\0", 1)[0].decode("ascii", "replace")
    return text.split(" ", 1)[0] if text.isprintable() and text else "of unknown version"
