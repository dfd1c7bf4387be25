"""A guest's initrd in its memory."""

from __future__ import annotations

from vlab.errors import UnusableInput
from vlab.guests.loaders.ram import GuestRam


def place(ram: GuestRam, initrd: bytes, limit: int) -> int:
    """Copy `initrd` as high in memory as it may be, below `limit`, and return its address.

    Raises UnusableInput for an empty one and UnusableImage when there is no room.
    """
    if not initrd:
        raise UnusableInput("initrd: the file is empty; give a cpio archive, or leave --initrd out")
    where = ram.place_high(len(initrd), limit, "the initrd")
    ram.fill(where, initrd)
    return where
