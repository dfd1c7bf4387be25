"""The 16550A serial port. National Semiconductor PC16550D data sheet (June 1995), section 8 "Registers".

Characters take no time. A character written to THR has left the chip when the write returns, so THRE and TEMT
are always set; what the guest sees of the transmitter is its interrupt. A receiver FIFO that holds fewer
characters than its trigger level reports the character timeout at once, for nothing more is on the wire.

What the host types waits in a queue without limit, outside the chip, and enters the receiver only as there
is room: the host never causes an overrun. It also waits until the guest listens, that is has the receive
interrupt enabled or polls LSR (reads it twice in a row), and as long as the guest holds DTR without RTS,
which is how a driver with hardware flow control says "not now". When a guest resets a FIFO, the host's
characters that it has not read go back to the queue: text typed before a driver starts is not lost.

The far end is a terminal with the settings of this port, whatever they are: word length counts, speed and
parity do not. On power-on the line is set to 9600 baud 8N1 as the firmware of a PC leaves it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice
from typing import Annotated, ClassVar

from vlab.devices.serial_registers import (
    FifoControl,
    InterruptEnable,
    InterruptIdentification,
    LineControl,
    LineStatus,
    ModemControl,
    ModemStatus,
    Offset,
)
from vlab.devices.state import DeviceState
from vlab.devices.wiring import Line

FIFO_DEPTH = 16
BASE_BAUD = 115_200
POLLING = 2  # reads of LSR, nothing else between them, that count as polling

NO_INTERRUPT = 0b0001
MODEM_STATUS = 0b0000
TRANSMITTER_EMPTY = 0b0010
DATA_AVAILABLE = 0b0100
LINE_STATUS = 0b0110
CHARACTER_TIMEOUT = 0b1100

# The masks are looked up once: an access to this port should cost a microsecond, not five.
_ERBFI, _ETBEI = InterruptEnable.ERBFI.mask, InterruptEnable.ETBEI.mask
_ELSI, _EDSSI = InterruptEnable.ELSI.mask, InterruptEnable.EDSSI.mask
_ENABLE, _RESET_RECEIVER = FifoControl.ENABLE.mask, FifoControl.RESET_RECEIVER.mask
_KEPT_IN_FCR = _ENABLE | FifoControl.DMA.mask | FifoControl.TRIGGER.mask
_DLAB, _BREAK_CONTROL = LineControl.DLAB.mask, LineControl.BREAK.mask
_DTR, _RTS = ModemControl.DTR.mask, ModemControl.RTS.mask
_OUT2, _LOOP = ModemControl.OUT2.mask, ModemControl.LOOP.mask
_RI = ModemStatus.RI.mask
_DR, _OVERRUN, _FIFO_ERROR = LineStatus.DR.mask, LineStatus.OE.mask, LineStatus.FIFO_ERROR.mask
_EMPTY = LineStatus.THRE.mask | LineStatus.TEMT.mask
_CHARACTER_ERRORS = LineStatus.PE.mask | LineStatus.FE.mask | LineStatus.BI.mask
_ERRORS = _OVERRUN | _CHARACTER_ERRORS
_FIFOS = InterruptIdentification.FIFOS.mask
_TRIGGERS = (1, 4, 8, 14)
_FROM_HOST = 1 << 16  # a character in the FIFO has its LSR errors in bits 8 to 15, and this mark
_BREAK = (LineStatus.BI.mask | LineStatus.FE.mask) << 8


@dataclass(frozen=True, slots=True)
class SerialState(DeviceState):
    """A 16550A. `iir`, and all of `lsr` and `msr` but errors and deltas, follow from the rest.

    `modem` is the level of CTS, DSR, RI and DCD outside loopback, placed as in MSR. `fifo` and `queue` hold
    characters in bits 0-7, their LSR errors in bits 8-15, and in bit 16 whether the host sent them.
    """

    VERSION: ClassVar[int] = 1

    ier: Annotated[int, InterruptEnable]
    iir: Annotated[int, InterruptIdentification]
    fcr: Annotated[int, FifoControl]
    lcr: Annotated[int, LineControl]
    mcr: Annotated[int, ModemControl]
    lsr: Annotated[int, LineStatus]
    msr: Annotated[int, ModemStatus]
    scr: int
    divisor: int
    modem: Annotated[int, ModemStatus]
    transmitter_interrupt: bool
    polls: int
    fifo: tuple[int, ...]
    queue: tuple[int, ...]


class Serial16550A:
    """One port, a window of 8 bytes.

    `irq` gets the level of the interrupt line; `transmit` gets each character that the guest sends, 0..255.
    `out2_gates_irq` wires the line through OUT2 as the PC/AT does (IBM PC/AT Technical Reference, "Serial
    Adapter"). It is off by default: xv6 leaves OUT2 at 0 and yet counts on the interrupt.
    """

    def __init__(self, *, irq: Line, transmit: Callable[[int], None], out2_gates_irq: bool = False) -> None:
        self._irq = irq
        self._transmit = transmit
        self._out2_gates_irq = out2_gates_irq
        self._level = False
        self._ier = self._fcr = self._mcr = self._scr = 0
        self._lcr = 0x03
        self._divisor = 12
        self._errors = 0
        self._deltas = 0
        self._modem = self._inputs = ModemStatus.CTS.mask | ModemStatus.DSR.mask | ModemStatus.DCD.mask
        self._transmitter_interrupt = False
        self._polls = 0
        self._fifo: deque[int] = deque()
        self._queue: deque[int] = deque()

    # ---- the host's side

    def receive(self, data: bytes) -> None:
        """Type `data` at the terminal: it reaches the guest in order, as fast as the guest reads."""
        self._queue.extend(char | _FROM_HOST for char in data)
        self._fill()
        self._drive()

    def receive_break(self) -> None:
        """Send a break: the guest reads a NUL character marked BI (and FE) in LSR."""
        self._queue.append(_FROM_HOST | _BREAK)
        self._fill()
        self._drive()

    def set_modem(self, *, cts: bool = True, dsr: bool = True, ri: bool = False, dcd: bool = True) -> None:
        """Set the inputs that a modem or terminal drives; the guest sees the changes in MSR."""
        self._modem = cts << 4 | dsr << 5 | ri << 6 | dcd << 7
        self._follow_inputs()
        self._drive()

    @property
    def unread(self) -> int:
        """How many characters from the host the guest has not read yet."""
        return len(self._queue) + sum(1 for char in self._fifo if char & _FROM_HOST)

    @property
    def baud(self) -> int:
        """The speed that the divisor latch gives from the PC's 1.8432 MHz crystal; divisor 0 counts as 1."""
        return BASE_BAUD // max(self._divisor, 1)

    # ---- the guest's side

    def read(self, offset: int, size: int = 1) -> int:
        """Read the register at `offset` (taken modulo 8)."""
        offset &= 7
        self._polls = min(self._polls + 1, POLLING) if offset == Offset.LSR else 0
        match offset:
            case Offset.DATA | Offset.IER if self._lcr & _DLAB:
                return self._divisor >> 8 * offset & 0xFF
            case Offset.DATA:
                return self._read_rbr()
            case Offset.IER:
                return self._ier
            case Offset.IIR_FCR:
                return self._read_iir()
            case Offset.LCR:
                return self._lcr
            case Offset.MCR:
                return self._mcr
            case Offset.LSR:
                return self._read_lsr()
            case Offset.MSR:
                return self._read_msr()
            case _:
                return self._scr

    def write(self, offset: int, value: int, size: int = 1) -> None:
        """Write the register at `offset` (taken modulo 8). LSR and MSR ignore it (8.4, note 1)."""
        offset &= 7
        value &= 0xFF
        self._polls = 0
        match offset:
            case Offset.DATA | Offset.IER if self._lcr & _DLAB:
                shift = 8 * offset
                self._divisor = self._divisor & 0xFF00 >> shift | value << shift
            case Offset.DATA:
                self._write_thr(value)
            case Offset.IER:
                self._write_ier(value)
            case Offset.IIR_FCR:
                self._write_fcr(value)
            case Offset.LCR:
                self._write_lcr(value)
            case Offset.MCR:
                self._mcr = value & ~ModemControl.reserved_mask()
                self._follow_inputs()
            case Offset.SCR:
                self._scr = value
        self._fill()
        self._drive()

    def _read_rbr(self) -> int:
        char = self._fifo.popleft() if self._fifo else 0
        self._reveal()
        self._fill()
        self._drive()
        return char & 0xFF

    def _read_iir(self) -> int:
        source = self._source()
        if source == TRANSMITTER_EMPTY:  # reading IIR is what acknowledges this one (Table IV)
            self._transmitter_interrupt = False
            self._drive()
        return source | self._fifos_enabled() * _FIFOS

    def _read_lsr(self) -> int:
        self._fill()
        status = self._line_status()
        self._errors = 0
        self._drive()
        return status

    def _read_msr(self) -> int:
        status = self._inputs | self._deltas
        self._deltas = 0
        self._drive()
        return status

    def _write_thr(self, value: int) -> None:
        """Send a character. The interrupt drops and rises again, so that an edge-triggered line sees it."""
        char = value & self._word()
        self._transmitter_interrupt = False
        self._drive()
        if self._mcr & _LOOP:
            self._arrive(char)
        elif not self._lcr & _BREAK_CONTROL:
            self._transmit(char)
        self._transmitter_interrupt = True

    def _write_ier(self, value: int) -> None:
        """Enable interrupts; that of THR is reported anew when its enable rises, for THR is always empty."""
        if value & ~self._ier & _ETBEI:
            self._transmitter_interrupt = True
        self._ier = value & ~InterruptEnable.reserved_mask()

    def _write_fcr(self, value: int) -> None:
        """Changing the enable empties the FIFOs; without it the other bits are not taken (8.5, bit 0)."""
        reset = _ENABLE | _RESET_RECEIVER
        if (value ^ self._fcr) & _ENABLE or value & reset == reset:
            self._empty_fifo()
        self._fcr = value & _KEPT_IN_FCR if value & _ENABLE else 0

    def _write_lcr(self, value: int) -> None:
        rises = value & ~self._lcr & _BREAK_CONTROL
        self._lcr = value
        if rises and self._mcr & _LOOP:
            self._arrive(_BREAK)

    # ---- the receiver

    def _fill(self) -> None:
        """Take characters from the host while there is room and the guest listens."""
        depth = FIFO_DEPTH if self._fifos_enabled() else 1
        while self._queue and len(self._fifo) < depth and self._listens():
            char = self._queue.popleft()
            self._arrive(char & (self._word() | ~0xFF))

    def _listens(self) -> bool:
        if self._mcr & _LOOP or self._mcr & (_DTR | _RTS) == _DTR:
            return False
        return bool(self._ier & _ERBFI) or self._polls >= POLLING

    def _arrive(self, char: int) -> None:
        """Receive a character; one too many is lost, or without the FIFOs replaces the last (8.4, bit 1)."""
        if len(self._fifo) >= (FIFO_DEPTH if self._fifos_enabled() else 1):
            self._errors |= _OVERRUN
            if self._fifos_enabled():
                return
            self._fifo.clear()
        self._fifo.append(char)
        if len(self._fifo) == 1:
            self._reveal()

    def _reveal(self) -> None:
        """Show in LSR the errors of the character that is now at the head."""
        if self._fifo:
            self._errors |= self._fifo[0] >> 8 & _ERRORS

    def _empty_fifo(self) -> None:
        self._queue.extendleft(char for char in reversed(self._fifo) if char & _FROM_HOST)
        self._fifo.clear()

    # ---- what follows from the registers

    def _fifos_enabled(self) -> bool:
        return bool(self._fcr & _ENABLE)

    def _word(self) -> int:
        """Return the mask of a character of the programmed length."""
        return (1 << 5 + LineControl.WLS.extract(self._lcr)) - 1

    def _line_status(self) -> int:
        status = _EMPTY | self._errors | (_DR if self._fifo else 0)
        if self._fifos_enabled():
            later = any(char >> 8 & _ERRORS for char in islice(self._fifo, 1, None))
            if later or self._errors & _CHARACTER_ERRORS:
                status |= _FIFO_ERROR
        return status

    def _source(self) -> int:
        """Return bits 3-0 of IIR: the pending interrupt of the highest priority (Table IV)."""
        if self._ier & _ELSI and self._errors:
            return LINE_STATUS
        if self._ier & _ERBFI and self._fifo:
            trigger = _TRIGGERS[FifoControl.TRIGGER.extract(self._fcr)] if self._fifos_enabled() else 1
            return DATA_AVAILABLE if len(self._fifo) >= trigger else CHARACTER_TIMEOUT
        if self._ier & _ETBEI and self._transmitter_interrupt:
            return TRANSMITTER_EMPTY
        if self._ier & _EDSSI and self._deltas:
            return MODEM_STATUS
        return NO_INTERRUPT

    def _follow_inputs(self) -> None:
        """Note the changes of the modem inputs, which in loopback are the outputs of MCR (8.8, bit 4)."""
        inputs = self._modem
        if self._mcr & _LOOP:
            mcr = ModemControl(self._mcr)
            inputs = mcr.RTS << 4 | mcr.DTR << 5 | mcr.OUT1 << 6 | mcr.OUT2 << 7
        changed = inputs ^ self._inputs
        self._deltas |= (changed & ~(inputs & _RI)) >> 4  # of RI only the fall counts
        self._inputs = inputs

    def _drive(self) -> None:
        level = self._source() != NO_INTERRUPT and self._connected()
        if level != self._level:
            self._level = level
            self._irq(level)

    def _connected(self) -> bool:
        """Whether the line is wired through: in loopback the pin OUT2 is inactive (8.8, bit 4)."""
        return not self._out2_gates_irq or self._mcr & (_OUT2 | _LOOP) == _OUT2

    # ---- snapshots

    def save(self) -> SerialState:
        """Return the port's state."""
        return SerialState(
            ier=self._ier,
            iir=self._source() | self._fifos_enabled() * _FIFOS,
            fcr=self._fcr,
            lcr=self._lcr,
            mcr=self._mcr,
            lsr=self._line_status(),
            msr=self._inputs | self._deltas,
            scr=self._scr,
            divisor=self._divisor,
            modem=self._modem,
            transmitter_interrupt=self._transmitter_interrupt,
            polls=self._polls,
            fifo=tuple(self._fifo),
            queue=tuple(self._queue),
        )

    def restore(self, state: SerialState) -> None:
        """Become the saved port and drive its interrupt line."""
        self._ier = state.ier
        self._fcr = state.fcr
        self._lcr = state.lcr
        self._mcr = state.mcr
        self._errors = state.lsr & _ERRORS
        self._inputs = state.msr & 0xF0
        self._deltas = state.msr & 0x0F
        self._scr = state.scr
        self._divisor = state.divisor
        self._modem = state.modem
        self._transmitter_interrupt = state.transmitter_interrupt
        self._polls = state.polls
        self._fifo = deque(state.fifo)
        self._queue = deque(state.queue)
        self._level = self._source() != NO_INTERRUPT and self._connected()
        self._irq(self._level)
