"""The firmware: vlab's own small BIOS, 64 KiB of 16-bit code that runs as ordinary guest code.

The machine puts the image at F0000 and once more below 4 GiB, and starts the processor at its reset vector.
The firmware initialises the chips through their ports alone, fills in the vector table and the BIOS data
area, and boots the first sector of the vlab disk (`vlab.devices.paravirtual_disk`). What it offers is
listed in `README.md` beside this file; `tables` makes the MP and ACPI tables, which the host puts
beside it.
"""

from __future__ import annotations

from functools import cache
from importlib.resources import files

ROM_BASE = 0xF0000
"""Guest-physical address of the image's first byte."""
ROM_SIZE = 0x10000
"""Size of the image, bytes."""
TABLES_SIZE = 0x4000
"""The image leaves this many bytes at its beginning empty, for MP and ACPI tables."""
DATA_BASE = 0x9F000
"""Guest-physical address of the extended BIOS data area, 4 KiB with the firmware's variables and stack."""


@cache
def rom() -> bytes:
    """Return the built image, ROM_SIZE bytes."""
    return (files(__package__) / "firmware.rom").read_bytes()
