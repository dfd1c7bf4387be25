"""The vlab disk: a paravirtual controller, made for a firmware that wants sectors and no chip to study.

No real machine has one. A transfer is one command: the driver writes where on the disk, how many sectors and
where in memory, then the command; when that OUT has finished, so has the transfer.

======  ====  ==========================================================================================
offset  bits  register (ports 5D0h-5DFh)
======  ====  ==========================================================================================
0       32    LBA of the first sector; after the command CAPACITY the number of sectors on the disk
4       32    number of sectors to move
8       32    guest-physical address of the buffer
12      8     write: command (1 read, 2 write, 3 capacity); read: status (0 ok, 1 error)
======  ====  ==========================================================================================

Where there is no controller the status reads as FFh, like every port where nothing listens.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from typing import ClassVar

from vlab.devices.state import DeviceState, UnusableState
from vlab.errors import UnusableInput

SECTOR = 512
_CHUNK = 128
"""Sectors moved at a time: a guest may ask for 2 TiB in one command, and gets an error without our memory."""
_LBA, _COUNT, _BUFFER, _COMMAND, _WINDOW = 0, 4, 8, 12, 16


class Command(IntEnum):
    """What can be written to the command register; anything else is an error."""

    READ = 1
    WRITE = 2
    CAPACITY = 3


class Status(IntEnum):
    """What the status register says of the last command."""

    OK = 0
    ERROR = 1


@dataclass(frozen=True, slots=True)
class ParavirtualDiskState(DeviceState):
    """The registers, and the sectors that differ from the image as it was inserted.

    `image_digest` is the SHA-256 of that image, hexadecimal; `written` are the LBAs in rising order, and
    `contents` their sectors, one after another.
    """

    VERSION: ClassVar[int] = 1

    lba: int
    count: int
    buffer: int
    status: int
    image_digest: str
    written: tuple[int, ...]
    contents: bytes


class ParavirtualDisk:
    """The controller with its disk.

    `image` is the disk: writes of the guest go into it, unless it is read-only; then they fail.
    `read_memory(gpa, size)` and `write_memory(gpa, data)` reach guest memory; they return None and False for
    an address where no memory is, and never raise. Raises UnusableInput for an image that is not whole
    sectors of 512 bytes.
    """

    def __init__(
        self,
        *,
        image: bytes | bytearray | memoryview,
        read_memory: Callable[[int, int], bytes | None],
        write_memory: Callable[[int, bytes], bool],
    ) -> None:
        self._image = memoryview(image).cast("B")
        if len(self._image) % SECTOR or len(self._image) > SECTOR << 32:
            raise UnusableInput(
                f"disk: an image of {len(self._image)} bytes is not whole sectors of {SECTOR} bytes;"
                f" fill it up with zeros"
            )
        self._read_memory = read_memory
        self._write_memory = write_memory
        self._registers = bytearray(_COMMAND)
        self._status = Status.OK
        self._originals: dict[int, bytes] = {}
        self._digest: str | None = None

    @property
    def capacity(self) -> int:
        """Sectors on the disk."""
        return len(self._image) // SECTOR

    @property
    def read_only(self) -> bool:
        """Whether the guest's writes fail."""
        return self._image.readonly

    def read(self, offset: int, size: int = 1) -> int:
        """Return `size` bytes of the registers from `offset` on; no side effects."""
        registers = bytes(self._registers) + bytes([self._status]) + bytes(_WINDOW - _COMMAND - 1)
        return int.from_bytes(registers[offset : offset + size].ljust(size, b"\xff"), "little")

    def write(self, offset: int, value: int, size: int = 1) -> None:
        """Write `size` bytes of the registers; the byte at the command register starts a command."""
        for position, byte in enumerate((value & ((1 << 8 * size) - 1)).to_bytes(size, "little"), offset):
            if position < _COMMAND:
                self._registers[position] = byte
            elif position == _COMMAND:
                self._status = self._execute(byte)

    def _register(self, offset: int) -> int:
        return int.from_bytes(self._registers[offset : offset + 4], "little")

    def _execute(self, command: int) -> Status:
        if command == Command.CAPACITY:
            self._registers[_LBA:_COUNT] = min(self.capacity, 0xFFFFFFFF).to_bytes(4, "little")
            return Status.OK
        lba, count, gpa = (self._register(offset) for offset in (_LBA, _COUNT, _BUFFER))
        if command not in (Command.READ, Command.WRITE) or lba + count > self.capacity:
            return Status.ERROR
        if command == Command.WRITE and self.read_only:
            return Status.ERROR
        move = self._to_memory if command == Command.READ else self._to_disk
        for done in range(0, count, _CHUNK):
            if not move(lba + done, min(_CHUNK, count - done), gpa + done * SECTOR):
                return Status.ERROR
        return Status.OK

    def _to_memory(self, lba: int, count: int, gpa: int) -> bool:
        return self._write_memory(gpa, self.load(lba, count))

    def _to_disk(self, lba: int, count: int, gpa: int) -> bool:
        data = self._read_memory(gpa, count * SECTOR)
        return data is not None and self.store(lba, data)

    def load(self, lba: int, count: int) -> bytes:
        """Return sectors that the disk has, for another controller that it is connected to."""
        return bytes(self._image[lba * SECTOR : (lba + count) * SECTOR])

    def store(self, lba: int, data: bytes) -> bool:
        """Write whole sectors that the disk has; False if it is read-only."""
        if self.read_only:
            return False
        self._image_digest()
        for sector in range(lba, lba + len(data) // SECTOR):
            self._originals.setdefault(sector, self._sector(sector))
        self._image[lba * SECTOR : lba * SECTOR + len(data)] = data
        return True

    def _sector(self, lba: int) -> bytes:
        return bytes(self._image[lba * SECTOR : (lba + 1) * SECTOR])

    def _image_digest(self) -> str:
        """The digest of the image as it was inserted; taken before the first write changes it."""
        if self._digest is None:
            self._digest = hashlib.sha256(self._image).hexdigest()
        return self._digest

    def save(self) -> ParavirtualDiskState:
        """Return the registers and what the guest has written, not the whole disk."""
        written = tuple(lba for lba in sorted(self._originals) if self._sector(lba) != self._originals[lba])
        return ParavirtualDiskState(
            lba=self._register(_LBA),
            count=self._register(_COUNT),
            buffer=self._register(_BUFFER),
            status=int(self._status),
            image_digest=self._image_digest(),
            written=written,
            contents=b"".join(self._sector(lba) for lba in written),
        )

    def restore(self, state: ParavirtualDiskState) -> None:
        """Become the disk that was saved. Raises UnusableState when another image is inserted here."""
        if state.image_digest != self._image_digest():
            raise UnusableState(
                f"disk: the snapshot was taken with the image of SHA-256 {state.image_digest[:16]}...,"
                f" here is {self._image_digest()[:16]}...: restore it with the same disk image"
            )
        for lba, original in self._originals.items():
            self._image[lba * SECTOR : (lba + 1) * SECTOR] = original
        for index, lba in enumerate(state.written):
            self._originals.setdefault(lba, self._sector(lba))
            sector = state.contents[index * SECTOR : (index + 1) * SECTOR]
            self._image[lba * SECTOR : (lba + 1) * SECTOR] = sector
        registers = (state.lba, state.count, state.buffer)
        self._registers[:] = b"".join(value.to_bytes(4, "little") for value in registers)
        self._status = Status(state.status)
