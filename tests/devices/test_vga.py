"""The VGA in text mode: its registers as drivers use them, the screen as text and as a picture."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.devices.twins import VALUES, Bench, check_twin, register_programs
from vlab.devices.state import describe
from vlab.devices.vga_font import CHARACTERS, font
from vlab.devices.vga_text import MEMORY_SIZE, PORT_BASE, VgaText
from vlab.errors import UnusableInput

BLUE, GREY, WHITE, BLACK = (0, 0, 170), (170, 170, 170), (255, 255, 255), (0, 0, 0)
FRAME_NS = 900 * 449 * 10**9 / 28_322_000


class Screen(Bench):
    """A VGA with its memory, full of grey blanks on black."""

    def __init__(self, time: int = 0) -> None:
        self.memory = bytearray(b" \x07" * (MEMORY_SIZE // 2))
        super().__init__(lambda bench: VgaText(now=bench.now, memory=memoryview(self.memory)), time)

    def show(self, row: int, column: int, text: bytes, attribute: int = 0x07) -> None:
        for place, byte in enumerate(text):
            at = 2 * (80 * row + column + place)
            self.memory[at : at + 2] = bytes([byte, attribute])

    def out(self, port: int, *values: int) -> None:
        for value in values:
            self.device.write(port - PORT_BASE, value)

    def inb(self, port: int) -> int:
        return int(self.device.read(port - PORT_BASE))

    def put(self, port: int, index: int, value: int) -> None:
        """Write an indexed register with one 16-bit access."""
        self.device.write(port - PORT_BASE, value << 8 | index, 2)

    def get(self, port: int, index: int) -> int:
        self.out(port, index)
        return self.inb(port + 1)

    def put_attribute(self, index: int, value: int) -> None:
        self.inb(0x3DA)
        self.out(0x3C0, index, value, 0x20)

    def get_attribute(self, index: int) -> int:
        self.inb(0x3DA)
        self.out(0x3C0, index)
        value = self.inb(0x3C1)
        self.inb(0x3DA)
        self.out(0x3C0, 0x20)
        return value

    def cell(self, row: int, column: int) -> Any:
        width = self.device.image().shape[1] // 80
        return self.device.image()[16 * row : 16 * row + 16, width * column : width * (column + 1)]


def build(bench: Bench) -> VgaText:
    return VgaText(now=bench.now, memory=memoryview(bytearray(MEMORY_SIZE)))


# --- registers --------------------------------------------------------------------------------------------


def test_the_cursor_location_and_all_other_crtc_registers_read_back() -> None:
    screen = Screen()
    screen.put(0x3D4, 0x11, 0x0E)
    for index in range(0x19):
        screen.put(0x3D4, index, 0x0C if index == 0x11 else 0x30 + index)
        assert screen.get(0x3D4, index) == (0x0C if index == 0x11 else 0x30 + index)
    assert screen.inb(0x3D4) == 0x18
    assert screen.get(0x3D4, 0x19) == 0


def test_the_protect_bit_saves_the_first_eight_crtc_registers_but_for_line_compare() -> None:
    screen = Screen()
    before = [screen.get(0x3D4, index) for index in range(8)]
    for index in range(8):
        screen.put(0x3D4, index, 0x00)
    before[7] &= ~0x10
    assert [screen.get(0x3D4, index) for index in range(8)] == before
    screen.put(0x3D4, 0x11, 0x0E)
    screen.put(0x3D4, 0x00, 0x11)
    assert screen.get(0x3D4, 0x00) == 0x11


@pytest.mark.parametrize(("port", "bits"), [(0x3C4, "03 3d 0f 3f 0e"), (0x3CE, "0f 0f 0f 1f 03 7b 0f 0f ff")])
def test_sequencer_and_graphics_registers_read_back_the_bits_that_exist(port: int, bits: str) -> None:
    screen = Screen()
    for index, existing in enumerate(bytes.fromhex(bits)):
        screen.put(port, index, 0xFF)
        assert screen.get(port, index) == existing
        screen.put(port, index, 0x00)
        assert screen.get(port, index) == 0
    assert screen.get(port, 9) == 0


def test_the_attribute_port_takes_index_and_data_in_turn_until_the_status_is_read() -> None:
    screen = Screen()
    screen.inb(0x3DA)
    screen.out(0x3C0, 0x31)
    screen.inb(0x3DA)
    screen.out(0x3C0, 0x31, 0x05)
    assert screen.inb(0x3C0) == 0x31
    assert screen.inb(0x3C1) == 0x05
    screen.out(0x3C0, 0x30)
    assert screen.inb(0x3C1) == 0x0C


def test_the_palette_holds_the_ega_colours() -> None:
    screen = Screen()
    screen.out(0x3C7, 0x14)
    assert [screen.inb(0x3C9) for _ in range(6)] == [0x2A, 0x15, 0x00, 0x2A, 0x15, 0x2A]
    assert screen.inb(0x3C8) == 0x16
    assert screen.inb(0x3C7) == 3


def test_a_colour_changes_when_its_third_component_is_written() -> None:
    screen = Screen()
    screen.out(0x3C8, 5)
    screen.out(0x3C9, 0xFF, 0x01)
    assert screen.inb(0x3C7) == 0
    assert screen.device.save().dac.colours[15:18] == bytes([0x2A, 0x00, 0x2A])
    screen.out(0x3C9, 0x02)
    assert screen.device.save().dac.colours[15:18] == bytes([0x3F, 0x01, 0x02])
    assert screen.inb(0x3C8) == 6


def test_the_miscellaneous_register_moves_the_crt_controller_to_3bx() -> None:
    screen = Screen()
    assert screen.inb(0x3CC) == 0x67
    screen.out(0x3C2, 0x66)
    assert screen.inb(0x3D5) == 0xFF
    assert screen.inb(0x3DA) == 0xFF
    screen.put(0x3B4, 0x0F, 0x12)
    assert screen.get(0x3B4, 0x0F) == 0x12
    assert screen.inb(0x3BA) != 0xFF
    screen.out(0x3BA, 0x08)
    assert screen.inb(0x3CA) == 0x08


def test_the_retrace_bits_follow_the_time() -> None:
    screen = Screen()
    frame, line = FRAME_NS, FRAME_NS / 449
    seen = {}
    for name, moment in {
        "first line": 0,
        "end of the first line": 0.9 * line,
        "below the picture": 405.1 * line,
        "vertical retrace": 413 * line,
        "next frame": frame + line * 0.1,
    }.items():
        screen.time = int(moment) + 1
        seen[name] = screen.inb(0x3DA)
    assert seen == {
        "first line": 0,
        "end of the first line": 1,
        "below the picture": 1,
        "vertical retrace": 9,
        "next frame": 0,
    }


# --- text -------------------------------------------------------------------------------------------------


def test_the_text_is_25_lines_of_80_characters() -> None:
    screen = Screen()
    screen.show(0, 0, b"top")
    screen.show(24, 79, b"!")
    lines = screen.device.text().split("\n")
    assert [len(line) for line in lines] == [80] * 25
    assert lines[0].rstrip() == "top"
    assert lines[24] == " " * 79 + "!"


def test_codes_are_shown_as_code_page_437() -> None:
    screen = Screen()
    screen.show(0, 0, bytes([0x00, 0x01, 0x7F, 0x80, 0xB0, 0xC9, 0xE3, 0xFF]))
    assert screen.device.text()[:8] == " ☺⌂Ç░╔π "
    assert len(CHARACTERS) == 256
    assert bytes(range(0x80, 0xFF)).decode("cp437") == CHARACTERS[0x80:0xFF]


def test_the_start_address_scrolls_and_wraps_at_the_end_of_the_memory() -> None:
    screen = Screen()
    screen.show(1, 0, b"second")
    screen.put(0x3D4, 0x0D, 80)
    assert screen.device.text().startswith("second")
    start = MEMORY_SIZE // 2 - 1
    screen.memory[-2:] = b"E\x07"
    screen.show(0, 0, b"nd")
    screen.put(0x3D4, 0x0C, start >> 8)
    screen.put(0x3D4, 0x0D, start & 0xFF)
    assert screen.device.text().startswith("End")


def test_the_row_offset_is_followed() -> None:
    screen = Screen()
    screen.show(2, 0, b"third")
    screen.put(0x3D4, 0x13, 80)
    assert screen.device.text().split("\n")[1].startswith("third")


def test_the_cursor_is_where_the_crt_controller_says() -> None:
    screen = Screen()
    location = 80 * 3 + 7
    screen.put(0x3D4, 0x0E, location >> 8)
    screen.put(0x3D4, 0x0F, location & 0xFF)
    assert screen.device.cursor() == (3, 7)
    screen.put(0x3D4, 0x0D, 80)
    assert screen.device.cursor() == (2, 7)
    screen.put(0x3D4, 0x0E, 0xFF)
    assert screen.device.cursor() is None
    screen.put(0x3D4, 0x0E, 0)
    screen.put(0x3D4, 0x0A, 0x2D)
    assert screen.device.cursor() is None


# --- picture ----------------------------------------------------------------------------------------------


def colours_of(cell: Any) -> set[tuple[int, ...]]:
    return {tuple(map(int, dot)) for line in cell for dot in line}


def test_the_picture_is_720_wide_with_nine_dots_and_640_with_eight() -> None:
    screen = Screen()
    assert screen.device.image().shape == (400, 720, 3)
    assert screen.device.image().dtype == np.uint8
    screen.put(0x3C4, 1, 0x01)
    assert screen.device.image().shape == (400, 640, 3)


def test_a_letter_has_its_glyph_in_the_colours_of_its_attribute() -> None:
    screen = Screen()
    screen.show(2, 3, b"A", 0x1F)
    cell = screen.cell(2, 3)
    assert colours_of(cell) == {BLUE, WHITE}
    glyph = np.unpackbits(np.frombuffer(font(), np.uint8)[16 * 65 : 16 * 66].reshape(16, 1), axis=1)
    assert ((cell[:, :8] == WHITE).all(axis=2) == glyph.astype(bool)).all()


def test_line_graphics_join_across_the_ninth_dot_and_letters_do_not() -> None:
    screen = Screen()
    screen.show(0, 10, bytes([0xC4, 0xDB, ord("_"), 0xB3]))
    assert tuple(screen.cell(0, 10)[7, 8]) == GREY
    assert tuple(screen.cell(0, 11)[7, 8]) == GREY
    assert tuple(screen.cell(0, 12)[14, 8]) == BLACK
    screen.put_attribute(0x10, 0x08)
    assert tuple(screen.cell(0, 10)[7, 8]) == BLACK


def test_attribute_bit_7_blinks_or_brightens_the_background() -> None:
    screen = Screen()
    screen.show(0, 10, b"A", 0x87)
    assert colours_of(screen.cell(0, 10)) == {GREY, BLACK}
    screen.time = int(20 * 10**9 / 70)
    assert colours_of(screen.cell(0, 10)) == {BLACK}
    screen.put_attribute(0x10, 0x04)
    assert colours_of(screen.cell(0, 10)) == {GREY, (85, 85, 85)}


def test_the_cursor_is_drawn_between_its_two_lines_and_blinks() -> None:
    screen = Screen()
    cell = screen.cell(0, 0)
    assert (cell[13:15] == GREY).all()
    assert (cell[:13] == BLACK).all()
    screen.time = int(10 * 10**9 / 70)
    assert (screen.cell(0, 0) == BLACK).all()


def test_the_colour_table_and_the_palette_decide_the_colours() -> None:
    screen = Screen()
    screen.show(0, 10, bytes([0xDB]), 0x02)
    screen.out(0x3C8, 2)
    screen.out(0x3C9, 63, 0, 63)
    assert colours_of(screen.cell(0, 10)) == {(255, 0, 255)}
    screen.put_attribute(2, 0x01)
    assert colours_of(screen.cell(0, 10)) == {BLUE}
    assert screen.get_attribute(2) == 0x01


def test_the_screen_can_be_switched_off_in_two_ways() -> None:
    screen = Screen()
    screen.show(0, 10, bytes([0xDB]))
    screen.put(0x3C4, 1, 0x20)
    assert not screen.device.image().any()
    screen.put(0x3C4, 1, 0x00)
    assert screen.device.image().any()
    screen.inb(0x3DA)
    screen.out(0x3C0, 0x00)
    assert not screen.device.image().any()


def test_underlining_needs_an_underline_location_within_the_character() -> None:
    screen = Screen()
    screen.show(0, 10, b" ", 0x01)
    assert not screen.cell(0, 10).any()
    screen.put(0x3D4, 0x14, 12)
    assert colours_of(screen.cell(0, 10)[12:13]) == {BLUE}
    assert colours_of(screen.cell(0, 10)) == {BLUE, BLACK}


def test_the_png_holds_the_picture() -> None:
    image = pytest.importorskip("PIL.Image")
    screen = Screen()
    screen.show(0, 0, b"vlab", 0x1E)
    with image.open(io.BytesIO(screen.device.png())) as png:
        assert png.format == "PNG"
        assert (np.asarray(png) == screen.device.image()).all()


def test_every_visible_character_has_a_glyph_of_its_own() -> None:
    glyphs = [font()[16 * code : 16 * code + 16] for code in range(256)]
    blank = {code for code in range(256) if not any(glyphs[code])}
    assert blank == {0x00, 0x20, 0xFF}
    assert len(set(glyphs)) == 256 - 2


def test_line_drawing_characters_meet_at_the_edges_of_their_cells() -> None:
    rows = {character: font()[16 * code : 16 * code + 16] for code, character in enumerate(CHARACTERS)}
    for character in "│┤┐└┴┬├┼┘┌":
        up, down = rows[character][0], rows[character][15]
        assert up == (0x18 if character in "│┤└┴├┼┘" else 0)
        assert down == (0x18 if character in "│┤┐┬├┼┌" else 0)
    for character in "║╣╗╝╚╔╩╦╠╬":
        assert rows[character][0] == (0x36 if character in "║╣╝╚╩╠╬" else 0)
        assert rows[character][15] == (0x36 if character in "║╣╗╔╦╠╬" else 0)
    assert rows["╬"][5:10] == bytes([0x36, 0xF7, 0x00, 0xF7, 0x36])
    assert rows["╒"][6:10] == bytes([0x1F, 0x18, 0x1F, 0x18])
    assert rows["╢"][6:9] == bytes([0x36, 0xF6, 0x36])


# --- states -----------------------------------------------------------------------------------------------


def test_memory_of_another_size_is_refused() -> None:
    with pytest.raises(
        UnusableInput, match=r"^memory: 4000 bytes is not the size of the text memory; give 32768 bytes$"
    ):
        VgaText(now=lambda: 0, memory=memoryview(bytearray(4000)))


def test_the_registers_are_shown_by_name() -> None:
    shown = {line.name: line for line in describe(Screen().device.save())}
    assert repr(shown["crtc.cursor_start"].register) == "CursorStart(0xd: LINE=0xd)"
    assert shown["crtc.offset"].value == 0x28
    assert repr(shown["attribute.mode_control"].register) == "AttributeMode(0xc: BLINK LINE_GRAPHICS)"


OFFSETS = st.one_of(st.integers(0, 0x2F), st.integers(-8, 0x40))
PORTS = st.sampled_from([0x04, 0x10, 0x12, 0x14, 0x17, 0x18, 0x19, 0x1E, 0x24, 0x2A])
WORDS = st.tuples(st.just("write"), PORTS, VALUES, st.sampled_from([1, 2]))
WAITS = st.tuples(st.just("wait"), st.integers(0, 10**8))
LOOKS = st.sampled_from([("text",), ("cursor",)])


@given(program=register_programs(OFFSETS, WORDS, WAITS, LOOKS), cut=st.integers(0, 60))
def test_any_program_raises_nothing_and_a_snapshot_within_it_is_invisible(program: Any, cut: int) -> None:
    check_twin(build, program, cut)


@given(program=register_programs(OFFSETS, WORDS), cells=st.binary(min_size=64, max_size=64))
def test_after_any_program_the_screen_is_still_a_picture(program: Any, cells: bytes) -> None:
    screen = Screen()
    screen.memory[:] = cells * (MEMORY_SIZE // len(cells))
    for operation in program:
        screen.do(operation)
    assert screen.device.image().shape in ((400, 640, 3), (400, 720, 3))
    assert len(screen.device.text()) == 25 * 81 - 1
    assert describe(screen.device.save())
