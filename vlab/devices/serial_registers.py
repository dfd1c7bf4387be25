"""The registers of the 16550A, declared once for the chip and for every view of it.

National Semiconductor PC16550D data sheet (June 1995), section 8 "Registers" and Table II.
"""

from __future__ import annotations

from vlab.isa.fields import Register, bit, bits


class Offset:
    """Where the registers are; `DATA` is RBR when read and THR when written, with DLAB = 1 the divisor."""

    DATA = 0
    IER = 1
    IIR_FCR = 2
    LCR = 3
    MCR = 4
    LSR = 5
    MSR = 6
    SCR = 7


WORD_LENGTHS = {0: "5 bits", 1: "6 bits", 2: "7 bits", 3: "8 bits"}
TRIGGER_LEVELS = {0: "1 byte", 1: "4 bytes", 2: "8 bytes", 3: "14 bytes"}
SOURCES = {
    0: "modem status",
    1: "transmitter holding register empty",
    2: "received data available",
    3: "receiver line status",
    6: "character timeout",
}


class InterruptEnable(Register, width=8, reference="PC16550D 8.7"):
    """IER, offset 1 with DLAB = 0."""

    ERBFI = bit(0, "received data available, and character timeout")
    ETBEI = bit(1, "transmitter holding register empty")
    ELSI = bit(2, "receiver line status")
    EDSSI = bit(3, "modem status")


class InterruptIdentification(Register, width=8, reference="PC16550D 8.6"):
    """IIR, offset 2, read only."""

    NONE = bit(0, "0 while an interrupt is pending")
    SOURCE = bits(1, 3, "the pending interrupt of the highest priority", SOURCES)
    FIFOS = bits(6, 7, "3 while the FIFOs are enabled")


class FifoControl(Register, width=8, reference="PC16550D 8.5"):
    """FCR, offset 2, write only."""

    ENABLE = bit(0, "enable both FIFOs")
    RESET_RECEIVER = bit(1, "empty the receiver FIFO; clears itself")
    RESET_TRANSMITTER = bit(2, "empty the transmitter FIFO; clears itself")
    DMA = bit(3, "mode of the pins RXRDY and TXRDY")
    TRIGGER = bits(6, 7, "bytes in the receiver FIFO that raise an interrupt", TRIGGER_LEVELS)


class LineControl(Register, width=8, reference="PC16550D 8.1"):
    """LCR, offset 3."""

    WLS = bits(0, 1, "word length", WORD_LENGTHS)
    STB = bit(2, "stop bits: 0 one, 1 two (one and a half for 5-bit words)")
    PEN = bit(3, "parity enable")
    EPS = bit(4, "even parity")
    STICK = bit(5, "stick parity")
    BREAK = bit(6, "hold the output at space")
    DLAB = bit(7, "divisor latch access: offsets 0 and 1 are the divisor")


class ModemControl(Register, width=8, reference="PC16550D 8.8"):
    """MCR, offset 4."""

    DTR = bit(0, "data terminal ready")
    RTS = bit(1, "request to send")
    OUT1 = bit(2, "auxiliary output 1")
    OUT2 = bit(3, "auxiliary output 2: on a PC/AT it connects the interrupt line")
    LOOP = bit(4, "loopback: the transmitter feeds the receiver, the outputs feed the modem inputs")


class LineStatus(Register, width=8, reference="PC16550D 8.4"):
    """LSR, offset 5."""

    DR = bit(0, "a received character waits")
    OE = bit(1, "overrun: a character was lost")
    PE = bit(2, "parity error in the character at the head")
    FE = bit(3, "framing error in the character at the head")
    BI = bit(4, "break received")
    THRE = bit(5, "transmitter holding register empty")
    TEMT = bit(6, "transmitter empty, the shift register too")
    FIFO_ERROR = bit(7, "at least one error is in the receiver FIFO")


class ModemStatus(Register, width=8, reference="PC16550D 8.9"):
    """MSR, offset 6."""

    DCTS = bit(0, "CTS changed")
    DDSR = bit(1, "DSR changed")
    TERI = bit(2, "RI went off")
    DDCD = bit(3, "DCD changed")
    CTS = bit(4, "clear to send")
    DSR = bit(5, "data set ready")
    RI = bit(6, "ring indicator")
    DCD = bit(7, "data carrier detect")
