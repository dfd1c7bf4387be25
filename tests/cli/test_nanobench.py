"""`vlab nanobench`: the tables, the verdicts, the JSON, the cost table of one's own, and the status."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from tests.cli.conftest import Result
from tests.compare.results import BARE, NESTED, PARAVIRTUAL, SHADOW, results, with_exits
from vlab.compare import nanobench
from vlab.costs.operations import NAMES
from vlab.costs.readings import Refused, Results, Way

Command = Callable[..., Result]


@pytest.fixture
def found(monkeypatch: pytest.MonkeyPatch) -> Results:
    """What `measure` gives in this test: every operation in 2 us, twice that under paravirtual."""
    made = results()
    for (name, way), reading in made.readings.items():
        seconds = 4e-6 if way == PARAVIRTUAL.name else 2e-6
        made.readings[name, way] = replace(reading, seconds=seconds, instructions=1234.4)

    def measure(*, say: Callable[[str], None]) -> Results:
        say("counting under none/direct")
        return made

    monkeypatch.setattr(nanobench, "measure", measure)
    monkeypatch.setenv("COLUMNS", "80")
    return made


def rows(result: Result, title: str) -> dict[str, list[str]]:
    """The rows of the table with this title, by operation."""
    lines = iter(result.out.splitlines())
    next(line for line in lines if line.startswith(title))
    table: dict[str, list[str]] = {}
    for line in lines:
        words = line.split()
        if words and words[0] in NAMES:
            table[words[0]] = words[1:]
        elif len(table) == len(NAMES):
            break
    return table


def test_there_is_a_table_for_each_question_and_the_status_is_0(
    vlab_command: Command, found: Results
) -> None:
    result = vlab_command("nanobench")
    assert result.status == 0, result.err
    assert max(map(len, result.out.splitlines())) <= 110
    assert rows(result, "Exits per operation")["in"] == ["-", "VMMCALL", "1", "IOIO", "1", "IOIO", "1"]
    assert rows(result, "Exits per operation")["callret"] == ["-", "-", "-", "-"]
    assert rows(result, "Instructions of the monitor")["syscall"] == ["1,234"] * 4
    assert rows(result, "Time per operation")["in"] == ["2", "us", "2", "1", "1"]
    for title in ("Prescott", "Merom", "Nehalem", "Sandy", "Skylake"):
        assert title in result.out
    assert rows(result, "Cycles per operation, modelled: Pentium 4")["in"] == [
        "3,209", "1,289", "-", "15,826",
    ]  # fmt: skip
    assert "prescott: paravirtual/direct does forkwait in 143,720 cycles, hardware/shadow in " in result.out
    assert "sandy-bridge: hardware/nested does forkwait in " in result.out
    assert "  paravirtual/direct is cheaper than hardware/nested in in.\n" in result.out
    assert result.out.endswith(" orderings hold.\n")
    assert result.err == "counting under none/direct\n"


def test_rates_that_are_the_timers_are_not_shown(vlab_command: Command, found: Results) -> None:
    assert rows(vlab_command("nanobench"), "Exits per operation")["forkwait"][-1] != "0.06"
    assert "INTR" not in vlab_command("nanobench").out


def test_one_generation_can_be_chosen(vlab_command: Command, found: Results) -> None:
    result = vlab_command("nanobench", "--generation", "merom")
    assert result.status == 0
    assert result.out.count("Cycles per operation") == 1
    assert "(merom)" in result.out
    assert "prescott" not in result.out


def test_an_ordering_that_does_not_hold_is_status_1_and_named(vlab_command: Command, found: Results) -> None:
    with_exits(found, "syscall", SHADOW, PF=1.0)
    result = vlab_command("nanobench")
    assert result.status == 1
    assert (
        "It does not hold that with hardware assistance a system call, a call and a division by zero stay in "
        "the guest (syscall hardware/shadow: 1.00).\n"
    ) in result.err
    assert "orderings hold" not in result.out


def test_a_monitor_that_cannot_run_the_kernel_says_why(vlab_command: Command, found: Results) -> None:
    found.refused.append(Refused(Way("trap-emulate", "shadow"), "panic: [interrupts]"))
    result = vlab_command("nanobench")
    assert result.status == 0
    assert "trap-emulate/shadow does not run the kernel: panic: [interrupts]\n" in result.out


def test_json_has_every_figure(vlab_command: Command, found: Results, tmp_path: Path) -> None:
    file = tmp_path / "nanobench.json"
    assert vlab_command("nanobench", "--json", file).status == 0
    written = json.loads(file.read_text())
    assert set(written) == {"operations", "refused", "verdicts", "checks"}
    assert [(each["operation"], each["monitor"], each["paging"]) for each in written["operations"]] == [
        (name, way.monitor, way.paging) for name in NAMES for way in (BARE, PARAVIRTUAL, NESTED, SHADOW)
    ]
    port = next(
        each for each in written["operations"] if each["operation"] == "in" and each["exits"]["total"]
    )
    assert port["guest"] == "wren-paravirt"
    assert port["exits"] == {"total": 1, "by_reason": {"VMMCALL": 1}}
    assert (port["monitor_instructions"], port["over_bare"], port["blocks"]) == (1234.4, 2.0, 50.0)
    assert port["cycles"]["prescott"] == {"guest": 0, "exits": 1289, "total": 1289, "sure": "estimated"}
    nested = next(each for each in written["operations"] if each["paging"] == "nested")
    assert nested["cycles"]["merom"] is None
    assert [each["software_wins"] for each in written["verdicts"]] == [True, True, False, False, False]
    assert all(each["holds"] for each in written["checks"])


def test_a_cost_table_of_ones_own_changes_the_cycles(
    vlab_command: Command, found: Results, tmp_path: Path
) -> None:
    file = tmp_path / "costs.toml"
    file.write_text(
        '[generations.prescott.guest]\nin = { cycles = 5000, sure = "measured", source = "mine" }\n'
    )
    result = vlab_command("nanobench", "--costs", file)
    assert result.status == 0
    assert rows(result, "Cycles per operation, modelled: Pentium 4")["in"][0] == "5,000"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--generation", "i386"), "vlab: generation: there is no 'i386'; choose one of prescott, merom"),
        (("--costs", "no-such-file"), "there is no file 'no-such-file'"),
    ],
)
def test_a_mistake_is_one_line_before_anything_is_measured(
    vlab_command: Command, found: Results, arguments: tuple[str, str], said: str
) -> None:
    result = vlab_command("nanobench", *arguments)
    assert result.status == 2
    assert said in result.err
    assert "counting" not in result.err


def test_a_cost_table_that_is_wrong_is_one_line(
    vlab_command: Command, found: Results, tmp_path: Path
) -> None:
    file = tmp_path / "costs.toml"
    file.write_text("[generations.prescott.guest]\nin = 5\n")
    result = vlab_command("nanobench", "--costs", file)
    assert result.status == 2
    assert "generations.prescott.guest.in: 5 is no table" in result.err
    assert result.err.count("\n") == 1


def test_the_help_says_what_each_table_is(vlab_command: Command) -> None:
    text = vlab_command("nanobench", "--help").out
    for word in (
        "Adams and Agesen",
        "exits",
        "instructions",
        "cycles",
        "time",
        "--costs",
        "docs/NANOBENCH.md",
    ):
        assert word in text
