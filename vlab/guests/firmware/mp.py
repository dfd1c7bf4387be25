"""The MP tables of Intel's MultiProcessor Specification, version 1.4, chapter 4: the APICs without ACPI.

One processor, the ISA bus, one I/O APIC. After reset the machine is in virtual wire mode: there is no IMCR.
"""

from __future__ import annotations

import struct

from vlab.guests.firmware.acpi import IO_APIC, IO_APIC_ID, LOCAL_APIC, LOCAL_APIC_ID, PIT_PIN, checksum

_SPECIFICATION = 4  # version 1.4
_LOCAL_APIC_VERSION, _IO_APIC_VERSION = 0x14, 0x20
_CPU_ENABLED_BOOT = 0b11
_CPU_SIGNATURE = 0x0F00  # family 15; no kernel looks
_CPU_FEATURES = 1 << 0 | 1 << 8 | 1 << 9  # x87, CMPXCHG8B, APIC
_INT, _NMI, _EXTINT = 0, 1, 3
_ISA_BUS = 0
_AS_THE_BUS = 0
_ALL_APICS = 0xFF
_CASCADE = 2


def _interrupt(entry: int, kind: int, irq: int, apic: int, pin: int) -> bytes:
    """Return an I/O (`entry` 3) or local (4) interrupt assignment entry (4.3.4, 4.3.5)."""
    return struct.pack("<BBHBBBB", entry, kind, _AS_THE_BUS, _ISA_BUS, irq, apic, pin)


def configuration_table() -> bytes:
    """Return the MP configuration table: header, processor, bus, I/O APIC, 15 ISA interrupts, two local ones.

    IRQ 0 is on pin 2; IRQ 2 is the cascade of the 8259s, which no device drives.
    """
    entries = [
        struct.pack(
            "<BBBBII8x",
            *(0, LOCAL_APIC_ID, _LOCAL_APIC_VERSION, _CPU_ENABLED_BOOT, _CPU_SIGNATURE, _CPU_FEATURES),
        ),
        struct.pack("<BB6s", 1, _ISA_BUS, b"ISA   "),
        struct.pack("<BBBBI", 2, IO_APIC_ID, _IO_APIC_VERSION, 1, IO_APIC),
    ]
    for irq in range(16):
        if irq != _CASCADE:
            entries.append(_interrupt(3, _INT, irq, IO_APIC_ID, PIT_PIN if irq == 0 else irq))
    entries.append(_interrupt(4, _EXTINT, 0, _ALL_APICS, 0))
    entries.append(_interrupt(4, _NMI, 0, _ALL_APICS, 1))
    body = b"".join(entries)
    start = b"PCMP" + struct.pack("<HB", 44 + len(body), _SPECIFICATION)
    rest = struct.pack("<8s12sIHHIHBx", b"VLAB", b"MACHINE", 0, 0, len(entries), LOCAL_APIC, 0, 0) + body
    return start + bytes([checksum(start + rest)]) + rest


def floating_pointer(table: int) -> bytes:
    """Return the MP floating pointer for a configuration table at guest-physical address `table`."""
    pointer = b"_MP_" + struct.pack("<IBBB5x", table, 1, _SPECIFICATION, 0)
    return pointer[:10] + bytes([checksum(pointer)]) + pointer[11:]


def place(base: int) -> list[tuple[int, bytes]]:
    """Return pointer and table with their addresses, the pointer at `base` (16-byte aligned) first."""
    table = base + 16
    return [(base, floating_pointer(table)), (table, configuration_table())]
