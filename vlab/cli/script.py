"""What to type into a guest and when: the pairs of --after and --send, then --expect."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

__all__ = ["ENTER", "Script"]

#: What the Enter key of a serial terminal sends.
ENTER = "\r"


class Script:
    """A list of texts to wait for on the console, each but the last with a line to type once it has appeared.

    Texts are looked for in order, each in what follows the text before it, so that two equal prompts are two
    prompts. What the guest echoes counts as output. Output may come in any pieces, hence bytes.
    """

    def __init__(self, sends: Iterable[tuple[str, str]] = (), expect: str | None = None) -> None:
        """Take `sends` as pairs (line to type, text to wait for before it)."""
        self._steps: deque[tuple[str, str | None]] = deque((after, line) for line, after in sends)
        if expect is not None:
            self._steps.append((expect, None))
        self._unmatched = bytearray()
        self._reached = False

    @property
    def waiting_for(self) -> str | None:
        """The text that has to appear next; None when there is nothing left to wait for."""
        return self._steps[0][0] if self._steps else None

    @property
    def reached(self) -> bool:
        """Whether the text that was waited for has appeared, so that `advance` can be called."""
        return self._reached

    def feed(self, output: bytes) -> None:
        """Take what the guest has written."""
        self._unmatched += output
        self._look()

    def advance(self) -> str | None:
        """Go on to the next text, and return the line to type now; None if the text was that of --expect."""
        if not self._reached:
            raise ValueError(f"advance: the text {self.waiting_for!r} has not appeared yet")
        _, line = self._steps.popleft()
        self._reached = False
        self._look()
        return line

    def _look(self) -> None:
        if self._reached:
            return
        if not self._steps:
            self._unmatched.clear()
            return
        wanted = self._steps[0][0].encode()
        found = self._unmatched.find(wanted)
        if found >= 0:
            self._reached = True
            del self._unmatched[: found + len(wanted)]
        else:
            # Keep only what may still be the beginning of the text.
            del self._unmatched[: max(0, len(self._unmatched) - len(wanted) + 1)]
