"""What a loader hands to the machine."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from vlab.isa.state import CpuState


class Kind(StrEnum):
    """The kinds of image that vlab boots."""

    BOOT_SECTOR = "bootsector"
    MULTIBOOT = "multiboot"
    ELF32 = "elf32"
    ELF64 = "elf64"
    LINUX = "linux"


@dataclass(frozen=True, slots=True)
class Loaded:
    """A guest in memory, ready to start.

    `start` is the processor's state for the first instruction; when it is the reset state the firmware boots
    `disk`. `disk` is the contents of the disk that the firmware shows to the guest, None for no disk.
    `description` is one line for the user; `notes` are lines worth telling, such as a slower way of booting.
    """

    kind: Kind
    start: CpuState
    description: str
    notes: tuple[str, ...] = ()
    disk: bytes | None = None
