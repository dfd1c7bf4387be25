"""Two guests are followed exit by exit, and the first difference is told with where it is."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import MappingProxyType

import pytest

import vlab
from vlab.grading import equivalence
from vlab.grading.exercise import Broken
from vlab.guests.programs import SPIN, guest, leave, say
from vlab.isa.sensitive import Sensitive
from vlab.vmm.deprivileged.operands import Operands
from vlab.vmm.monitor import Monitor
from vlab.vmm.trap_emulate import TrapAndEmulate
from vlab.vmm.verdicts import RESUME, Verdict

CLI, STI = b"\xfa", b"\xfb"
CODE = STI + CLI + say("x") + leave(0)


def emulating(act: Callable[[Operands], Verdict | None]) -> type[Monitor]:
    """A monitor with another emulation of CLI."""
    return type("Other", (TrapAndEmulate,), {"actions": MappingProxyType({Sensitive.CLI: act})})


def followed(directory: Path, act: Callable[[Operands], Verdict | None], code: bytes = CODE) -> None:
    image = guest(directory, code)
    with (
        vlab.VM(image, monitor=emulating(act), memory="2M", trace="full") as yours,
        vlab.VM(image, monitor="trap-emulate", memory="2M", trace="full") as ours,
    ):
        equivalence.follow(yours, ours, hint="look there")


def clear(operands: Operands) -> None:
    operands.cpu.interrupt_flag = False


def test_a_guest_that_is_the_same_passes(tmp_path: Path) -> None:
    followed(tmp_path, clear)


def test_a_register_that_differs_is_named_with_the_instruction(tmp_path: Path) -> None:
    def act(operands: Operands) -> None:
        clear(operands)
        operands.cpu.words[3] = 0x1234

    with pytest.raises(Broken) as broken:
        followed(tmp_path, act)
    assert "TRAP at 0x100026 (`cli`): afterwards RBX is 0x1234 instead of 0x" in broken.value.why
    assert broken.value.hint == "look there"
    assert broken.value.exit == broken.value.vm.exits.total  # type: ignore[union-attr]


def test_a_flag_that_differs_is_named(tmp_path: Path) -> None:
    with pytest.raises(Broken, match=r"RFLAGS\.IF is 1 instead of 0"):
        followed(tmp_path, lambda operands: None)


def test_an_address_that_is_not_behind_the_instruction_is_named(tmp_path: Path) -> None:
    def act(operands: Operands) -> Verdict:
        clear(operands)
        return RESUME

    with pytest.raises(Broken, match="RIP is 0x100026 instead of 0x100027"):
        followed(tmp_path, act)


def test_memory_that_differs_is_found_in_the_end(tmp_path: Path) -> None:
    def act(operands: Operands) -> None:
        clear(operands)
        operands.cpu.write(0x6000, 4, 7)

    with pytest.raises(Broken, match="the guest's memory differs in the end"):
        followed(tmp_path, act)


def test_a_guest_that_gets_stuck_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def act(operands: Operands) -> Verdict:
        clear(operands)
        operands.cpu.rip = 0x100027
        operands.cpu.write(0x100027, 2, int.from_bytes(SPIN, "little"))
        return RESUME

    monkeypatch.setattr(equivalence, "PATIENCE", 0.3)
    with pytest.raises(Broken, match=r"\(`cli`\): after it the guest came to no other exit for 0.3 s"):
        followed(tmp_path, act)


def test_a_reference_that_does_not_end_is_a_mistake_of_the_lessons(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="does not end within 2000 exits on the reference monitor"):
        followed(tmp_path, clear, CLI + b"\xeb\xfd")


def test_a_reference_that_ends_otherwise_is_no_measure_for_anybody(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"'the guest ended with status 6 \(failure\)' on the reference"):
        followed(tmp_path, clear, CLI + leave(6))
