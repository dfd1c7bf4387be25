"""The ACPI tables: RSDP, RSDT, XSDT, FADT, FACS, MADT and DSDT (ACPI specification 6.5, chapter 5).

The machine is described as it is: a PC with ISA devices and no PCI. It is not a "hardware-reduced"
platform, since that means to Linux that there are no PIC and no PIT. So there is a PM1a block with a PM
timer at port 600h (`vlab.devices.acpi_pm`), already in ACPI mode (no SMI command port), and its SCI on IRQ
9, level-triggered.
"""

from __future__ import annotations

import struct

from vlab.guests.firmware import aml

PM1A_EVENT = 0x600
PM1A_CONTROL = 0x604
PM_TIMER = 0x608
SCI = 9
SLEEP_TYPE_S5 = 5
"""What SLP_TYP in PM1a control must be for "off"."""
RESET_PORT, RESET_VALUE = 0xCF9, 0x06

LOCAL_APIC = 0xFEE00000
IO_APIC = 0xFEC00000
LOCAL_APIC_ID = 0
IO_APIC_ID = 0
"""What the chip's own register says after reset; kernels compare."""
PIT_PIN = 2

_OEM, _TABLE_ID, _CREATOR = b"VLAB  ", b"MACHINE ", b"VLAB"
_RTC_CENTURY = 0x32
_RAM_ALIGNMENT = 64

# FADT flags (5.2.9, table 5.10) and boot architecture flags (5.2.9.3).
_WBINVD, _PROC_C1, _NO_POWER_BUTTON, _NO_SLEEP_BUTTON, _RTC_NOT_FIXED = (1 << bit for bit in (0, 2, 4, 5, 6))
_TIMER_32_BITS, _RESET_SUPPORTED = 1 << 8, 1 << 10
_FLAGS = (
    _WBINVD
    | _PROC_C1
    | _NO_POWER_BUTTON
    | _NO_SLEEP_BUTTON
    | _RTC_NOT_FIXED
    | _TIMER_32_BITS
    | _RESET_SUPPORTED
)
_LEGACY_DEVICES, _KEYBOARD_CONTROLLER = 1 << 0, 1 << 1
_NO_C2, _NO_C3 = 101, 1001

# MADT interrupt flags (5.2.12.5): polarity and trigger mode.
_AS_THE_BUS, _ACTIVE_HIGH_LEVEL, _ACTIVE_HIGH_EDGE = 0, 0b1101, 0b0101


def checksum(table: bytes) -> int:
    """Return the byte that makes the sum of all bytes 0 modulo 256."""
    return -sum(table) & 0xFF


def table(signature: bytes, revision: int, body: bytes) -> bytes:
    """Return a system description table: the 36-byte header (5.2.6) with its checksum, then `body`."""
    length = 36 + len(body)
    before = signature + struct.pack("<IB", length, revision)
    after = _OEM + _TABLE_ID + struct.pack("<I", 1) + _CREATOR + struct.pack("<I", 1) + body
    return before + bytes([checksum(before + after)]) + after


def _generic_address(space: int, bits: int, address: int, access: int) -> bytes:
    """Return a Generic Address Structure (5.2.3.2): `space` 1 is I/O, `access` 1 to 3 means 1, 2, 4 bytes."""
    return struct.pack("<BBBBQ", space, bits, 0, access, address)


def fadt(facs: int, dsdt: int) -> bytes:
    """Return the Fixed ACPI Description Table, revision 3, for tables at these guest-physical addresses."""
    body = struct.pack("<IIBBH", facs, dsdt, 1, 1, SCI)
    body += struct.pack("<IBBBB", 0, 0, 0, 0, 0)  # no SMI command port: always in ACPI mode
    body += struct.pack("<8I", PM1A_EVENT, 0, PM1A_CONTROL, 0, 0, PM_TIMER, 0, 0)
    body += struct.pack("<8B", 4, 2, 0, 4, 0, 0, 0, 0)  # lengths of the blocks above
    body += struct.pack("<HHHHBBBBB", _NO_C2, _NO_C3, 0, 0, 0, 0, 0, 0, _RTC_CENTURY)
    body += struct.pack("<HBI", _LEGACY_DEVICES | _KEYBOARD_CONTROLLER, 0, _FLAGS)
    body += _generic_address(1, 8, RESET_PORT, 1) + struct.pack("<B3x", RESET_VALUE)
    body += struct.pack("<QQ", facs, dsdt)
    none = bytes(12)
    body += _generic_address(1, 32, PM1A_EVENT, 2) + none + _generic_address(1, 16, PM1A_CONTROL, 2) + none
    body += none + _generic_address(1, 32, PM_TIMER, 3) + none + none
    return table(b"FACP", 3, body)


def facs() -> bytes:
    """Return the Firmware ACPI Control Structure, version 1: nothing to wake up, the global lock free."""
    return b"FACS" + struct.pack("<IIIIIQB31x", 64, 0, 0, 0, 0, 0, 1)


def madt() -> bytes:
    """Return the Multiple APIC Description Table: one processor, one I/O APIC, and the lines that differ.

    The PIT (IRQ 0) is on pin 2 and the SCI is level-triggered; everything else is wired as on the ISA bus.
    """
    entries = struct.pack("<BBBBI", 0, 8, 0, LOCAL_APIC_ID, 1)
    entries += struct.pack("<BBBBII", 1, 12, IO_APIC_ID, 0, IO_APIC, 0)
    entries += struct.pack("<BBBBIH", 2, 10, 0, 0, PIT_PIN, _AS_THE_BUS)
    entries += struct.pack("<BBBBIH", 2, 10, 0, SCI, SCI, _ACTIVE_HIGH_LEVEL)
    entries += struct.pack("<BBBHB", 4, 6, 0xFF, _ACTIVE_HIGH_EDGE, 1)  # NMI on LINT1 of all processors
    return table(b"APIC", 3, struct.pack("<II", LOCAL_APIC, 1) + entries)


def _isa_device(path: str, identifier: str, *descriptors: bytes, uid: int | None = None) -> bytes:
    terms = [aml.name("_HID", aml.eisa_id(identifier))]
    if uid is not None:
        terms.append(aml.name("_UID", aml.integer(uid)))
    return aml.device(path, *terms, aml.resources(*descriptors))


def dsdt() -> bytes:
    r"""Return the Differentiated System Description Table: \_S5 and the ISA devices that kernels look for."""
    off = aml.integer(SLEEP_TYPE_S5)
    zero = aml.integer(0)
    body = aml.name("\\_S5", aml.package(off, off, zero, zero))
    body += aml.scope(
        "\\_SB",
        _isa_device("COM1", "PNP0501", aml.ports(0x3F8, 8), aml.interrupt(4), uid=1),
        _isa_device("RTC", "PNP0B00", aml.ports(0x70, 2), aml.interrupt(8)),
        _isa_device("KBD", "PNP0303", aml.ports(0x60, 1), aml.ports(0x64, 1), aml.interrupt(1)),
        _isa_device("MOU", "PNP0F13", aml.interrupt(12)),
    )
    return table(b"DSDT", 2, body)


def rsdp(rsdt: int, xsdt: int) -> bytes:
    """Return the Root System Description Pointer, revision 2, with both of its checksums (5.2.5.3)."""
    first = b"RSD PTR " + b"\0" + _OEM + struct.pack("<BI", 2, rsdt)
    first = first[:8] + bytes([checksum(first)]) + first[9:]
    whole = first + struct.pack("<IQB3x", 36, xsdt, 0)
    return whole[:32] + bytes([checksum(whole)]) + whole[33:]


def place(base: int, *, apic: bool) -> list[tuple[int, bytes]]:
    """Return all tables with their guest-physical addresses, the RSDP at `base` (16-byte aligned) first.

    Without `apic` there is no MADT: kernels then keep to the 8259s.
    """
    placed: list[tuple[int, bytes]] = []
    end = base + 64

    def put(content: bytes) -> int:
        nonlocal end
        address = -(-end // _RAM_ALIGNMENT) * _RAM_ALIGNMENT
        placed.append((address, content))
        end = address + len(content)
        return address

    facs_at, dsdt_at = put(facs()), put(dsdt())
    listed = [put(fadt(facs_at, dsdt_at))]
    if apic:
        listed.append(put(madt()))
    rsdt = put(table(b"RSDT", 1, struct.pack(f"<{len(listed)}I", *listed)))
    xsdt = put(table(b"XSDT", 1, struct.pack(f"<{len(listed)}Q", *listed)))
    return [(base, rsdp(rsdt, xsdt)), *placed]
