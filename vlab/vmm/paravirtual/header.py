"""The header by which a paravirtual kernel makes itself known, somewhere in the first 8 KiB of its image."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final

from vlab.errors import UnusableInput
from vlab.guests.loaders import elf
from vlab.vmm.paravirtual.interface import HEADER_MAGIC, KERNEL_BASE, VERSION

_SEARCHED: Final = 8192
_HEADER: Final = struct.Struct("<5I")
_MAGIC: Final = struct.pack("<I", HEADER_MAGIC)


@dataclass(frozen=True, slots=True)
class Header:
    """entry: linear address of the first instruction. end: guest-physical address behind the image."""

    entry: int
    end: int


def find(image: bytes, name: str) -> Header:
    """Find the header and check it. Raises UnusableInput for an image without one; name: for the message."""
    words = _words(image)
    if words is None or not elf.is_loadable(image):
        raise UnusableInput(
            f"guest: {name} has no paravirtual header ({HEADER_MAGIC:x}h and a checksum in the first 8 KiB "
            "of an ELF file), so the monitor paravirtual cannot run it; wren-paravirt has one"
        )
    _, version, base, entry, _ = words
    if (version, base) != (VERSION, KERNEL_BASE):
        raise UnusableInput(
            f"guest: {name} speaks version {version} of the hypercalls, at {base:#x}; "
            f"this monitor speaks version {VERSION}, at {KERNEL_BASE:#x}"
        )
    return Header(entry, elf.parse(image, name).end)


def _words(image: bytes) -> tuple[int, ...] | None:
    window = image[:_SEARCHED]
    place = window.find(_MAGIC)
    while place >= 0:
        if place % 4 == 0 and place + _HEADER.size <= len(window):
            words = _HEADER.unpack_from(window, place)
            if not sum(words) & 0xFFFFFFFF:
                return words
        place = window.find(_MAGIC, place + 1)
    return None
