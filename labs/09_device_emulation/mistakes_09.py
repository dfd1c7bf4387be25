"""What students of lesson 09 typically get wrong, and what must come of it; `vlab course check` proves it.

This holds lines of the solutions, so it is not handed out.
"""

from __future__ import annotations

from typing import Final

from vlab.grading.exercise import Mistake

MISTAKES: Final[dict[str, tuple[Mistake, ...]]] = {
    "uart": (
        Mistake(
            "takes the divisor for registers",
            broken=("registers", "wren", "hidden", "linux"),
            hint="With LCR.DLAB set",
            edits=(("if offset < 2 and self.lcr & 0x80:", "if False:"),),
        ),
        Mistake(
            "never ends the transmitter's request",
            broken=("transmitter", "hidden", "linux"),
            hint="the interrupt line is high and should be low",
            edits=(("self.empty_request = False  # read", "pass"),),
        ),
        Mistake(
            "keeps the line high between two characters",
            broken=("transmitter", "hidden", "linux"),
            hint="the line goes low and high",
            edits=(("self.empty_request = False  # written\n            self.drive()", "pass"),),
        ),
        Mistake(
            "lets loopback out",
            broken=("loopback", "hidden", "linux"),
            hint="nothing leaves the chip",
            edits=(
                (
                    "if self.mcr & 0x10:\n                self.received.append(value)\n            else:",
                    "if True:",
                ),
            ),
        ),
    ),
    "interrupt_controller": (
        Mistake(
            "sends a level again while its line stays high",
            broken=("delivers", "masks", "priority", "cascade", "wren", "hidden", "linux"),
            hint="moves the bit to ISR",
            edits=(("self.irr &= ~(1 << level)  # taken", "pass"),),
        ),
        Mistake(
            "forgets what is in service",
            broken=("masks", "priority", "cascade", "hidden", "linux"),
            hint="only levels below n may interrupt",
            edits=(("if self.isr >> level & 1:\n                return None", "pass"),),
        ),
        Mistake(
            "remembers a request whose line fell",
            broken=("masks", "priority", "hidden", "linux"),
            hint="A line that falls takes its request away",
            edits=(("self.irr &= ~(1 << n)  # gone", "pass"),),
        ),
    ),
}
