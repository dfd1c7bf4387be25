"""The keyboard controller: two PS/2 ports behind one output buffer, the A20 gate and the reset line.

Reference: IBM PS/2 Hardware Interface Technical Reference (1988), "Keyboard and Auxiliary Device Controller"
("KBC"), which extends that of the PC/AT; the pins and the pulse commands are those of Intel's 8042 as the AT
uses it. The controller starts as firmware leaves it: tested, keyboard enabled and translated, mouse disabled.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Annotated, ClassVar

from vlab.devices import ps2_keys
from vlab.devices.ps2_keyboard import KeyboardState, Ps2Keyboard
from vlab.devices.ps2_mouse import MouseState, Ps2Mouse
from vlab.devices.state import DeviceState
from vlab.devices.wiring import Line
from vlab.isa.fields import Register, bit

# Offsets in the window that begins at port 60h.
DATA = 0
COMMAND = 4

# Commands (KBC "Controller commands"); 20h-3Fh read the controller's RAM, 60h-7Fh write it, F0h-FFh pulse.
READ_RAM = 0x20
WRITE_RAM = 0x60
TEST_PASSWORD = 0xA4
DISABLE_MOUSE = 0xA7
ENABLE_MOUSE = 0xA8
TEST_MOUSE_PORT = 0xA9
SELF_TEST = 0xAA
TEST_KEYBOARD_PORT = 0xAB
DISABLE_KEYBOARD = 0xAD
ENABLE_KEYBOARD = 0xAE
READ_INPUT_PORT = 0xC0
READ_OUTPUT_PORT = 0xD0
WRITE_OUTPUT_PORT = 0xD1
WRITE_KEYBOARD_BUFFER = 0xD2
WRITE_MOUSE_BUFFER = 0xD3
WRITE_MOUSE = 0xD4
CLOSE_A20 = 0xDD
OPEN_A20 = 0xDF
READ_TEST_INPUTS = 0xE0
PULSE = 0xF0

#: Answers that never change: no password, both ports sound, not locked, clock and data lines high.
_FIXED_ANSWERS = {
    TEST_PASSWORD: 0xF1,
    TEST_MOUSE_PORT: 0x00,
    TEST_KEYBOARD_PORT: 0x00,
    READ_INPUT_PORT: 0xA0,
    READ_TEST_INPUTS: 0x03,
}
_WITH_DATA = (WRITE_OUTPUT_PORT, WRITE_KEYBOARD_BUFFER, WRITE_MOUSE_BUFFER, WRITE_MOUSE)
_SELF_TEST_PASSED = 0x55
_NOTHING = -1


class Status(Register, width=8, reference='KBC "Status register"'):
    """Port 64h, read."""

    OUTPUT_FULL = bit(0, "a byte waits at port 60h")
    INPUT_FULL = bit(1, "the controller has not yet taken the last write (it always has, here)")
    SYSTEM = bit(2, "system flag: the self test has passed")
    COMMAND = bit(3, "the last write was a command, not data")
    UNLOCKED = bit(4, "the keyboard lock is open")
    MOUSE = bit(5, "the byte at port 60h is from the mouse port")
    TIMEOUT = bit(6, "a device did not answer")
    PARITY = bit(7, "a byte arrived damaged")


class CommandByte(Register, width=8, reference='KBC "Controller command byte"'):
    """Byte 0 of the controller's RAM."""

    KEYBOARD_IRQ = bit(0, "IRQ 1 when the output buffer fills from the keyboard")
    MOUSE_IRQ = bit(1, "IRQ 12 when the output buffer fills from the mouse")
    SYSTEM = bit(2, "system flag, shown in the status")
    NO_LOCK = bit(3, "the keyboard lock is ignored")
    KEYBOARD_OFF = bit(4, "keyboard port disabled")
    MOUSE_OFF = bit(5, "mouse port disabled")
    TRANSLATE = bit(6, "scan codes of set 2 are translated to set 1")


class OutputPort(Register, width=8, reference='KBC "Output port"'):
    """The controller's port P2, as command D0h reads it."""

    NO_RESET = bit(0, "0 resets the processor")
    A20 = bit(1, "address line 20 passes")
    MOUSE_DATA = bit(2, "mouse data line driven")
    MOUSE_CLOCK = bit(3, "mouse clock line driven")
    IRQ_1 = bit(4, "output buffer full from the keyboard")
    IRQ_12 = bit(5, "output buffer full from the mouse")
    KEYBOARD_CLOCK = bit(6, "keyboard clock line high")
    KEYBOARD_DATA = bit(7, "keyboard data line high")


_AS_FIRMWARE_LEAVES_IT = (
    CommandByte.KEYBOARD_IRQ.mask
    | CommandByte.SYSTEM.mask
    | CommandByte.MOUSE_OFF.mask
    | CommandByte.TRANSLATE.mask
)


@dataclass(frozen=True, slots=True)
class I8042State(DeviceState):
    """What the controller and its two devices remember.

    `ram` is the 31 bytes after the command byte. `output` is the output buffer's last byte; `reply` an answer
    of the controller's own that waits for the buffer, -1 for none. `awaiting` is the command whose data byte
    is to come, 0 for none; `released` is set between a translated F0h and the code after it.
    """

    VERSION: ClassVar[int] = 1
    command_byte: Annotated[int, CommandByte] = _AS_FIRMWARE_LEAVES_IT
    ram: bytes = bytes(31)
    output: int = 0
    output_full: bool = False
    output_from_mouse: bool = False
    reply: int = _NOTHING
    reply_from_mouse: bool = False
    awaiting: int = 0
    last_was_command: bool = False
    released: bool = False
    a20: bool = True
    keyboard: KeyboardState = field(default_factory=KeyboardState)
    mouse: MouseState = field(default_factory=MouseState)


class I8042:
    """The controller behind ports 60h and 64h: offsets 0 and 4 of its window.

    `keyboard` and `mouse` are plugged in. The board lets address line 20 pass while this chip's `a20` or that
    of port 92h is up.
    """

    _command_byte: CommandByte
    _output: int
    _full: bool
    _from_mouse: bool
    _reply: int
    _reply_from_mouse: bool
    _awaiting: int
    _last_was_command: bool
    _released: bool
    _a20_level: bool

    def __init__(self, *, irq_keyboard: Line, irq_mouse: Line, a20: Line, reset: Callable[[], None]) -> None:
        self._irq_keyboard = irq_keyboard
        self._irq_mouse = irq_mouse
        self._a20 = a20
        self._reset = reset
        self._take(I8042State())
        self.keyboard = Ps2Keyboard(attention=self._pump)
        self.mouse = Ps2Mouse(attention=self._pump)

    def read(self, offset: int, size: int = 1) -> int:
        """Read the output buffer (offset 0), which makes room for the next byte, or the status (offset 4)."""
        if offset == COMMAND:
            return self._status()
        if offset != DATA:
            return 0xFF
        byte = self._output
        if self._full:
            self._full = False
            # The line falls before it rises for the next byte: interrupt controllers wait for edges.
            self._drive()
            self._pump()
        return byte

    def write(self, offset: int, value: int, size: int = 1) -> None:
        """Write data for the awaiting command or the keyboard (offset 0), or a command (offset 4)."""
        byte = value & 0xFF
        if offset == COMMAND:
            self._last_was_command = True
            self._take_command(byte)
        elif offset == DATA:
            self._last_was_command = False
            awaiting, self._awaiting = self._awaiting, 0
            self._take_data(awaiting, byte)
        self._pump()

    # --- commands ---------------------------------------------------------------------------------------

    def _take_command(self, byte: int) -> None:
        self._awaiting = 0
        if READ_RAM <= byte < READ_RAM + 0x20:
            place = byte - READ_RAM
            self._answer(self._ram[place - 1] if place else int(self._command_byte))
        elif WRITE_RAM <= byte < WRITE_RAM + 0x20 or byte in _WITH_DATA:
            self._awaiting = byte
        elif byte in (DISABLE_MOUSE, ENABLE_MOUSE):
            self._command_byte = self._command_byte.replace(MOUSE_OFF=byte == DISABLE_MOUSE)
        elif byte in (DISABLE_KEYBOARD, ENABLE_KEYBOARD):
            self._command_byte = self._command_byte.replace(KEYBOARD_OFF=byte == DISABLE_KEYBOARD)
        elif byte == SELF_TEST:
            self._command_byte = self._command_byte.replace(SYSTEM=1)
            self._answer(_SELF_TEST_PASSED)
        elif byte == READ_OUTPUT_PORT:
            self._answer(self._output_port())
        elif byte in (CLOSE_A20, OPEN_A20):
            self._set_a20(byte == OPEN_A20)
        elif byte in _FIXED_ANSWERS:
            self._answer(_FIXED_ANSWERS[byte])
        elif byte >= PULSE and not byte & OutputPort.NO_RESET.mask:
            self._reset()

    def _take_data(self, command: int, byte: int) -> None:
        if command == 0:
            # Whoever talks to a device also enables its port.
            self._command_byte = self._command_byte.replace(KEYBOARD_OFF=0)
            self.keyboard.receive(byte)
        elif command == WRITE_MOUSE:
            self._command_byte = self._command_byte.replace(MOUSE_OFF=0)
            self.mouse.receive(byte)
        elif command == WRITE_RAM:
            self._command_byte = CommandByte(byte & ~CommandByte.reserved_mask())
            self._drive()
        elif command == WRITE_OUTPUT_PORT:
            self._set_a20(bool(OutputPort(byte).A20))
            if not OutputPort(byte).NO_RESET:
                self._reset()
        elif command in (WRITE_KEYBOARD_BUFFER, WRITE_MOUSE_BUFFER):
            self._answer(byte, from_mouse=command == WRITE_MOUSE_BUFFER)
        else:
            self._ram[command - WRITE_RAM - 1] = byte

    def _answer(self, byte: int, from_mouse: bool = False) -> None:
        """Put an answer before what the devices have to say; one that nobody fetched is overwritten."""
        self._reply = byte
        self._reply_from_mouse = from_mouse

    def _set_a20(self, level: bool) -> None:
        self._a20_level = level
        self._a20(level)

    # --- the output buffer ------------------------------------------------------------------------------

    def _pump(self) -> None:
        """Fill the output buffer if it is empty: the controller's answer first, then keyboard, then mouse."""
        if self._full:
            return
        if self._reply != _NOTHING:
            self._fill(self._reply, self._reply_from_mouse)
            self._reply = _NOTHING
            return
        byte = None if self._command_byte.KEYBOARD_OFF else self._keyboard_byte()
        if byte is not None:
            self._fill(byte, from_mouse=False)
            return
        byte = None if self._command_byte.MOUSE_OFF else self.mouse.take()
        if byte is not None:
            self._fill(byte, from_mouse=True)

    def _keyboard_byte(self) -> int | None:
        """Take a byte of the keyboard, translated; the release prefix becomes bit 7 of the code after it."""
        while (byte := self.keyboard.take()) is not None:
            if not self._command_byte.TRANSLATE:
                return byte
            if byte != ps2_keys.RELEASE:
                released, self._released = self._released, False
                return ps2_keys.to_set_1(byte) | released << 7
            self._released = True
        return None

    def _fill(self, byte: int, from_mouse: bool) -> None:
        self._output = byte
        self._full = True
        self._from_mouse = from_mouse
        self._drive()

    def _drive(self) -> None:
        """Drive the two interrupt lines: each is the buffer's fullness, by source, if its enable is set."""
        enables = self._command_byte
        self._irq_keyboard(bool(self._full and not self._from_mouse and enables.KEYBOARD_IRQ))
        self._irq_mouse(bool(self._full and self._from_mouse and enables.MOUSE_IRQ))

    def _status(self) -> int:
        return (
            self._full * Status.OUTPUT_FULL.mask
            | self._command_byte.SYSTEM * Status.SYSTEM.mask
            | self._last_was_command * Status.COMMAND.mask
            | Status.UNLOCKED.mask
            | (self._full and self._from_mouse) * Status.MOUSE.mask
        )

    def _output_port(self) -> int:
        return (
            OutputPort.NO_RESET.mask
            | self._a20_level * OutputPort.A20.mask
            | (self._full and not self._from_mouse) * OutputPort.IRQ_1.mask
            | (self._full and self._from_mouse) * OutputPort.IRQ_12.mask
            | OutputPort.KEYBOARD_CLOCK.mask
            | OutputPort.KEYBOARD_DATA.mask
        )

    # --- whole states -----------------------------------------------------------------------------------

    def save(self) -> I8042State:
        """Return the controller with keyboard and mouse."""
        return I8042State(
            command_byte=int(self._command_byte),
            ram=bytes(self._ram),
            output=self._output,
            output_full=self._full,
            output_from_mouse=self._from_mouse,
            reply=self._reply,
            reply_from_mouse=self._reply_from_mouse,
            awaiting=self._awaiting,
            last_was_command=self._last_was_command,
            released=self._released,
            a20=self._a20_level,
            keyboard=self.keyboard.save(),
            mouse=self.mouse.save(),
        )

    def restore(self, state: I8042State) -> None:
        """Take over the state, drive the interrupt lines and the A20 gate; no reset happens."""
        self._take(state)
        self.keyboard.restore(state.keyboard)
        self.mouse.restore(state.mouse)
        self._a20(self._a20_level)
        self._drive()

    def _take(self, state: I8042State) -> None:
        self._command_byte = CommandByte(state.command_byte)
        self._ram = bytearray(state.ram)
        self._output = state.output
        self._full = state.output_full
        self._from_mouse = state.output_from_mouse
        self._reply = state.reply
        self._reply_from_mouse = state.reply_from_mouse
        self._awaiting = state.awaiting
        self._last_was_command = state.last_was_command
        self._released = state.released
        self._a20_level = state.a20
