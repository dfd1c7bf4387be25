"""Device emulation: the student's serial port and interrupt controller, on the board of real guests.

Each chip of the student's works beside vlab's own, which gets the same accesses in the same order: where the
two differ, the access is named. Data sheets: National Semiconductor PC16550D (June 1995), and Intel 8259A
(order 231468-003, 1988).
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from random import Random
from typing import ClassVar, Final

from vlab.devices.pic8259 import Pic8259Pair, PicPairState
from vlab.devices.serial16550a import Serial16550A, SerialState
from vlab.devices.serial_registers import (
    InterruptEnable,
    InterruptIdentification,
    LineControl,
    LineStatus,
    ModemControl,
    ModemStatus,
)
from vlab.devices.state import DeviceState
from vlab.errors import UnusableInput
from vlab.grading.exercise import Broken, Exercise, Invariant
from vlab.grading.facade import Facade
from vlab.grading.student import Student
from vlab.grading.trial import Trial
from vlab.guests.programs import SCRATCH, Code, image, leave, out, rings
from vlab.isa.fields import Register
from vlab.session import VM

Line = Callable[[bool], None]
COM1: Final = 0x3F8
DATA, IER, IIR, LCR, MCR, LSR, MSR, SCR = range(8)
_LOG: Final = SCRATCH + 0x400
_DLAB: Final = LineControl.DLAB.mask
_SOON: Final = 100_000_000
"""Virtual ns in which the small guests are done."""


def _byte(what: str, value: object) -> int:
    """Check what the student's chip gave."""
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= 0xFF:
        raise Broken(f"{what} gave {value!r}; a chip gives a byte, 0 to 255")
    return int(value)


# --- the serial port ----------------------------------------------------------------------------------------

_NAMES: Final = ("RBR", "IER", "IIR", "LCR", "MCR", "LSR", "MSR", "SCR")
_KINDS: Final[dict[int, type[Register]]] = {
    IER: InterruptEnable, IIR: InterruptIdentification, LCR: LineControl, MCR: ModemControl,
    LSR: LineStatus, MSR: ModemStatus,
}  # fmt: skip
_COMPARED: Final = {MSR: 0xF0}
"""Bits of a register that the exercise asks for, where these are not all."""


class SerialWires(Facade):
    """The pins of the student's serial port."""

    offers = ("irq", "transmit")

    def __init__(self, irq: Line, transmit: Callable[[int], None]) -> None:
        self._irq, self._transmit = irq, transmit
        self.level = False
        self.sent: list[int] = []

    def irq(self, level: bool) -> None:
        """Drive the interrupt line."""
        self.level = bool(level)
        self._irq(self.level)

    def transmit(self, byte: object) -> None:
        """Send a character."""
        if not isinstance(byte, int) or not 0 <= byte <= 0xFF:
            raise ValueError(f"byte: {byte!r} is not one, 0 to 255")
        self.sent.append(byte)
        self._transmit(byte)


class Uart:
    """The student's serial port as the board has it, beside vlab's own."""

    student: ClassVar[Student]
    strict: ClassVar[bool] = True

    def __init__(self, *, irq: Line, transmit: Callable[[int], None]) -> None:
        self._wires = SerialWires(irq, transmit)
        self._chip = self.student.make("Uart", self._wires)
        self._right_sent: list[int] = []
        self._right_level = False
        self._right = Serial16550A(irq=self._note_level, transmit=self._right_sent.append)
        self._typed: list[int] = []
        self._ier = self._lcr = 0

    def _note_level(self, level: bool) -> None:
        self._right_level = level

    def read(self, offset: int, size: int = 1) -> int:
        """Read a register of both."""
        offset &= 7
        value = _byte(f"read({offset})", self._chip.call("read", offset))
        right = self._right.read(offset)
        divisor = offset in (DATA, IER) and self._lcr & _DLAB
        mask = _COMPARED.get(offset, 0xFF)
        if self.strict and (value ^ right) & mask:
            name = f"the divisor's byte {offset}" if divisor else _NAMES[offset]
            gave, gives = (_shown(offset, each & mask, bool(divisor)) for each in (value, right))
            raise Broken(f"reading {name} (offset {offset}) gave {gave} and should give {gives}")
        self._compare(f"after reading {_NAMES[offset]}")
        return value

    def write(self, offset: int, value: int, size: int = 1) -> None:
        """Write a register of both."""
        offset, value = offset & 7, value & 0xFF
        self._chip.call("write", offset, value)
        self._right.write(offset, value)
        if offset == LCR:
            self._lcr = value
        elif offset == IER and not self._lcr & _DLAB:
            self._ier = value
        self._compare(f"after writing {value:#04x} to offset {offset}")
        self._hand_over()

    def receive(self, data: bytes) -> None:
        """Type: the characters arrive once the driver has asked for interrupts."""
        self._typed += data
        self._hand_over()

    def _hand_over(self) -> None:
        while self._typed and self._ier & InterruptEnable.ERBFI.mask:
            byte = self._typed.pop(0)
            self._chip.call("receive", byte)
            self._right.receive(bytes((byte,)))
            self._compare(f"after {bytes((byte,))!r} arrived")

    def _compare(self, when: str) -> None:
        if not self.strict:
            return
        if self._wires.level != self._right_level:
            is_, should_be = _level(self._wires.level), _level(self._right_level)
            raise Broken(
                f"{when} the interrupt line is {is_} and should be {should_be}",
                hint="The line is high while IIR has a source to tell: work it out after each change.",
            )
        if self._wires.sent != self._right_sent:
            raise Broken(
                f"{when} the port has sent {bytes(self._wires.sent[-8:])!r} last, and should have sent "
                f"{bytes(self._right_sent[-8:])!r}"
            )

    def save(self) -> SerialState:
        """What vlab's own chip remembers."""
        return self._right.save()

    def restore(self, state: SerialState) -> None:
        """Refuse: the student's chip cannot be taken back."""
        raise UnusableInput("snapshot: a chip that is being marked cannot go back")


def _level(level: bool) -> str:
    return "high" if level else "low"


def _shown(offset: int, value: int, divisor: bool) -> str:
    kind = None if divisor else _KINDS.get(offset)
    return f"{value:#04x}" if kind is None else repr(kind(value))


def with_uart(trial: Trial, guest: bytes | str, *, strict: bool = True, memory: str = "2M") -> VM:
    """Make a guest with the student's serial port."""
    chip = type("Uart", (Uart,), {"student": trial.student, "strict": strict})
    return trial.vm(guest, devices={"serial": chip}, memory=memory)


# --- guests for it ------------------------------------------------------------------------------------------

_SPACE: Final = bytes.fromhex("88 07 47")  # mov [edi], al; inc edi


def _edi(place: int = _LOG) -> bytes:
    return b"\xbf" + struct.pack("<I", place)


def _to(register: int, value: int) -> bytes:
    return b"\x66\xba" + struct.pack("<H", COM1 + register) + bytes((0xB0, value, 0xEE, 0xEB, 0))


def _from(register: int) -> bytes:
    return b"\x66\xba" + struct.pack("<H", COM1 + register) + b"\xec" + _SPACE


def tries_registers(rng: Random, count: int = 20) -> bytes:
    """Write registers and read them back, the divisor's too, in any order."""
    code = _edi() + _to(FCR, rng.choice((0, 1, 7)))
    for _ in range(count):
        lcr = rng.getrandbits(6)
        code += rng.choice(
            (
                _to(LCR, lcr) + _from(LCR),
                _to(SCR, rng.getrandbits(8)) + _from(SCR),
                _to(MCR, rng.getrandbits(4)) + _from(MCR) + _from(MSR),
                _to(LCR, lcr) + _to(IER, rng.choice((0, 4, 8, 12))) + _from(IER) + _from(IIR),
                _to(LCR, lcr | _DLAB) + _to(DATA, rng.getrandbits(8)) + _to(IER, rng.getrandbits(8))
                + _from(DATA) + _from(IER) + _to(LCR, lcr) + _from(IER),
                _to(FCR, rng.choice((0, 1, 7))) + _from(IIR),
                _from(LSR),
            )
        )  # fmt: skip
    return image(code + leave(0))


FCR: Final = 2
BASE: Final = 0x18
"""Vector of IRQ 0 in the guests here."""


def _controllers(master_mask: int) -> bytes:
    return b"".join(
        out(port, value)
        for port, value in (
            (0x20, 0x11), (0x21, BASE), (0x21, 4), (0x21, 1), (0x21, master_mask), (0xA1, 0xFF),
        )
    )  # fmt: skip


def _word(rng: Random, least: int = 4, most: int = 10) -> str:
    return "".join(rng.choice("abcdefghijklmnopqrstuvwxyz") for _ in range(rng.randrange(least, most)))


def sends(text: str) -> bytes:
    """Send by polling: wait for THRE in LSR, then write THR."""
    code = _to(LCR, 3) + _to(FCR, 7)
    for byte in text.encode():
        # again: mov dx, LSR; in al, dx; test al, 20h; jz again
        code += b"\x66\xba" + struct.pack("<H", COM1 + LSR) + b"\xec\xa8\x20\x74\xf7" + _to(DATA, byte)
    return image(code + leave(0))


def receives(length: int) -> bytes:
    """Receive by interrupt, until so many characters have come, and echo them."""

    def kernel(code: Code) -> None:
        code.add(_edi(), _controllers(0xEF), _to(FCR, 7), _to(LCR, 3), _to(IER, 1), b"\xfb", "wait")
        code.add(b"\x81\xff" + struct.pack("<I", _LOG + length), b"\x72\xf8")  # cmp edi, end; jb wait
        code.add(b"\xfa", leave(0))

    def handler(code: Code) -> None:
        code.add(b"\x66\xba" + struct.pack("<H", COM1 + IIR) + b"\xec")
        code.add(b"\x66\xba" + struct.pack("<H", COM1 + LSR) + b"\xec\xa8\x01\x74\x0e")  # test al, 1; jz done
        code.add(b"\x66\xba" + struct.pack("<H", COM1) + b"\xec", _SPACE, b"\xee\xeb\xea\x90\x90")
        code.add(out(0x20, 0x20), b"\xcf")

    return image(rings(kernel, {BASE + 4: handler}))


def sends_by_interrupt(text: str, *, asks: bool) -> bytes:
    """Send a character for each interrupt of the empty transmitter; ``asks``: look at IIR first."""

    def kernel(code: Code) -> None:
        code.add(_edi(), b"\xb9" + struct.pack("<I", len(text)), b"\xbe").word("text")  # ecx, esi
        code.add(b"\x31\xdb", _controllers(0xEF), _to(LCR, 3), b"\xfb", _to(IER, 2))
        code.add(b"\x85\xdb\x74\xfc\xfa", leave(0))  # again: test ebx, ebx; jz again
        code.add("text", text.encode())

    def handler(code: Code) -> None:
        code.add(_from(IIR) if asks else b"", b"\xe3\x09")  # jecxz done
        code.add(b"\x66\xba" + struct.pack("<H", COM1) + b"\xac\xee\x49\xeb\x09")  # lodsb; out; dec ecx; jmp
        code.add(b"\x43\x66\xba" + struct.pack("<H", COM1 + IER) + b"\x31\xc0\xee\x90")  # inc ebx; IER = 0
        code.add(out(0x20, 0x20), b"\xcf")

    return image(rings(kernel, {BASE + 4: handler}))


def tests_itself(rng: Random) -> bytes:
    """Send to itself in loopback, and look at the modem's lines."""
    code = _edi() + _to(FCR, 7) + _to(LCR, 3)
    for _ in range(3):
        code += _to(MCR, 0x10 | rng.getrandbits(4)) + _from(MSR)
        for _ in range(rng.randrange(1, 4)):
            code += _to(DATA, rng.getrandbits(8)) + _from(LSR)
        code += _from(DATA) + _from(LSR) + _from(DATA) + _to(FCR, 7) + _from(LSR)
    return image(code + _to(MCR, 3) + _from(MSR) + _to(DATA, ord("!")) + leave(0))


# --- what must hold of the serial port ----------------------------------------------------------------------


def _runs(trial: Trial, vm: VM, expected: str | None = None, hint: str = "") -> None:
    try:
        trial.run(vm, exits=3_000, time_ns=_SOON)
    except Broken as broken:
        raise Broken(broken.why, hint=f"{broken.hint} {hint}".strip(), vm=vm) from None
    if expected is not None and vm.console.text != expected:
        raise Broken(
            f"the terminal shows {vm.console.text[:60]!r} and should show {expected[:60]!r}", hint=hint, vm=vm
        )


def keeps_registers(trial: Trial) -> None:
    """Registers read back."""
    _runs(
        trial,
        with_uart(trial, tries_registers(trial.rng)),
        hint="With LCR.DLAB set, offsets 0 and 1 are the divisor.",
    )


def sends_text(trial: Trial) -> None:
    """A driver that polls."""
    text = _word(trial.rng, 20, 40)
    _runs(
        trial, with_uart(trial, sends(text)), text, hint="THRE and TEMT, 60h in LSR, say that THR is empty."
    )


def receives_text(trial: Trial) -> None:
    """A driver that waits for interrupts."""
    text = _word(trial.rng, 10, 16)
    vm = with_uart(trial, receives(len(text)))
    vm.send(text)
    _runs(trial, vm, text, hint="A character that waits: LSR.DR, and with IER bit 0 an interrupt, IIR 04h.")


def sends_on_interrupt(trial: Trial) -> None:
    """A driver that sends a character for each interrupt."""
    for asks in (True, False):
        text = _word(trial.rng, 10, 20)
        _runs(
            trial, with_uart(trial, sends_by_interrupt(text, asks=asks)), text,
            hint="Setting IER bit 1 requests at once. IIR read as 02h ends the request, as writing THR does, "
            "and then, with THR empty again, comes the next: the line goes low and high.",
        )  # fmt: skip


def loops_back(trial: Trial) -> None:
    """The self-test of drivers."""
    _runs(
        trial, with_uart(trial, tests_itself(trial.rng)), "!",
        hint="In loopback nothing leaves the chip. MSR: CTS is RTS, DSR is DTR, RI is OUT1, DCD is OUT2.",
    )  # fmt: skip


def _shell(trial: Trial, vm: VM, typed: str, wanted: str, prompts: int = 2) -> None:
    """Run wren to its prompt, type, and wait for an answer and the next prompt."""
    hint = "wren polls LSR to send and takes what is typed by interrupt."
    try:
        trial.run(vm, "$ ", exits=5_000)
        vm.send(typed)
        trial.run(vm, lambda vm: vm.console.text.count("$ ") >= prompts, exits=8_000)
    except Broken as broken:
        raise Broken(broken.why, hint=f"{broken.hint} {hint}".strip(), vm=vm) from None
    said = vm.console.text.partition("$ ")[2].replace("\r\n", "\n")
    if wanted not in said:
        raise Broken(f"wren was typed {typed!r} and answered {said[:60]!r}; {wanted!r} was to come", vm=vm)


def runs_wren(trial: Trial) -> None:
    """A kernel's own driver."""
    word = _word(trial.rng)
    _shell(trial, with_uart(trial, "wren", memory="16M"), f"echo {word}\n", f"echo {word}\n{word}\n")


def runs_anything(trial: Trial) -> None:
    """Other registers, other texts, and a guest with another driver."""
    for _ in range(2):
        keeps_registers(trial)
        loops_back(trial)
        sends_on_interrupt(trial)
    vm = with_uart(trial, "rings", memory="16M")
    trial.run(vm, exits=20_000)
    if "rings: done" not in vm.console.text:
        raise Broken(f"the guest 'rings' said {vm.console.text[-60:]!r} at last", vm=vm)


# --- the interrupt controller -------------------------------------------------------------------------------

CASCADE: Final = 2
_ANYWAY: Final = "The output is high for the best request that is not masked and better than all in service."


class PicWires(Facade):
    """The pin of one interrupt controller of the student's."""

    offers = ("interrupt",)

    def __init__(self) -> None:
        self.level = False

    def interrupt(self, level: bool) -> None:
        """Drive the output INT."""
        self.level = bool(level)


class PicPair:
    """Two of the student's controllers, wired as in a PC, beside vlab's own pair."""

    student: ClassVar[Student]
    made: ClassVar[list[PicPair]]

    def __init__(self, *, output: Line) -> None:
        self._output, self._level = output, False
        self._wires = PicWires(), PicWires()
        self._chips = tuple(self.student.make("Pic", wires) for wires in self._wires)
        self._right_level = False
        self._right = Pic8259Pair(output=self._note)
        self._cascade = False
        self.vectors: list[int] = []
        self.made.append(self)

    def _note(self, level: bool) -> None:
        self._right_level = level

    def _settle(self, when: str) -> None:
        """Wire the slave to the master, and the master to the processor; compare."""
        if self._wires[1].level != self._cascade:
            self._cascade = self._wires[1].level
            self._chips[0].call("set_line", CASCADE, self._cascade)
        level = self._wires[0].level
        if level != self._right_level:
            raise Broken(
                f"{when} INT is {_level(level)} and should be {_level(self._right_level)}", hint=_ANYWAY
            )
        if level != self._level:
            self._level = level
            self._output(level)

    def set_line(self, n: int, level: bool) -> None:
        """Drive IRQ ``n``."""
        self._chips[n // 8].call("set_line", n % 8, bool(level))
        self._right.set_line(n, level)
        self._settle(f"after IRQ {n} went {_level(level)}")

    def pending(self) -> bool:
        """Whether INT is high."""
        return self._level

    def acknowledge(self) -> int:
        """The processor takes the vector."""
        vector = _byte("acknowledge()", self._chips[0].call("acknowledge"))
        if vector & 7 == CASCADE:
            vector = _byte("acknowledge() of the slave", self._chips[1].call("acknowledge"))
            self._chips[0].call("set_line", CASCADE, False)
            self._cascade = False
        right = self._right.acknowledge()
        if vector != right:
            raise Broken(
                f"acknowledge() gave vector {vector:#04x} and should give {right:#04x}",
                hint="The vector is the upper five bits of ICW2 and the level, 0 to 7; level 0 goes first.",
            )
        self.vectors.append(vector)
        self._settle("after acknowledge()")
        return vector

    def read(self, offset: int, size: int = 1) -> int:
        """Read a port of the pair."""
        right = self._right.read(offset)
        if offset > 3:
            return right
        value = _byte(f"read({offset & 1})", self._chips[offset // 2].call("read", offset & 1))
        if value != right:
            raise Broken(
                f"reading port {_port(offset)} gave {value:#04x} and should give {right:#04x}",
                hint="The odd port is IMR. The even one is IRR, or ISR after OCW3 asked for it.",
            )
        self._settle(f"after reading port {_port(offset)}")
        return value

    def write(self, offset: int, value: int, size: int = 1) -> None:
        """Write a port of the pair."""
        self._right.write(offset, value)
        if offset < 4:
            self._chips[offset // 2].call("write", offset & 1, value & 0xFF)
            self._settle(f"after writing {value & 0xFF:#04x} to port {_port(offset)}")

    def save(self) -> PicPairState:
        """What vlab's own pair remembers."""
        return self._right.save()

    def restore(self, state: PicPairState) -> None:
        """Refuse: the student's chips cannot be taken back."""
        raise UnusableInput("snapshot: a chip that is being marked cannot go back")


def _port(offset: int) -> str:
    return f"{(0x20, 0x21, 0xA0, 0xA1)[offset]:X}h"


class LineDriver:
    """In the keyboard controller's place: a byte to port 60h drives the interrupt line of its low nibble."""

    pair: ClassVar[list[PicPair]]

    def __init__(self, **_wires: object) -> None:
        pass

    def read(self, offset: int, size: int = 1) -> int:
        """There is nothing to read."""
        return 0xFF

    def write(self, offset: int, value: int, size: int = 1) -> None:
        """Bit 7 is the level."""
        self.pair[-1].set_line(value & 0xF, bool(value & 0x80))

    def save(self) -> DeviceState:
        """Nothing."""
        return DeviceState()

    def restore(self, state: DeviceState) -> None:
        """Nothing."""


def with_pic(trial: Trial, guest: bytes | str, *, memory: str = "2M", lines: bool = True) -> VM:
    """Make a guest with the student's interrupt controllers; ``lines``: with lines that it can drive."""
    made: list[PicPair] = []
    chips: dict[str, Callable[..., object]] = {
        "pic": type("PicPair", (PicPair,), {"student": trial.student, "made": made})
    }
    if lines:
        chips["keyboard_controller"] = type("LineDriver", (LineDriver,), {"pair": made})
    return trial.vm(guest, devices=chips, memory=memory)


MASTER, SLAVE = 0x10, 0x18
_IN: Final = {port: bytes((0xE4, port)) + _SPACE for port in (0x20, 0x21, 0xA0, 0xA1)}
_WINDOW: Final = bytes.fromhex("FB EB 00 90 EB 00 90 FA")  # sti; jmp; nop; jmp; nop; cli


def _set_up(rng: Random, mask: int = 0) -> bytes:
    """Initialise both, at vectors 10h and 18h either way round; give the code."""
    return b"".join(
        out(port, value)
        for port, value in (
            (0x20, 0x11), (0x21, MASTER | rng.getrandbits(3)), (0x21, 4), (0x21, 1),
            (0xA0, 0x11), (0xA1, SLAVE | rng.getrandbits(3)), (0xA1, 2), (0xA1, 1),
            (0x21, mask), (0xA1, mask),
        )
    )  # fmt: skip


def interrupted(rng: Random, steps: Iterator[bytes], *, ends: bool = True) -> bytes:
    """A guest that does ``steps`` with interrupts off; handlers note their vector, and end the interrupt."""

    def kernel(code: Code) -> None:
        code.add(_edi(), _set_up(rng), *steps, leave(0))

    def handler(vector: int) -> Callable[[Code], None]:
        note = b"\x50\xc6\x07" + bytes((vector,)) + b"\x47"  # push eax; mov byte [edi], vector; inc edi
        end = b"" if not ends else out(0x20, 0x20) + (out(0xA0, 0x20) if vector >= SLAVE else b"")
        return _putting(note + end + b"\x58\xcf")

    return image(rings(kernel, {vector: handler(vector) for vector in range(MASTER, SLAVE + 8)}))


def _putting(piece: bytes) -> Callable[[Code], None]:
    def put(code: Code) -> None:
        code.add(piece)

    return put


_MASTERS: Final = (0, 1, 3, 4, 5, 6, 7)
_SLAVES: Final = tuple(range(8, 16))


def _drive(line: int, level: bool) -> bytes:
    return out(0x60, line | level << 7)


def _pulses(rng: Random, lines: tuple[int, ...], most: int = 3) -> bytes:
    chosen = rng.sample(lines, rng.randrange(1, most + 1))
    return b"".join(_drive(line, True) for line in chosen)


def _releases(lines: tuple[int, ...]) -> bytes:
    return b"".join(_drive(line, False) for line in lines)


def sets_up(trial: Trial) -> None:
    """Initialisation and masks."""

    def steps(rng: Random) -> Iterator[bytes]:
        for _ in range(6):
            port = rng.choice((0x21, 0xA1))
            yield out(port, rng.getrandbits(8)) + _IN[0x21] + _IN[0xA1] + _IN[0x20]
            if rng.random() < 0.4:
                yield _set_up(rng, rng.getrandbits(8))

    _runs(
        trial, with_pic(trial, interrupted(trial.rng, steps(trial.rng))),
        hint="ICW1 has bit 4 set and comes to the even port; ICW2, ICW3 and ICW4 follow at the odd one.",
    )  # fmt: skip


def delivers(trial: Trial) -> None:
    """Single requests."""

    def steps(rng: Random) -> Iterator[bytes]:
        for _ in range(6):
            line = rng.choice(_MASTERS)
            yield _drive(line, True) + _IN[0x20] + _WINDOW + _IN[0x20] + _WINDOW + _drive(line, False)

    _runs(
        trial, with_pic(trial, interrupted(trial.rng, steps(trial.rng))),
        hint="A line that rises sets its bit in IRR; acknowledge() moves the bit to ISR; EOI clears it.",
    )  # fmt: skip


def masks(trial: Trial) -> None:
    """Requests that have to wait, and some that go away."""

    def steps(rng: Random) -> Iterator[bytes]:
        for _ in range(5):
            yield out(0x21, rng.getrandbits(8) & ~4) + _pulses(rng, _MASTERS) + _IN[0x20] + _WINDOW
            yield (_releases(_MASTERS) if rng.random() < 0.5 else b"") + _IN[0x20]
            yield out(0x21, 0) + _WINDOW + _WINDOW + _releases(_MASTERS)

    _runs(
        trial, with_pic(trial, interrupted(trial.rng, steps(trial.rng))),
        hint="IMR hides a request and does not forget it. A line that falls takes its request away.",
    )  # fmt: skip


def nests(trial: Trial) -> None:
    """Priorities, with interrupts that stay in service until the guest says so."""

    def steps(rng: Random) -> Iterator[bytes]:
        show = out(0x20, 0x0B) + _IN[0x20] + out(0x20, 0x0A) + _IN[0x20]
        for _ in range(6):
            yield _pulses(rng, _MASTERS) + _WINDOW + show + _WINDOW
            yield rng.choice((out(0x20, 0x20), out(0x20, 0x60 | rng.choice(_MASTERS)))) + show + _WINDOW
            yield _releases(tuple(rng.sample(_MASTERS, 5))) + show
        yield b"".join(out(0x20, 0x20) for _ in range(4)) + show

    _runs(
        trial, with_pic(trial, interrupted(trial.rng, steps(trial.rng), ends=False)),
        hint="While level n is in service only levels below n may interrupt. OCW2 20h ends the best one in "
        "service, 60h + n ends level n. OCW3 0Bh shows ISR, 0Ah IRR.",
    )  # fmt: skip


def cascades(trial: Trial) -> None:
    """Requests of the slave's."""

    def steps(rng: Random) -> Iterator[bytes]:
        for _ in range(5):
            yield _pulses(rng, _SLAVES + _MASTERS) + _IN[0x20] + _IN[0xA0] + _WINDOW + _WINDOW + _WINDOW
            yield _releases(_SLAVES + _MASTERS)

    _runs(
        trial, with_pic(trial, interrupted(trial.rng, steps(trial.rng))),
        hint="Both controllers are objects of your class; the slave's output is the master's line 2.",
    )  # fmt: skip


def keeps_time(trial: Trial) -> None:
    """Wren's timer and keyboard, on the student's controllers."""
    word = _word(trial.rng)
    vm = with_pic(trial, "wren", memory="16M", lines=False)
    _shell(trial, vm, f"sleep 2\necho {word}\n", f"echo {word}\n{word}\n", prompts=3)


def takes_anything(trial: Trial) -> None:
    """All of that on other guests."""
    for _ in range(2):
        for each in (delivers, masks, nests, cascades):
            each(trial)


# --- the exercises ------------------------------------------------------------------------------------------

EXERCISES: Final = (
    Exercise(
        "uart",
        "A serial port",
        defines=("Uart",),
        invariants=(
            Invariant(
                "registers", 2, "registers read back, and DLAB switches to the divisor", keeps_registers
            ),
            Invariant("sends", 1, "a driver that polls LSR gets its text out, in order", sends_text),
            Invariant("receives", 2, "a driver that waits for interrupts gets what is typed", receives_text),
            Invariant("transmitter", 2, "each empty transmitter is one interrupt", sends_on_interrupt),
            Invariant("loopback", 2, "a driver's self-test in loopback sees what it sends", loops_back),
            Invariant("wren", 2, "wren's driver takes the port, and its shell answers", runs_wren),
            Invariant("hidden", 1, "so do guests that you have not seen", runs_anything, hidden=True),
        ),
        hints=(
            "Keep one attribute for each register, and one list for the characters that wait.",
            (
                "Write one method that finds the source for IIR, the best first: 04h, then 02h, else 01h; "
                "the interrupt line is high when it is not 01h."
            ),
            "Call wires.irq(...) after each read, write and receive: most of them can change the source.",
            "THR: the request ends, wires.irq is told, the character goes out, and the request is back.",
        ),
    ),
    Exercise(
        "interrupt_controller",
        "An interrupt controller",
        defines=("Pic",),
        invariants=(
            Invariant("sets_up", 1, "the four initialisation words are taken, and IMR reads back", sets_up),
            Invariant("delivers", 2, "a request becomes the right vector, once", delivers),
            Invariant("masks", 2, "what is masked waits, and what has gone does not come", masks),
            Invariant("priority", 3, "the best request goes first, and waits for nobody worse", nests),
            Invariant("cascade", 1, "two of them work in a row", cascades),
            Invariant("wren", 2, "wren keeps time and takes what is typed", keeps_time),
            Invariant("hidden", 1, "all that on guests that you have not seen", takes_anything, hidden=True),
        ),
        hints=(
            "Three bytes do it: IRR, ISR and IMR, bit n for level n. A fourth one remembers the lines.",
            "The level to take: the lowest n in IRR & ~IMR, if no level up to n is in ISR.",
            "A value for the even port: bit 4 set is ICW1, else bit 3 set is OCW3, else it is OCW2.",
            "After ICW1, the next three writes to the odd port are ICW2 (the vector), ICW3 and ICW4.",
        ),
    ),
)
