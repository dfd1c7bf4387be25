"""A PS/2 keyboard: keys go in by name or as text, scan codes of set 2 (or 1) come out byte by byte.

Reference: IBM PS/2 Hardware Interface Technical Reference (1988), "Keyboards (101- and 102-Key)" ("KBD").
The wire's clock is not modelled: a byte is there as soon as the controller asks for it, and what a person
types waits in a queue without end until then.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Annotated, ClassVar

from vlab.devices import ps2_keys
from vlab.devices.state import DeviceState
from vlab.isa.fields import Register, bit, bits

# Commands of the system, and the keyboard's answers.
SET_LEDS = 0xED
ECHO = 0xEE
SCAN_CODE_SET = 0xF0
IDENTIFY = 0xF2
SET_TYPEMATIC = 0xF3
ENABLE = 0xF4
DEFAULT_DISABLE = 0xF5
SET_DEFAULT = 0xF6
RESEND = 0xFE
RESET = 0xFF
ACK = 0xFA
SELF_TEST_PASSED = 0xAA
IDENTITY = (0xAB, 0x83)

#: The keyboard's own buffer: what the system lets pile up beyond it is lost, oldest first.
BUFFER_SIZE = 16

_WITH_ARGUMENT = (SET_LEDS, SCAN_CODE_SET, SET_TYPEMATIC)
_TYPEMATIC_DEFAULT = 0x2B


class Leds(Register, width=8, reference='KBD "Set/Reset Mode Indicators"'):
    """The argument of command EDh."""

    SCROLL_LOCK = bit(0, "Scroll Lock lit")
    NUM_LOCK = bit(1, "Num Lock lit")
    CAPS_LOCK = bit(2, "Caps Lock lit")


class Typematic(Register, width=8, reference='KBD "Set Typematic Rate/Delay"'):
    """The argument of command F3h. Keys that are typed here never repeat."""

    RATE = bits(0, 4, "repetition rate: 0 is 30 a second, 31 is 2 a second")
    DELAY = bits(5, 6, "delay before the first repetition, quarters of a second less one")


@dataclass(frozen=True, slots=True)
class KeyboardState(DeviceState):
    """What the keyboard remembers.

    `outgoing` are bytes on their way, `events` the key events not yet begun (each in set 2). `awaiting` is
    the command whose argument is to come, 0 for none; `last` the byte that a resend would repeat.
    """

    VERSION: ClassVar[int] = 1
    outgoing: bytes = b""
    events: tuple[bytes, ...] = ()
    scanning: bool = True
    awaiting: int = 0
    scan_code_set: int = 2
    leds: Annotated[int, Leds] = 0
    typematic: Annotated[int, Typematic] = _TYPEMATIC_DEFAULT
    last: int = SELF_TEST_PASSED


class Ps2Keyboard:
    """The keyboard; `attention()` tells the controller that bytes may be waiting.

    It starts as firmware leaves it: tested, scanning, in set 2.
    """

    _scanning: bool
    _awaiting: int
    _set: int
    _leds: int
    _typematic: int
    _last: int

    def __init__(self, *, attention: Callable[[], None]) -> None:
        self._attention = attention
        self._outgoing: deque[int] = deque(maxlen=BUFFER_SIZE)
        self._events: deque[bytes] = deque()
        self.restore(KeyboardState())

    # --- the person's side ------------------------------------------------------------------------------

    def type_text(self, text: str) -> None:
        """Type `text` on a US layout, with Shift and Ctrl as needed; a newline is Enter.

        Raises UnusableInput, with nothing typed, for a character that the layout has not.
        """
        for keys in list(ps2_keys.strokes(text)):
            self._queue(keys)
        self._attention()

    def key(self, name: str, *held: str) -> None:
        """Press and release a key, such as "a", "f1" or "up", while `held` keys are down.

        `key("delete", "ctrl", "alt")` is the famous chord. Raises UnusableInput for an unknown name.
        """
        for each in (name, *held):
            ps2_keys.make(each)
        self._queue((*held, name))
        self._attention()

    def press(self, name: str) -> None:
        """Press a key and keep it down; raises UnusableInput for an unknown name."""
        self._events.append(ps2_keys.make(name))
        self._attention()

    def release(self, name: str) -> None:
        """Release a key; raises UnusableInput for an unknown name."""
        self._events.append(ps2_keys.release(name))
        self._attention()

    @property
    def leds(self) -> Leds:
        """The three lights."""
        return Leds(self._leds)

    @property
    def waiting(self) -> int:
        """Number of key events (a press or a release each) that the system has not begun to take."""
        return len(self._events)

    def _queue(self, keys: Iterable[str]) -> None:
        names = list(keys)
        self._events.extend(ps2_keys.make(name) for name in names)
        self._events.extend(ps2_keys.release(name) for name in reversed(names))

    # --- the controller's side --------------------------------------------------------------------------

    def take(self) -> int | None:
        """Return the next byte for the system, None if there is none.

        A key event is sent whole; no new one begins while scanning is off or an argument is awaited.
        """
        while not self._outgoing and self._events and self._scanning and not self._awaiting:
            self._outgoing.extend(self._encoded(self._events.popleft()))
        if not self._outgoing:
            return None
        byte = self._outgoing.popleft()
        if byte != RESEND:
            self._last = byte
        return byte

    def receive(self, byte: int) -> None:
        """Take a command or its argument, 0 to FFh, and answer it."""
        awaiting, self._awaiting = self._awaiting, 0
        if awaiting and byte < 0x80:
            self._take_argument(awaiting, byte)
        else:
            self._take_command(byte)
        self._attention()

    def _take_command(self, byte: int) -> None:
        if byte in (ENABLE, DEFAULT_DISABLE, SET_DEFAULT, RESET):
            self._outgoing.clear()
            self._scanning = byte != DEFAULT_DISABLE
            if byte != ENABLE:
                self._set = 2
                self._typematic = _TYPEMATIC_DEFAULT
        if byte == RESET:
            self._leds = 0
            self._answer(ACK, SELF_TEST_PASSED)
        elif byte == ECHO:
            self._answer(ECHO)
        elif byte == IDENTIFY:
            self._answer(ACK, *IDENTITY)
        elif byte == RESEND:
            self._answer(self._last)
        elif byte in _WITH_ARGUMENT:
            self._awaiting = byte
            self._answer(ACK)
        elif byte >= SET_TYPEMATIC:
            # F4h to F6h, done above, and F7h to FDh: make and break modes of set 3, accepted without effect.
            self._answer(ACK)
        else:
            self._answer(RESEND)

    def _take_argument(self, command: int, byte: int) -> None:
        if command == SET_LEDS:
            self._leds = byte & ~Leds.reserved_mask()
        elif command == SET_TYPEMATIC:
            self._typematic = byte
        elif byte == 0:
            self._answer(ACK, self._set)
            return
        elif byte in (1, 2):
            self._set = byte
        else:
            # Set 3 is not there: the answer that makes a driver fall back to set 2.
            self._answer(RESEND)
            return
        self._answer(ACK)

    def _answer(self, *answer: int) -> None:
        self._outgoing.extend(answer)

    def _encoded(self, event: bytes) -> bytes:
        """Return an event, queued in set 2, in the selected set."""
        if self._set == 2:
            return event
        encoded = bytearray()
        released = 0
        for code in event:
            if code == ps2_keys.RELEASE:
                released = 0x80
            else:
                encoded.append(ps2_keys.to_set_1(code) | released)
                released = 0
        return bytes(encoded)

    # --- whole states -----------------------------------------------------------------------------------

    def save(self) -> KeyboardState:
        """Return everything the keyboard remembers, the text still to be typed included."""
        return KeyboardState(
            outgoing=bytes(self._outgoing),
            events=tuple(self._events),
            scanning=self._scanning,
            awaiting=self._awaiting,
            scan_code_set=self._set,
            leds=self._leds,
            typematic=self._typematic,
            last=self._last,
        )

    def restore(self, state: KeyboardState) -> None:
        """Take over the state; the controller, restored with it, knows what it has taken."""
        self._outgoing = deque(state.outgoing, maxlen=BUFFER_SIZE)
        self._events = deque(state.events)
        self._scanning = state.scanning
        self._awaiting = state.awaiting
        self._set = state.scan_code_set
        self._leds = state.leds
        self._typematic = state.typematic
        self._last = state.last
