"""What a file starts with, in words: for the refusal of one that is of another kind."""

from __future__ import annotations

from string import ascii_letters, digits, punctuation

_SHOWN = 8
_PLAIN = frozenset((ascii_letters + digits + punctuation + " ").encode())


def describe(start: bytes) -> str:
    """Say what a file is that has ``start`` at its beginning: "starts with the bytes 7F 45 4C 46 (.ELF)".

    At most 8 bytes are shown; as text, where any of them is a letter or the like, with a dot for the others.
    """
    shown = start[:_SHOWN]
    if not shown:
        return "is empty"
    text = "".join(chr(byte) if byte in _PLAIN else "." for byte in shown)
    readable = f" ({text})" if any(byte in _PLAIN for byte in shown) else ""
    return f"starts with the bytes {shown.hex(' ').upper()}{readable}"
