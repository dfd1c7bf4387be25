"""The MP and ACPI tables: found where kernels look, sums right, one table leading to the next."""

from __future__ import annotations

import re
import shutil
import struct
import subprocess
from pathlib import Path

import pytest

from vlab.errors import UnusableInput
from vlab.guests.firmware import ROM_BASE, TABLES_SIZE, acpi, aml
from vlab.guests.firmware.tables import tables

MEMORY = 128 << 20
IASL = shutil.which("iasl")


def memory(*, apic: bool) -> bytes:
    """The first MiB with the tables in place."""
    image = bytearray(1 << 20)
    for address, content in tables(MEMORY, apic=apic):
        image[address : address + len(content)] = content
    return bytes(image)


def find(image: bytes, signature: bytes, start: int) -> int:
    """Search as a kernel does, on 16-byte boundaries; -1 if it is nowhere."""
    return next((a for a in range(start, 1 << 20, 16) if image.startswith(signature, a)), -1)


def listed(image: bytes) -> dict[str, bytes]:
    """Follow the RSDP as a kernel does; returns signature -> table."""
    start = find(image, b"RSD PTR ", 0xE0000)
    rsdt, length, xsdt = struct.unpack_from("<IIQ", image, start + 16)
    assert sum(image[start : start + 20]) & 0xFF == 0
    assert sum(image[start : start + length]) & 0xFF == 0
    found = {"RSDT": table_at(image, rsdt), "XSDT": table_at(image, xsdt)}
    addresses = struct.unpack(f"<{(len(found['XSDT']) - 36) // 8}Q", found["XSDT"][36:])
    assert addresses == struct.unpack(f"<{(len(found['RSDT']) - 36) // 4}I", found["RSDT"][36:])
    for address in addresses:
        content = table_at(image, address)
        found[content[:4].decode()] = content
    facs, dsdt = struct.unpack_from("<II", found["FACP"], 36)
    assert facs % 64 == 0
    found["FACS"] = image[facs : facs + 64]
    found["DSDT"] = table_at(image, dsdt)
    return found


def table_at(image: bytes, address: int) -> bytes:
    (length,) = struct.unpack_from("<I", image, address + 4)
    content = image[address : address + length]
    assert sum(content) & 0xFF == 0, f"checksum of {content[:4]!r}"
    return content


@pytest.mark.parametrize("apic", [True, False])
def test_the_tables_fit_into_the_room_that_the_rom_leaves(apic: bool) -> None:
    end = ROM_BASE
    for address, content in tables(MEMORY, apic=apic):
        assert address >= end, "rising, without overlap"
        end = address + len(content)
    assert end <= ROM_BASE + TABLES_SIZE


def test_too_little_memory_is_refused() -> None:
    with pytest.raises(
        UnusableInput, match="memory: 65536 bytes end below the firmware's tables; give at least"
    ):
        tables(65536, apic=True)


# ---- MP ---------------------------------------------------------------------------------------------------


def test_the_mp_pointer_leads_to_the_configuration_table() -> None:
    image = memory(apic=True)
    pointer = find(image, b"_MP_", 0xF0000)
    assert sum(image[pointer : pointer + 16]) & 0xFF == 0
    (table,) = struct.unpack_from("<I", image, pointer + 4)
    assert image[table : table + 4] == b"PCMP"
    (length,) = struct.unpack_from("<H", image, table + 4)
    assert sum(image[table : table + length]) & 0xFF == 0


def mp_entries() -> list[bytes]:
    image = memory(apic=True)
    table = find(image, b"PCMP", 0xF0000)
    length, count = struct.unpack_from("<H28xH", image, table + 4)
    entries, at = [], table + 44
    while at < table + length:
        size = 20 if image[at] == 0 else 8
        entries.append(image[at : at + size])
        at += size
    assert len(entries) == count
    return entries


def test_the_mp_table_has_one_boot_processor_an_isa_bus_and_an_io_apic() -> None:
    processor, bus, io_apic = mp_entries()[:3]
    assert processor[:4] == b"\x00\x00\x14\x03"
    assert bus == b"\x01\x00ISA   "
    assert io_apic == b"\x02\x00\x20\x01" + struct.pack("<I", 0xFEC00000)


def test_every_isa_interrupt_has_its_pin_and_the_timer_is_on_pin_2() -> None:
    pins = {entry[5]: entry[7] for entry in mp_entries() if entry[0] == 3}
    assert pins == {0: 2, **{irq: irq for irq in (1, *range(3, 16))}}


def test_the_8259_is_on_lint0_and_nmi_on_lint1() -> None:
    local = {entry[1]: (entry[6], entry[7]) for entry in mp_entries() if entry[0] == 4}
    assert local == {3: (0xFF, 0), 1: (0xFF, 1)}


def test_without_apics_there_is_no_mp_table_and_no_madt() -> None:
    image = memory(apic=False)
    assert find(image, b"_MP_", 0x0) == -1
    assert set(listed(image)) == {"RSDT", "XSDT", "FACP", "FACS", "DSDT"}


# ---- ACPI -------------------------------------------------------------------------------------------------


def test_the_rsdp_leads_to_every_table() -> None:
    assert set(listed(memory(apic=True))) == {"RSDT", "XSDT", "FACP", "FACS", "DSDT", "APIC"}


def test_the_fadt_has_the_ports_twice_and_they_agree() -> None:
    fadt = listed(memory(apic=True))["FACP"]
    assert len(fadt) == 244
    legacy = {"event": 56, "control": 64, "timer": 76}
    extended = {"event": 148, "control": 172, "timer": 208}
    for name, port in (("event", 0x600), ("control", 0x604), ("timer", 0x608)):
        (old,) = struct.unpack_from("<I", fadt, legacy[name])
        space, bits, offset, _, new = struct.unpack_from("<BBBBQ", fadt, extended[name])
        assert (old, new, space, offset) == (port, port, 1, 0), name
        assert bits == {"event": 32, "control": 16, "timer": 32}[name]
    assert struct.unpack_from("<HI", fadt, 46) == (9, 0), "SCI, and no SMI command port"
    assert fadt[108] == 0x32, "the century in CMOS"
    (flags,) = struct.unpack_from("<I", fadt, 112)
    assert flags & 1 << 20 == 0, "not hardware-reduced"
    assert flags & 1 << 10
    assert struct.unpack_from("<QB", fadt, 120) == (0xCF9, 6)


def test_the_madt_overrides_the_timer_and_the_sci() -> None:
    madt = listed(memory(apic=True))["APIC"]
    assert struct.unpack_from("<II", madt, 36) == (0xFEE00000, 1)
    overrides, at = {}, 44
    while at < len(madt):
        if madt[at] == 2:
            bus, source, gsi, flags = struct.unpack_from("<BBIH", madt, at + 2)
            overrides[source] = (bus, gsi, flags)
        at += madt[at + 1]
    assert at == len(madt)
    assert overrides == {0: (0, 2, 0), 9: (0, 9, 0x0D)}


@pytest.mark.skipif(IASL is None, reason="iasl is not installed (package acpica-tools)")
@pytest.mark.parametrize("signature", ["FACP", "FACS", "APIC", "DSDT", "RSDT", "XSDT"])
def test_iasl_understands_every_table(signature: str, tmp_path: Path) -> None:
    assert IASL is not None
    file = tmp_path / f"{signature}.aml"
    file.write_bytes(listed(memory(apic=True))[signature])
    done = subprocess.run(
        [IASL, "-d", str(file)], capture_output=True, text=True, cwd=tmp_path, timeout=20, check=False
    )
    source = file.with_suffix(".dsl").read_text()
    output = done.stdout + done.stderr
    assert done.returncode == 0, output
    assert not re.search(r"(?i)warning|error|invalid", output + source.split("*/", 1)[1]), output + source
    if signature == "DSDT":
        again = subprocess.run(
            [IASL, str(file.with_suffix(".dsl"))], capture_output=True, text=True, timeout=20, check=False
        )
        assert "0 Errors, 0 Warnings" in again.stdout, again.stdout
        assert all(word in source for word in ("PNP0501", "PNP0303", "_S5", "0x03F8"))


# ---- AML --------------------------------------------------------------------------------------------------


def test_package_lengths_count_themselves() -> None:
    assert aml.with_length(bytes(62))[0] == 63
    long = aml.with_length(bytes(63))
    assert long[0] >> 6 == 1
    assert long[0] & 0xF | long[1] << 4 == len(long) == 65
    with pytest.raises(ValueError, match="payload: 5000 bytes are more"):
        aml.with_length(bytes(5000))


def test_identifiers_and_names_are_packed() -> None:
    assert aml.eisa_id("PNP0501") == b"\x0c\x41\xd0\x05\x01"
    assert aml.name_path("\\_SB") == b"\\_SB_"
    with pytest.raises(ValueError, match="path: 'TOOLONG' is no AML name"):
        aml.name_path("TOOLONG")


def test_integers_take_the_shortest_form() -> None:
    assert [aml.integer(value)[:1] for value in (0, 1, 2, 256, 65536)] == [
        b"\0",
        b"\1",
        b"\x0a",
        b"\x0b",
        b"\x0c",
    ]


def test_the_sleep_type_is_the_one_that_the_pm_chip_obeys() -> None:
    assert acpi.dsdt()[36:].startswith(b"\x08\\_S5_\x12\x08\x04\x0a\x05\x0a\x05\x00\x00")
