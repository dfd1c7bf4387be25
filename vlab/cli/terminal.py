"""The user's terminal as the guest's: raw keys in, and a way out that the guest cannot take away."""

from __future__ import annotations

import os
import select
import signal
import sys
from types import FrameType, TracebackType
from typing import NoReturn

__all__ = ["Keys", "Terminal", "interactive"]

QUIT = 0x1D  # Ctrl-]
PREFIX = 0x01  # Ctrl-A


class Keys:
    """Sorts typed bytes into those for the guest and the wish to leave: Ctrl-], or Ctrl-A then x.

    Ctrl-A twice sends one Ctrl-A to the guest; Ctrl-A and any other key sends both.
    """

    def __init__(self) -> None:
        self._prefixed = False
        self.quit = False

    def feed(self, typed: bytes) -> bytes:
        """Take typed bytes and return those for the guest; after the wish to leave nothing is passed on."""
        passed = bytearray()
        for key in typed:
            if self.quit:
                break
            if self._prefixed:
                self._prefixed = False
                if key in b"xX":
                    self.quit = True
                elif key == PREFIX:
                    passed.append(key)
                else:
                    passed += bytes((PREFIX, key))
            elif key == QUIT:
                self.quit = True
            elif key == PREFIX:
                self._prefixed = True
            else:
                passed.append(key)
        return bytes(passed)


def interactive() -> bool:
    """Whether a person sits at both ends, and this system lets us read single keys."""
    return sys.platform != "win32" and sys.stdin.isatty() and sys.stdout.isatty()


class Terminal:
    """A context in which standard input delivers each key at once, unechoed and uninterpreted.

    The settings are put back on every way out, SIGTERM and SIGHUP among them. Output processing stays on, so
    that a guest that ends its lines with a bare line feed is readable.
    """

    def __init__(self, descriptor: int | None = None) -> None:
        self._descriptor = sys.stdin.fileno() if descriptor is None else descriptor
        self._handlers: dict[int, object] = {}

    def __enter__(self) -> Terminal:
        import termios

        self._saved = termios.tcgetattr(self._descriptor)
        for number in (signal.SIGTERM, signal.SIGHUP):
            self._handlers[number] = signal.signal(number, _leave)
        keys = termios.tcgetattr(self._descriptor)
        keys[0] &= ~(
            termios.BRKINT | termios.ICRNL | termios.INLCR | termios.INPCK | termios.ISTRIP | termios.IXON
        )
        keys[3] &= ~(termios.ECHO | termios.ICANON | termios.IEXTEN | termios.ISIG)
        keys[6][termios.VMIN], keys[6][termios.VTIME] = 1, 0
        termios.tcsetattr(self._descriptor, termios.TCSADRAIN, keys)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        import termios

        termios.tcsetattr(self._descriptor, termios.TCSADRAIN, self._saved)
        for number, handler in self._handlers.items():
            signal.signal(number, handler)  # type: ignore[arg-type]

    def read(self, timeout: float) -> bytes:
        """Return what was typed within `timeout` seconds; empty when nothing was."""
        ready, _, _ = select.select([self._descriptor], [], [], timeout)
        return os.read(self._descriptor, 1024) if ready else b""


def _leave(number: int, frame: FrameType | None) -> NoReturn:
    raise SystemExit(128 + number)
