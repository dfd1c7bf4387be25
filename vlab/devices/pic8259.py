"""The two 8259A interrupt controllers of a PC/AT, cascaded. Intel 8259A data sheet (order 231468-003, 1988).

The chip has no clock: the interrupt request (IRR), in-service (ISR) and mask (IMR) registers decide between
them whether the INT pin is high. A request on an edge-triggered input lasts until it is acknowledged or its
line falls; when it is gone before the processor acknowledges, the controller answers with its level 7, the
spurious interrupt (section "Edge and Level Triggered Modes"). The MCS-80 CALL sequence is not modelled: the
vector is that of 8086 mode whatever ICW4 says. The edge/level registers (ELCR) at ports 4D0h and 4D1h are
those of the chip sets: Intel 82371SB (PIIX3, 290550-002), 2.7 "Edge/Level Control Register".

The chips power up as the firmware of a PC leaves them, initialised for vectors 08h and 70h, but all masked.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, ClassVar

from vlab.devices.pic_registers import Icw1, Icw4, Levels, Ocw2, Ocw3
from vlab.devices.state import DeviceState
from vlab.devices.wiring import Line

CASCADE = 2
SPURIOUS = 7
WINDOWS = ((0x20, 2, 0), (0xA0, 2, 2), (0x4D0, 2, 4))
"""The pair's port windows: first port, number of ports, and the offset of the first in `Pic8259Pair`."""

EMPTY_BUS = 0xFF  # what a read gives that no chip answers
EXPECT_OCW, EXPECT_ICW2, EXPECT_ICW3, EXPECT_ICW4 = 0, 2, 3, 4

_LTIM, _AEOI, _SFNM = Icw1.LTIM.mask, Icw4.AEOI.mask, Icw4.SFNM.mask
_PRIORITIES = tuple(tuple((lowest + n) % 8 for n in range(1, 9)) for lowest in range(8))


@dataclass(frozen=True, slots=True)
class PicState(DeviceState):
    """One 8259A. `lowest` is the level of lowest priority, `expects` the next initialisation word or 0."""

    VERSION: ClassVar[int] = 1

    irr: Annotated[int, Levels]
    isr: Annotated[int, Levels]
    imr: Annotated[int, Levels]
    lines: Annotated[int, Levels]
    elcr: Annotated[int, Levels]
    icw1: Annotated[int, Icw1]
    icw2: int
    icw3: int
    icw4: Annotated[int, Icw4]
    expects: int
    lowest: int
    rotate_on_aeoi: bool
    special_mask: bool
    read_isr: bool
    poll: bool


@dataclass(frozen=True, slots=True)
class PicPairState(DeviceState):
    """Both controllers."""

    VERSION: ClassVar[int] = 1

    master: PicState
    slave: PicState


class Pic8259:
    """One controller. `changed` is called after anything that may move the INT pin.

    `master` is the level of the pin SP/EN; `vector_base` and `icw3` are what the firmware has programmed.
    """

    def __init__(self, *, master: bool, vector_base: int, icw3: int, changed: Callable[[], None]) -> None:
        self._master = master
        self._changed = changed
        self._irr = self._isr = self._lines = self._elcr = 0
        self._imr = 0xFF
        self._icw1 = Icw1.ONE.mask | Icw1.IC4.mask
        self._icw2, self._icw3, self._icw4 = vector_base, icw3, Icw4.UPM.mask
        self._expects = EXPECT_OCW
        self._lowest = 7
        self._rotate_on_aeoi = self._special_mask = self._read_isr = self._poll = False

    # ---- inputs and output

    def set_line(self, level: int, high: bool) -> None:
        """Drive input `level` (0..7)."""
        mask = 1 << level
        if not high:
            self._lines &= ~mask
            self._irr &= ~mask
        else:
            if self._level_triggered() & mask or not self._lines & mask:
                self._irr |= mask
            self._lines |= mask
        self._changed()

    def requested(self) -> int | None:
        """Return the level that the INT pin is high for, None while it is low."""
        if self._expects:
            return None
        requests = self._irr & ~self._imr
        if not requests:
            return None
        in_service = self._isr & ~self._imr if self._special_mask else self._isr
        nested = self.slaves if self._icw4 & _SFNM else 0
        for level in self._by_priority():
            mask = 1 << level
            if in_service & mask:
                return level if requests & mask & nested else None
            if requests & mask:
                return level
        return None

    def acknowledge(self) -> int | None:
        """Take the request in service as the first INTA pulse does; None when there is none any more."""
        level = self.requested()
        if level is None:
            return None
        mask = 1 << level
        if not self._level_triggered() & mask:
            self._irr &= ~mask
        if not self._icw4 & _AEOI:
            self._isr |= mask
        elif self._rotate_on_aeoi:
            self._lowest = level
        return level

    @property
    def slaves(self) -> int:
        """The inputs that have a slave on them, by ICW3; a slave or a single controller has none."""
        return self._icw3 if self._master and not Icw1(self._icw1).SNGL else 0

    @property
    def identity(self) -> int:
        """The master's input that this slave answers for, by ICW3."""
        return self._icw3 & 7

    def vector(self, level: int) -> int:
        """Return the vector of `level`: five bits of ICW2 and the level."""
        return self._icw2 & 0xF8 | level

    def _by_priority(self) -> tuple[int, ...]:
        return _PRIORITIES[self._lowest]

    def _level_triggered(self) -> int:
        return 0xFF if self._icw1 & _LTIM else self._elcr

    # ---- the two ports

    def read(self, odd: bool) -> int:
        """Read the even or the odd port; after a poll command either one acknowledges."""
        if self._poll:
            self._poll = False
            level = self.acknowledge()
            self._changed()
            return 0 if level is None else 0x80 | level
        if odd:
            return self._imr
        return self._isr if self._read_isr else self._irr

    def write(self, odd: bool, value: int) -> None:
        """Write the even or the odd port; `value` is a byte."""
        if odd and self._expects:
            self._write_icw(value)
        elif odd:
            self._imr = value
        elif value & Icw1.ONE.mask:
            self._write_icw1(value)
        elif value & 0x08:
            self._write_ocw3(Ocw3(value))
        else:
            self._write_ocw2(Ocw2(value))
        self._changed()

    def write_elcr(self, value: int) -> None:
        """Set which inputs are level-triggered; those that become so request while their line is high."""
        self._elcr = value
        self._irr |= self._lines & value
        self._changed()

    @property
    def elcr(self) -> int:
        """The level-triggered inputs."""
        return self._elcr

    def _write_icw1(self, value: int) -> None:
        """Start the initialisation ("Initialization Command Words", items a to f)."""
        self._icw1 = value & 0x1F
        self._icw4 = 0
        self._isr = self._imr = 0
        self._irr = self._lines & self._level_triggered()
        self._lowest = 7
        self._rotate_on_aeoi = self._special_mask = self._read_isr = self._poll = False
        self._expects = EXPECT_ICW2

    def _write_icw(self, value: int) -> None:
        icw1 = Icw1(self._icw1)
        after_icw3 = EXPECT_ICW4 if icw1.IC4 else EXPECT_OCW
        if self._expects == EXPECT_ICW2:
            self._icw2 = value
            self._expects = after_icw3 if icw1.SNGL else EXPECT_ICW3
        elif self._expects == EXPECT_ICW3:
            self._icw3 = value
            self._expects = after_icw3
        else:
            self._icw4 = value & 0x1F
            self._expects = EXPECT_OCW

    def _write_ocw2(self, word: Ocw2) -> None:
        level: int | None = word.LEVEL
        if not word.EOI:
            if word.SL and word.R:
                self._lowest = word.LEVEL
            elif not word.SL:
                self._rotate_on_aeoi = bool(word.R)
            return
        if not word.SL:
            level = self._highest_in_service()
        if level is not None:
            self._isr &= ~(1 << level)
            if word.R:
                self._lowest = level

    def _highest_in_service(self) -> int | None:
        """Return what a non-specific EOI ends; in special mask mode it passes over masked levels."""
        candidates = self._isr & ~self._imr if self._special_mask else self._isr
        return next((level for level in self._by_priority() if candidates >> level & 1), None)

    def _write_ocw3(self, word: Ocw3) -> None:
        if word.ESMM:
            self._special_mask = bool(word.SMM)
        if word.P:
            self._poll = True
        elif word.RR:
            self._read_isr = bool(word.RIS)

    # ---- snapshots

    def save(self) -> PicState:
        """Return this controller's state."""
        return PicState(
            irr=self._irr,
            isr=self._isr,
            imr=self._imr,
            lines=self._lines,
            elcr=self._elcr,
            icw1=self._icw1,
            icw2=self._icw2,
            icw3=self._icw3,
            icw4=self._icw4,
            expects=self._expects,
            lowest=self._lowest,
            rotate_on_aeoi=self._rotate_on_aeoi,
            special_mask=self._special_mask,
            read_isr=self._read_isr,
            poll=self._poll,
        )

    def restore(self, state: PicState) -> None:
        """Become the saved controller."""
        self._irr, self._isr, self._imr = state.irr, state.isr, state.imr
        self._lines, self._elcr = state.lines, state.elcr
        self._icw1, self._icw2, self._icw3, self._icw4 = state.icw1, state.icw2, state.icw3, state.icw4
        self._expects, self._lowest = state.expects, state.lowest
        self._rotate_on_aeoi, self._special_mask = state.rotate_on_aeoi, state.special_mask
        self._read_isr, self._poll = state.read_isr, state.poll


class Pic8259Pair:
    """The master and its slave: 16 lines in, one INT pin out, `output`, which gets its level as it changes.

    Offsets 0-1 are the master (ports 20h, 21h), 2-3 the slave (A0h, A1h), 4-5 the ELCRs (4D0h, 4D1h).
    """

    # IRQ 0, 1, 2, 8 and 13 are edge-triggered by wiring (PIIX3 2.7).
    _ELCR_WRITABLE = (0xF8, 0xDE)

    def __init__(self, *, output: Line) -> None:
        self._output = output
        self._level = False
        self._master = Pic8259(master=True, vector_base=0x08, icw3=1 << CASCADE, changed=self._drive_output)
        self._slave = Pic8259(master=False, vector_base=0x70, icw3=CASCADE, changed=self._drive_cascade)

    def set_line(self, n: int, level: bool) -> None:
        """Drive IRQ `n`, 0..15 without 2. Raises ValueError for another number."""
        if not 0 <= n <= 15:
            raise ValueError(f"n: {n} is not an interrupt line; give 0..15")
        if n == CASCADE:
            raise ValueError("n: 2 is the cascade between the controllers; the bus line IRQ 2 is number 9")
        if n < 8:
            self._master.set_line(n, level)
        else:
            self._slave.set_line(n - 8, level)

    def pending(self) -> bool:
        """Whether the INT pin is high."""
        return self._level

    def acknowledge(self) -> int:
        """Answer the processor's INTA cycle: the vector, 0..255, of the interrupt now in service.

        With nothing to acknowledge this is the spurious level 7 of the chip that was asked.
        """
        level = self._master.acknowledge()
        if level == CASCADE and self._master.slaves >> CASCADE & 1:
            vector = self._acknowledge_slave()
        else:
            vector = self._master.vector(SPURIOUS if level is None else level)
        self._drive_output()
        return vector

    def _acknowledge_slave(self) -> int:
        if self._slave.identity != CASCADE:
            return EMPTY_BUS
        level = self._slave.acknowledge()
        self._master.set_line(CASCADE, False)  # INT falls at INTA, so that a next request is an edge again
        self._drive_cascade()
        return self._slave.vector(SPURIOUS if level is None else level)

    def read(self, offset: int, size: int = 1) -> int:
        """Read a port; an offset outside 0..5 reads as an empty bus."""
        match offset:
            case 0 | 1:
                return self._master.read(bool(offset & 1))
            case 2 | 3:
                return self._slave.read(bool(offset & 1))
            case 4:
                return self._master.elcr
            case 5:
                return self._slave.elcr
            case _:
                return EMPTY_BUS

    def write(self, offset: int, value: int, size: int = 1) -> None:
        """Write a port; an offset outside 0..5 is ignored."""
        value &= 0xFF
        match offset:
            case 0 | 1:
                self._master.write(bool(offset & 1), value)
            case 2 | 3:
                self._slave.write(bool(offset & 1), value)
            case 4:
                self._master.write_elcr(value & self._ELCR_WRITABLE[0])
            case 5:
                self._slave.write_elcr(value & self._ELCR_WRITABLE[1])

    def _drive_cascade(self) -> None:
        self._master.set_line(CASCADE, self._slave.requested() is not None)

    def _drive_output(self) -> None:
        level = self._master.requested() is not None
        if level != self._level:
            self._level = level
            self._output(level)

    def save(self) -> PicPairState:
        """Return both controllers' state."""
        return PicPairState(master=self._master.save(), slave=self._slave.save())

    def restore(self, state: PicPairState) -> None:
        """Become the saved pair and drive the INT pin."""
        self._master.restore(state.master)
        self._slave.restore(state.slave)
        self._level = self._master.requested() is not None
        self._output(self._level)
