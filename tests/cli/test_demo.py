"""`vlab demo`: the comparison is honest, and its status says whether equivalence holds."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from tests.cli.conftest import FakeVM, Lab, Step
from tests.cli.conftest import Guest as Program
from vlab.cli.demo import GUESTS
from vlab.vmm.silent import Silent
from vlab.vmm.stop import Stop, StopKind

WAYS = [("none", "direct"), ("hardware", "nested"), ("hardware", "shadow")]


def well_behaved(vm: FakeVM) -> Iterator[Step]:
    yield f"I am {vm.guest.name}\r\nall well\r\n"
    yield Stop(StopKind.EXIT, "success", 0)


@pytest.fixture
def demo(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> Lab:
    monitors = ModuleType("vlab.vmm.monitors")
    monitors.available = lambda: WAYS  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "vlab.vmm.monitors", monitors)
    monkeypatch.setenv("COLUMNS", "160")
    lab.guests = dict.fromkeys(GUESTS, well_behaved)
    return lab


def test_every_guest_runs_under_every_monitor(demo: Lab) -> None:
    result = demo.command("demo")
    assert result.status == 0
    assert [(vm.guest.name, vm.monitor, vm.paging) for vm in demo.machines] == [
        (guest, *way) for guest in GUESTS for way in WAYS
    ]
    assert all(vm.closed for vm in demo.machines)
    assert "IOIO 40, CPUID 3" in result.out
    assert "Equivalence holds: 5 guests, each the same under every monitor." in result.out


def test_without_a_terminal_each_run_is_announced_on_a_line(demo: Lab) -> None:
    lines = demo.command("demo").err.splitlines()
    assert lines[0] == "running hello under none/direct"
    assert len(lines) == len(GUESTS) * len(WAYS)


def test_json_has_one_object_for_each_monitor_and_paging(demo: Lab, tmp_path: Path) -> None:
    file = tmp_path / "demo.json"
    assert demo.command("demo", "--json", file).status == 0
    written = json.loads(file.read_text())
    assert [(each["guest"], each["monitor"], each["paging"]) for each in written] == [
        ("wren", *way) for way in WAYS
    ]
    assert all(each["agrees"] is each["expected_to_agree"] is True for each in written)
    assert written[0]["exits"]["by_reason"]["IOIO"] == 40


def test_the_table_shows_result_share_and_cycles_beside_the_exits(demo: Lab) -> None:
    lines = demo.command("demo").out.splitlines()
    rows = [line.split() for line in lines if line.startswith("hardware ")]
    assert rows[0][:3] == ["hardware", "nested", "yes"]
    result, alone, exits, megacycles = rows[0][3:7]
    assert re.fullmatch("[0-9a-f]{6}", result)
    assert (alone, exits, megacycles) == ("96.4%", "44", "0.2")
    assert "wren selftest" in [line.rstrip() for line in lines]


def test_json_has_the_result_the_share_without_the_monitor_and_modelled_cycles(
    demo: Lab, tmp_path: Path
) -> None:
    file = tmp_path / "demo.json"
    assert demo.command("demo", "--json", file).status == 0
    bare, nested, shadow = json.loads(file.read_text())
    assert bare["result_hash"] == nested["result_hash"] == shadow["result_hash"]
    assert re.fullmatch("[0-9a-f]{16}", bare["result_hash"])
    assert nested["share_without_monitor"] == 1 - 44 / 1234
    own = round(1234 * 6 * 0.42)
    cycles = nested["modelled_cycles"]
    assert (cycles["generation"], cycles["guest"], cycles["sure"]) == ("nehalem", own, "estimated")
    assert cycles["total"] == pytest.approx(cycles["guest"] + cycles["exits"], abs=1)


def test_the_result_is_another_one_with_another_console_or_ending(demo: Lab, tmp_path: Path) -> None:
    def differently(vm: FakeVM) -> Iterator[Step]:
        yield "all well\r\n" if vm.paging != "nested" else "not so well\r\n"
        yield Stop(StopKind.EXIT, "success", 1 if vm.paging == "shadow" else 0)

    demo.guests["wren"] = differently
    file = tmp_path / "demo.json"
    assert demo.command("demo", "--json", file).status == 1
    assert len({each["result_hash"] for each in json.loads(file.read_text())}) == 3


def test_where_nothing_counts_blocks_there_is_neither_share_nor_model(
    demo: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = FakeVM.__init__

    def without_blocks(vm: FakeVM, *arguments: object, **options: object) -> None:
        made(vm, *arguments, **options)  # type: ignore[arg-type]
        vm.blocks = None  # type: ignore[assignment]

    monkeypatch.setattr(FakeVM, "__init__", without_blocks)
    file = tmp_path / "demo.json"
    result = demo.command("demo", "--json", file)
    assert result.status == 0
    assert all(
        each["share_without_monitor"] is None and each["modelled_cycles"] is None
        for each in json.loads(file.read_text())
    )
    assert re.search(r"nested +yes +[0-9a-f]{6} +- +44 +- ", result.out)


def test_the_table_fits_80_columns(demo: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    table = demo.command("demo").out.partition("Equivalence")[0]
    assert max(map(len, table.splitlines())) <= 80
    assert "…" not in table


def test_the_help_explains_the_columns(demo: Lab) -> None:
    text = demo.command("demo", "--help").out
    for word in ("result", "alone", "Mcyc", "blocks minus exits", "vlab nanobench"):
        assert word in text


def test_a_different_console_is_a_difference_and_shows_the_line(demo: Lab, tmp_path: Path) -> None:
    def sees_the_monitor(vm: FakeVM) -> Iterator[Step]:
        yield "start\r\n"
        yield "I am watched\r\n" if vm.paging == "shadow" else "all well\r\n"
        yield Stop(StopKind.EXIT, "success", 0)

    demo.guests["wren"] = sees_the_monitor
    file = tmp_path / "demo.json"
    result = demo.command("demo", "--json", file)
    assert result.status == 1
    assert len(re.findall(r"shadow +no ", result.out)) == 1
    assert (
        "wren under hardware/shadow differs from none/direct in its console; "
        "console line 2 is 'I am watched' instead of 'all well'"
    ) in result.err
    assert "Equivalence is not shown for wren." in result.err
    assert [each["agrees"] for each in json.loads(file.read_text())] == [True, True, False]


def test_a_different_final_state_is_a_difference(demo: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FakeVM, "state_hash", lambda vm: f"hash under {vm.monitor}")
    result = demo.command("demo")
    assert result.status == 1
    assert "hello under hardware/nested differs from none/direct in its final state" in result.err


def test_under_binary_translation_time_is_another_and_only_console_and_ending_are_compared(
    demo: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    ways = [*WAYS, ("binary-translation", "shadow")]
    monkeypatch.setattr(sys.modules["vlab.vmm.monitors"], "available", lambda: ways)
    translated = "binary-translation"
    monkeypatch.setattr(FakeVM, "state_hash", lambda vm: translated if vm.monitor == translated else "5eed")
    assert demo.command("demo").status == 0

    def sees_the_monitor(vm: FakeVM) -> Iterator[Step]:
        yield "translated" if vm.monitor == translated else "all well\r\n"
        yield Stop(StopKind.EXIT, "success", 0)

    demo.guests["rings"] = sees_the_monitor
    result = demo.command("demo")
    assert result.status == 1
    assert "rings under binary-translation/shadow differs from none/direct in its console" in result.err


def fails_under_trap_emulate(*silent: str) -> Program:
    """A kernel that goes wrong where it must, after these instructions went by in silence."""

    def program(vm: FakeVM) -> Iterator[Step]:
        if vm.monitor != "trap-emulate":
            yield "all well\r\n"
            yield Stop(StopKind.EXIT, "success", 0)
        vm.silent = tuple(Silent(0x1000, text, "it showed IF=1", "the guest has IF=0") for text in silent)
        yield "all wrong\r\n"
        yield Stop(StopKind.EXIT, "failed", 1)

    return program


@pytest.fixture
def with_trap_emulate(demo: Lab, monkeypatch: pytest.MonkeyPatch) -> Lab:
    ways = [*WAYS, ("trap-emulate", "shadow")]
    monkeypatch.setattr(sys.modules["vlab.vmm.monitors"], "available", lambda: ways)
    return demo


def test_a_kernel_fails_under_trap_emulate_as_it_must(with_trap_emulate: Lab, tmp_path: Path) -> None:
    with_trap_emulate.guests["wren"] = fails_under_trap_emulate("pushfd", "popfd")
    file = tmp_path / "demo.json"
    result = with_trap_emulate.command("demo", "--json", file)
    assert result.status == 0, result.err
    assert len(re.findall(r"trap-emulate +shadow +no, as expected ", result.out)) == 1
    assert len(re.findall(r"trap-emulate +shadow +yes ", result.out)) == 4
    assert "under every monitor but trap-emulate (not all sensitive instructions of x86 trap)." in result.out
    assert (
        "wren under trap-emulate/shadow: "
        "0x1000: pushfd did not trap: it showed IF=1, where the guest has IF=0." in result.out
    )
    written = json.loads(file.read_text())
    assert [each["agrees"] for each in written] == [each["expected_to_agree"] for each in written]
    assert written[-1]["agrees"] is False


def test_a_kernel_that_does_not_fail_there_is_a_complaint(with_trap_emulate: Lab) -> None:
    result = with_trap_emulate.command("demo")
    assert result.status == 1
    assert "wren under trap-emulate/shadow should have failed, and did not" in result.err


@pytest.mark.parametrize("silent", [(), ("sidt [0x8000]",)])
def test_a_kernel_that_fails_there_for_another_reason_is_a_complaint(
    with_trap_emulate: Lab, silent: tuple[str, ...]
) -> None:
    with_trap_emulate.guests["wren"] = fails_under_trap_emulate(*silent)
    result = with_trap_emulate.command("demo")
    assert result.status == 1
    assert "wren under trap-emulate/shadow failed, and not over PUSHF or POPF: failed" in result.err


@pytest.fixture
def with_paravirtual(demo: Lab, monkeypatch: pytest.MonkeyPatch) -> Lab:
    ways = [WAYS[0], ("paravirtual", "direct"), *WAYS[1:]]
    monkeypatch.setattr(sys.modules["vlab.vmm.monitors"], "available", lambda: ways)
    # another image: all of its console is as the original's, and its memory is not
    demo.guests["wren-paravirt"] = lambda vm: well_behaved_as(vm, "wren")
    monkeypatch.setattr(FakeVM, "state_hash", lambda vm: f"hash of {vm.guest.name}")
    return demo


def well_behaved_as(vm: FakeVM, name: str) -> Iterator[Step]:
    yield f"I am {name}\r\nall well\r\n"
    yield Stop(StopKind.EXIT, "success", 0)


def test_the_kernel_alone_runs_under_paravirtual_as_the_image_that_knows_it(
    with_paravirtual: Lab, tmp_path: Path
) -> None:
    file = tmp_path / "demo.json"
    result = with_paravirtual.command("demo", "--json", file)
    assert result.status == 0, result.err
    ran = [vm.guest.name for vm in with_paravirtual.machines if vm.monitor == "paravirtual"]
    assert ran == ["wren-paravirt"]
    assert "paravirtual/direct runs wren-paravirt: console and ending are the same." in result.out
    written = json.loads(file.read_text())
    assert [(each["guest"], each["agrees"]) for each in written] == [
        ("wren", True), ("wren-paravirt", True), ("wren", True), ("wren", True),
    ]  # fmt: skip


def test_another_console_under_paravirtual_is_a_difference(with_paravirtual: Lab) -> None:
    with_paravirtual.guests["wren-paravirt"] = lambda vm: well_behaved_as(vm, "another")
    result = with_paravirtual.command("demo")
    assert result.status == 1
    assert "wren-paravirt under paravirtual/direct differs from none/direct in its console" in result.err


@pytest.mark.parametrize("stop", [Stop(StopKind.EXIT, "failed", 3), Stop(StopKind.TIMEOUT, "hangs")])
def test_a_guest_that_fails_everywhere_shows_no_equivalence(demo: Lab, stop: Stop) -> None:
    demo.guests["rings"] = lambda vm: iter([stop])
    result = demo.command("demo")
    assert result.status == 1
    assert f"rings under none/direct did not succeed: {stop.story}\n" in result.err
    assert "Equivalence is not shown for rings." in result.err
