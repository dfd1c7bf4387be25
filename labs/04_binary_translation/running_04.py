"""Guests under vlab's own binary translation with a part of the student's in it, and beside vlab's alone."""

from __future__ import annotations

import struct
from typing import Final

from vlab.grading.equivalence import differences
from vlab.grading.exercise import Broken
from vlab.grading.trial import Trial
from vlab.guests.programs import SCRATCH, image
from vlab.session import VM
from vlab.vmm.translation.library import Translations
from vlab.vmm.translation.monitor import BinaryTranslation
from vlab.vmm.translation.translator import Translator

_MEMORY: Final = "2M"


def with_parts(
    trial: Trial, translator: type[Translator], translations: type[Translations]
) -> type[BinaryTranslation]:
    """Make the monitor with these parts of the student's in it."""
    chosen = type("YourTranslator", (translator,), {"student": trial.student})
    library = type("YourTranslations", (translations,), {"student": trial.student, "translator_type": chosen})
    return type("Yours", (BinaryTranslation,), {"translations_type": library})


def run_both(trial: Trial, guest: bytes, monitor: type[BinaryTranslation], hint: str) -> tuple[VM, VM]:
    """Run a guest under the student's translator and under vlab's, and compare how they end."""
    yours = trial.vm(image(guest), monitor=monitor, memory=_MEMORY)
    ours = trial.vm(image(guest), monitor="binary-translation", memory=_MEMORY)
    expected, stop = trial.run_ours(ours), trial.run(yours, exits=20_000, hint=hint)
    if (stop.kind, stop.exit_code) != (expected.kind, expected.exit_code):
        raise Broken(
            f"the guest stopped with '{stop.headline}', and as vlab translates it with '{expected.headline}'",
            hint=hint,
            vm=yours,
        )
    found = differences(yours.registers(), ours.registers())
    mine, right = (bytes(vm.memory[SCRATCH : SCRATCH + 256]) for vm in (yours, ours))
    for word in range(0, 256, 4):
        if mine[word : word + 4] != right[word : word + 4]:
            seen, wanted = (struct.unpack_from("<I", each, word)[0] for each in (mine, right))
            found.append(f"result {word // 4 + 1} is {seen:#x} instead of {wanted:#x}")
    if found:
        raise Broken(f"in the end {', '.join(found[:2])}", hint=hint, vm=yours)
    return yours, ours


def wren(trial: Trial, monitor: type[BinaryTranslation]) -> None:
    """Boot the kernel `wren` up to what its first program says."""
    greeting = "wren: hello"
    vm = trial.vm("wren", monitor=monitor, memory="8M")
    stop = trial.run(vm, greeting)
    if greeting not in vm.console.text:
        raise Broken(f"wren did not say hello: '{stop.headline}'", vm=vm)
