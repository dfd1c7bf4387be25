"""The vlab disk: transfers, errors that change nothing, and snapshots that carry what was written."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vlab.devices.paravirtual_disk import SECTOR, Command, ParavirtualDisk, ParavirtualDiskState, Status
from vlab.devices.state import UnusableState, decode, encode
from vlab.errors import UnusableInput

MEMORY = 64 * 1024


class Rig:
    """A disk of numbered sectors and 64 KiB of guest memory."""

    def __init__(self, sectors: int = 8, *, read_only: bool = False) -> None:
        self.image = bytearray(b"".join(bytes([lba % 256]) * SECTOR for lba in range(sectors)))
        self.memory = bytearray(MEMORY)
        inserted = bytes(self.image) if read_only else self.image
        self.disk = ParavirtualDisk(
            image=inserted, read_memory=self.read_memory, write_memory=self.write_memory
        )

    def read_memory(self, gpa: int, size: int) -> bytes | None:
        return bytes(self.memory[gpa : gpa + size]) if gpa + size <= MEMORY else None

    def write_memory(self, gpa: int, data: bytes) -> bool:
        if gpa + len(data) > MEMORY:
            return False
        self.memory[gpa : gpa + len(data)] = data
        return True

    def command(self, command: int, lba: int = 0, count: int = 0, gpa: int = 0) -> int:
        for offset, value in ((0, lba), (4, count), (8, gpa)):
            self.disk.write(offset, value, 4)
        self.disk.write(12, command)
        return self.disk.read(12)


def test_a_read_brings_sectors_to_memory() -> None:
    rig = Rig()
    assert rig.command(Command.READ, lba=3, count=2, gpa=0x1000) == Status.OK
    assert rig.memory[0x1000:0x1400] == b"\x03" * SECTOR + b"\x04" * SECTOR
    assert not any(rig.memory[0x1400:])


def test_a_write_brings_memory_to_the_disk_and_leaves_its_neighbours() -> None:
    rig = Rig()
    rig.memory[0x200:0x400] = b"w" * SECTOR
    assert rig.command(Command.WRITE, lba=5, count=1, gpa=0x200) == Status.OK
    assert rig.image[5 * SECTOR : 6 * SECTOR] == b"w" * SECTOR
    assert rig.image[4 * SECTOR] == 4
    assert rig.image[6 * SECTOR] == 6


def test_the_capacity_is_read_from_the_lba_register() -> None:
    rig = Rig(sectors=2880)
    assert rig.command(Command.CAPACITY) == Status.OK
    assert rig.disk.read(0, 4) == 2880


def test_a_long_transfer_is_moved_in_pieces_without_a_seam() -> None:
    rig = Rig(sectors=127)
    rig.image[:] = bytes(index * 7 % 251 for index in range(127 * SECTOR))
    assert rig.command(Command.READ, count=127) == Status.OK
    assert rig.memory[: 127 * SECTOR] == rig.image


@pytest.mark.parametrize(
    ("command", "lba", "count", "gpa"),
    [
        (Command.READ, 8, 1, 0),
        (Command.READ, 7, 2, 0),
        (Command.READ, 0xFFFFFFFF, 0xFFFFFFFF, 0),
        (Command.READ, 0, 1, MEMORY - SECTOR + 1),
        (Command.WRITE, 0, 1, 0xFFFFFE00),
        (Command.WRITE, 8, 1, 0),
        (0, 0, 1, 0),
        (4, 0, 1, 0),
        (0xFF, 0, 1, 0),
    ],
)
def test_what_cannot_be_done_is_an_error_and_changes_nothing(
    command: int, lba: int, count: int, gpa: int
) -> None:
    rig = Rig()
    rig.memory[:] = b"m" * MEMORY
    image, memory = bytes(rig.image), bytes(rig.memory)
    assert rig.command(command, lba, count, gpa) == Status.ERROR
    assert (bytes(rig.image), bytes(rig.memory)) == (image, memory)
    assert rig.command(Command.READ, count=1) == Status.OK, "the next command starts afresh"


def test_a_read_only_image_refuses_writes_and_serves_reads() -> None:
    rig = Rig(read_only=True)
    assert rig.command(Command.WRITE, count=1) == Status.ERROR
    assert rig.command(Command.READ, lba=1, count=1) == Status.OK
    assert rig.memory[0] == 1


def test_registers_can_be_written_byte_by_byte() -> None:
    rig = Rig()
    for offset, byte in enumerate((0x02, 0, 0, 0, 0x01, 0, 0, 0, 0x00, 0x10, 0, 0, Command.READ)):
        rig.disk.write(offset, byte)
    assert rig.memory[0x1000] == 2
    assert rig.disk.read(8, 2) == 0x1000
    assert rig.disk.read(9) == 0x10


def test_an_image_must_be_whole_sectors() -> None:
    with pytest.raises(
        UnusableInput, match="an image of 700 bytes is not whole sectors of 512 bytes; fill it up"
    ):
        ParavirtualDisk(image=bytes(700), read_memory=lambda *_: None, write_memory=lambda *_: False)


def test_a_snapshot_carries_what_was_written_and_nothing_more() -> None:
    rig = Rig()
    rig.memory[:SECTOR] = b"a" * SECTOR
    rig.command(Command.WRITE, lba=2, count=1)
    rig.command(Command.READ, lba=4, count=1)
    rig.command(Command.WRITE, lba=4, count=1)  # what was there already
    state = rig.disk.save()
    assert state.written == (2,)
    assert state.contents == b"a" * SECTOR

    later = bytearray(b"b" * SECTOR)
    rig.memory[:SECTOR] = later
    rig.command(Command.WRITE, lba=2, count=1)
    rig.command(Command.WRITE, lba=6, count=1)
    rig.disk.restore(state)
    assert rig.image[2 * SECTOR] == ord("a")
    assert rig.image[6 * SECTOR] == 6
    assert rig.disk.save() == state


def test_a_snapshot_goes_to_another_machine_with_the_same_image() -> None:
    rig, other = Rig(), Rig()
    rig.memory[:SECTOR] = b"a" * SECTOR
    rig.command(Command.WRITE, lba=1, count=1)
    other.disk.restore(decode(ParavirtualDiskState, encode(rig.disk.save())))
    assert other.image == rig.image
    assert other.disk.save() == rig.disk.save()


def test_a_snapshot_of_another_image_is_refused() -> None:
    with pytest.raises(UnusableState, match="disk: the snapshot was taken with the image of SHA-256"):
        Rig(sectors=4).disk.restore(Rig(sectors=8).disk.save())


@given(
    st.lists(
        st.tuples(
            st.integers(0, 15), st.integers(0, 2**32 - 1) | st.integers(0, 16), st.sampled_from((1, 2, 4))
        )
    )
)
def test_any_sequence_of_writes_leaves_the_disk_consistent(writes: list[tuple[int, int, int]]) -> None:
    rig = Rig()
    for offset, value, size in writes:
        rig.disk.write(offset, value, size)
        assert 0 <= rig.disk.read(offset, size) < 1 << 8 * size
    state = rig.disk.save()
    twin = Rig()
    twin.disk.restore(state)
    assert twin.image == rig.image
    assert twin.disk.save() == state
