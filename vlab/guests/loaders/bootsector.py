"""Boot sectors and raw disk images: what a PC's firmware boots.

Nothing is loaded here. The processor starts at its reset vector, the firmware finds the disk and runs its
first sector at 0000:7C00 with the drive's number in DL.
"""

from __future__ import annotations

from vlab.errors import UnusableInput
from vlab.guests.loaders.loaded import Kind, Loaded
from vlab.guests.loaders.ram import GuestRam, size_text
from vlab.isa.state import CpuState

SECTOR = 512


def load(ram: GuestRam, image: bytes, *, cmdline: str, initrd: bytes | None, disk: bytes | None) -> Loaded:
    """Return the reset state with `image`, filled up to whole sectors, as the disk.

    Raises UnusableInput for a command line, an initrd or a second disk: a boot sector takes none of them.
    """
    given = {"append": bool(cmdline), "initrd": initrd is not None, "disk": disk is not None}
    for argument, is_given in given.items():
        if is_given:
            raise UnusableInput(
                f"{argument}: {ram.name} is a boot sector or disk image, which the firmware boots by itself;"
                f" leave --{argument} out"
            )
    padded = image + bytes(-len(image) % SECTOR)
    what = "boot sector" if len(padded) == SECTOR else f"disk image of {size_text(len(padded))}"
    return Loaded(Kind.BOOT_SECTOR, CpuState.reset(), what, disk=padded)
