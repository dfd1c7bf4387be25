"""A guest's command line in its memory."""

from __future__ import annotations

from vlab.errors import UnusableInput
from vlab.guests.loaders import layout
from vlab.guests.loaders.ram import GuestRam

LIMIT = layout.PAGE - 1
"""Bytes that fit without the NUL."""


def encode(name: str, cmdline: str, limit: int = LIMIT) -> bytes:
    """Return the bytes of `cmdline` with a NUL at the end; `name` is the guest in messages.

    Raises UnusableInput when it is longer than `limit` bytes, or has a NUL in it.
    """
    text = cmdline.encode("utf-8", "surrogateescape")
    if len(text) > limit:
        raise UnusableInput(f"append: the command line has {len(text)} bytes; {name} takes at most {limit}")
    if b"\0" in text:
        raise UnusableInput(f"append: the command line {cmdline!r} has a NUL character in it; leave it out")
    return text + b"\0"


def write(ram: GuestRam, cmdline: str, limit: int = LIMIT) -> int:
    """Write `cmdline` to `layout.COMMAND_LINE` and return that address; raises as `encode` does."""
    ram.write(layout.COMMAND_LINE, encode(ram.name, cmdline, limit), "the command line")
    return layout.COMMAND_LINE
