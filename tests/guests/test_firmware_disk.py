"""INT 13h over the vlab disk: geometry, both addressing schemes, errors."""

from __future__ import annotations

import struct

import pytest

from tests.guests.real_mode_pc import RealModePc
from tests.guests.test_firmware import BDA, BUFFER, FLOPPY, image

HARD_DISK, DISKETTE = 0x80, 0x00


def booted(sectors: int) -> RealModePc:
    machine = RealModePc(image(sectors))
    machine.run()
    return machine


@pytest.fixture
def pc() -> RealModePc:
    return booted(FLOPPY)


def lba_at(pc: RealModePc, address: int) -> int:
    return int.from_bytes(pc.read(address, 4), "little")


def test_sectors_are_read_by_cylinder_head_and_sector(pc: RealModePc) -> None:
    answer = pc.interrupt(0x13, ax=0x0203, cx=0x0511, dx=0x0180, es=BUFFER >> 4, bx=0x20)
    assert (answer.carry, answer.ah, answer.al) == (False, 0, 3)
    first = (5 * 2 + 1) * 18 + 16
    assert [lba_at(pc, BUFFER + 0x20 + 512 * i) for i in range(3)] == [first, first + 1, first + 2]


def test_sectors_are_written_and_verified(pc: RealModePc) -> None:
    pc.write(BUFFER, b"W" * 512)
    assert not pc.interrupt(0x13, ax=0x0301, cx=0x0002, dx=0x0080, es=BUFFER >> 4, bx=0).carry
    assert not pc.interrupt(0x13, ax=0x0401, cx=0x0002, dx=0x0080).carry
    pc.interrupt(0x13, ax=0x0201, cx=0x0002, dx=0x0000, es=0, bx=0x9000)
    assert pc.read(0x9000, 512) == b"W" * 512, "the diskette drive is the same disk"


@pytest.mark.parametrize(
    ("sectors", "cylinders", "heads", "track"),
    [
        (1, 80, 2, 18),
        (720, 40, 2, 9),
        (1440, 80, 2, 9),
        (2400, 80, 2, 15),
        (2880, 80, 2, 18),
        (5760, 80, 2, 36),
        (8064, 8, 16, 63),
        (64 * 2048, 130, 16, 63),
    ],
)
def test_the_geometry_follows_the_size_of_the_image(
    sectors: int, cylinders: int, heads: int, track: int
) -> None:
    answer = booted(sectors).interrupt(0x13, ax=0x0800, dx=HARD_DISK)
    assert not answer.carry
    assert (answer.ch | (answer.cl & 0xC0) << 2) + 1 == cylinders
    assert (answer.dh + 1, answer.cl & 0x3F) == (heads, track)
    assert answer.dl == 1


def test_every_sector_of_a_hard_disk_is_reached_by_its_geometry() -> None:
    pc = booted(8064)
    for lba in (1, 62, 63, 1007, 1008, 8063):
        cylinder, rest = divmod(lba, 16 * 63)
        head, sector = divmod(rest, 63)
        cx = (cylinder & 0xFF) << 8 | cylinder >> 2 & 0xC0 | sector + 1
        assert not pc.interrupt(0x13, ax=0x0201, cx=cx, dx=head << 8 | 0x80, es=BUFFER >> 4, bx=0).carry
        assert lba_at(pc, BUFFER) == lba


def test_the_drives_tell_what_they_are(pc: RealModePc) -> None:
    hard = pc.interrupt(0x13, ax=0x1500, dx=HARD_DISK)
    assert (hard.ah, hard.cx << 16 | hard.dx, hard.carry) == (3, FLOPPY, False)
    diskette = pc.interrupt(0x13, ax=0x1500, dx=DISKETTE)
    assert (diskette.ah, diskette.carry) == (1, False)
    parameters = pc.interrupt(0x13, ax=0x0800, dx=DISKETTE)
    assert (parameters.bl, parameters.cx, parameters.dh) == (4, 0x4F12, 1)
    table = pc.read(parameters.es * 16 + parameters.di, 5)
    assert table[4] == 18


def test_a_large_disk_is_no_diskette() -> None:
    pc = booted(8064)
    answer = pc.interrupt(0x13, ax=0x0201, cx=1, dx=DISKETTE, es=BUFFER >> 4, bx=0)
    assert (answer.carry, answer.ah) == (True, 0x80)
    assert not pc.interrupt(0x11).ax & 1


@pytest.mark.parametrize(
    ("registers", "status"),
    [
        ({"ax": 0x0201, "cx": 0x0013, "dx": 0x0080}, 0x04),  # sector 19 of 18
        ({"ax": 0x0201, "cx": 0x0000, "dx": 0x0080}, 0x04),  # sector 0
        ({"ax": 0x0201, "cx": 0x5001, "dx": 0x0080}, 0x04),  # cylinder 80
        ({"ax": 0x0201, "cx": 0x0001, "dx": 0x0280}, 0x04),  # head 2
        ({"ax": 0x0202, "cx": 0x4F12, "dx": 0x0180}, 0x04),  # one sector too many
        ({"ax": 0x0200, "cx": 0x0001, "dx": 0x0080}, 0x01),  # none at all
        ({"ax": 0x0201, "cx": 0x0001, "dx": 0x0081}, 0x01),  # no such drive
        ({"ax": 0x0800, "cx": 0x0000, "dx": 0x0081}, 0x07),
        ({"ax": 0x3F00, "cx": 0x0000, "dx": 0x0080}, 0x01),  # no such function
    ],
)
def test_what_cannot_be_read_is_an_error(pc: RealModePc, registers: dict[str, int], status: int) -> None:
    answer = pc.interrupt(0x13, es=BUFFER >> 4, bx=0, **registers)
    assert (answer.carry, answer.ah) == (True, status)
    if registers["ax"] >> 8 == 2:
        assert answer.al == 0, "no sector was moved"


def test_the_last_status_is_remembered(pc: RealModePc) -> None:
    pc.interrupt(0x13, ax=0x0201, cx=0x0013, dx=0x0080, es=BUFFER >> 4, bx=0)
    answer = pc.interrupt(0x13, ax=0x0100, dx=HARD_DISK)
    assert (answer.ah, answer.carry) == (0x04, False)
    assert not pc.interrupt(0x13, ax=0x0000, dx=HARD_DISK).carry
    assert pc.read(BDA + 0x74, 1) == b"\x00"


# ---- the extensions --------------------------------------------------------------------------------------


def packet(count: int, offset: int, segment: int, lba: int) -> bytes:
    return struct.pack("<BBHHHQ", 16, 0, count, offset, segment, lba)


def test_the_extensions_are_there_for_the_hard_disk_alone(pc: RealModePc) -> None:
    answer = pc.interrupt(0x13, ax=0x4100, bx=0x55AA, dx=HARD_DISK)
    assert (answer.carry, answer.bx, answer.ah, answer.cx) == (False, 0xAA55, 0x21, 1)
    assert pc.interrupt(0x13, ax=0x4100, bx=0x55AA, dx=DISKETTE).carry


def test_blocks_are_read_and_written_by_their_number(pc: RealModePc) -> None:
    pc.write(0x700, packet(2, 0x10, BUFFER >> 4, 1234))
    answer = pc.interrupt(0x13, ax=0x4200, dx=HARD_DISK, ds=0x70, si=0)
    assert (answer.carry, answer.ah) == (False, 0)
    assert [lba_at(pc, BUFFER + 0x10), lba_at(pc, BUFFER + 0x210)] == [1234, 1235]
    pc.write(0x700, packet(1, 0x10, BUFFER >> 4, 7))
    assert not pc.interrupt(0x13, ax=0x4300, dx=HARD_DISK, ds=0x70, si=0).carry
    pc.interrupt(0x13, ax=0x0201, cx=8, dx=0x0080, es=0, bx=0x9000)
    assert lba_at(pc, 0x9000) == 1234


@pytest.mark.parametrize(
    ("count", "lba", "status"), [(1, FLOPPY, 0x04), (2, FLOPPY - 1, 0x04), (1, 1 << 32, 0x04)]
)
def test_blocks_that_are_not_there_are_an_error(pc: RealModePc, count: int, lba: int, status: int) -> None:
    pc.write(0x700, packet(count, 0, BUFFER >> 4, lba))
    answer = pc.interrupt(0x13, ax=0x4200, dx=HARD_DISK, ds=0x70, si=0)
    assert (answer.carry, answer.ah) == (True, status)
    assert pc.word(0x702) == 0, "no block was moved"


def test_a_packet_that_is_too_short_is_refused(pc: RealModePc) -> None:
    pc.write(0x700, b"\x08" + packet(1, 0, 0x800, 0)[1:])
    assert pc.interrupt(0x13, ax=0x4200, dx=HARD_DISK, ds=0x70, si=0).carry


def test_the_extended_parameters_have_the_capacity(pc: RealModePc) -> None:
    pc.write(0x700, struct.pack("<H", 30))
    assert not pc.interrupt(0x13, ax=0x4800, dx=HARD_DISK, ds=0x70, si=0).carry
    assert struct.unpack("<HHIIIQH", pc.read(0x700, 26)) == (26, 2, 80, 2, 18, FLOPPY, 512)


def test_a_program_may_hook_the_disk_service_and_use_its_own_stack(pc: RealModePc) -> None:
    """The service is called with SS elsewhere and interrupts off, and gives everything back."""
    answer = pc.interrupt(
        0x13,
        ax=0x0201,
        cx=0x0003,
        dx=0x0080,
        es=BUFFER >> 4,
        bx=0,
        ss=0x5000,
        esp=0xFFF0,
        eflags=2,
        ebp=0x12345678,
        esi=0x9ABCDEF0,
        edi=0x0FEDCBA9,
        fs=0x1111,
        gs=0x2222,
    )
    assert (answer.ss, answer.esp, answer.carry) == (0x5000, 0xFFF0, False)
    assert (answer.ebp, answer.esi, answer.edi) == (0x12345678, 0x9ABCDEF0, 0x0FEDCBA9)
    assert (answer.fs, answer.gs, answer.es, answer.ds) == (0x1111, 0x2222, BUFFER >> 4, 0)
    assert lba_at(pc, BUFFER) == 2
