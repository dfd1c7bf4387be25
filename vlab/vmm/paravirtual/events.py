"""Events, which take the place of device interrupts: the timer, and input for the console."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from typing import Final

from vlab.vmm.board import Board
from vlab.vmm.paravirtual.interface import EVENT_CONSOLE, EVENT_TIMER

_SERIAL_VECTOR: Final = 36
"""Where the monitor has the 8259 pair announce the serial port."""
_SETUP: Final = (
    (0x20, 0x11), (0x21, 32), (0x21, 4), (0x21, 1), (0x21, 0xEF),
    (0xA0, 0x11), (0xA1, 40), (0xA1, 2), (0xA1, 1), (0xA1, 0xFF),
    (0x3FC, 0x0B), (0x3F9, 0x01),
)  # fmt: skip
"""Port writes: interrupt controllers with IRQ 4 alone, serial port with an interrupt for input."""
_DATA, _LINE_STATUS, _DATA_READY = 0x3F8, 0x3FD, 1
_ALARM, _INPUT = "timer", "input."


class Events:
    """The sources of events of one guest: its monitor drives the chips, since the guest cannot.

    ``raise_event(number)`` is called when one happens.
    """

    def __init__(self, board: Board, raise_event: Callable[[int], None]) -> None:
        self._board = board
        self._raise = raise_event
        self._alarm = board.alarms.alarm(lambda: raise_event(EVENT_TIMER))
        self._input: deque[int] = deque()

    def begin(self) -> None:
        """Set the chips up."""
        for port, value in _SETUP:
            self._board.ports.write(port, 1, value)

    def take_interrupts(self) -> int | None:
        """Serve the board's interrupt; give its vector, None when there is none."""
        board = self._board
        if not board.interrupt:
            return None
        vector = board.acknowledge()
        board.ports.write(0x20, 1, 0x20)
        if vector == _SERIAL_VECTOR:
            while board.ports.read(_LINE_STATUS, 1) & _DATA_READY:
                self._input.append(board.ports.read(_DATA, 1))
            self._raise(EVENT_CONSOLE)
        return vector

    def waiting_input(self, most: int) -> bytes:
        """Look at the first bytes of what was typed and not read."""
        return bytes(byte for byte, _ in zip(self._input, range(most), strict=False))

    def drop_input(self, count: int) -> None:
        """Forget so many: the guest has them."""
        for _ in range(count):
            self._input.popleft()

    def set_timer(self, when: int) -> None:
        """Ring once at a virtual time in ns; 0: not at all."""
        if when and when <= self._board.clock.now():
            self._alarm.schedule(None)
            self._raise(EVENT_TIMER)
        else:
            self._alarm.schedule(when or None)

    def save(self) -> dict[str, int]:
        """Give the state for a snapshot."""
        typed = {f"{_INPUT}{place}": byte for place, byte in enumerate(self._input)}
        return {_ALARM: self._alarm.when or 0} | typed

    def restore(self, state: Mapping[str, int]) -> None:
        """Take it back; the board is restored already."""
        self._alarm.schedule(state[_ALARM] or None)
        count = sum(name.startswith(_INPUT) for name in state)
        self._input = deque(state[f"{_INPUT}{place}"] for place in range(count))
