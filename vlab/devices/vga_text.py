"""The VGA in its text mode: every register that drivers set reads back, and the screen is text or a picture.

Reference: IBM PS/2 Hardware Interface Technical Reference (1988), "Video Subsystem" ("VGA"). The chip starts
in mode 3, as a BIOS leaves it. Of the display memory it has the 32 KiB of text; loadable fonts and graphics
planes it has not, and when a graphics mode is set it goes on showing the text.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import astuple
from typing import TYPE_CHECKING

from vlab.devices import vga_registers as reg
from vlab.devices.vga_dac import Dac
from vlab.devices.vga_font import CHARACTERS
from vlab.devices.vga_registers import (
    AttributeIndex,
    AttributeState,
    CrtcState,
    GraphicsState,
    InputStatus1,
    MiscellaneousOutput,
    SequencerState,
    VerticalRetraceEnd,
    VgaState,
)
from vlab.devices.wiring import NS_PER_SECOND, Now
from vlab.errors import UnusableInput

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

#: First port and number of ports of the window: 3B0h to 3DFh.
PORT_BASE = 0x3B0
PORT_COUNT = 0x30
#: The display memory: where it lies in guest-physical memory, and its size, bytes.
MEMORY_BASE = 0xB8000
MEMORY_SIZE = 0x8000

COLUMNS = 80
ROWS = 25

# Timing of 720 by 400 dots at 70 Hz: 449 lines of 900 dots at 28.322 MHz.
_DOT_CLOCK = 28_322_000
_LINE_DOTS = 900
_SHOWN_DOTS = 720
_FRAME_LINES = 449
_SHOWN_LINES = 400
_RETRACE_LINES = range(412, 414)

_OVERFLOW_LINE_COMPARE = 0x10


class VgaText:
    """The VGA behind ports 3B0h to 3DFh; `memory` is the guest memory from B8000h, 32 KiB.

    Raises UnusableInput when the memory is of another size.
    """

    _attribute: bytearray
    _attribute_index: int

    def __init__(self, *, now: Now, memory: memoryview) -> None:
        if memory.nbytes != MEMORY_SIZE:
            raise UnusableInput(
                f"memory: {memory.nbytes} bytes is not the size of the text memory; give {MEMORY_SIZE} bytes"
            )
        self._now = now
        self._memory = memory
        self._dac = Dac()
        self._take(VgaState())
        self._readers: dict[int, Callable[[], int]] = {
            0x3C0: lambda: self._attribute_index,
            0x3C1: self._read_attribute,
            0x3C2: lambda: 0x10,  # switch sense: a monitor is there
            0x3C3: lambda: self._subsystem_enable,
            0x3C4: lambda: self._sequencer_index,
            0x3C5: lambda: _at(self._sequencer, self._sequencer_index),
            0x3C6: lambda: self._dac.mask,
            0x3C7: self._dac.read_state,
            0x3C8: self._dac.read_index,
            0x3C9: self._dac.read_component,
            0x3CA: lambda: self._feature_control,
            0x3CC: lambda: self._misc,
            0x3CE: lambda: self._graphics_index,
            0x3CF: lambda: _at(self._graphics, self._graphics_index),
        }
        self._writers: dict[int, Callable[[int], None]] = {
            0x3C0: self._write_attribute,
            0x3C2: self._write_miscellaneous,
            0x3C3: self._write_subsystem_enable,
            0x3C4: self._write_sequencer_index,
            0x3C5: self._write_sequencer,
            0x3C6: self._write_mask,
            0x3C7: lambda byte: self._dac.write_index(byte, reading=True),
            0x3C8: lambda byte: self._dac.write_index(byte, reading=False),
            0x3C9: self._dac.write_component,
            0x3CE: self._write_graphics_index,
            0x3CF: self._write_graphics,
        }

    # --- ports ------------------------------------------------------------------------------------------

    def read(self, offset: int, size: int = 1) -> int:
        """Read `size` ports from 3B0h + `offset` on; a port that is not there floats at FFh."""
        value = 0
        for place in range(size):
            value |= self._read_port(PORT_BASE + offset + place) << 8 * place
        return value

    def write(self, offset: int, value: int, size: int = 1) -> None:
        """Write ports from 3B0h + `offset` on: with 16 bits, an index and its register at once."""
        for place in range(size):
            self._write_port(PORT_BASE + offset + place, value >> 8 * place & 0xFF)

    def _read_port(self, port: int) -> int:
        if port in self._readers:
            return self._readers[port]()
        match port - self._crtc_base():
            case 0x4:
                return self._crtc_index
            case 0x5:
                return _at(self._crtc, self._crtc_index)
            case 0xA:
                self._attribute_expects_data = False
                return self._input_status()
        return 0xFF

    def _write_port(self, port: int, byte: int) -> None:
        if port in self._writers:
            self._writers[port](byte)
            return
        match port - self._crtc_base():
            case 0x4:
                self._crtc_index = byte
            case 0x5:
                self._write_crtc(byte)
            case 0xA:
                self._feature_control = byte & reg.FEATURE_MASK

    def _crtc_base(self) -> int:
        """Return 3D0h or 3B0h: where the CRT controller and the status answer."""
        return 0x3D0 if self._misc & MiscellaneousOutput.COLOUR.mask else 0x3B0

    def _input_status(self) -> int:
        dots = self._now() * _DOT_CLOCK // NS_PER_SECOND
        line, dot = dots // _LINE_DOTS % _FRAME_LINES, dots % _LINE_DOTS
        status = 0
        if dot >= _SHOWN_DOTS or line >= _SHOWN_LINES:
            status |= InputStatus1.BLANKING.mask
        if line in _RETRACE_LINES:
            status |= InputStatus1.VERTICAL_RETRACE.mask
        return status

    # --- register writes --------------------------------------------------------------------------------

    def _write_crtc(self, byte: int) -> None:
        index = self._crtc_index
        if index < 8 and self._crtc[0x11] & VerticalRetraceEnd.PROTECT.mask:
            if index == 7:
                kept = self._crtc[7] & ~_OVERFLOW_LINE_COMPARE
                self._crtc[7] = kept | byte & _OVERFLOW_LINE_COMPARE
            return
        _put(self._crtc, index, byte, reg.CRTC_MASKS)

    def _write_miscellaneous(self, byte: int) -> None:
        self._misc = byte & reg.MISCELLANEOUS_MASK

    def _write_subsystem_enable(self, byte: int) -> None:
        self._subsystem_enable = byte & 1

    def _write_sequencer_index(self, byte: int) -> None:
        self._sequencer_index = byte

    def _write_sequencer(self, byte: int) -> None:
        _put(self._sequencer, self._sequencer_index, byte, reg.SEQUENCER_MASKS)

    def _write_graphics_index(self, byte: int) -> None:
        self._graphics_index = byte

    def _write_graphics(self, byte: int) -> None:
        _put(self._graphics, self._graphics_index, byte, reg.GRAPHICS_MASKS)

    def _write_mask(self, byte: int) -> None:
        self._dac.mask = byte

    def _read_attribute(self) -> int:
        return _at(self._attribute, AttributeIndex(self._attribute_index).INDEX)

    def _write_attribute(self, byte: int) -> None:
        """Take an index and its data in turn; reading input status 1 starts again with an index."""
        if self._attribute_expects_data:
            _put(self._attribute, AttributeIndex(self._attribute_index).INDEX, byte, reg.ATTRIBUTE_MASKS)
        else:
            self._attribute_index = byte & ~AttributeIndex.reserved_mask() & 0xFF
        self._attribute_expects_data = not self._attribute_expects_data

    # --- what is on the screen --------------------------------------------------------------------------

    def cells(self) -> bytes:
        """Return the screen's 80 by 25 cells, a character and an attribute byte each, row by row.

        Start address and row offset are followed, so that hardware scrolling shows.
        """
        memory = bytes(self._memory)
        pitch = 2 * self._crtc[0x13]
        rows = []
        for row in range(ROWS):
            first = 2 * (self._start_address() + row * pitch) % MEMORY_SIZE
            line = memory[first : first + 2 * COLUMNS]
            rows.append(line + memory[: 2 * COLUMNS - len(line)])
        return b"".join(rows)

    def text(self) -> str:
        """Return the screen as 25 lines of 80 characters, as code page 437 shows them."""
        characters = self.cells()[::2]
        lines = (characters[at : at + COLUMNS] for at in range(0, len(characters), COLUMNS))
        return "\n".join("".join(CHARACTERS[code] for code in line) for line in lines)

    def cursor(self) -> tuple[int, int] | None:
        """Return row and column of the cursor, None if it is off the screen or switched off."""
        start, end = reg.CursorStart(self._crtc[0x0A]), reg.CursorEnd(self._crtc[0x0B])
        if start.OFF or start.LINE > end.LINE:
            return None
        location = (self._crtc[0x0E] << 8 | self._crtc[0x0F]) - self._start_address()
        location %= MEMORY_SIZE // 2
        pitch = 2 * self._crtc[0x13] or COLUMNS
        row, column = divmod(location, pitch)
        return (row, column) if 0 <= row < ROWS and column < COLUMNS else None

    def image(self) -> NDArray[np.uint8]:
        """Return the screen as it is seen at this moment: 400 lines, 640 or 720 columns, red, green, blue."""
        from vlab.devices.vga_picture import draw

        return draw(self.save(), self.cells(), self.cursor(), self._now())

    def png(self) -> bytes:
        """Return the image as a PNG file."""
        from vlab.devices.vga_picture import encode_png

        return encode_png(self.image())

    def _start_address(self) -> int:
        return self._crtc[0x0C] << 8 | self._crtc[0x0D]

    # --- whole states -----------------------------------------------------------------------------------

    def save(self) -> VgaState:
        """Return all registers; the display memory is the guest's."""
        return VgaState(
            miscellaneous_output=self._misc,
            feature_control=self._feature_control,
            subsystem_enable=self._subsystem_enable,
            crtc_index=self._crtc_index,
            crtc=CrtcState(*self._crtc),
            sequencer_index=self._sequencer_index,
            sequencer=SequencerState(*self._sequencer),
            graphics_index=self._graphics_index,
            graphics=GraphicsState(*self._graphics),
            attribute_index=self._attribute_index,
            attribute_expects_data=self._attribute_expects_data,
            attribute=AttributeState(bytes(self._attribute[:16]), *self._attribute[16:]),
            dac=self._dac.save(),
        )

    def restore(self, state: VgaState) -> None:
        """Take over all registers."""
        self._take(state)
        self._dac.restore(state.dac)

    def _take(self, state: VgaState) -> None:
        palette, *others = astuple(state.attribute)
        self._misc = state.miscellaneous_output
        self._feature_control = state.feature_control
        self._subsystem_enable = state.subsystem_enable
        self._crtc_index = state.crtc_index
        self._crtc = bytearray(astuple(state.crtc))
        self._sequencer_index = state.sequencer_index
        self._sequencer = bytearray(astuple(state.sequencer))
        self._graphics_index = state.graphics_index
        self._graphics = bytearray(astuple(state.graphics))
        self._attribute_index = state.attribute_index
        self._attribute_expects_data = state.attribute_expects_data
        self._attribute = bytearray(palette) + bytearray(others)


def _at(registers: bytearray, index: int) -> int:
    """Return a register, 0 for one that is not there."""
    return registers[index] if index < len(registers) else 0


def _put(registers: bytearray, index: int, byte: int, masks: bytes) -> None:
    """Write a register's existing bits; a register that is not there takes nothing."""
    if index < len(registers):
        registers[index] = byte & masks[index]
