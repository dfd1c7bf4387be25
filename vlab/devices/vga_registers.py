"""The VGA's registers: layouts, the bits that exist, and the state with the values of the 80 by 25 text mode.

Reference: IBM PS/2 Hardware Interface Technical Reference (1988), "Video Subsystem" ("VGA"); the values of
the text mode are those that the BIOS loads for mode 3 with 720 by 400 dots.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, ClassVar

from vlab.devices.state import DeviceState
from vlab.isa.fields import Register, bit, bits


class MiscellaneousOutput(Register, width=8, reference='VGA "Miscellaneous Output Register"'):
    """Written at port 3C2h, read at 3CCh."""

    COLOUR = bit(0, "CRT controller and status at 3Dxh (1) or 3Bxh (0)")
    RAM_ENABLE = bit(1, "the processor reaches the display memory")
    CLOCK = bits(2, 3, "dot clock", {0: "25.175 MHz", 1: "28.322 MHz"})
    HIGH_PAGE = bit(5, "page in odd/even mode")
    HSYNC_NEGATIVE = bit(6, "horizontal sync polarity")
    VSYNC_NEGATIVE = bit(7, "vertical sync polarity")


class InputStatus1(Register, width=8, reference='VGA "Input Status Register 1"'):
    """Read at port 3DAh or 3BAh; reading makes the attribute port expect an index."""

    BLANKING = bit(0, "no picture is being drawn: horizontal or vertical retrace")
    VERTICAL_RETRACE = bit(3, "vertical retrace")


class AttributeIndex(Register, width=8, reference='VGA "Attribute Address Register"'):
    """Port 3C0h in its index state."""

    INDEX = bits(0, 4, "register")
    DISPLAY = bit(5, "the palette belongs to the display; at 0 the screen is blank")


class AttributeMode(Register, width=8, reference='VGA "Attribute Mode Control Register"'):
    """Attribute register 10h."""

    GRAPHICS = bit(0, "graphics mode")
    MONO = bit(1, "monochrome attributes")
    LINE_GRAPHICS = bit(2, "the ninth dot of codes C0h to DFh repeats the eighth")
    BLINK = bit(3, "attribute bit 7 makes a character blink instead of its background bright")
    PANNING = bit(5, "panning does not affect the split screen")
    EIGHT_BIT = bit(6, "256-colour mode")
    PALETTE_HIGH = bit(7, "colour bits 5:4 come from the colour select register")


class ClockingMode(Register, width=8, reference='VGA "Clocking Mode Register"'):
    """Sequencer register 1."""

    EIGHT_DOTS = bit(0, "characters are 8 dots wide instead of 9")
    SHIFT_LOAD = bit(2, "shift registers are loaded every second character clock")
    HALF_CLOCK = bit(3, "dot clock divided by 2: 40 columns")
    SHIFT_4 = bit(4, "shift registers are loaded every fourth character clock")
    SCREEN_OFF = bit(5, "the screen is blank")


class CursorStart(Register, width=8, reference='VGA "Cursor Start Register"'):
    """CRT controller register 0Ah."""

    LINE = bits(0, 4, "first line of the cursor")
    OFF = bit(5, "no cursor")


class CursorEnd(Register, width=8, reference='VGA "Cursor End Register"'):
    """CRT controller register 0Bh."""

    LINE = bits(0, 4, "last line of the cursor")
    SKEW = bits(5, 6, "characters by which the cursor is delayed")


class UnderlineLocation(Register, width=8, reference='VGA "Underline Location Register"'):
    """CRT controller register 14h."""

    LINE = bits(0, 4, "line of the underscore")
    COUNT_BY_4 = bit(5, "memory is counted by four")
    DOUBLEWORD = bit(6, "doubleword addresses")


class VerticalRetraceEnd(Register, width=8, reference='VGA "Vertical Retrace End Register"'):
    """CRT controller register 11h."""

    LINE = bits(0, 3, "low bits of the line at which the retrace ends")
    IRQ_CLEAR = bit(4, "0 clears the vertical interrupt")
    IRQ_OFF = bit(5, "1 disables the vertical interrupt")
    REFRESH = bit(6, "refresh bandwidth")
    PROTECT = bit(7, "registers 0 to 7 are write-protected, but for bit 4 of register 7")


@dataclass(frozen=True, slots=True)
class CrtcState(DeviceState):
    """CRT controller, registers 0 to 18h."""

    VERSION: ClassVar[int] = 1
    horizontal_total: int = 0x5F
    horizontal_display_end: int = 0x4F
    horizontal_blank_start: int = 0x50
    horizontal_blank_end: int = 0x82
    horizontal_retrace_start: int = 0x55
    horizontal_retrace_end: int = 0x81
    vertical_total: int = 0xBF
    overflow: int = 0x1F
    preset_row_scan: int = 0x00
    maximum_scan_line: int = 0x4F
    cursor_start: Annotated[int, CursorStart] = 0x0D
    cursor_end: Annotated[int, CursorEnd] = 0x0E
    start_address_high: int = 0x00
    start_address_low: int = 0x00
    cursor_location_high: int = 0x00
    cursor_location_low: int = 0x00
    vertical_retrace_start: int = 0x9C
    vertical_retrace_end: Annotated[int, VerticalRetraceEnd] = 0x8E
    vertical_display_end: int = 0x8F
    offset: int = 0x28
    underline_location: Annotated[int, UnderlineLocation] = 0x1F
    vertical_blank_start: int = 0x96
    vertical_blank_end: int = 0xB9
    mode_control: int = 0xA3
    line_compare: int = 0xFF


@dataclass(frozen=True, slots=True)
class SequencerState(DeviceState):
    """Sequencer, registers 0 to 4."""

    VERSION: ClassVar[int] = 1
    reset: int = 0x03
    clocking_mode: Annotated[int, ClockingMode] = 0x00
    map_mask: int = 0x03
    character_map_select: int = 0x00
    memory_mode: int = 0x02


@dataclass(frozen=True, slots=True)
class GraphicsState(DeviceState):
    """Graphics controller, registers 0 to 8."""

    VERSION: ClassVar[int] = 1
    set_reset: int = 0x00
    enable_set_reset: int = 0x00
    colour_compare: int = 0x00
    data_rotate: int = 0x00
    read_map_select: int = 0x00
    mode: int = 0x10
    miscellaneous: int = 0x0E
    colour_dont_care: int = 0x00
    bit_mask: int = 0xFF


@dataclass(frozen=True, slots=True)
class AttributeState(DeviceState):
    """Attribute controller: the 16 palette registers, then registers 10h to 14h."""

    VERSION: ClassVar[int] = 1
    palette: bytes = bytes.fromhex("0001020304051407 38393a3b3c3d3e3f")
    mode_control: Annotated[int, AttributeMode] = 0x0C
    overscan: int = 0x00
    colour_plane_enable: int = 0x0F
    horizontal_panning: int = 0x08
    colour_select: int = 0x00


def _ega_palette() -> bytes:
    """Return 256 colours of 3 times 6 bits: the 64 of the EGA, then black.

    An EGA colour is the bits rgbRGB: a capital adds two thirds of its component, a small letter one third.
    """
    colours = bytearray(3 * 256)
    for index in range(64):
        for component in range(3):
            strong, weak = index >> 2 - component & 1, index >> 5 - component & 1
            colours[3 * index + component] = 0x2A * strong + 0x15 * weak
    return bytes(colours)


@dataclass(frozen=True, slots=True)
class DacState(DeviceState):
    """The colour table: `colours` is red, green, blue, 6 bits each, for 256 entries.

    `component` counts the reads or writes of the current entry, `latch` keeps what was written of it.
    """

    VERSION: ClassVar[int] = 1
    mask: int = 0xFF
    index: int = 0
    component: int = 0
    reading: bool = False
    latch: bytes = bytes(3)
    colours: bytes = _ega_palette()


@dataclass(frozen=True, slots=True)
class VgaState(DeviceState):
    """Everything but the display memory, which is guest memory."""

    VERSION: ClassVar[int] = 1
    miscellaneous_output: Annotated[int, MiscellaneousOutput] = 0x67
    feature_control: int = 0
    subsystem_enable: int = 1
    crtc_index: int = 0
    crtc: CrtcState = field(default_factory=CrtcState)
    sequencer_index: int = 0
    sequencer: SequencerState = field(default_factory=SequencerState)
    graphics_index: int = 0
    graphics: GraphicsState = field(default_factory=GraphicsState)
    attribute_index: Annotated[int, AttributeIndex] = AttributeIndex.DISPLAY.mask
    attribute_expects_data: bool = False
    attribute: AttributeState = field(default_factory=AttributeState)
    dac: DacState = field(default_factory=DacState)


#: Bits that each register has; the others are lost when written and read as 0.
CRTC_MASKS = bytes.fromhex("ff ff ff ff ff ff ff ff 7f ff 3f 7f ff ff ff ff ff ff ff ff 7f ff ff ef ff")
SEQUENCER_MASKS = bytes.fromhex("03 3d 0f 3f 0e")
GRAPHICS_MASKS = bytes.fromhex("0f 0f 0f 1f 03 7b 0f 0f ff")
ATTRIBUTE_MASKS = bytes.fromhex("3f" * 16 + "ef ff 3f 0f 0f")
MISCELLANEOUS_MASK = 0xFF & ~MiscellaneousOutput.reserved_mask()
FEATURE_MASK = 0x0B
