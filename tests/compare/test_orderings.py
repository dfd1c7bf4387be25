"""The orderings: they hold for what the monitors give, and each is noticed when it does not."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.compare.results import BARE, NESTED, PARAVIRTUAL, SHADOW, TRANSLATION, results, with_exits
from vlab.compare.orderings import Check, check, verdicts
from vlab.costs.readings import Refused, Way
from vlab.costs.table import load

COSTS = load()


def failing(found: list[Check]) -> list[str]:
    return [each.claim for each in found if not each.holds]


def claims(found: list[Check]) -> str:
    return "\n".join(each.claim for each in found)


def test_all_hold_for_what_the_monitors_give() -> None:
    found = check(results(), COSTS)
    assert failing(found) == []
    assert len(found) >= 17


def test_they_hold_with_binary_translation_and_software_beats_the_bare_machine_on_in() -> None:
    found = check(results(BARE, PARAVIRTUAL, TRANSLATION, NESTED, SHADOW), COSTS)
    assert failing(found) == []
    assert "on prescott binary-translation/shadow beats the bare machine on in" in claims(found)
    assert "binary-translation/shadow wins forkwait on prescott, and hardware assistance on" in claims(found)


def test_what_is_not_there_is_not_claimed() -> None:
    found = check(results(BARE, NESTED, SHADOW), COSTS)
    assert failing(found) == []
    for words in ("binary-translation", "without", "wins", "dearest", "dearer"):
        assert words not in claims(found)


@pytest.mark.parametrize(
    ("name", "way", "exits", "claim"),
    [
        ("cr", BARE, {"CR": 1.0}, "on the bare machine nothing is an exit"),
        ("syscall", SHADOW, {"PF": 1.0}, "with hardware assistance a system call, a call and a division by"),
        ("syscall", NESTED, {"IOIO": 1.0}, "with hardware assistance syscall takes what it takes natively"),
        ("callret", SHADOW, {"PF": 1.0}, "with hardware assistance callret takes what it takes natively"),
        ("in", NESTED, {}, "with hardware assistance a port is an exit, nested paging or not"),
        ("pgfault", SHADOW, {"PF": 1.0}, "over shadow tables a page fault is two exits or more"),
        ("ptemod", SHADOW, {}, "over shadow tables writes of CR3 and of page tables are exits"),
        ("pgfault", NESTED, {"NPF": 1.0}, "over nested tables the guest's paging is its own"),
        ("ptemod", NESTED, {"NPF": 1.0}, "over nested tables ptemod takes what it takes natively"),
        ("divzero", PARAVIRTUAL, {}, "without hardware assistance a system call and a division by zero"),
        ("divzero", PARAVIRTUAL, {}, "on prescott divzero is dearer in software than with hardware"),
        ("callret", PARAVIRTUAL, {"TRAP": 1.0}, "without it a call and its return are no exit either"),
        ("in", PARAVIRTUAL, {"TRAP": 20.0}, "on prescott hardware over shadow tables is the dearest"),
        ("forkwait", PARAVIRTUAL, {"VMMCALL": 999.0}, "paravirtual/direct wins forkwait on prescott"),
    ],
)  # fmt: skip
def test_each_is_noticed_when_it_does_not_hold(
    name: str, way: Way, exits: dict[str, float], claim: str
) -> None:
    wrong = failing(check(with_exits(results(), name, way, **exits), COSTS))
    assert any(each.startswith(claim) for each in wrong), wrong


def test_a_check_that_fails_shows_the_figures_that_are_wrong_and_no_others() -> None:
    found = check(with_exits(results(), "cr", BARE, CR=1.0), COSTS)
    (wrong,) = (each for each in found if not each.holds)
    assert wrong.detail == "cr none/direct: 1.00"


def test_a_kernel_that_does_not_run_is_noticed_but_under_trap_and_emulate() -> None:
    found = results()
    found.refused = [Refused(Way("trap-emulate", "shadow"), "panic: interrupts")]
    assert failing(check(found, COSTS)) == []
    found.refused.append(Refused(TRANSLATION, "triple fault"))
    (wrong,) = (each for each in check(found, COSTS) if not each.holds)
    assert wrong.claim == "the kernel runs under every monitor but trap-emulate"
    assert wrong.detail == "binary-translation/shadow: triple fault"


def test_the_verdict_flips_with_nested_paging() -> None:
    found = verdicts(results(), COSTS)
    assert [(each.generation, each.hardware_way.name, each.software_wins) for each in found] == [
        ("prescott", "hardware/shadow", True),
        ("merom", "hardware/shadow", True),
        ("nehalem", "hardware/nested", False),
        ("sandy-bridge", "hardware/nested", False),
        ("skylake-sp", "hardware/nested", False),
    ]
    assert found[0].cheaper == ("in", "cr", "pgfault", "ptemod", "forkwait")
    assert found[-1].cheaper == ("in",)


def test_another_table_gives_another_verdict(tmp_path: Path) -> None:
    file = tmp_path / "costs.toml"
    free = '{ cycles = 0, sure = "estimated", source = "what if exits were free" }'
    names = ("transition", "PF", "CR", "INVLPG", "IOIO", "other")
    file.write_text("[generations.prescott.hardware]\n" + "\n".join(f"{name} = {free}" for name in names))
    costs = load(file)
    assert not verdicts(results(), costs)[0].software_wins
    assert "paravirtual/direct wins forkwait on prescott, and hardware assistance on skylake-sp" in failing(
        check(results(), costs)
    )
