"""Plain data that may pass between the machine's side and a student's, and how it is written for the way.

Both students use it, the one in this process too, so that a cell gets and gives the same in a notebook and in
a jail. Written as JSON's types: a number, text, truth value and None stand for themselves, a list is a list;
bytes, dicts and references are objects with one tag: ``{"b": base 64}``, ``{"d": {...}}``, ``{"f": 3}`` for a
facade, ``{"p": 3}`` for an object of the student's.
"""

from __future__ import annotations

import binascii
from collections.abc import Callable
from typing import TypeAlias

Plain: TypeAlias = bool | int | float | str | list["Plain"] | dict[str, "Plain"] | None
"""What JSON can hold."""

#: How deep lists and dicts may be nested, how many values one may hold in all, the bytes and characters in
#: all, and the bits of a number.
MAX_DEPTH, MAX_VALUES, MAX_BYTES, MAX_BITS = 32, 65_536, 2 << 20, 4096

ALLOWED = "a number, text, bytes, a list or a dict"


class Unfit(Exception):
    """A value that does not pass. Its text names it: ``a set``, ``a number of 5000 bits``."""


class Malformed(Exception):
    """What arrived is not written by these rules. Its text is the end of a sentence about it."""


class _Room:
    """What one value may still take."""

    __slots__ = ("bytes", "values")

    def __init__(self) -> None:
        self.values, self.bytes = MAX_VALUES, MAX_BYTES

    def take(self, values: int, size: int) -> None:
        self.values -= values
        self.bytes -= size
        if self.values < 0:
            raise Unfit(f"more than {MAX_VALUES} values at once")
        if self.bytes < 0:
            raise Unfit(f"more than {MAX_BYTES >> 20} MiB at once")


def kind_of(value: object) -> str:
    """Name a value by its type, with the article: ``a set``, ``an ndarray``."""
    name = type(value).__name__
    return f"{'an' if name[:1].lower() in 'aeiou' else 'a'} {name}"


def pack(value: object, refer: Callable[[object], Plain]) -> Plain:
    """Write a value for the way. ``refer`` writes what is no plain data, or gives None.

    Subclasses of the plain types, such as the registers of `vlab.isa`, go as what they are at heart. Raises
    Unfit for what does not pass.
    """
    if value is None or type(value) is bool or (type(value) is int and -MAX_SHORT < value < MAX_SHORT):
        return value
    return _pack(value, refer, _Room(), MAX_DEPTH)


#: Numbers below it need no measuring.
MAX_SHORT = 1 << 64


def _pack(value: object, refer: Callable[[object], Plain], room: _Room, depth: int) -> Plain:
    room.take(1, 0)
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int):
        number = int.__pos__(value)
        if number.bit_length() > MAX_BITS:
            raise Unfit(f"a number of {number.bit_length()} bits")
        room.take(0, number.bit_length() // 3)
        return number
    if isinstance(value, float):
        return float.__pos__(value)
    if isinstance(value, str):
        room.take(0, len(value) if value.isascii() else 6 * len(value))  # as JSON writes it
        return str.__str__(value)
    if isinstance(value, bytes | bytearray | memoryview):
        data = bytes(value)
        room.take(0, len(data))
        return {"b": binascii.b2a_base64(data, newline=False).decode("ascii")}
    if isinstance(value, list | tuple | dict):
        if not depth:
            raise Unfit(f"lists or dicts nested more than {MAX_DEPTH} deep")
        if not isinstance(value, dict):
            return [_pack(each, refer, room, depth - 1) for each in value]
        return {"d": {_key(key, room): _pack(each, refer, room, depth - 1) for key, each in value.items()}}
    reference = refer(value)
    if reference is None:
        raise Unfit(kind_of(value))
    return reference


def _key(key: object, room: _Room) -> str:
    if not isinstance(key, str):
        raise Unfit(f"a dict with {kind_of(key)} as a key, which must be text")
    room.take(0, len(key))
    return str.__str__(key)


def unpack(plain: Plain, resolve: Callable[[dict[str, Plain]], object]) -> object:
    """Read what `pack` wrote, trusting nothing. ``resolve`` reads a reference.

    Raises Malformed for what `pack` would not have written, and what ``resolve`` raises.
    """
    if (
        plain is None
        or isinstance(plain, bool)
        or (isinstance(plain, int) and -MAX_SHORT < plain < MAX_SHORT)
    ):
        return plain
    try:
        return _unpack(plain, resolve, _Room(), MAX_DEPTH)
    except Unfit as unfit:
        raise Malformed(f"holds {unfit}") from None


def _unpack(plain: Plain, resolve: Callable[[dict[str, Plain]], object], room: _Room, depth: int) -> object:
    room.take(1, 0)
    if isinstance(plain, int) and plain.bit_length() > MAX_BITS:
        raise Malformed(f"holds a number of {plain.bit_length()} bits")
    if isinstance(plain, str):
        room.take(0, len(plain))
    if not isinstance(plain, list | dict):
        return plain
    if not depth:
        raise Malformed(f"is nested more than {MAX_DEPTH} deep")
    if isinstance(plain, list):
        return [_unpack(each, resolve, room, depth - 1) for each in plain]
    if "b" in plain:
        return _bytes(plain["b"], room)
    if "d" in plain:
        inner = plain["d"]
        if not isinstance(inner, dict):
            raise Malformed("holds a dict that is none")
        room.take(0, sum(map(len, inner)))
        return {key: _unpack(each, resolve, room, depth - 1) for key, each in inner.items()}
    return resolve(plain)


def _bytes(text: Plain, room: _Room) -> bytes:
    if not isinstance(text, str):
        raise Malformed("holds bytes that are no text")
    try:
        data = binascii.a2b_base64(text.encode("ascii"), strict_mode=True)
    except (ValueError, UnicodeError):
        raise Malformed("holds bytes that are not in base 64") from None
    room.take(0, len(data))
    return data
