"""Random kernels run bare, translated and under the hardware monitor: the same registers, the same memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

import vlab
from tests.vmm import translation_blocks as blocks
from tests.vmm import translation_findings as findings
from tests.vmm import translation_random_lab as lab
from tests.vmm.translation_driver import FINISH
from tests.vmm.translation_random_lab import Guests, Program, Unit, World
from vlab.vmm.stop import StopKind
from vlab.vmm.translation import encode

SEED = 30_000
TOGETHER = 36
"""Programs of one guest, of 14 slots each: twenty guests are more than ten thousand."""
GUESTS = 2
"""Of each world."""
WAYS = (("binary-translation", None), ("hardware", "nested"), ("hardware", "shadow"))


@pytest.fixture(scope="module")
def guests(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guests]:
    machine = vlab.Machine("32M")
    yield Guests(tmp_path_factory.mktemp("random"), machine)
    machine.close()


def programs(world: World, number: int, count: int = TOGETHER) -> list[Program]:
    seed = SEED + 1000 * lab.WORLDS.index(world) + number * count
    return [blocks.program(seed + n, n, world) for n in range(count)]


def report(guests: Guests, made: Sequence[Program], monitor: str, paging: str | None) -> str:
    """Run programs bare and under a monitor; say what differs, and by what least programs. Empty: nothing."""
    world = made[0].world

    def compare(some: Sequence[Program]) -> list[str]:
        bare = guests.run(some, "none")
        if bare.stop[0] != StopKind.EXIT:
            return []  # what is left of a program may go astray
        return findings.differences(bare, guests.run(some, monitor, paging), world)

    found = compare(made)
    if not found:
        return ""
    kind = found[0].partition(":")[0]

    def alike(fewer: Sequence[Program]) -> bool:
        return [line.partition(":")[0] for line in compare(fewer)][:1] == [kind]

    small = findings.shrunk(made, alike)
    listings = [line for program in small for line in findings.listing(program)]
    return "\n".join(
        [f"seeds from {made[0].seed}", *listings, f"bare, then {monitor} {paging}:", *compare(small)]
    )


@pytest.mark.parametrize("number", range(GUESTS))
@pytest.mark.parametrize("world", lab.WORLDS, ids=lambda world: world.name)
def test_random_kernel_code_runs_alike_bare_translated_and_under_the_hardware_monitor(
    guests: Guests, world: World, number: int
) -> None:
    made = programs(world, number)
    bare = guests.run(made, "none")
    assert bare.stop == (StopKind.EXIT, 0), f"seeds from {made[0].seed} do not come to their end"
    for monitor, paging in WAYS:
        if findings.differences(bare, guests.run(made, monitor, paging), world):
            pytest.fail(report(guests, made, monitor, paging))


def test_there_are_ten_thousand_blocks() -> None:
    slots = sum(len(program.slots) for world in lab.WORLDS for program in programs(world, 0, 2)) // 2
    assert slots * TOGETHER * GUESTS >= 10_000


def only_flags(program: Program) -> Program:
    """Leave nothing of a program but PUSHF, CLI and STI, and what follows them."""
    kept = (b"\x9c", b"\xfa", b"\xfb\x90", bytes((0xCD, FINISH)))
    slots = (tuple(unit for unit in units if unit.code.startswith(kept)) for units in program.slots)
    return replace(program, slots=tuple(slots))


def test_a_wrong_translation_is_found_and_shrunk(guests: Guests, monkeypatch: pytest.MonkeyPatch) -> None:
    """PUSHF with interrupts off that shows them on, as trap-and-emulate has it."""
    made = [only_flags(program) for program in programs(lab.WORLDS[0], 0, 12)]
    assert report(guests, made, "binary-translation", None) == ""
    monkeypatch.setattr(encode, "clear_pushed_interrupt_flag", lambda wide: b"")
    lines = report(guests, made, "binary-translation", None).splitlines()
    assert lines[0] == f"seeds from {SEED}"
    listed = [line for line in lines if line.startswith("  ")]
    assert len(listed) <= 3
    assert any("pushf" in line for line in listed)


def test_a_row_is_shrunk_to_what_it_needs() -> None:
    assert findings.least(range(100), lambda some: {17, 55} <= set(some)) == [17, 55]
    assert findings.least([1], lambda some: True) == []


def test_an_address_in_a_unit_follows_its_place() -> None:
    unit = Unit(b"\xe9" + bytes(4), (lab.Fix(1, 4, 0x1000, 5),))
    assert unit.at(0xFFB) == b"\xe9\0\0\0\0"
    assert unit.at(0xFFA) == b"\xe9\1\0\0\0"


def test_a_listing_shows_the_instructions(tmp_path: Path) -> None:
    program = blocks.program(SEED, 0, lab.WORLDS[0])
    assert any("int 0x31" in line for line in findings.listing(program))
    assert blocks.program(SEED, 0, lab.WORLDS[0]) == program
