"""Keys: their scan codes in set 2, the keyboard controller's translation to set 1, and the US layout.

Reference: IBM PS/2 Hardware Interface Technical Reference (1988), "Keyboards (101- and 102-Key)", scan code
set 2, and "Keyboard and Auxiliary Device Controller", scan code translation.
"""

from __future__ import annotations

from collections.abc import Iterator

from vlab.errors import UnusableInput

RELEASE = 0xF0
EXTENDED = 0xE0

#: Each key of the US keyboard with what it sends in set 2 when it is pressed.
_MAKE_CODES = """
escape 76   f1 05  f2 06  f3 04  f4 0C  f5 03  f6 0B  f7 83  f8 0A  f9 01  f10 09  f11 78  f12 07
` 0E  1 16  2 1E  3 26  4 25  5 2E  6 36  7 3D  8 3E  9 46  0 45  - 4E  = 55  backspace 66
tab 0D  q 15  w 1D  e 24  r 2D  t 2C  y 35  u 3C  i 43  o 44  p 4D  [ 54  ] 5B  \\ 5D
caps_lock 58  a 1C  s 1B  d 23  f 2B  g 34  h 33  j 3B  k 42  l 4B  ; 4C  ' 52  enter 5A
left_shift 12  less_than 61  z 1A  x 22  c 21  v 2A  b 32  n 31  m 3A  , 41  . 49  / 4A  right_shift 59
left_ctrl 14  left_gui E01F  left_alt 11  space 29  right_alt E011  right_gui E027  menu E02F  right_ctrl E014
insert E070  home E06C  page_up E07D  delete E071  end E069  page_down E07A
up E075  left E06B  down E072  right E074
num_lock 77  keypad_divide E04A  keypad_multiply 7C  keypad_minus 7B  keypad_plus 79  keypad_enter E05A
keypad_7 6C  keypad_8 75  keypad_9 7D  keypad_4 6B  keypad_5 73  keypad_6 74
keypad_1 69  keypad_2 72  keypad_3 7A  keypad_0 70  keypad_dot 71
scroll_lock 7E  print_screen E012E07C  pause E11477E1F014F077
"""
_WORDS = _MAKE_CODES.split()
KEYS = {name: bytes.fromhex(code) for name, code in zip(_WORDS[::2], _WORDS[1::2], strict=True)}

_OTHER_NAMES = {
    "shift": "left_shift",
    "ctrl": "left_ctrl",
    "alt": "left_alt",
    "esc": "escape",
    "return": "enter",
}

#: Set 1 codes by set 2 code, for the codes below 80h, sixteen a line.
_SET_1 = bytes.fromhex(
    "ff 43 41 3f 3d 3b 3c 58 64 44 42 40 3e 0f 29 59"
    "65 38 2a 70 1d 10 02 5a 66 71 2c 1f 1e 11 03 5b"
    "67 2e 2d 20 12 05 04 5c 68 39 2f 21 14 13 06 5d"
    "69 31 30 23 22 15 07 5e 6a 72 32 24 16 08 09 5f"
    "6b 33 25 17 18 0b 0a 60 6c 34 35 26 27 19 0c 61"
    "6d 73 28 74 1a 0d 62 6e 3a 36 1c 1b 75 2b 63 76"
    "55 56 77 78 79 7a 0e 7b 7c 4f 7d 4b 47 7e 7f 6f"
    "52 53 50 4c 4d 48 01 45 57 4e 51 4a 37 49 46 54"
)
#: The two translated codes from 80h upwards: F7 and SysRq.
_SET_1_HIGH = {0x83: 0x41, 0x84: 0x54}

_PLAIN = "`1234567890-=[]\\;',./"
_SHIFTED = '~!@#$%^&*()_+{}|:"<>?'
_UNSHIFTED = dict(zip(_SHIFTED, _PLAIN, strict=True))
_NAMED = {
    " ": "space",
    "\n": "enter",
    "\r": "enter",
    "\t": "tab",
    "\b": "backspace",
    "\x7f": "backspace",
    "\x1b": "escape",
}


def to_set_1(code: int) -> int:
    """Translate one set 2 code, 0 to FFh; what is no key, such as ACK, stays itself."""
    return _SET_1[code] if code < len(_SET_1) else _SET_1_HIGH.get(code, code)


def make(name: str) -> bytes:
    """Return what the key `name` sends when pressed; raises UnusableInput when there is no such key."""
    code = KEYS.get(_OTHER_NAMES.get(name, name))
    if code is None:
        names = " ".join([*KEYS, *_OTHER_NAMES])
        raise UnusableInput(f"key: the keyboard has no key {name!r}; its keys are {names}")
    return code


def release(name: str) -> bytes:
    """Return what the key `name` sends when released: nothing for Pause, which has no release."""
    code = make(name)
    if name == "pause":
        return b""
    step = 2 if code[0] == EXTENDED else 1
    parts = [code[at : at + step] for at in range(0, len(code), step)]
    return b"".join(part[:-1] + bytes([RELEASE, part[-1]]) for part in reversed(parts))


def strokes(text: str) -> Iterator[tuple[str, ...]]:
    """Yield the keys held together for each character of `text`, the modifier first.

    Control characters other than Enter, Tab, Backspace and Escape are Ctrl and a letter. Raises UnusableInput
    for a character that a US keyboard has not.
    """
    for place, character in enumerate(text):
        if character in _NAMED:
            yield (_NAMED[character],)
        elif "\x01" <= character <= "\x1a":
            yield ("left_ctrl", chr(ord(character) + 0x60))
        elif character in _UNSHIFTED:
            yield ("left_shift", _UNSHIFTED[character])
        elif "A" <= character <= "Z":
            yield ("left_shift", character.lower())
        elif character in KEYS:
            yield (character,)
        else:
            raise UnusableInput(
                f"text: character {character!r} at place {place} is not on a US keyboard; type ASCII text"
            )
