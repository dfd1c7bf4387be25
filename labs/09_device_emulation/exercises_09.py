"""Device emulation: the exercises, their points and their hints."""

from __future__ import annotations

from typing import Final

import pic_checks_09 as pic
import serial_checks_09 as serial
from linux_09 import AVAILABLE

from vlab.grading.exercise import Exercise, Invariant

SECONDS: Final = 15.0
"""Of student code: Linux asks a chip some thousand times."""


def _with_linux(says: str) -> str:
    """Say what is asked of Linux, and whether it was asked. No marks hang on what a computer has."""
    if AVAILABLE:
        return f"{says} (no marks: not every computer has Linux)"
    return f"not tried, since Linux is not on this computer: {says} (no marks)"


EXERCISES: Final = (
    Exercise(
        "uart",
        "A serial port",
        defines=("Uart",),
        invariants=(
            Invariant(
                "registers",
                2,
                "registers read back, and DLAB switches to the divisor",
                serial.keeps_registers,
            ),
            Invariant("sends", 1, "a driver that polls LSR gets its text out, in order", serial.sends_text),
            Invariant(
                "receives", 2, "a driver that waits for interrupts gets what is typed", serial.receives_text
            ),
            Invariant("transmitter", 2, "each empty transmitter is one interrupt", serial.sends_on_interrupt),
            Invariant(
                "loopback", 2, "a driver's self-test in loopback sees what it sends", serial.loops_back
            ),
            Invariant("wren", 2, "wren's driver takes the port, and its shell answers", serial.runs_wren),
            Invariant("hidden", 1, "so do guests that you have not seen", serial.runs_anything, hidden=True),
            Invariant(
                "linux",
                0,
                _with_linux("Linux's 8250 driver finds a 16550A, and the shell behind it answers"),
                serial.runs_linux,
                hidden=True,
            ),
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
        seconds=SECONDS,
    ),
    Exercise(
        "interrupt_controller",
        "An interrupt controller",
        defines=("Pic",),
        invariants=(
            Invariant(
                "sets_up", 1, "the four initialisation words are taken, and IMR reads back", pic.sets_up
            ),
            Invariant("delivers", 2, "a request becomes the right vector, once", pic.delivers),
            Invariant("masks", 2, "what is masked waits, and what has gone does not come", pic.masks),
            Invariant("priority", 3, "the best request goes first, and waits for nobody worse", pic.nests),
            Invariant("cascade", 1, "two of them work in a row", pic.cascades),
            Invariant("wren", 2, "wren keeps time and takes what is typed", pic.keeps_time),
            Invariant(
                "hidden", 1, "all that on guests that you have not seen", pic.takes_anything, hidden=True
            ),
            Invariant(
                "linux",
                0,
                _with_linux("Linux boots to its shell, and takes timer and serial interrupts from here"),
                pic.runs_linux,
                hidden=True,
            ),
        ),
        hints=(
            "Three bytes do it: IRR, ISR and IMR, bit n for level n. A fourth one remembers the lines.",
            "The level to take: the lowest n in IRR & ~IMR, if no level up to n is in ISR.",
            "A value for the even port: bit 4 set is ICW1, else bit 3 set is OCW3, else it is OCW2.",
            "After ICW1, the next three writes to the odd port are ICW2 (the vector), ICW3 and ICW4.",
        ),
        seconds=SECONDS,
    ),
)
