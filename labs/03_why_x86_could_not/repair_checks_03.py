"""What is tried of a student's PUSHF and POPF: guests of chance, which also run with vlab's own."""

from __future__ import annotations

from random import Random
from typing import Final

from machine_03 import POPPED, Repaired, with_student
from pieces_03 import CLI, FREE, POPF, PUSHF, STI, ordinary, push

from vlab.grading.equivalence import follow
from vlab.grading.exercise import Broken
from vlab.grading.trial import Trial
from vlab.guests.programs import Code, enter_ring_3, image, leave, rings

_KERNEL: Final = (
    "wren saves its flags by PUSHF before a critical section, and restores them by POPF behind it."
)
_TRAP: Final = 0x20
"""The INT with which a program ends its guest; the vector is the status."""


def _flags(rng: Random, privileged: bool) -> int:
    """Some flags without TF and NT, which would lead elsewhere."""
    value = rng.getrandbits(22) & POPPED & ~0x4100 | 2
    return value if privileged else value & ~0x3000


def _same(trial: Trial, guest: bytes, hint: str, status: int = 0) -> None:
    yours = trial.vm(guest, monitor=with_student(trial.student), memory="2M")
    follow(yours, trial.vm(guest, monitor=Repaired, memory="2M"), status=status, hint=hint)


def _pushing(rng: Random, turns: int) -> bytes:
    pop = (bytes((0x58 | one,)) for one in rng.choices(FREE, k=turns))
    return b"".join(rng.choice((CLI, STI)) + ordinary(rng) + PUSHF + each for each in pop)


def _popping(rng: Random, turns: int) -> bytes:
    return b"".join(ordinary(rng) + push(_flags(rng, privileged=True)) + POPF for _ in range(turns))


def pushes(trial: Trial) -> None:
    """PUSHF in ring 0."""
    code = CLI + PUSHF + b"\x58" + _pushing(trial.rng, 4)  # pop eax
    _same(trial, image(code + leave(0)), "PUSHF shows the guest's own flags, cpu.eflags, below the old ESP.")


def pops(trial: Trial) -> None:
    """POPF in ring 0."""
    code = push(0x202) + POPF + push(2) + POPF + _popping(trial.rng, 4)
    _same(trial, image(code + leave(0)), "In ring 0 POPF changes all that is in FLAGS, IF and IOPL too.")


def _in_ring_3(rng: Random, flags: int, values: list[int]) -> bytes:
    def kernel(code: Code) -> None:
        enter_ring_3(code, "user", flags)
        code.add("user", *(ordinary(rng) + push(value) + POPF for value in values), bytes((0xCD, _TRAP)))

    return image(rings(kernel, {}))


def programs(trial: Trial) -> None:
    """POPF in ring 3, where IOPL is 0."""
    rng = trial.rng
    for flags in (2, 0x202):
        values = [0x3202, 2, 0x3002, *(_flags(rng, privileged=True) for _ in range(2))]
        rng.shuffle(values)
        hint = "In ring 3, IOPL never changes; IF does if CPL is not above IOPL."
        _same(trial, _in_ring_3(rng, flags, values), hint, _TRAP)


def allowed(trial: Trial) -> None:
    """POPF in ring 3, where IOPL is 3."""
    values = [0x3002, 0x3202, 0x3002, *(_flags(trial.rng, privileged=True) | 0x3000 for _ in range(2))]
    hint = "A program whose IOPL is 3 may change IF with POPF: CPL is not above IOPL."
    _same(trial, _in_ring_3(trial.rng, 0x3202, values), hint, _TRAP)


def boots(trial: Trial) -> None:
    """Wren, which does both, to its shell."""
    word = "".join(trial.rng.choice("abcdefghijklmnopqrstuvwxyz") for _ in range(8))
    vm = trial.vm("wren", monitor=with_student(trial.student), memory="16M", trace="full")
    trial.run(vm, lambda vm: bool(vm.ended) or "$ " in vm.console.text)
    if not vm.ended:
        vm.send(f"echo {word}\n")
        trial.run(vm, lambda vm: bool(vm.ended) or f"\n{word}\r\n" in vm.console.text, exits=5_000)
    if vm.ended:
        last = vm.console.text.strip().rpartition("\n")[2]
        raise Broken(f"wren ended, and the last that it said is {last!r}", hint=_KERNEL, vm=vm)


def others(trial: Trial) -> None:
    """All of that on other guests."""
    rng = trial.rng
    parts = [_pushing(rng, 2), _popping(rng, 2), _pushing(rng, 2), _popping(rng, 2)]
    rng.shuffle(parts)
    _same(
        trial,
        image(CLI + PUSHF + b"\x58" + b"".join(parts) + leave(0)),
        "Both, one after the other, in ring 0.",
    )
    values = [0x3202, 2, 0x3002, 0x202]
    rng.shuffle(values)
    _same(trial, _in_ring_3(rng, 0x202, values), "POPF in ring 3, with IOPL 0.", _TRAP)
