"""The ATA disk of a PC, by programmed I/O: the processor moves every word of every sector itself.

ATA/ATAPI-6 (T13/1410D, revision 3b): 7 (registers), 8 (commands), 9.5 and 9.6 (PIO data-in and data-out). One
device, no DMA, 28-bit addresses. A command takes no time: BSY is never seen.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, ClassVar, Final

from vlab.devices.state import DeviceState
from vlab.devices.wiring import Line
from vlab.isa.fields import Register, bit

SECTOR: Final = 512
DATA, ERROR, COUNT, LBA_LOW, LBA_MID, LBA_HIGH, DEVICE, STATUS, CONTROL = range(9)
"""Offsets of the registers; writing STATUS gives a command, writing ERROR sets the features. CONTROL is in a
window of its own, where reading gives the status without effect."""
READ, READ_ONCE, WRITE, WRITE_ONCE = 0x20, 0x21, 0x30, 0x31
IDENTIFY, FLUSH, SET_FEATURES, SET_GEOMETRY = 0xEC, 0xE7, 0xEF, 0x91
HEADS, SECTORS_PER_TRACK = 16, 63


class Status(Register, width=8, reference="ATA/ATAPI-6 7.15"):
    """The status register."""

    ERR = bit(0, "the command failed; the error register says why")
    DRQ = bit(3, "a word can be moved through the data register")
    DSC = bit(4, "seek complete")
    DRDY = bit(6, "ready for a command")
    BSY = bit(7, "busy: no other register means anything")


class Control(Register, width=8, reference="ATA/ATAPI-6 7.9"):
    """The device control register."""

    NIEN = bit(1, "no interrupts")
    SRST = bit(2, "software reset while it is 1")


_READY: Final = Status.DRDY.mask | Status.DSC.mask
_ABORTED, _NOT_FOUND = 1 << 2, 1 << 4  # in the error register (7.9)
_LBA, _SECOND = 1 << 6, 1 << 4  # in the device register
_DIAGNOSTIC_PASSED: Final = 1


@dataclass(frozen=True, slots=True)
class AtaDiskState(DeviceState):
    """The registers, and a transfer that is under way: `sectors` are to come after the one in `buffer`."""

    VERSION: ClassVar[int] = 1

    task: bytes
    error: int
    status: Annotated[int, Status]
    control: Annotated[int, Control]
    interrupt: bool
    buffer: bytes
    position: int
    writing: bool
    sector: int
    sectors: int


class AtaDisk:
    """The device, with its controller.

    `capacity` is in sectors. `load(sector, count)` gives contents, `store(sector, data)` takes them and says
    whether the disk could be written. `irq` is the line of its interrupt.
    """

    def __init__(
        self,
        *,
        capacity: int,
        load: Callable[[int, int], bytes],
        store: Callable[[int, bytes], bool],
        irq: Line,
    ) -> None:
        self._capacity = min(capacity, 1 << 28)
        self._load = load
        self._store = store
        self._irq = irq
        self._control = 0
        self._reset()

    def _reset(self) -> None:
        """Have the signature of an ATA device in the registers (9.12)."""
        self._task = bytearray(8)
        self._task[COUNT] = self._task[LBA_LOW] = 1
        self._error, self._status = _DIAGNOSTIC_PASSED, _READY
        self._interrupt = False
        self._buffer, self._position = bytearray(), 0
        self._writing, self._sector, self._sectors = False, 0, 0

    # --- registers ------------------------------------------------------------------------------------------

    def read(self, offset: int, size: int = 1) -> int:
        """Read a register; the data register has 16 bits, and `size` 4 takes two words of it."""
        if offset == DATA:
            return sum(self._take_word() << 16 * n for n in range(max(1, size // 2)))
        if self._task[DEVICE] & _SECOND and offset in (STATUS, CONTROL):
            return 0  # there is no second device
        if offset == STATUS:
            self._signal(False)
            return self._status
        if offset == CONTROL:
            return self._status
        return self._error if offset == ERROR else self._task[offset]

    def write(self, offset: int, value: int, size: int = 1) -> None:
        """Write a register."""
        if offset == DATA:
            for n in range(max(1, size // 2)):
                self._put_word(value >> 16 * n & 0xFFFF)
        elif offset == CONTROL:
            self._write_control(value & 0xFF)
        elif offset != STATUS:
            self._task[offset] = value & 0xFF
        elif not self._task[DEVICE] & _SECOND:
            self._execute(value & 0xFF)

    def _write_control(self, value: int) -> None:
        if value & Control.SRST.mask:
            self._reset()
        self._control = value
        self._signal(self._interrupt)

    def _signal(self, level: bool) -> None:
        self._interrupt = level
        self._irq(level and not self._control & Control.NIEN.mask)

    # --- commands -------------------------------------------------------------------------------------------

    def _execute(self, command: int) -> None:
        self._error, self._status, self._sectors = 0, _READY, 0
        self._buffer, self._position = bytearray(), 0
        self._signal(False)
        if command in (READ, READ_ONCE, WRITE, WRITE_ONCE):
            self._transfer(writing=command in (WRITE, WRITE_ONCE))
        elif command == IDENTIFY:
            self._writing = False
            self._offer(self._identity())
        elif command in (FLUSH, SET_FEATURES, SET_GEOMETRY):
            self._signal(True)
        else:
            self._fail(_ABORTED)

    def _fail(self, why: int) -> None:
        self._error, self._status = why, _READY | Status.ERR.mask
        self._sectors = 0
        self._signal(True)

    def _address(self) -> int:
        task = self._task
        if task[DEVICE] & _LBA:
            low = task[LBA_LOW] | task[LBA_MID] << 8 | task[LBA_HIGH] << 16
            return low | (task[DEVICE] & 0xF) << 24
        cylinder = task[LBA_MID] | task[LBA_HIGH] << 8
        return (cylinder * HEADS + (task[DEVICE] & 0xF)) * SECTORS_PER_TRACK + task[LBA_LOW] - 1

    def _transfer(self, *, writing: bool) -> None:
        first, count = self._address(), self._task[COUNT] or 256
        if first < 0 or first + count > self._capacity:
            self._fail(_NOT_FOUND)
            return
        self._writing, self._sector, self._sectors = writing, first, count
        if writing:
            self._buffer, self._status = bytearray(SECTOR), _READY | Status.DRQ.mask
        else:
            self._next_sector()

    def _next_sector(self) -> None:
        """Have the next sector of a read in the buffer."""
        self._sectors -= 1
        self._sector += 1
        self._offer(self._load(self._sector - 1, 1))

    def _offer(self, data: bytes) -> None:
        self._buffer, self._position = bytearray(data), 0
        self._status = _READY | Status.DRQ.mask
        self._signal(True)

    # --- data -----------------------------------------------------------------------------------------------

    def _take_word(self) -> int:
        if self._writing or not self._status & Status.DRQ.mask:
            return 0xFFFF
        place = self._position
        word = self._buffer[place] | self._buffer[place + 1] << 8
        self._position = place + 2
        if self._position == SECTOR:
            self._status = _READY
            if self._sectors:
                self._next_sector()
        return word

    def _put_word(self, word: int) -> None:
        if not self._writing or not self._status & Status.DRQ.mask:
            return
        struct.pack_into("<H", self._buffer, self._position, word)
        self._position += 2
        if self._position < SECTOR:
            return
        if not self._store(self._sector, bytes(self._buffer)):
            self._fail(_ABORTED)
            return
        self._sector, self._sectors, self._position = self._sector + 1, self._sectors - 1, 0
        if not self._sectors:
            self._status = _READY
        self._signal(True)

    def _identity(self) -> bytes:
        """The 256 words of IDENTIFY DEVICE (8.15.8), those that a driver of this device looks at."""
        words = [0] * 256
        words[0] = 1 << 6  # a fixed device
        words[1] = words[54] = min(16383, self._capacity // (HEADS * SECTORS_PER_TRACK))
        words[3], words[6] = HEADS, SECTORS_PER_TRACK
        words[55], words[56], words[53] = HEADS, SECTORS_PER_TRACK, 1
        words[49] = 1 << 9  # LBA
        words[57] = words[60] = self._capacity & 0xFFFF
        words[58] = words[61] = self._capacity >> 16
        words[80] = 1 << 6  # ATA/ATAPI-6
        identity = bytearray(struct.pack("<256H", *words))
        for place, size, text in ((20, 20, b"1"), (46, 8, b"1.0"), (54, 40, b"vlab ATA disk")):
            field = text.ljust(size)
            identity[place : place + size] = b"".join(field[n : n + 2][::-1] for n in range(0, size, 2))
        return bytes(identity)

    # --- state ----------------------------------------------------------------------------------------------

    def save(self) -> AtaDiskState:
        """Return the registers and the transfer; the contents are the store's to keep."""
        return AtaDiskState(
            task=bytes(self._task),
            error=self._error,
            status=self._status,
            control=self._control,
            interrupt=self._interrupt,
            buffer=bytes(self._buffer),
            position=self._position,
            writing=self._writing,
            sector=self._sector,
            sectors=self._sectors,
        )

    def restore(self, state: AtaDiskState) -> None:
        """Become the device that was saved."""
        self._task = bytearray(state.task)
        self._error, self._status, self._control = state.error, state.status, state.control
        self._buffer, self._position = bytearray(state.buffer), state.position
        self._writing, self._sector, self._sectors = state.writing, state.sector, state.sectors
        self._signal(state.interrupt)
