"""The serial console: what the guest wrote, and who listens."""

from __future__ import annotations

from collections.abc import Callable


class Console:
    """Bytes that the guest sent through its first serial port.

    ``data``: all of them. Listeners get each byte as it comes, on the thread that runs the guest.
    """

    def __init__(self) -> None:
        self.data = bytearray()
        self._listeners: list[Callable[[bytes], None]] = []

    def write(self, byte: int) -> None:
        """Take a byte from the serial port."""
        self.data.append(byte)
        if self._listeners:
            piece = bytes((byte,))
            for listener in tuple(self._listeners):
                listener(piece)

    def subscribe(self, listener: Callable[[bytes], None]) -> Callable[[], None]:
        """Call ``listener`` with new output; give a function that ends it."""
        self._listeners.append(listener)
        return lambda: self._listeners.remove(listener)

    @property
    def text(self) -> str:
        """Everything so far, decoded as UTF-8; bytes that are not are replaced."""
        return self.data.decode("utf-8", "replace")

    def truncate(self, length: int) -> None:
        """Forget output after the first ``length`` bytes: time was turned back."""
        del self.data[length:]

    def __str__(self) -> str:
        return self.text

    def __repr__(self) -> str:
        return f"<Console: {len(self.data)} bytes, ending {bytes(self.data[-40:])!r}>"
