"""The registers and command words of the 8259A, declared once for the chip and for every view of it.

Intel 8259A data sheet (order 231468-003, 1988), sections "Programming the 8259A" and "Operation".
"""

from __future__ import annotations

from vlab.isa.fields import Register, bit, bits


class Levels(Register, width=8, reference='8259A "Interrupt Request and In-Service Registers"'):
    """A register with one bit for each input: IRR, ISR, IMR, the lines, ELCR, the slaves in ICW3."""

    IR0 = bit(0, "input 0 (master: the timer; slave: the real-time clock)")
    IR1 = bit(1, "input 1 (master: the keyboard)")
    IR2 = bit(2, "input 2 (master: the slave)")
    IR3 = bit(3, "input 3 (master: COM2)")
    IR4 = bit(4, "input 4 (master: COM1; slave: the mouse)")
    IR5 = bit(5, "input 5")
    IR6 = bit(6, "input 6 (slave: the first disk)")
    IR7 = bit(7, "input 7, the lowest priority after initialisation")


class Icw1(Register, width=8, reference='8259A "Initialization Command Words 1 and 2"'):
    """The first initialisation word, told by bit 4 at the even port."""

    IC4 = bit(0, "ICW4 follows")
    SNGL = bit(1, "a single controller: no ICW3")
    ADI = bit(2, "call address interval (MCS-80 only)")
    LTIM = bit(3, "all inputs are level-triggered")
    ONE = bit(4, "always 1")


class Icw4(Register, width=8, reference='8259A "Initialization Command Word 4"'):
    """The fourth initialisation word."""

    UPM = bit(0, "8086 mode")
    AEOI = bit(1, "automatic end of interrupt: nothing stays in service")
    MS = bit(2, "buffered mode: this is the master")
    BUF = bit(3, "buffered mode")
    SFNM = bit(4, "special fully nested mode")


class Ocw2(Register, width=8, reference='8259A "Operation Control Word 2"'):
    """End of interrupt and rotation of the priorities."""

    LEVEL = bits(0, 2, "the level that a specific command acts on")
    EOI = bit(5, "end of interrupt")
    SL = bit(6, "specific: LEVEL counts")
    R = bit(7, "rotate")


class Ocw3(Register, width=8, reference='8259A "Operation Control Word 3"'):
    """Special mask mode, poll, and which register reads."""

    RIS = bit(0, "with RR: read ISR (1) or IRR (0) from now on")
    RR = bit(1, "read register command")
    P = bit(2, "poll: the next read acknowledges")
    SMM = bit(5, "with ESMM: special mask mode on (1) or off (0)")
    ESMM = bit(6, "SMM counts")
