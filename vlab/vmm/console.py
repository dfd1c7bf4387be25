"""The serial console: what the guest wrote, and who listens."""

from __future__ import annotations

from collections.abc import Callable

Listener = Callable[[bytes], object]


class Console:
    """Bytes that the guest sent through its first serial port.

    ``data``: all of them. ``waited_for``: the end of the text for which ``appeared`` was last true. Listeners
    get each byte as it comes, on the thread that runs the guest; but not while ``again`` is set, when the
    guest writes a second time what they have heard.
    """

    def __init__(self) -> None:
        self.data = bytearray()
        self.on_problem: Callable[[BaseException], None] = lambda _problem: None
        self.on_wish: Callable[[], None] = lambda: None
        self._listeners: list[Listener] = []
        self.again = False
        self.waited_for = 0

    def write(self, byte: int) -> None:
        """Take a byte from the serial port.

        What a listener raises goes to ``on_problem``: the guest's instruction is done all the same, and the
        other listeners hear of it.
        """
        self.data.append(byte)
        if self._listeners and not self.again:
            piece = bytes((byte,))
            for listener in tuple(self._listeners):
                try:
                    if listener(piece) is True:
                        self.on_wish()
                except BaseException as problem:
                    self.on_problem(problem)

    def appeared(self, text: bytes) -> bool:
        """Whether ``text`` has come after the text for which this was last true."""
        place = self.data.find(text, self.waited_for)
        if place >= 0:
            self.waited_for = place + len(text)
        return place >= 0

    def subscribe(self, listener: Listener) -> Callable[[], None]:
        """Call ``listener`` with new output; give a function that ends it.

        When it gives True, the predicate that a run waits for is asked before the next block of guest code.
        """
        self._listeners.append(listener)
        return lambda: self._listeners.remove(listener)

    @property
    def text(self) -> str:
        """Everything so far, decoded as UTF-8; bytes that are not are replaced."""
        return self.data.decode("utf-8", "replace")

    def truncate(self, length: int) -> None:
        """Forget output after the first ``length`` bytes: time was turned back."""
        del self.data[length:]
        self.waited_for = min(self.waited_for, length)

    def become(self, data: bytes, waited_for: int) -> None:
        """Be as at another moment, of another virtual machine even; listeners are not told."""
        self.data[:] = data
        self.waited_for = waited_for

    def __str__(self) -> str:
        return self.text

    def __repr__(self) -> str:
        return f"<Console: {len(self.data)} bytes, ending {bytes(self.data[-40:])!r}>"
