"""What is tried of a student's interrupt controllers: requests, masks, priorities, and wren on them."""

from __future__ import annotations

from collections.abc import Iterator
from random import Random

from linux_09 import must_accept
from pic_09 import pair_of, with_pic
from pic_guests_09 import IN, MASTERS, SLAVES, WINDOW, drive, interrupted, pulses, releases, set_up
from running_09 import runs, shell, word_of

from vlab.grading.trial import Trial
from vlab.guests.programs import out


def sets_up(trial: Trial) -> None:
    """Initialisation and masks."""

    def steps(rng: Random) -> Iterator[bytes]:
        for _ in range(6):
            port = rng.choice((0x21, 0xA1))
            yield out(port, rng.getrandbits(8)) + IN[0x21] + IN[0xA1] + IN[0x20]
            if rng.random() < 0.4:
                yield set_up(rng, rng.getrandbits(8))

    runs(
        trial, with_pic(trial, interrupted(trial.rng, steps(trial.rng))),
        hint="ICW1 has bit 4 set and comes to the even port; ICW2, ICW3 and ICW4 follow at the odd one.",
    )  # fmt: skip


def delivers(trial: Trial) -> None:
    """Single requests."""

    def steps(rng: Random) -> Iterator[bytes]:
        for _ in range(6):
            line = rng.choice(MASTERS)
            yield drive(line, True) + IN[0x20] + WINDOW + IN[0x20] + WINDOW + drive(line, False)

    runs(
        trial, with_pic(trial, interrupted(trial.rng, steps(trial.rng))),
        hint="A line that rises sets its bit in IRR; acknowledge() moves the bit to ISR; EOI clears it.",
    )  # fmt: skip


def masks(trial: Trial) -> None:
    """Requests that have to wait, and some that go away."""

    def steps(rng: Random) -> Iterator[bytes]:
        for _ in range(5):
            yield out(0x21, rng.getrandbits(8) & ~4) + pulses(rng, MASTERS) + IN[0x20] + WINDOW
            yield (releases(MASTERS) if rng.random() < 0.5 else b"") + IN[0x20]
            yield out(0x21, 0) + WINDOW + WINDOW + releases(MASTERS)

    runs(
        trial, with_pic(trial, interrupted(trial.rng, steps(trial.rng))),
        hint="IMR hides a request and does not forget it. A line that falls takes its request away.",
    )  # fmt: skip


def nests(trial: Trial) -> None:
    """Priorities, with interrupts that stay in service until the guest says so."""

    def steps(rng: Random) -> Iterator[bytes]:
        show = out(0x20, 0x0B) + IN[0x20] + out(0x20, 0x0A) + IN[0x20]
        for _ in range(6):
            yield pulses(rng, MASTERS) + WINDOW + show + WINDOW
            yield rng.choice((out(0x20, 0x20), out(0x20, 0x60 | rng.choice(MASTERS)))) + show + WINDOW
            yield releases(tuple(rng.sample(MASTERS, 5))) + show
        yield b"".join(out(0x20, 0x20) for _ in range(4)) + show

    runs(
        trial, with_pic(trial, interrupted(trial.rng, steps(trial.rng), ends=False)),
        hint="While level n is in service only levels below n may interrupt. OCW2 20h ends the best one in "
        "service, 60h + n ends level n. OCW3 0Bh shows ISR, 0Ah IRR.",
    )  # fmt: skip


def cascades(trial: Trial) -> None:
    """Requests of the slave's."""

    def steps(rng: Random) -> Iterator[bytes]:
        for _ in range(5):
            yield pulses(rng, SLAVES + MASTERS) + IN[0x20] + IN[0xA0] + WINDOW + WINDOW + WINDOW
            yield releases(SLAVES + MASTERS)

    runs(
        trial, with_pic(trial, interrupted(trial.rng, steps(trial.rng))),
        hint="Both controllers are objects of your class; the slave's output is the master's line 2.",
    )  # fmt: skip


def keeps_time(trial: Trial) -> None:
    """Wren's timer and keyboard, on the student's controllers."""
    word = word_of(trial.rng)
    vm = with_pic(trial, "wren", memory="16M", lines=False)
    shell(trial, vm, f"sleep 2\necho {word}\n", f"echo {word}\n{word}\n", prompts=3)


def takes_anything(trial: Trial) -> None:
    """All of that on other guests."""
    for _ in range(2):
        for each in (delivers, masks, nests, cascades):
            each(trial)


def runs_linux(trial: Trial) -> None:
    """All of that, and then Linux: its boot is long, so a chip that fails before does not get there."""
    for each in (sets_up, delivers, masks, nests, cascades, keeps_time):
        each(trial)
    must_accept(trial, {"pic": pair_of(trial, [], strict=False)}, word_of(trial.rng, 8, 12))
