"""What is tried of a student's serial port: its registers, its interrupts, and drivers that use it."""

from __future__ import annotations

from linux_09 import must_accept
from running_09 import runs, shell, word_of
from serial_09 import port_of, with_uart
from serial_guests_09 import receives, sends, sends_by_interrupt, tests_itself, tries_registers

from vlab.grading.exercise import Broken
from vlab.grading.trial import Trial


def keeps_registers(trial: Trial) -> None:
    """Registers read back."""
    runs(
        trial,
        with_uart(trial, tries_registers(trial.rng)),
        hint="With LCR.DLAB set, offsets 0 and 1 are the divisor.",
    )


def sends_text(trial: Trial) -> None:
    """A driver that polls."""
    text = word_of(trial.rng, 20, 40)
    runs(trial, with_uart(trial, sends(text)), text, hint="THRE and TEMT, 60h in LSR, say that THR is empty.")


def receives_text(trial: Trial) -> None:
    """A driver that waits for interrupts."""
    text = word_of(trial.rng, 10, 16)
    vm = with_uart(trial, receives(len(text)))
    vm.send(text)
    runs(trial, vm, text, hint="A character that waits: LSR.DR, and with IER bit 0 an interrupt, IIR 04h.")


def sends_on_interrupt(trial: Trial) -> None:
    """A driver that sends a character for each interrupt."""
    for asks in (True, False):
        text = word_of(trial.rng, 10, 20)
        runs(
            trial, with_uart(trial, sends_by_interrupt(text, asks=asks)), text,
            hint="Setting IER bit 1 requests at once. IIR read as 02h ends the request, as writing THR does, "
            "and then, with THR empty again, comes the next: the line goes low and high.",
        )  # fmt: skip


def loops_back(trial: Trial) -> None:
    """The self-test of drivers."""
    runs(
        trial, with_uart(trial, tests_itself(trial.rng)), "!",
        hint="In loopback nothing leaves the chip. MSR: CTS is RTS, DSR is DTR, RI is OUT1, DCD is OUT2.",
    )  # fmt: skip


def runs_wren(trial: Trial) -> None:
    """A kernel's own driver."""
    word = word_of(trial.rng)
    shell(trial, with_uart(trial, "wren", memory="16M"), f"echo {word}\n", f"echo {word}\n{word}\n")


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


def runs_linux(trial: Trial) -> None:
    """All of that, and then Linux: its boot is long, so a chip that fails before does not get there."""
    for each in (keeps_registers, sends_text, receives_text, sends_on_interrupt, loops_back, runs_wren):
        each(trial)
    must_accept(trial, {"serial": port_of(trial, strict=False)}, word_of(trial.rng, 8, 12))
