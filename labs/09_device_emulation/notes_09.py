"""Guests that note what they read: a byte at a time, where EDI points."""

from __future__ import annotations

import struct
from typing import Final

from vlab.guests.programs import SCRATCH

LOG: Final = SCRATCH + 0x400
NOTE: Final = bytes.fromhex("88 07 47")  # mov [edi], al; inc edi


def edi(place: int = LOG) -> bytes:
    """Have EDI point to where the notes go."""
    return b"\xbf" + struct.pack("<I", place)
