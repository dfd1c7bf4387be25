"""The font of the text screen: 256 characters of code page 437, 8 dots wide and 16 high.

Letters and signs come from the drawings in `vga_glyphs`; accented letters are a letter and a mark; some signs
are others mirrored; shades, blocks and the line-drawing characters are ruled here.
"""

from __future__ import annotations

import unicodedata
from functools import cache
from typing import NamedTuple

from vlab.devices.vga_glyphs import ASCII, OTHERS

HEIGHT = 16

#: The character that each code shows: code page 437 with the signs that it has for the control codes.
CHARACTERS = (
    " ☺☻♥♦♣♠•◘○◙♂♀♪♫☼►◄↕‼¶§▬↨↑↓→←∟↔▲▼" + bytes(range(0x20, 0x7F)).decode("ascii") + "⌂"
    "ÇüéâäàåçêëèïîìÄÅÉæÆôöòûùÿÖÜ¢£¥₧ƒáíóúñÑªº¿⌐¬½¼¡«»"
    "░▒▓│┤╡╢╖╕╣║╗╝╜╛┐└┴┬├─┼╞╟╚╔╩╦╠═╬╧╨╤╥╙╘╒╓╫╪┘┌█▄▌▐▀"
    "αßΓπΣσµτΦΘΩδ∞φε∩≡±≥≤⌠⌡÷≈°∙·√ⁿ²■ "
)

Glyph = tuple[int, ...]
"""Sixteen rows of eight dots, the leftmost in bit 7."""

_BLANK: Glyph = (0,) * HEIGHT
_FIRST_DRAWN_ROW = 2
_DRAWN_ROWS = 13
_PITCH = 8

_MIRRORED = {"◄": "►", "←": "→", "⌐": "¬", "»": "«", "≤": "≥"}
_UPSIDE_DOWN = {"↓": "↑", "▼": "▲", "¡": "!", "¿": "?"}
_INVERTED = {"◘": "•", "◙": "○"}
_MARKS = {
    "\u0300": "ˋ",
    "\u0301": "ˊ",
    "\u0302": "ˆ",
    "\u0303": "˜",
    "\u0308": "¨",
    "\u030a": "˚",
    "\u0327": "¸",
}

#: Solid characters: the bits of an even and of an odd row, and the rows that they fill.
_FILLED = {
    "░": (0x22, 0x88, range(16)),
    "▒": (0x55, 0xAA, range(16)),
    "▓": (0xDD, 0x77, range(16)),
    "█": (0xFF, 0xFF, range(16)),
    "▄": (0xFF, 0xFF, range(8, 16)),
    "▀": (0xFF, 0xFF, range(8)),
    "▌": (0xF0, 0xF0, range(16)),
    "▐": (0x0F, 0x0F, range(16)),
}

#: Line-drawing characters by their arms up, down, left and right: 0 none, 1 single, 2 double.
_ARM_TABLE = """
│:1100 ┤:1110 ╡:1120 ╢:2210 ╖:0210 ╕:0120 ╣:2220 ║:2200 ╗:0220 ╝:2020 ╜:2010 ╛:1020 ┐:0110 └:1001
┴:1011 ┬:0111 ├:1101 ─:0011 ┼:1111 ╞:1102 ╟:2201 ╚:2002 ╔:0202 ╩:2022 ╦:0222 ╠:2202 ═:0022 ╬:2222
╧:1022 ╨:2011 ╤:0122 ╥:0211 ╙:2001 ╘:1002 ╒:0102 ╓:0201 ╫:2211 ╪:1122 ┘:1010 ┌:0101
"""
_ARMS = dict(pair.split(":") for pair in _ARM_TABLE.split())


@cache
def font() -> bytes:
    """Return the font: 16 bytes for each of the 256 codes, the leftmost dot of a row in bit 7."""
    drawings = {**_drawn(ASCII), **_drawn(OTHERS)}
    return b"".join(bytes(_glyph(character, drawings)) for character in CHARACTERS)


def _drawn(art: str) -> dict[str, Glyph]:
    """Read the drawings: blocks of a line of characters and thirteen lines of dots."""
    glyphs: dict[str, Glyph] = {}
    for block in art.strip("\n").split("\n\n"):
        names, *rows = block.split("\n")
        for left in range(0, len(rows[0]), _PITCH):
            name = names[left : left + _PITCH].strip()
            dots = [_row(row[left : left + _PITCH]) for row in rows]
            glyphs[name] = _placed(dots, _FIRST_DRAWN_ROW)
    return glyphs


def _row(dots: str) -> int:
    value = 0
    for place, dot in enumerate(dots):
        width = {"#": 0xC0, "o": 0x80}.get(dot, 0)
        value |= width >> place
    return value


def _placed(dots: list[int], top: int) -> Glyph:
    rows = [0] * HEIGHT
    rows[top : top + len(dots)] = dots
    return tuple(rows[:HEIGHT])


def _glyph(character: str, drawings: dict[str, Glyph]) -> Glyph:
    if character in drawings:
        return drawings[character]
    if character in _MIRRORED:
        # Seven dots of the eight are drawn, so the mirror image moves one to the left.
        return tuple(int(f"{row:08b}"[::-1], 2) << 1 & 0xFF for row in drawings[_MIRRORED[character]])
    if character in _UPSIDE_DOWN:
        upright = drawings[_UPSIDE_DOWN[character]]
        turned = [int(f"{row:08b}"[::-1], 2) << 1 & 0xFF for row in reversed(upright[2:12])]
        return _placed(turned, 2)
    if character in _INVERTED:
        return tuple(~row & 0xFF for row in drawings[_INVERTED[character]])
    if character in _FILLED:
        even, odd, rows = _FILLED[character]
        return tuple((odd if row % 2 else even) if row in rows else 0 for row in range(HEIGHT))
    if character in _ARMS:
        return _ruled(*map(int, _ARMS[character]))
    decomposed = unicodedata.normalize("NFD", character)
    return _accented(decomposed[0], decomposed[1], drawings) if len(decomposed) == 2 else _BLANK


def _accented(letter: str, mark: str, drawings: dict[str, Glyph]) -> Glyph:
    """Put a mark on a letter; a capital gives up two of its rows to make room above it."""
    mark_rows = drawings[_MARKS[mark]]
    base = list(drawings["ı" if letter == "i" else letter])
    if mark == "\u0327":
        return tuple(row | dots for row, dots in zip(base, mark_rows, strict=True))
    dots = [row for row in mark_rows if row]
    bottom = 3
    if letter.isupper():
        kept = [row for number, row in enumerate(base) if number not in (5, 9)]
        base = [0, 0, *kept]
        bottom = 2
    base[bottom + 1 - len(dots) : bottom + 1] = dots
    return tuple(base)


class _Axis(NamedTuple):
    """Where the lines that cross an axis lie on it: half-open spans of dots."""

    single: tuple[int, int]
    double: tuple[tuple[int, int], tuple[int, int]]
    end: int


_COLUMNS = _Axis(single=(3, 5), double=((2, 4), (5, 7)), end=8)
_ROWS = _Axis(single=(7, 8), double=((6, 7), (8, 9)), end=16)


def _ruled(up: int, down: int, left: int, right: int) -> Glyph:
    """Rule the arms of a line-drawing character.

    A double arm is a bar with a channel cut through its middle; single arms are laid over it and end at the
    line that they meet.
    """
    grid = [[False] * _COLUMNS.end for _ in range(HEIGHT)]

    def fill(columns: range, rows: range, dot: bool = True) -> None:
        for row in rows:
            for column in columns:
                grid[row][column] = dot

    above, below = (range(9), range(6, 16)) if 2 in (left, right) else (range(8), range(7, 16))
    before, after = (range(7), range(2, 8)) if 2 in (up, down) else (range(5), range(3, 8))
    bars = (range(2, 7), above), (range(2, 7), below), (before, range(6, 9)), (after, range(6, 9))
    middle, centre = range(4, 5), range(7, 8)
    channels = (middle, range(8)), (middle, range(7, 16)), (range(5), centre), (range(4, 8), centre)
    arms = (up, down, left, right)
    for arm, (columns, rows) in zip(arms, bars, strict=True):
        if arm == 2:
            fill(columns, rows)
    for arm, (columns, rows) in zip(arms, channels, strict=True):
        if arm == 2:
            fill(columns, rows, dot=False)
    if 1 in (left, right):
        fill(_single(left, right, (up, down), _COLUMNS), range(*_ROWS.single))
    if 1 in (up, down):
        fill(range(*_COLUMNS.single), _single(up, down, (left, right), _ROWS))
    return tuple(sum(dot << 7 - column for column, dot in enumerate(row)) for row in grid)


def _single(low: int, high: int, crossing: tuple[int, int], axis: _Axis) -> range:
    """Return the extent along `axis` of a single line with arms `low` and `high`, crossed by two other arms.

    Where it ends at a double line it runs to the far stroke, but only to the near one when that line goes on
    to both sides: the channel stays open.
    """
    first, last = axis.double
    meets_from_below, meets_from_above = axis.single[1], axis.single[0]
    if crossing == (2, 2) and not (low and high):
        meets_from_below, meets_from_above = first[1], last[0]
    elif 2 in crossing:
        meets_from_below, meets_from_above = last[1], first[0]
    return range(0 if low else meets_from_above, axis.end if high else meets_from_below)
