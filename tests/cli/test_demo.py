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
from vlab.cli.demo import GUESTS
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
    assert "Equivalence holds: 4 guests, each the same under every monitor." in result.out


def test_without_a_terminal_each_run_is_announced_on_a_line(demo: Lab) -> None:
    lines = demo.command("demo").err.splitlines()
    assert lines[0] == "running hello under none/direct"
    assert len(lines) == len(GUESTS) * len(WAYS)


def test_json_has_one_object_for_each_monitor_and_paging(demo: Lab, tmp_path: Path) -> None:
    file = tmp_path / "demo.json"
    assert demo.command("demo", "--json", file).status == 0
    written = json.loads(file.read_text())
    assert [(each["guest"], each["monitor"], each["paging"]) for each in written] == [
        ("selftest", *way) for way in WAYS
    ]
    assert all(each["agrees"] is each["expected_to_agree"] is True for each in written)
    assert written[0]["exits"]["by_reason"]["IOIO"] == 40


def test_a_different_console_is_a_difference_and_shows_the_line(demo: Lab, tmp_path: Path) -> None:
    def sees_the_monitor(vm: FakeVM) -> Iterator[Step]:
        yield "start\r\n"
        yield "I am watched\r\n" if vm.paging == "shadow" else "all well\r\n"
        yield Stop(StopKind.EXIT, "success", 0)

    demo.guests["selftest"] = sees_the_monitor
    file = tmp_path / "demo.json"
    result = demo.command("demo", "--json", file)
    assert result.status == 1
    assert len(re.findall(r"shadow +no ", result.out)) == 1
    assert (
        "selftest under hardware/shadow differs from none/direct in its console; "
        "console line 2 is 'I am watched' instead of 'all well'"
    ) in result.err
    assert "Equivalence is not shown for selftest." in result.err
    assert [each["agrees"] for each in json.loads(file.read_text())] == [True, True, False]


def test_a_different_final_state_is_a_difference(demo: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FakeVM, "state_hash", lambda vm: f"hash under {vm.monitor}")
    result = demo.command("demo")
    assert result.status == 1
    assert "hello under hardware/nested differs from none/direct in its final state" in result.err


@pytest.mark.parametrize("stop", [Stop(StopKind.EXIT, "failed", 3), Stop(StopKind.TIMEOUT, "hangs")])
def test_a_guest_that_fails_everywhere_shows_no_equivalence(demo: Lab, stop: Stop) -> None:
    demo.guests["rings"] = lambda vm: iter([stop])
    result = demo.command("demo")
    assert result.status == 1
    assert f"rings under none/direct did not succeed: {stop.story}\n" in result.err
    assert "Equivalence is not shown for rings." in result.err
