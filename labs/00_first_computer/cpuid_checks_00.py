"""What is tried of a student's CPUID: what a guest is told, leaf by leaf.

Appendices are those of the AMD64 Architecture Programmer's Manual, vol. 3, rev. 3.36 (APM3).
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Final

from guests_00 import TABLE, asking, names_by_chance, saying
from machine_00 import PROCESSOR, answering

from vlab.grading.exercise import Broken
from vlab.grading.trial import Trial
from vlab.guests.programs import image, image64, leave
from vlab.machine.identity import Leaf
from vlab.session import VM

VENDOR_LEAF, FEATURES_LEAF, MONITOR_LEAF = 0, 1, 0x40000000
HYPERVISOR_PRESENT: Final = 1 << 31
"""Bit of ECX of leaf 1 (APM3 appendix E.3)."""
_ORDER: Final = ("EAX", "EBX", "ECX", "EDX")
_RECORD: Final = 16  # bytes: EAX, EBX, ECX, EDX
_ALL_LEAVES: Final = (*PROCESSOR.leaves, 0x0D, 0x16, 0x80000009)
"""Those that the processor has, and some that it has not."""
_ORDINARY: Final = tuple(each for each in _ALL_LEAVES if each not in (VENDOR_LEAF, FEATURES_LEAF))


def _right(leaf: int, subleaf: int, names: tuple[str, str]) -> Leaf:
    """Give what the guest is to be told."""
    eax, ebx, ecx, edx = PROCESSOR.cpuid(leaf, subleaf)
    vendor, name = (struct.unpack("<III", each.encode()) for each in names)
    if leaf == VENDOR_LEAF:
        return eax, vendor[0], vendor[2], vendor[1]
    if leaf == FEATURES_LEAF:
        return eax, ebx, ecx | HYPERVISOR_PRESENT, edx
    if leaf == MONITOR_LEAF:
        return MONITOR_LEAF, name[0], name[1], name[2]
    return eax, ebx, ecx, edx


def _asked(
    trial: Trial,
    leaves: list[tuple[int, int]],
    hint: str,
    *,
    names: tuple[str, str] | None = None,
    code: bytes = b"",
    make: Callable[[bytes], bytes] = image,
) -> VM:
    """Run a guest that asks for leaves under the student's handler, and compare what it was told."""
    names = names or names_by_chance(trial.rng)
    monitor = answering(trial.student, *names)
    vm = trial.vm(make(asking(leaves) + code + leave(0)), memory="2M", monitor=monitor)
    try:
        trial.run(vm, exits=500)
    except Broken as broken:
        broken.vm = vm
        raise
    table = bytes(vm.memory[TABLE : TABLE + _RECORD * len(leaves)])
    for number, (leaf, subleaf) in enumerate(leaves):
        told = struct.unpack_from("<IIII", table, _RECORD * number)
        for register, got, right in zip(_ORDER, told, _right(leaf, subleaf, names), strict=True):
            if got != right:
                raise Broken(
                    f"CPUID with EAX={leaf:#x}, ECX={subleaf:#x} gave the guest {register} = {_shown(got)}; "
                    f"{_shown(right)} is right",
                    hint=hint,
                    vm=vm,
                    exit=number + 1,
                )
    return vm


def _shown(value: int) -> str:
    data = value.to_bytes(4, "little")
    return f"{value:#x} ({data.decode()!r})" if data.isalnum() else f"{value:#x}"


def goes_on(trial: Trial) -> None:
    """Ask for a leaf twice."""
    leaf = trial.rng.choice(_ORDINARY)
    _asked(
        trial, [(leaf, 0), (leaf, 0)], "For most leaves the processor's answer is what the guest is to get."
    )


def vendor(trial: Trial) -> None:
    """Ask for leaf 0, and let the guest print the vendor."""
    names = names_by_chance(trial.rng)
    hint = "The twelve characters of leaf 0 are in EBX, EDX, ECX: in this order, four in each."
    vm = _asked(trial, [(VENDOR_LEAF, 0)], hint, names=names, code=saying((4, 12, 8)))
    if vm.console.text != names[0]:
        raise Broken(f"the guest wrote {vm.console.text!r}, and its vendor is {names[0]!r}", hint=hint, vm=vm)


def present(trial: Trial) -> None:
    """Ask for leaf 1."""
    hint = "Bit 31 of ECX is set in what the processor answers; all other bits stay as they are."
    _asked(trial, [(FEATURES_LEAF, 0)], hint)


def name(trial: Trial) -> None:
    """Ask for leaf 4000_0000h."""
    hint = (
        "Leaf 0x40000000 has its own number in EAX, and the name in EBX, ECX, EDX: "
        "another order than that of leaf 0."
    )
    _asked(trial, [(MONITOR_LEAF, 0)], hint)


def rest(trial: Trial) -> None:
    """Ask for other leaves, and for subleaves."""
    leaves = [(trial.rng.choice(_ORDINARY), trial.rng.randrange(3)) for _ in range(8)]
    leaves[trial.rng.randrange(8)] = (7, 1)
    _asked(trial, leaves, "Some leaves have subleaves, by ECX: ask the processor for both.")


def long_mode(trial: Trial) -> None:
    """Try all of that in 64-bit code."""
    rng = trial.rng
    leaves = [(each, 0) for each in (VENDOR_LEAF, FEATURES_LEAF, MONITOR_LEAF)]
    leaves += [(7, 1), (7, 0), *((rng.choice(_ORDINARY), rng.randrange(2)) for _ in range(6))]
    rng.shuffle(leaves)
    _asked(trial, leaves, "Look at the leaves one by one: EAX chooses.", make=image64)
