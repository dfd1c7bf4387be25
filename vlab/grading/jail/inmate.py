"""What runs in a jail: it puts the walls up, then does what it is asked until nobody asks any more."""

from __future__ import annotations

import gc
import io
import os
import site
import socket
import sys
from functools import partial
from types import ModuleType
from typing import Final, TextIO, cast

from vlab.grading.cells import Cell
from vlab.grading.jail.descriptors import strip
from vlab.grading.jail.endings import NO_MEMORY
from vlab.grading.jail.layers import Walls, confine, survey
from vlab.grading.jail.limits import Bounds
from vlab.grading.jail.preload import load
from vlab.grading.links import Message
from vlab.grading.values import Malformed
from vlab.grading.wire import Closed, Wire

#: Characters of what student code prints that are kept.
MAX_OUTPUT: Final = 16 << 10


class Said(io.TextIOBase):
    """Standard output and error: what is printed goes to us by the line, up to a limit, and then nowhere."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire
        self._left = MAX_OUTPUT
        self._pending = ""

    def writable(self) -> bool:
        """It is."""
        return True

    def write(self, text: str) -> int:
        """Print."""
        if not isinstance(text, str):
            raise TypeError(f"print and write take text, not {type(text).__name__}")
        if self._left > 0:
            kept = text[: self._left]
            self._left -= len(kept)
            self._pending += kept if self._left else f"{kept}\n[no more of it is kept]\n"
            if "\n" in kept or not self._left:
                self.flush()
        return len(text)

    def flush(self) -> None:
        """Send what waits."""
        if self._pending:
            pending, self._pending = self._pending, ""
            self._wire.send(["said", pending])


class Inmate:
    """The loop of one jail."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire
        self._said = Said(wire)
        module = ModuleType("__main__")
        sys.modules["__main__"] = module
        self._cell = Cell(vars(module), self._ask)

    def live(self) -> None:
        """Do what is asked, for ever. Raises Closed when nobody asks any more."""
        site.setquit()  # exit() and quit(), which an interactive Python has
        sys.stdout = sys.stderr = cast("TextIO", self._said)
        while True:
            self._perform(self._wire.receive())

    def _ask(self, request: Message) -> Message:
        """Ask for a facade's work; student code may be called on meanwhile."""
        self._said.flush()
        self._wire.send(request)
        while True:
            message = self._wire.receive()
            if message[0] != "do":
                return message
            self._perform(message)

    def _perform(self, message: Message) -> None:
        _, number, *request = message
        answer = self._cell.perform(request)
        self._said.flush()
        try:
            self._wire.send(["answer", number, *answer])
        except ValueError as error:
            self._wire.send(["answer", number, "error", "ValueError", str(error), None, ""])


def serve(walls: Walls, bounds: Bounds, way_out: int) -> None:
    """Be a jail until the end of the process. way_out: a descriptor of a stream socket."""
    way_out = strip(way_out, walls.rules)
    if os.name == "posix":
        wire = Wire(partial(os.read, way_out), partial(os.write, way_out))
    else:
        wire = Wire.of_socket(socket.socket(fileno=way_out))
    status = 0
    try:
        _put_up(walls, bounds, wire)
        gc.enable()
        wire.send(["ready"])
        Inmate(wire).live()
    except (Closed, Malformed, KeyboardInterrupt):
        pass
    except MemoryError:
        status = NO_MEMORY
    finally:
        os._exit(status)


def _put_up(walls: Walls, bounds: Bounds, wire: Wire) -> None:
    try:
        confine(walls, bounds)
    except OSError as error:
        wire.send(["open", str(error)])
        os._exit(1)


def main(way_out: int, memory_bytes: int, seconds: float) -> None:
    """Be a jail in a fresh process. way_out: below 0 to be handed a socket on standard input (Windows)."""
    load()
    if way_out < 0:
        way_out = _handed_over()
    serve(survey(), Bounds(memory_bytes, seconds), way_out)


def _handed_over() -> int:
    return socket.fromshare(sys.stdin.buffer.read()).detach()  # type: ignore[attr-defined,no-any-return,unused-ignore]
