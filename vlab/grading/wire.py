"""Messages between this process and a jail: a length of four bytes, big-endian, then a list in JSON.

Nothing that arrives is trusted, and nothing is unpickled. Whatever is wrong with it ends as one of three
exceptions: Closed, Late, `values.Malformed`.
"""

from __future__ import annotations

import json
import socket
import struct
import time
from collections.abc import Callable
from typing import Final, Self

from vlab.grading.links import Message
from vlab.grading.values import Malformed

#: The longest message, bytes.
MAX_MESSAGE: Final = 4 << 20

CHUNK: Final = 1 << 16

_HEADER = struct.Struct(">I")
_encode = json.JSONEncoder(separators=(",", ":"), check_circular=False).encode
_decode = json.JSONDecoder().raw_decode


class Closed(Exception):
    """The other end is gone."""


class Late(Exception):
    """The other end did not send, or did not take what was sent, in time."""


class Wire:
    """One end.

    ``read`` and ``write`` are as of a file descriptor; ``patience`` sets how many seconds they may take.
    """

    def __init__(
        self,
        read: Callable[[int], bytes],
        write: Callable[[bytes], int],
        patience: Callable[[float | None], None] | None = None,
    ) -> None:
        self._read, self._write, self._patience = read, write, patience
        self._buffer = bytearray()

    @classmethod
    def of_socket(cls, end: socket.socket) -> Self:
        """Make one over a connected stream socket."""
        return cls(end.recv, end.send, end.settimeout)

    def send(self, message: Message, until: float | None = None) -> None:
        """Send a message. until: ``time.monotonic()`` when to give up. Raises Closed, Late, ValueError."""
        text = _encode(message).encode("ascii")
        if len(text) > MAX_MESSAGE:
            raise ValueError(f"a message of {len(text)} bytes is longer than {MAX_MESSAGE}")
        data = _HEADER.pack(len(text)) + text
        try:
            while data:
                self._wait(until)
                data = data[self._write(data) :]
        except TimeoutError:
            raise Late from None
        except OSError:
            raise Closed from None

    def receive(self, until: float | None = None) -> Message:
        """Wait for a message. Raises Closed, Late, Malformed."""
        if not self._buffer:
            data = self._chunk(until)
            if len(data) >= _HEADER.size and _HEADER.unpack_from(data)[0] == len(data) - _HEADER.size:
                return parse(data[_HEADER.size :])  # just one, as nearly always
            self._buffer += data
        self._fill(_HEADER.size, until)
        (size,) = _HEADER.unpack_from(self._buffer)
        if size > MAX_MESSAGE:
            raise Malformed(f"sent a message of {size} bytes, more than {MAX_MESSAGE >> 20} MiB")
        end = _HEADER.size + size
        self._fill(end, until)
        text = bytes(self._buffer[_HEADER.size : end])
        del self._buffer[:end]
        return parse(text)

    def _fill(self, size: int, until: float | None) -> None:
        """Read until so many bytes are there."""
        while len(self._buffer) < size:
            self._buffer += self._chunk(until)

    def _chunk(self, until: float | None) -> bytes:
        """Read what there is, one byte at least."""
        try:
            self._wait(until)
            data = self._read(CHUNK)
        except TimeoutError:
            raise Late from None
        except OSError:
            raise Closed from None
        if not data:
            raise Closed
        return data

    def _wait(self, until: float | None) -> None:
        if self._patience is None or until is None:
            return
        left = until - time.monotonic()
        if left <= 0:
            raise Late
        self._patience(left)


def parse(text: bytes) -> Message:
    """Read a message's text. Raises Malformed."""
    try:
        written = text.decode("ascii")
        message, end = _decode(written)
        if end != len(written):
            raise ValueError(end)
    except (ValueError, RecursionError, MemoryError):
        raise Malformed("sent something that is no message") from None
    if not isinstance(message, list) or not message or not isinstance(message[0], str):
        raise Malformed("sent something that is no message")
    return message
