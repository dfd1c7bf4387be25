"""The registers of the MC146818A and the layout of a PC's CMOS memory, declared once for chip and views.

Motorola MC146818A data sheet (1984), "Registers"; IBM PC/AT Technical Reference (1985), "Real-Time Clock/CMOS
RAM". The century and the memory above 16 MB are where the firmware of later PCs keeps them.
"""

from __future__ import annotations

from vlab.isa.fields import Register, bit, bits

SECONDS, SECONDS_ALARM, MINUTES, MINUTES_ALARM, HOURS, HOURS_ALARM = range(6)
WEEKDAY, DAY, MONTH, YEAR = range(6, 10)
REG_A, REG_B, REG_C, REG_D = range(10, 14)
FLOPPY_TYPES = 0x10
DISK_TYPES = 0x12
EQUIPMENT = 0x14
BASE_MEMORY = 0x15  # KiB, two bytes
EXTENDED_MEMORY = 0x17  # KiB above 1 MiB, two bytes
CHECKSUM = 0x2E  # of bytes 10h to 2Dh, high byte first
EXTENDED_MEMORY_FOUND = 0x30  # the same as 17h, as counted at power-on
CENTURY = 0x32
MEMORY_ABOVE_16M = 0x34  # units of 64 KiB, two bytes
CMOS_SIZE = 128

BASE_MEMORY_KIB = 640
EQUIPPED = 0b0110  # a pointing device and a numeric coprocessor; no floppy drive, display with its own BIOS

TIME_BASES = {0: "4.194304 MHz", 1: "1.048576 MHz", 2: "32.768 kHz", 6: "reset", 7: "reset"}


class RegisterA(Register, width=8, reference='MC146818A "Register A"'):
    """Divider and rate."""

    RS = bits(0, 3, "rate of the periodic interrupt: 32768 Hz / 2^(RS-1); 0 none")
    DV = bits(4, 6, "time base", TIME_BASES)
    UIP = bit(7, "an update of the time is in progress or near: do not read the time")


class RegisterB(Register, width=8, reference='MC146818A "Register B"'):
    """Formats and interrupt enables."""

    DSE = bit(0, "daylight saving; kept, not acted on")
    HOURS_24 = bit(1, "hours 0-23; otherwise 1-12 with PM in bit 7")
    DM = bit(2, "binary; otherwise decimal digits")
    SQWE = bit(3, "square-wave output, not connected on a PC")
    UIE = bit(4, "update-ended interrupt enable")
    AIE = bit(5, "alarm interrupt enable")
    PIE = bit(6, "periodic interrupt enable")
    SET = bit(7, "stop the updates, to set the time")


class RegisterC(Register, width=8, reference='MC146818A "Register C"'):
    """Interrupt flags, all cleared by reading them."""

    UF = bit(4, "an update has ended")
    AF = bit(5, "the alarm time has come")
    PF = bit(6, "the periodic interval has passed")
    IRQF = bit(7, "a flag is set whose interrupt is enabled")


class RegisterD(Register, width=8, reference='MC146818A "Register D"'):
    """Power sense, read only."""

    VRT = bit(7, "valid RAM and time: the battery is good")


class IndexRegister(Register, width=8, reference='PC/AT "NMI"'):
    """Port 70h."""

    ADDRESS = bits(0, 6, "the byte of the CMOS memory that port 71h is")
    NMI_OFF = bit(7, "disable the non-maskable interrupt")


def cmos_of_pc(memory_bytes: int) -> bytes:
    """Return the 128 bytes as the firmware of a PC with this much RAM leaves them; clock and alarm are 0."""
    cmos = bytearray(CMOS_SIZE)
    extended = _capped(memory_bytes - (1 << 20), 1 << 10)
    cmos[EQUIPMENT] = EQUIPPED
    cmos[BASE_MEMORY : BASE_MEMORY + 2] = BASE_MEMORY_KIB.to_bytes(2, "little")
    cmos[EXTENDED_MEMORY : EXTENDED_MEMORY + 2] = extended
    cmos[EXTENDED_MEMORY_FOUND : EXTENDED_MEMORY_FOUND + 2] = extended
    cmos[MEMORY_ABOVE_16M : MEMORY_ABOVE_16M + 2] = _capped(memory_bytes - (16 << 20), 1 << 16)
    cmos[CHECKSUM : CHECKSUM + 2] = (sum(cmos[FLOPPY_TYPES:CHECKSUM]) & 0xFFFF).to_bytes(2, "big")
    return bytes(cmos)


def _capped(size: int, unit: int) -> bytes:
    return min(max(size, 0) // unit, 0xFFFF).to_bytes(2, "little")
