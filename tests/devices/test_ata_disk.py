"""The ATA disk: what a driver sees of it, by programmed I/O."""

from __future__ import annotations

import random
import struct
from collections.abc import Callable

import pytest

from vlab.devices.ata_disk import (
    CONTROL,
    COUNT,
    DATA,
    DEVICE,
    ERROR,
    FLUSH,
    IDENTIFY,
    LBA_HIGH,
    LBA_LOW,
    LBA_MID,
    READ,
    SECTOR,
    STATUS,
    WRITE,
    AtaDisk,
    AtaDiskState,
    Status,
)
from vlab.devices.state import decode, encode

SECTORS = 40
READY, DRQ, ERR = 0x50, 0x58, 0x51
ABORTED, NOT_FOUND = 4, 16
LBA, SECOND, QUIET, RESET = 0x40, 0x10, 2, 4


class Rig:
    """The device on a disk of noise, and its interrupt line."""

    def __init__(self, *, writable: bool = True) -> None:
        self.image = bytearray(random.Random(5).randbytes(SECTORS * SECTOR))
        self.line = False
        self.edges = 0
        self.writable = writable
        self.disk = AtaDisk(capacity=SECTORS, load=self.load, store=self.store, irq=self.irq)

    def load(self, sector: int, count: int) -> bytes:
        return bytes(self.image[sector * SECTOR : (sector + count) * SECTOR])

    def store(self, sector: int, data: bytes) -> bool:
        if self.writable:
            self.image[sector * SECTOR : sector * SECTOR + len(data)] = data
        return self.writable

    def irq(self, level: bool) -> None:
        self.edges += level and not self.line
        self.line = level

    def command(self, command: int, sector: int = 0, count: int = 1, device: int = LBA) -> int:
        """Give a command and return the status, read without an effect."""
        write = self.disk.write
        write(DEVICE, device | sector >> 24)
        for register, value in ((COUNT, count), (LBA_LOW, sector), (LBA_MID, sector >> 8)):
            write(register, value & 0xFF)
        write(LBA_HIGH, sector >> 16 & 0xFF)
        write(STATUS, command)
        return self.disk.read(CONTROL)

    def words(self, count: int) -> bytes:
        return b"".join(struct.pack("<H", self.disk.read(DATA, 2)) for _ in range(count))


@pytest.fixture
def rig() -> Rig:
    return Rig()


def test_a_read_hands_over_word_by_word_and_ends_with_the_last(rig: Rig) -> None:
    assert rig.command(READ, 7, 3) == DRQ
    assert rig.words(3 * 256) == rig.image[7 * SECTOR : 10 * SECTOR]
    assert rig.disk.read(STATUS) == READY
    assert rig.disk.read(DATA, 2) == 0xFFFF


def test_an_access_of_32_bits_takes_two_words(rig: Rig) -> None:
    rig.command(READ, 1)
    assert rig.disk.read(DATA, 4) == int.from_bytes(rig.image[SECTOR : SECTOR + 4], "little")
    assert rig.disk.read(DATA, 2) == int.from_bytes(rig.image[SECTOR + 4 : SECTOR + 6], "little")


@pytest.mark.parametrize("size", [2, 4])
def test_a_write_is_stored_sector_by_sector(rig: Rig, size: int) -> None:
    data = random.Random(6).randbytes(2 * SECTOR)
    assert rig.command(WRITE, 4, 2) == DRQ
    for place in range(0, len(data), size):
        assert rig.disk.read(CONTROL) == DRQ
        rig.disk.write(DATA, int.from_bytes(data[place : place + size], "little"), size)
    assert rig.disk.read(STATUS) == READY
    assert rig.image[4 * SECTOR : 6 * SECTOR] == data


def test_a_disk_that_cannot_be_written_says_so() -> None:
    rig = Rig(writable=False)
    before = bytes(rig.image)
    rig.command(WRITE)
    for _ in range(256):
        rig.disk.write(DATA, 0, 2)
    assert (rig.disk.read(STATUS), rig.disk.read(ERROR), rig.image) == (ERR, ABORTED, before)


@pytest.mark.parametrize(("sector", "count"), [(SECTORS, 1), (SECTORS - 1, 2), (0, 0), (1 << 27, 1)])
def test_sectors_that_are_not_there_are_not_found(rig: Rig, sector: int, count: int) -> None:
    """A count of 0 means 256."""
    assert rig.command(READ, sector, count) == ERR
    assert rig.disk.read(ERROR) == NOT_FOUND
    assert rig.disk.read(DATA, 2) == 0xFFFF


def test_an_address_by_cylinder_head_and_sector(rig: Rig) -> None:
    rig.disk.write(DEVICE, 0)  # head 0
    for register, value in ((COUNT, 1), (LBA_LOW, 9), (LBA_MID, 0), (LBA_HIGH, 0), (STATUS, READ)):
        rig.disk.write(register, value)
    assert rig.words(256) == rig.image[8 * SECTOR : 9 * SECTOR]
    assert rig.command(READ, 0, device=0) == ERR  # sectors count from 1


def test_a_command_that_there_is_not_is_aborted(rig: Rig) -> None:
    assert rig.command(0x9D) == ERR
    assert rig.disk.read(ERROR) == ABORTED
    assert rig.command(FLUSH) == READY


def test_identify_tells_the_size_and_the_name(rig: Rig) -> None:
    assert rig.command(IDENTIFY) == DRQ
    words = struct.unpack("<256H", rig.words(256))
    assert words[60] | words[61] << 16 == SECTORS
    assert words[49] & 1 << 9
    model = b"".join(struct.pack(">H", word) for word in words[27:47])
    assert model == b"vlab ATA disk".ljust(40)


def test_there_is_no_second_device(rig: Rig) -> None:
    rig.disk.write(DEVICE, SECOND)
    assert rig.disk.read(STATUS) == rig.disk.read(CONTROL) == 0
    rig.disk.write(STATUS, READ)
    rig.disk.write(DEVICE, 0)
    assert rig.disk.read(STATUS) == READY


# --- interrupts -------------------------------------------------------------------------------------------


def test_each_sector_of_a_read_interrupts_and_reading_the_status_ends_it(rig: Rig) -> None:
    rig.command(READ, 0, 2)
    assert rig.line
    assert rig.disk.read(CONTROL) == DRQ
    assert rig.line
    rig.disk.read(STATUS)
    assert not rig.line
    rig.words(256)
    assert (rig.line, rig.edges) == (True, 2)
    rig.disk.read(STATUS)
    rig.words(256)
    assert (rig.line, rig.edges) == (False, 2)


def test_interrupts_can_be_switched_off_and_wait(rig: Rig) -> None:
    rig.disk.write(CONTROL, QUIET)
    rig.command(READ)
    assert not rig.line
    rig.disk.write(CONTROL, 0)
    assert rig.line


def test_a_reset_shows_the_signature_of_a_disk(rig: Rig) -> None:
    rig.command(READ)
    rig.disk.write(CONTROL, RESET)
    rig.disk.write(CONTROL, 0)
    registers = [rig.disk.read(n) for n in (ERROR, COUNT, LBA_LOW, LBA_MID, LBA_HIGH, DEVICE)]
    assert registers == [1, 1, 1, 0, 0, 0]
    assert (rig.disk.read(STATUS), rig.line) == (READY, False)


# --- state ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("direction", [READ, WRITE])
def test_a_transfer_goes_on_in_another_device(direction: int) -> None:
    rigs = Rig(), Rig()
    move: dict[int, Callable[[Rig, int], object]] = {
        READ: lambda rig, _: rig.disk.read(DATA, 2),
        WRITE: lambda rig, n: rig.disk.write(DATA, n, 2),
    }
    rigs[0].command(direction, 3, 2)
    for n in range(300):
        move[direction](rigs[0], n)
    rigs[1].image[:] = rigs[0].image
    state = rigs[0].disk.save()
    rigs[1].disk.restore(decode(AtaDiskState, encode(state)))
    assert (rigs[1].disk.save(), rigs[1].line) == (state, rigs[0].line)
    moved = [[move[direction](rig, n) for n in range(300, 512)] for rig in rigs]
    assert moved[0] == moved[1]
    assert rigs[0].image == rigs[1].image
    assert rigs[0].disk.save() == rigs[1].disk.save()


def test_the_state_is_shown_bit_by_bit(rig: Rig) -> None:
    assert Status(rig.disk.save().status).DRDY == 1
