"""The local APIC's registers: their offsets, their layouts and the state that holds them.

Reference: Intel SDM vol. 3, 325384-077, chapter 10 ("SDM3").
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum
from typing import Annotated, ClassVar

from vlab.devices.apic_timer import TIMER_MODES, ApicTimerState
from vlab.devices.state import DeviceState
from vlab.isa.fields import Register, bit, bits

# Offsets in the window (SDM3 table 10-1).
ID = 0x020
VERSION = 0x030
TPR = 0x080
APR = 0x090
PPR = 0x0A0
EOI = 0x0B0
REMOTE_READ = 0x0C0
LDR = 0x0D0
DFR = 0x0E0
SVR = 0x0F0
ISR = 0x100
TMR = 0x180
IRR = 0x200
ESR = 0x280
ICR_LOW = 0x300
ICR_HIGH = 0x310
LVT = 0x320
INITIAL_COUNT = 0x380
CURRENT_COUNT = 0x390
DIVIDE = 0x3E0

# Numbers of the LVT entries, from offset 320h upwards.
TIMER, THERMAL, PERFORMANCE, LINT0, LINT1, ERROR = range(6)

#: Version 14h, highest LVT entry 5.
VERSION_VALUE = 0x0005_0014


class Delivery(IntEnum):
    """Delivery modes of an LVT entry, an ICR write or a message from the I/O APIC."""

    FIXED = 0
    LOWEST_PRIORITY = 1
    SMI = 2
    NMI = 4
    INIT = 5
    STARTUP = 6
    EXTINT = 7


class Shorthand(IntEnum):
    """Destination shorthands of the ICR."""

    NONE = 0
    SELF = 1
    ALL = 2
    OTHERS = 3


_DELIVERY_NAMES = {mode.value: mode.name.replace("_", " ") for mode in Delivery}


class LocalApicId(Register, width=32, reference="SDM3 10.4.6"):
    """Register 020h."""

    ID = bits(24, 31, "physical APIC ID")


class LocalApicVersion(Register, width=32, reference="SDM3 10.4.8"):
    """Register 030h, read-only."""

    VERSION = bits(0, 7, "version: 10h to 15h is integrated in the processor")
    MAX_LVT = bits(16, 23, "number of LVT entries less one")
    EOI_SUPPRESSION = bit(24, "SVR bit 12 can suppress the broadcast of an EOI")


class Priority(Register, width=32, reference="SDM3 10.8.3.1"):
    """Registers 080h (task), 090h (arbitration) and 0A0h (processor priority)."""

    SUBCLASS = bits(0, 3, "priority within the class")
    CLASS = bits(4, 7, "class: only vectors of a higher one interrupt")


class LogicalDestination(Register, width=32, reference="SDM3 10.6.2.2"):
    """Register 0D0h."""

    LOGICAL_ID = bits(24, 31, "logical APIC ID, a set of bits")


class DestinationFormat(Register, width=32, reference="SDM3 10.6.2.2"):
    """Register 0E0h; all bits below the model are 1."""

    ONES = bits(0, 27, "reserved, all ones")
    MODEL = bits(28, 31, "how logical destinations match", {0: "cluster", 0xF: "flat"})

    FLAT: ClassVar[int] = 0xF


class SpuriousVector(Register, width=32, reference="SDM3 10.9"):
    """Register 0F0h."""

    VECTOR = bits(0, 7, "vector that an acknowledge gets when no interrupt is left to give")
    ENABLE = bit(8, "software enable: at 0 every LVT entry is masked and no message accepted")
    FOCUS_OFF = bit(9, "focus processor checking disabled (no effect)")


class ErrorStatus(Register, width=32, reference="SDM3 10.5.3"):
    """Register 280h: a write moves the errors since the last write into it."""

    SEND_ILLEGAL = bit(5, "an IPI with a vector below 16 was asked for")
    RECEIVE_ILLEGAL = bit(6, "a message or local source had a vector below 16")
    ILLEGAL_REGISTER = bit(7, "a register that does not exist was accessed")


class InterruptCommand(Register, width=64, reference="SDM3 10.6.1"):
    """Registers 300h (low half; writing it sends) and 310h (high half)."""

    VECTOR = bits(0, 7, "vector")
    DELIVERY_MODE = bits(8, 10, "delivery mode", _DELIVERY_NAMES)
    LOGICAL = bit(11, "destination mode: 1 logical, 0 physical")
    PENDING = bit(12, "delivery status (sending takes no time here)")
    ASSERT = bit(14, "level: 0 only for INIT level de-assert")
    LEVEL = bit(15, "trigger mode of an INIT level de-assert")
    SHORTHAND = bits(18, 19, "destination shorthand", {mode.value: mode.name for mode in Shorthand})
    DESTINATION = bits(56, 63, "destination")

    def reaches(self, identity: int, ldr: int, dfr: int) -> bool:
        """Tell whether the command is for the APIC with these three registers (SDM3 10.6.2)."""
        if self.SHORTHAND != Shorthand.NONE:
            return self.SHORTHAND in (Shorthand.SELF, Shorthand.ALL)
        destination = self.DESTINATION
        if not self.LOGICAL:
            return destination in (LocalApicId(identity).ID, 0xFF)
        logical = LogicalDestination(ldr).LOGICAL_ID
        if DestinationFormat(dfr).MODEL == DestinationFormat.FLAT:
            return bool(logical & destination)
        return destination >> 4 in (logical >> 4, 0xF) and bool(logical & destination & 0xF)


class LvtEntry(Register, width=32, reference="SDM3 10.5.1"):
    """Registers 320h to 370h: what a local source does. Not every entry has every field."""

    VECTOR = bits(0, 7, "vector")
    DELIVERY_MODE = bits(8, 10, "delivery mode", _DELIVERY_NAMES)
    PENDING = bit(12, "delivery status (delivery takes no time here)")
    ACTIVE_LOW = bit(13, "polarity of the pin: 1 active low")
    REMOTE_IRR = bit(14, "a level interrupt was accepted and its EOI is awaited")
    LEVEL = bit(15, "trigger mode: 1 level, 0 edge")
    MASKED = bit(16, "no interrupt")
    TIMER_MODE = bits(17, 18, "mode of the timer", TIMER_MODES)


def _writable(*names: str) -> int:
    masks = {declared.name: declared.mask for declared in LvtEntry.fields()}
    return sum(masks[name] for name in ("VECTOR", "MASKED", *names))


_PIN = ("DELIVERY_MODE", "ACTIVE_LOW", "LEVEL")

#: Writable bits by number of the entry (SDM3 figure 10-8).
LVT_WRITABLE = (
    _writable("TIMER_MODE"),
    _writable("DELIVERY_MODE"),
    _writable("DELIVERY_MODE"),
    _writable(*_PIN),
    _writable(*_PIN),
    _writable(),
)

_MASKED = LvtEntry.MASKED.mask


@dataclass(frozen=True, slots=True)
class LvtState(DeviceState):
    """The local vector table, in the order of the offsets."""

    VERSION: ClassVar[int] = 1
    timer: Annotated[int, LvtEntry] = _MASKED
    thermal: Annotated[int, LvtEntry] = _MASKED
    performance: Annotated[int, LvtEntry] = _MASKED
    lint0: Annotated[int, LvtEntry] = _MASKED
    lint1: Annotated[int, LvtEntry] = _MASKED
    error: Annotated[int, LvtEntry] = _MASKED


@dataclass(frozen=True, slots=True)
class LocalApicState(DeviceState):
    """What the local APIC remembers; the defaults are those after power-on (SDM3 10.4.7.1).

    `isr`, `tmr` and `irr` are sets of vectors, 32 bytes, vector 0 in bit 0 of the first. `errors` gathers
    what the next write moves to `esr`. `pins` has bit n set while LINTn is electrically high; `extint` is set
    from an ExtINT message until its acknowledge.
    """

    VERSION: ClassVar[int] = 1
    identity: Annotated[int, LocalApicId] = 0
    version: Annotated[int, LocalApicVersion] = VERSION_VALUE
    tpr: Annotated[int, Priority] = 0
    ldr: Annotated[int, LogicalDestination] = 0
    dfr: Annotated[int, DestinationFormat] = 0xFFFF_FFFF
    svr: Annotated[int, SpuriousVector] = 0xFF
    esr: Annotated[int, ErrorStatus] = 0
    errors: Annotated[int, ErrorStatus] = 0
    icr: Annotated[int, InterruptCommand] = 0
    lvt: LvtState = field(default_factory=LvtState)
    isr: bytes = bytes(32)
    tmr: bytes = bytes(32)
    irr: bytes = bytes(32)
    pins: int = 0
    extint: bool = False
    timer: ApicTimerState = field(default_factory=ApicTimerState)
