"""The picture on a VGA text screen: cells, font and colours become dots, and the dots a PNG file.

Reference: IBM PS/2 Hardware Interface Technical Reference (1988), "Video Subsystem", alphanumeric modes.
"""

from __future__ import annotations

import struct
import zlib

import numpy as np
from numpy.typing import NDArray

from vlab.devices.vga_font import HEIGHT, font
from vlab.devices.vga_registers import (
    AttributeIndex,
    AttributeMode,
    AttributeState,
    ClockingMode,
    CursorEnd,
    CursorStart,
    DacState,
    UnderlineLocation,
    VgaState,
)
from vlab.devices.wiring import NS_PER_SECOND

COLUMNS = 80
ROWS = 25

_FRAMES_PER_SECOND = 70
_LINE_GRAPHICS = range(0xC0, 0xE0)

Dots = NDArray[np.uint8]


def draw(state: VgaState, cells: bytes, cursor: tuple[int, int] | None, now: int) -> Dots:
    """Return the picture: 400 lines, 640 or 720 columns, 3 bytes of red, green and blue.

    `cells` are 80 by 25 pairs of character and attribute, `cursor` its row and column, `now` the virtual time
    in ns, which says whether what blinks is seen: characters are lit 16 frames of 32, the cursor 8 of 16.
    """
    frame = now * _FRAMES_PER_SECOND // NS_PER_SECOND
    grid = np.frombuffer(cells, np.uint8).reshape(ROWS, COLUMNS, 2)
    attributes = grid[:, :, 1]
    mode = AttributeMode(state.attribute.mode_control)
    lit = _lit_dots(state, grid[:, :, 0], attributes, mode)
    if mode.BLINK and frame & 0x10:
        lit &= (attributes < 0x80)[:, :, None, None]
    if cursor is not None and not frame & 0x08:
        first, last = CursorStart(state.crtc.cursor_start).LINE, CursorEnd(state.crtc.cursor_end).LINE
        lit[cursor[0], cursor[1], first : last + 1] = True
    background = attributes >> 4 & 0x07 if mode.BLINK else attributes >> 4
    index = np.where(lit, (attributes & 0x0F)[:, :, None, None], background[:, :, None, None])
    off = ClockingMode(state.sequencer.clocking_mode).SCREEN_OFF
    if off or not AttributeIndex(state.attribute_index).DISPLAY:
        index = np.zeros_like(index)
        colours = np.zeros((16, 3), np.uint8)
    else:
        colours = _colours(state.attribute, state.dac)
    lines = index.transpose(0, 2, 1, 3).reshape(ROWS * HEIGHT, -1)
    return colours[lines]


def _lit_dots(state: VgaState, characters: Dots, attributes: Dots, mode: AttributeMode) -> NDArray[np.bool_]:
    """Return the dots in foreground colour by row, column, line and dot; 8 or 9 dots a character."""
    table = np.unpackbits(np.frombuffer(font(), np.uint8).reshape(256, HEIGHT, 1), axis=2)
    dots = table[characters]
    if not ClockingMode(state.sequencer.clocking_mode).EIGHT_DOTS:
        ninth = np.zeros_like(dots[:, :, :, :1])
        if mode.LINE_GRAPHICS:
            joined = (characters >= _LINE_GRAPHICS.start) & (characters < _LINE_GRAPHICS.stop)
            ninth = dots[:, :, :, 7:] & joined[:, :, None, None]
        dots = np.concatenate([dots, ninth], axis=3)
    line = UnderlineLocation(state.crtc.underline_location).LINE
    if line < HEIGHT:
        dots[(attributes & 0x07) == 0x01, line] = 1
    return dots.astype(np.bool_)


def _colours(attribute: AttributeState, dac: DacState) -> Dots:
    """Return red, green and blue, 0 to 255, of the 16 colours: attribute palette, then colour table."""
    colours = np.zeros((16, 3), np.uint8)
    table = np.frombuffer(dac.colours, np.uint8).reshape(256, 3)
    high = attribute.colour_select & 0x0C
    for number in range(16):
        entry = attribute.palette[number & attribute.colour_plane_enable & 0x0F]
        if AttributeMode(attribute.mode_control).PALETTE_HIGH:
            entry = entry & 0x0F | (attribute.colour_select & 0x03) << 4
        shade = table[(high << 4 | entry) & dac.mask].astype(np.uint16)
        colours[number] = shade * 255 // 63
    return colours


def encode_png(picture: Dots) -> bytes:
    """Return a picture of lines, columns and 3 bytes as a PNG file (ISO/IEC 15948), 8 bits a component."""
    height, width, _ = picture.shape
    # Each line starts with its filter type: 0, none.
    lines = np.zeros((height, 1 + 3 * width), np.uint8)
    lines[:, 1:] = picture.reshape(height, 3 * width)
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = (b"IHDR", header), (b"IDAT", zlib.compress(lines.tobytes(), 9)), (b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(kind, data) for kind, data in chunks)


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
