"""Linux, unmodified, on a chip of the student's: its own drivers say what they take it for.

The driver of the port is drivers/tty/serial/8250/8250_port.c, that of the interrupt controllers
arch/x86/kernel/i8259.c. Not every computer has the guest, so no marks hang on it.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from vlab.grading.exercise import Broken
from vlab.grading.trial import Trial
from vlab.guests.catalogue import find
from vlab.session import VM

AVAILABLE: Final = find("linux").available
OLD_CHIPS: Final = "quiet noapic nolapic"
"""What has the kernel take its interrupts from the 8259As, and keep its console for the shell."""
MOST_TIME_NS: Final = 4_500_000_000
MOST_EXITS: Final = 200_000
"""With chips that work it takes 3.2 s of its time and some 25,000 exits to the answer."""
_WALL: Final = 240.0
_PROMPT: Final = "# "
_COUNTED: Final = re.compile(r"^\s*\d+:\s+(\d+)\s+XT-PIC\s+(\S+)", re.M)
_KIND: Final = re.compile(r"ttyS0 at I/O 0x3f8 .* is an? (\S+)")


@dataclass(frozen=True, slots=True)
class Said:
    """What Linux said. kind: of the serial port, "" for none.

    interrupts: how many came from the 8259As, by who takes them.
    """

    kind: str
    interrupts: Mapping[str, int]


def ask(vm: VM, word: str) -> Said:
    """Boot Linux to its shell and ask it for its chips. Raises Broken when it does not get there."""
    _reach(vm, lambda: _PROMPT in vm.console.text, "came to no shell")
    half = len(word) // 2
    vm.send(f"dmesg | grep 'ttyS0 at'; grep XT-PIC /proc/interrupts; echo {word[:half]}''{word[half:]}\n")
    _reach(vm, lambda: word in vm.console.text, f"its shell was to print {word!r} and did not")
    text = vm.console.text.replace("\r", "")
    kind = _KIND.search(text)
    counted: Counter[str] = Counter()
    for number, who in _COUNTED.findall(text):
        counted[who] += int(number)
    return Said(kind[1] if kind else "", counted)


def _reach(vm: VM, there: Callable[[], bool], otherwise: str) -> None:
    def enough(vm: VM) -> bool:
        return there() or vm.virtual_time_ns >= MOST_TIME_NS or vm.exits.total >= MOST_EXITS

    stop = vm.run(enough, timeout=_WALL)
    if there():
        return
    last = vm.console.text.strip()[-80:]
    wrote = f"it wrote {last!r} at last" if last else "it wrote nothing"
    end = f"ended with '{stop.headline}'" if stop.final else f"ran for {vm.virtual_time_ns / 1e9:.1f} s"
    raise Broken(
        f"Linux {end}, and {otherwise}; {wrote}",
        hint="Run the notebook's Linux cell on your chip, and look at the last exits.",
    )


def must_accept(trial: Trial, chips: Mapping[str, Callable[..., object]], word: str) -> None:
    """Have Linux, where it is, take the chips: a 16550A, a shell that answers, and interrupts that come."""
    if not AVAILABLE:
        return
    # It has a machine of its own, since it needs more memory than the others, and no trace of its boot.
    vm = trial.vm("linux", devices=chips, append=OLD_CHIPS, trace="counters", machine=None)
    said = ask(vm, word)
    if said.kind != "16550A":
        raise Broken(
            f"Linux's 8250 driver says that ttyS0 is a {said.kind or 'port that it does not know'}, "
            "and should say 16550A",
            hint="The driver writes 1 to FCR and looks at bits 7 and 6 of IIR. Where it finds no FIFO, "
            "SCR tells a 16450 from an 8250.",
        )
    silent = [who for who in ("timer", "ttyS0") if not said.interrupts.get(who)]
    if silent:
        raise Broken(f"/proc/interrupts of Linux counts no interrupt of {' nor '.join(silent)} from XT-PIC")
