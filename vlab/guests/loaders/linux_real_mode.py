"""Linux kernels entered in real mode, as their boot loaders did before boot protocol 2.08 (2008).

The kernel's setup code calls the BIOS, so the firmware runs first. It boots a disk of one sector, made here:
that sector stands for the second half of a boot loader, and jumps to the setup code that is already in memory
(Linux documentation, arch/x86/boot.rst, "Loading the rest of the kernel" and "Running the kernel"). memdisk
and iPXE use the same protocol.
"""

from __future__ import annotations

import struct

from vlab.errors import UnusableInput
from vlab.guests.loaders import command_line, layout
from vlab.guests.loaders import initrd as initrd_file
from vlab.guests.loaders.boot_params import BootParams, SetupHeader
from vlab.guests.loaders.loaded import Kind, Loaded
from vlab.guests.loaders.ram import GuestRam
from vlab.isa.state import CpuState

_SEGMENT = layout.REAL_MODE_CODE >> 4
_HEAP_END = layout.REAL_MODE_COMMAND_LINE - layout.REAL_MODE_CODE
_MAGIC_OF_OLD_COMMAND_LINE = 0xA33F


def load(
    ram: GuestRam,
    image: bytes,
    header: SetupHeader,
    *,
    cmdline: str,
    initrd: bytes | None,
    disk: bytes | None,
) -> Loaded:
    """Load both parts of the kernel and return the reset state with the one-sector disk.

    Raises UnusableInput for a disk of the user's, and UnusableImage when the parts do not fit.
    """
    if disk is not None:
        raise UnusableInput(
            f"disk: {ram.name} uses boot protocol {header.version_text} and is started from a boot sector of"
            " vlab's own; leave --disk out"
        )
    size = layout.EBDA - layout.REAL_MODE_CODE
    ram.claim(layout.REAL_MODE_CODE, size, "the kernel's real-mode part")
    ram.zero(layout.REAL_MODE_CODE, size)
    ram.fill(layout.REAL_MODE_CODE, memoryview(image)[: header.setup_size])
    base = layout.HIGH_MEMORY if header.loaded_high else layout.LOW_KERNEL
    ram.write(base, memoryview(image)[header.setup_size :], "the kernel")
    _fill_header(ram, header, cmdline, initrd)
    text = f"Linux {header.kernel_version} (boot protocol {header.version_text}, real-mode entry)"
    return Loaded(Kind.LINUX, CpuState.reset(), text, disk=_boot_sector())


def _fill_header(ram: GuestRam, header: SetupHeader, cmdline: str, initrd: bytes | None) -> None:
    page = BootParams(ram.view(layout.REAL_MODE_CODE, BootParams.SIZE))
    page.type_of_loader = 0xFF
    limit = min(header.command_line_maximum, layout.EBDA - layout.REAL_MODE_COMMAND_LINE - 1)
    ram.fill(layout.REAL_MODE_COMMAND_LINE, command_line.encode(ram.name, cmdline, limit))
    if header.version >= 0x202:
        page.cmd_line_ptr = layout.REAL_MODE_COMMAND_LINE
    else:
        page.cmd_line_magic = _MAGIC_OF_OLD_COMMAND_LINE
        page.cmd_line_offset = layout.REAL_MODE_COMMAND_LINE - layout.REAL_MODE_CODE
    if header.version >= 0x201:
        page.heap_end_ptr = _HEAP_END - 0x200
        page.loadflags = page.loadflags.replace(CAN_USE_HEAP=1)
    if initrd is not None:
        page.ramdisk_image = initrd_file.place(ram, initrd, header.initrd_maximum + 1)
        page.ramdisk_size = len(initrd)


def _boot_sector() -> bytes:
    """Return a boot sector that sets the segment registers up and jumps to the setup code."""
    code = struct.pack(
        "<B BH 2s 2s 2s 2s 2s BH BHH",
        0xFA,  # cli
        0xB8, _SEGMENT,  # mov ax, segment
        b"\x8e\xd8", b"\x8e\xc0", b"\x8e\xe0", b"\x8e\xe8", b"\x8e\xd0",  # mov ds/es/fs/gs/ss, ax
        0xBC, _HEAP_END,  # mov sp, end of the heap
        0xEA, 0, _SEGMENT + 0x20,  # jmp far to the second sector
    )  # fmt: skip
    return code.ljust(510, b"\0") + b"\x55\xaa"
