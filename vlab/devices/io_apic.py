"""The I/O APIC: 24 pins, each with a redirection entry that says which interrupt message its signal becomes.

Reference: Intel 82093AA I/O Advanced Programmable Interrupt Controller, 290566-001 ("IOAPIC"). The EOI
register is that of the later I/O Controller Hubs (Intel 82801EB ICH5, 252516-001, "EOIR"), which announce it
with version 20h; kernels that see that version use it instead of the trick of toggling the trigger mode.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, ClassVar

from vlab.devices.state import DeviceState
from vlab.isa.fields import Register, bit, bits

PINS = 24
VERSION = 0x20

INDEX = 0x00
WINDOW = 0x10
EOI = 0x40

ID_REGISTER = 0x00
VERSION_REGISTER = 0x01
ARBITRATION_REGISTER = 0x02
REDIRECTION_TABLE = 0x10

FIXED = 0
LOWEST_PRIORITY = 1
DELIVERY_MODES = {
    FIXED: "fixed",
    LOWEST_PRIORITY: "lowest priority",
    2: "SMI",
    4: "NMI",
    5: "INIT",
    7: "ExtINT",
}

_DWORD = 0xFFFF_FFFF


class IoApicId(Register, width=32, reference="IOAPIC 3.2.1"):
    """Register 0; the arbitration ID of register 2 takes the same value when this one is written."""

    ID = bits(24, 27, "APIC ID, which the MP or ACPI table announces")


class IoApicVersion(Register, width=32, reference="IOAPIC 3.2.2"):
    """Register 1, read-only."""

    VERSION = bits(0, 7, "version: 11h is the 82093AA, 20h and above have the EOI register")
    MAX_ENTRY = bits(16, 23, "number of the last redirection entry")


class RedirectionEntry(Register, width=64, reference="IOAPIC 3.2.4"):
    """One of the 24 entries; two 32-bit registers each, the low half at the even index."""

    VECTOR = bits(0, 7, "interrupt vector, 10h to FEh")
    DELIVERY_MODE = bits(8, 10, "what the message asks of the processor", DELIVERY_MODES)
    LOGICAL = bit(11, "destination mode: 1 logical, 0 physical")
    PENDING = bit(12, "delivery status: a message waits to be sent (never seen here)")
    ACTIVE_LOW = bit(13, "polarity of the pin: 1 active low")
    REMOTE_IRR = bit(14, "a level interrupt was accepted and its EOI is awaited")
    LEVEL = bit(15, "trigger mode: 1 level, 0 edge")
    MASKED = bit(16, "no message is sent")
    DESTINATION = bits(56, 63, "physical APIC ID or logical set")


_READ_ONLY = RedirectionEntry.PENDING.mask | RedirectionEntry.REMOTE_IRR.mask
_WRITABLE = ((1 << 64) - 1) & ~RedirectionEntry.reserved_mask() & ~_READ_ONLY
_LEVEL_MODES = (FIXED, LOWEST_PRIORITY)


@dataclass(frozen=True, slots=True)
class RedirectionState(DeviceState):
    """One redirection entry."""

    VERSION: ClassVar[int] = 1
    entry: Annotated[int, RedirectionEntry]


@dataclass(frozen=True, slots=True)
class IoApicState(DeviceState):
    """What the I/O APIC remembers; `levels` has bit n set while pin n is electrically high."""

    VERSION: ClassVar[int] = 1
    identity: Annotated[int, IoApicId]
    arbitration: Annotated[int, IoApicId]
    index: int
    levels: int
    redirections: tuple[RedirectionState, ...]


class IoApic:
    """The chip behind FEC00000h (a 4 KiB window).

    `deliver(vector, delivery_mode, level_triggered)` sends a message to the local APIC
    (`LocalApic.deliver` takes it). `version` is 11h for a plain 82093AA or 20h for one with an EOI register.
    """

    def __init__(
        self, *, deliver: Callable[[int, int, bool], None], identity: int = 0, version: int = VERSION
    ) -> None:
        self._deliver = deliver
        self._version = version & 0xFF
        self._identity = (identity & 0xF) << IoApicId.ID.lo
        self._arbitration = self._identity
        self._index = 0
        self._levels = 0
        self._entries = [RedirectionEntry.MASKED.mask] * PINS

    def read(self, offset: int, size: int = 1) -> int:
        """Read the index or the selected register; reserved offsets and registers give 0.

        The chip knows 32-bit accesses only (IOAPIC 3.1); a smaller one gets the lower bytes here.
        """
        value = 0
        if offset == INDEX:
            value = self._index
        elif offset == WINDOW:
            value = self._read_register(self._index)
        return value & ((1 << 8 * min(size, 4)) - 1)

    def write(self, offset: int, value: int, size: int = 1) -> None:
        """Write the index, the selected register or the EOI register.

        A register that is written with less than 32 bits keeps its content: the chip does not decode it.
        """
        if offset == INDEX:
            self._index = value & 0xFF
        elif offset == WINDOW and size >= 4:
            self._write_register(self._index, value & _DWORD)
        elif offset == EOI and self._version >= VERSION:
            self.eoi(value & 0xFF)

    def set_line(self, pin: int, level: bool) -> None:
        """Drive a pin, 0 to 23; `level` is the electrical one, and the entry's polarity says which is active.

        An edge on a masked pin is lost, a level is looked at again when it is unmasked (IOAPIC 3.2.4).
        Raises ValueError for a pin that the chip has not.
        """
        if not 0 <= pin < PINS:
            raise ValueError(f"pin: {pin} is not a pin of the I/O APIC; give 0..{PINS - 1}")
        before = self._active(pin)
        self._levels = self._levels & ~(1 << pin) | bool(level) << pin
        entry = RedirectionEntry(self._entries[pin])
        if _is_level(entry):
            self._evaluate(pin)
        elif self._active(pin) and not before and not entry.MASKED:
            self._deliver(entry.VECTOR, entry.DELIVERY_MODE, False)

    def eoi(self, vector: int) -> None:
        """Take the broadcast EOI of a level interrupt: entries with this vector may send again."""
        for pin, entry in enumerate(self._entries):
            if entry & RedirectionEntry.REMOTE_IRR.mask and entry & 0xFF == vector:
                self._entries[pin] = entry & ~RedirectionEntry.REMOTE_IRR.mask
                self._evaluate(pin)

    def save(self) -> IoApicState:
        """Return all registers and the levels of the pins."""
        return IoApicState(
            identity=self._identity,
            arbitration=self._arbitration,
            index=self._index,
            levels=self._levels,
            redirections=tuple(RedirectionState(entry) for entry in self._entries),
        )

    def restore(self, state: IoApicState) -> None:
        """Take over the registers. Nothing is sent: messages already sent are in the local APIC's state."""
        self._identity = state.identity
        self._arbitration = state.arbitration
        self._index = state.index
        self._levels = state.levels
        self._entries = [redirection.entry for redirection in state.redirections]

    def _read_register(self, index: int) -> int:
        if index == ID_REGISTER:
            return self._identity
        if index == VERSION_REGISTER:
            return self._version | (PINS - 1) << IoApicVersion.MAX_ENTRY.lo
        if index == ARBITRATION_REGISTER:
            return self._arbitration
        pin, high = divmod(index - REDIRECTION_TABLE, 2)
        if not 0 <= pin < PINS:
            return 0
        return self._entries[pin] >> (32 * high) & _DWORD

    def _write_register(self, index: int, value: int) -> None:
        if index == ID_REGISTER:
            self._identity = self._arbitration = value & IoApicId.ID.mask
            return
        pin, high = divmod(index - REDIRECTION_TABLE, 2)
        if not 0 <= pin < PINS:
            return
        shift = 32 * high
        writable = _WRITABLE & (_DWORD << shift)
        entry = self._entries[pin] & ~writable | (value << shift) & writable
        if not entry & RedirectionEntry.LEVEL.mask:
            # In edge mode remote IRR means nothing; kernels clear a stuck one by passing through edge mode.
            entry &= ~RedirectionEntry.REMOTE_IRR.mask
        self._entries[pin] = entry
        self._evaluate(pin)

    def _active(self, pin: int) -> bool:
        level = self._levels >> pin & 1
        return bool(level ^ RedirectionEntry(self._entries[pin]).ACTIVE_LOW)

    def _evaluate(self, pin: int) -> None:
        """Send a level interrupt when its pin is active, unmasked and not already in service."""
        entry = RedirectionEntry(self._entries[pin])
        if _is_level(entry) and self._active(pin) and not entry.MASKED and not entry.REMOTE_IRR:
            self._entries[pin] = entry | RedirectionEntry.REMOTE_IRR.mask
            self._deliver(entry.VECTOR, entry.DELIVERY_MODE, True)


def _is_level(entry: RedirectionEntry) -> bool:
    """Tell whether the pin is level triggered; SMI, NMI, INIT and ExtINT are edges whatever LEVEL says."""
    return bool(entry.LEVEL) and entry.DELIVERY_MODE in _LEVEL_MODES
