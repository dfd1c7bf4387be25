"""The tables that describe the machine to an operating system, and where the host puts them.

They lie at the beginning of the ROM's segment, in the 16 KiB that the firmware's image leaves empty:
kernels search F0000-FFFFF for the MP floating pointer on 16-byte boundaries (MultiProcessor Specification
1.4, section 4), and E0000-FFFFF for the RSDP (ACPI 6.5, 5.2.5.1). Publish only what the machine has: a
kernel believes what it reads.
"""

from __future__ import annotations

from vlab.errors import UnusableInput
from vlab.guests.firmware import ROM_BASE, TABLES_SIZE, acpi, mp

MP_BASE = ROM_BASE
ACPI_BASE = ROM_BASE + 0x1000
_ROM_END = 0x100000


def tables(memory_bytes: int, *, apic: bool) -> list[tuple[int, bytes]]:
    """Return (guest-physical address, bytes) of every table, in rising order and without overlap.

    `memory_bytes` is the size of guest memory, of which the tables take a part below 1 MiB; `apic` says
    whether the machine has a local APIC and an I/O APIC: without them there are no MP tables and no MADT.
    The ACPI tables need `vlab.devices.acpi_pm` at ports 600h-60Bh, its SCI on IRQ 9. Raises UnusableInput
    under 1 MiB.
    """
    if memory_bytes < _ROM_END:
        raise UnusableInput(f"memory: {memory_bytes} bytes end below the firmware's tables; give at least 1M")
    placed = sorted((mp.place(MP_BASE) if apic else []) + acpi.place(ACPI_BASE, apic=apic))
    last, content = placed[-1]
    assert last + len(content) <= ROM_BASE + TABLES_SIZE
    return placed
