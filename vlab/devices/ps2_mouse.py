"""A PS/2 mouse of three buttons: it answers every command that drivers probe with, and reports movement.

Reference: IBM PS/2 Hardware Interface Technical Reference (1988), "Auxiliary Device" ("AUX"): the standard
mouse of ID 0, with three-byte packets.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, ClassVar

from vlab.devices.state import DeviceState
from vlab.isa.fields import Register, bit

SET_SCALING_1_TO_1 = 0xE6
SET_SCALING_2_TO_1 = 0xE7
SET_RESOLUTION = 0xE8
STATUS_REQUEST = 0xE9
SET_STREAM_MODE = 0xEA
READ_DATA = 0xEB
RESET_WRAP_MODE = 0xEC
SET_WRAP_MODE = 0xEE
SET_REMOTE_MODE = 0xF0
IDENTIFY = 0xF2
SET_SAMPLE_RATE = 0xF3
ENABLE = 0xF4
DISABLE = 0xF5
SET_DEFAULT = 0xF6
RESEND = 0xFE
RESET = 0xFF
ACK = 0xFA
SELF_TEST_PASSED = 0xAA
IDENTITY = 0x00

BUFFER_SIZE = 16

_DEFAULT_RESOLUTION = 2
_DEFAULT_RATE = 100


class MouseStatus(Register, width=8, reference='AUX "Status Request"'):
    """First byte of the answer to a status request; kept here as the mouse's modes."""

    RIGHT = bit(0, "right button down")
    MIDDLE = bit(1, "middle button down")
    LEFT = bit(2, "left button down")
    DOUBLE = bit(4, "scaling 2:1")
    ENABLED = bit(5, "reports in stream mode")
    REMOTE = bit(6, "remote mode: reports only when asked")


@dataclass(frozen=True, slots=True)
class MouseState(DeviceState):
    """What the mouse remembers.

    `dx` and `dy` are the counts not yet reported; `buttons` has bit 0 for left, 1 for right, 2 for middle.
    """

    VERSION: ClassVar[int] = 1
    outgoing: bytes = b""
    awaiting: int = 0
    status: Annotated[int, MouseStatus] = 0
    wrap: bool = False
    resolution: int = _DEFAULT_RESOLUTION
    sample_rate: int = _DEFAULT_RATE
    dx: int = 0
    dy: int = 0
    buttons: int = 0
    moved: bool = False
    last: int = SELF_TEST_PASSED


class Ps2Mouse:
    """The mouse; `attention()` tells the controller that bytes may be waiting."""

    _awaiting: int
    _status: int
    _wrap: bool
    _resolution: int
    _rate: int
    _dx: int
    _dy: int
    _buttons: int
    _moved: bool
    _last: int

    def __init__(self, *, attention: Callable[[], None]) -> None:
        self._attention = attention
        self._outgoing: deque[int] = deque(maxlen=BUFFER_SIZE)
        self.restore(MouseState())

    def move(self, dx: int, dy: int, buttons: int = 0) -> None:
        """Move by counts, right and up positive, with `buttons` down: bit 0 left, 1 right, 2 middle."""
        self._dx += dx
        self._dy += dy
        self._buttons = buttons & 7
        self._moved = True
        self._attention()

    def take(self) -> int | None:
        """Return the next byte for the system, None if there is none."""
        streaming = (
            self._status & (MouseStatus.ENABLED.mask | MouseStatus.REMOTE.mask) == MouseStatus.ENABLED.mask
        )
        if not self._outgoing and self._moved and streaming and not self._awaiting and not self._wrap:
            self._report()
        if not self._outgoing:
            return None
        byte = self._outgoing.popleft()
        if byte != RESEND:
            self._last = byte
        return byte

    def receive(self, byte: int) -> None:
        """Take a command or its argument, 0 to FFh, and answer it."""
        awaiting = self._awaiting if byte < SET_SCALING_1_TO_1 else 0
        self._awaiting = 0
        if awaiting == SET_RESOLUTION:
            self._resolution = byte & 3
            self._outgoing.append(ACK)
        elif awaiting == SET_SAMPLE_RATE:
            self._rate = byte
            self._outgoing.append(ACK)
        elif self._wrap and byte not in (RESET, RESET_WRAP_MODE):
            self._outgoing.append(byte)
        else:
            self._take_command(byte)
        self._attention()

    def _take_command(self, byte: int) -> None:
        if byte == RESEND:
            self._outgoing.append(self._last)
            return
        if byte not in _COMMANDS:
            self._outgoing.append(RESEND)
            return
        self._outgoing.clear()
        self._outgoing.append(ACK)
        set_mask, clear_mask = _MODE_CHANGES.get(byte, (0, 0))
        self._status = self._status & ~clear_mask | set_mask
        if byte in (SET_DEFAULT, RESET):
            self._resolution, self._rate = _DEFAULT_RESOLUTION, _DEFAULT_RATE
            self._dx = self._dy = 0
            self._moved = False
        if byte in (SET_WRAP_MODE, RESET_WRAP_MODE, RESET):
            self._wrap = byte == SET_WRAP_MODE
        if byte in (SET_RESOLUTION, SET_SAMPLE_RATE):
            self._awaiting = byte
        elif byte == STATUS_REQUEST:
            left, right, middle = self._buttons & 1, self._buttons >> 1 & 1, self._buttons >> 2
            self._outgoing.extend(
                (self._status | left << 2 | middle << 1 | right, self._resolution, self._rate)
            )
        elif byte == READ_DATA:
            self._report()
        elif byte == IDENTIFY:
            self._outgoing.append(IDENTITY)
        elif byte == RESET:
            self._outgoing.extend((SELF_TEST_PASSED, IDENTITY))

    def _report(self) -> None:
        """Append a packet: buttons and signs, horizontal and vertical counts (AUX "Data Report")."""
        dx = max(-256, min(255, self._dx))
        dy = max(-256, min(255, self._dy))
        self._dx -= dx
        self._dy -= dy
        self._moved = bool(self._dx or self._dy)
        self._outgoing.extend((0x08 | self._buttons | (dx < 0) << 4 | (dy < 0) << 5, dx & 0xFF, dy & 0xFF))

    def save(self) -> MouseState:
        """Return everything the mouse remembers."""
        return MouseState(
            outgoing=bytes(self._outgoing),
            awaiting=self._awaiting,
            status=self._status,
            wrap=self._wrap,
            resolution=self._resolution,
            sample_rate=self._rate,
            dx=self._dx,
            dy=self._dy,
            buttons=self._buttons,
            moved=self._moved,
            last=self._last,
        )

    def restore(self, state: MouseState) -> None:
        """Take over the state; the controller, restored with it, knows what it has taken."""
        self._outgoing = deque(state.outgoing, maxlen=BUFFER_SIZE)
        self._awaiting = state.awaiting
        self._status = state.status
        self._wrap = state.wrap
        self._resolution = state.resolution
        self._rate = state.sample_rate
        self._dx = state.dx
        self._dy = state.dy
        self._buttons = state.buttons
        self._moved = state.moved
        self._last = state.last


_ALL_MODES = MouseStatus.DOUBLE.mask | MouseStatus.ENABLED.mask | MouseStatus.REMOTE.mask

#: Bits that a command sets and clears in the status.
_MODE_CHANGES = {
    SET_SCALING_1_TO_1: (0, MouseStatus.DOUBLE.mask),
    SET_SCALING_2_TO_1: (MouseStatus.DOUBLE.mask, 0),
    SET_STREAM_MODE: (0, MouseStatus.REMOTE.mask),
    SET_REMOTE_MODE: (MouseStatus.REMOTE.mask, 0),
    ENABLE: (MouseStatus.ENABLED.mask, 0),
    DISABLE: (0, MouseStatus.ENABLED.mask),
    SET_DEFAULT: (0, _ALL_MODES),
    RESET: (0, _ALL_MODES),
}
_OTHER_COMMANDS = (SET_RESOLUTION, STATUS_REQUEST, READ_DATA, SET_WRAP_MODE, RESET_WRAP_MODE, IDENTIFY)
_COMMANDS = frozenset((*_MODE_CHANGES, *_OTHER_COMMANDS, SET_SAMPLE_RATE))
