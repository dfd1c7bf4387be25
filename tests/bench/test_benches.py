"""The benchmarks that there are: their names, bars and results. None of these tests looks at a time."""

from __future__ import annotations

import json
import re
import shutil
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from vlab.bench import boot, compute, exits, fills, footprint, linux, loops, memory, raw
from vlab.bench.registry import Measurement, NotMeasured, benches, measure
from vlab.cli.bench import bench as command
from vlab.guests.catalogue import find
from vlab.machine import helper
from vlab.vmm import monitors

BARS = {
    "shadow-fill": "at most 25",
    "linux-boot": "at most 1.2",
    "exit-roundtrip": "at most 2",
    "trap-roundtrip": "at most 4",
    "trap-cli": "at most 15",
    "exit-trace": "at most 1.5",
    "exit-flat": "at most 1.25",
    "trace-memory": "at most 1",
    "compute-tight": "at least 0.9",
    "compute-calls": "at least 0.85",
    "clock-deterministic": "at least 0.8",
    "memory-peak": "at most 120",
    "memory-idle-vms": "at most 40",
    "view-million": "at most 2",
    "view-scrub": "at least 30",
    "view-dashboard": "at least 0.9",
    "view-first": "at most 3",
    "check-slowest": "at most 2",
    "grade-1000": "at most 180",
    "grade-memory": "at most 16",
}
BOOTS = {
    ("trap-emulate", "shadow"): "None",
    ("binary-translation", "shadow"): "at most 4",
    ("paravirtual", "direct"): "None",
    ("paravirtual", "shadow"): "None",
    ("hardware", "nested"): "at most 1.3",
    ("hardware", "shadow"): "None",
}
"""The bars of boots by monitor and paging; each monitor that there is has its line."""
FIELDS = {"name", "value", "unit", "bar", "holds", "note"}


def silent(_words: str) -> None:
    pass


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sizes with which a measurement takes no time and says nothing."""
    for name, value in {
        "REPETITIONS": 2, "BIRTHS": 2, "ROUND": 60, "YOUNG": 20, "OLD": 200, "CAPACITY": 50,
    }.items():  # fmt: skip
        monkeypatch.setattr(exits, name, value)
    monkeypatch.setattr(boot, "REPETITIONS", 2)
    monkeypatch.setattr(fills, "REPETITIONS", 2)
    for name, value in {"REPETITIONS": 2, "TIGHT": 2000, "CALLS": 1}.items():
        monkeypatch.setattr(compute, name, value)


# --- the registry -----------------------------------------------------------------------------------------


def test_every_promise_has_its_benchmark_and_bar() -> None:
    boots = {f"boot-{'-'.join(way)}": BOOTS[way] for way in monitors.available() if way != boot.BARE}
    assert {name: str(entry.bar) for name, entry in benches().items()} == BARS | boots


def test_every_benchmark_says_what_it_measures_and_in_which_unit() -> None:
    for entry in benches().values():
        assert entry.about.endswith(".")
        assert entry.unit in ("ratio", "MB", "MiB", "us", "s", "frames/s")


# --- the measurements, on tiny sizes ----------------------------------------------------------------------


@pytest.mark.usefixtures("tiny")
@pytest.mark.parametrize(
    "name",
    [
        "exit-roundtrip",
        "trap-roundtrip",
        "trap-cli",
        "shadow-fill",
        "boot-hardware-nested",
        "boot-paravirtual-direct",
        "exit-trace",
        "exit-flat",
        "compute-tight",
        "compute-calls",
        "clock-deterministic",
    ],
)
def test_a_ratio_is_measured(name: str) -> None:
    if helper.load() is None and name in ("compute-calls", "clock-deterministic"):
        pytest.skip(f"the compiled helper is {helper.status()}")
    words: list[str] = []
    result = measure(benches()[name], words.append)
    assert result.value is not None
    assert result.value > 0
    assert (result.holds is None) == (result.bar is None)
    assert result.note
    assert any(text.startswith("repetition 1 of 2: ") for text in words)


@pytest.mark.usefixtures("tiny")
def test_a_trace_of_more_exits_than_it_keeps_takes_what_its_capacity_allows() -> None:
    result = measure(benches()["trace-memory"], silent)
    assert result.value == 1.0
    assert result.holds is True


@pytest.mark.usefixtures("tiny")
def test_an_aged_machine_has_the_exits_behind_it() -> None:
    with exits.aged(silent, 150) as vm:
        assert vm.exits.total >= 150


@pytest.mark.usefixtures("tiny")
def test_a_round_of_traps_has_a_trap_for_each_turn_of_its_loop() -> None:
    with exits.machine(50, "counters", loops.cli_loop(50), "trap-emulate") as vm:
        vm.run(until=loops.MARK)
        before = vm.exits.by_reason()["TRAP"]
        vm.run(until=loops.MARK)
        assert vm.exits.by_reason()["TRAP"] - before == 50


@pytest.mark.usefixtures("tiny")
def test_the_note_on_traps_tells_both_times() -> None:
    result = measure(benches()["trap-roundtrip"], silent)
    assert re.fullmatch(r"[\d.]+ us a trap over [\d.]+ us an exit", result.note)


def test_a_round_over_new_pages_is_one_fill_a_page_and_nothing_else() -> None:
    with fills.machine() as vm:
        seen = []
        for _ in range(2):
            before = dict(vm.exits.by_reason())
            vm.run(until=loops.MARK)
            after = dict(vm.exits.by_reason())
            seen.append({reason: count - before.get(reason, 0) for reason, count in after.items()})
    new, known = ({reason: count for reason, count in each.items() if count} for each in seen)
    assert new == {"PF": fills.PAGES, "IOIO": 1}
    assert known == {"IOIO": 1}


@pytest.mark.usefixtures("tiny")
def test_where_the_kernel_does_not_boot_its_line_says_why() -> None:
    result = measure(benches()["boot-trap-emulate-shadow"], silent)
    assert (result.value, result.bar, result.holds) == (None, None, None)
    assert result.note == (
        "the kernel does not come to its shell; its last words: "
        "panic: interrupts enabled inside a critical section: IF is 1 in schedule"
    )


@pytest.mark.usefixtures("tiny")
def test_the_note_on_a_boot_tells_both_times_and_the_exits() -> None:
    result = measure(benches()["boot-hardware-nested"], silent)
    assert re.fullmatch(r"[\d.]+ ms over [\d.]+ ms; \d+ exits", result.note)


def test_what_needs_the_helper_says_so_without_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(helper, "load", lambda: None)
    monkeypatch.setattr(helper, "status", lambda: "off, as VLAB_HELPER says")
    for name in ("compute-calls", "clock-deterministic"):
        result = measure(benches()[name], silent)
        assert (result.value, result.holds) == (None, None)
        assert result.note == "the compiled helper is off, as VLAB_HELPER says"


@pytest.mark.usefixtures("tiny")
def test_without_the_helper_a_tight_loop_is_measured_under_the_realtime_clock_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(helper, "load", lambda: None)
    result = measure(benches()["compute-tight"], silent)
    assert "realtime" in result.note
    assert "deterministic" not in result.note


def test_the_raw_stop_stops_in_both_ways() -> None:
    for in_python in (False, True):
        raw.RawStop(in_python=in_python).stops(5)


@pytest.mark.parametrize(
    "loop",
    [loops.tight_loop(10), loops.call_loop(1), loops.cpuid_loop(3), loops.cli_loop(3), loops.page_loop(5)],
)
def test_a_loop_goes_round_in_vlab(loop: loops.Loop) -> None:
    with loop.file() as path:
        vm = compute.machine(path, "deterministic")
        vm.run(until=loops.MARK)
        assert vm.console.text == 2 * loops.MARK
        vm.close()


@pytest.mark.parametrize("loop", [loops.tight_loop(10), loops.call_loop(1)])
def test_a_loop_goes_round_in_the_emulator_alone(loop: loops.Loop) -> None:
    alone = raw.RawLoop(loop)
    alone.round()
    alone.round()


# --- Linux and memory -------------------------------------------------------------------------------------


def test_without_qemu_the_message_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda _name: None)
    with pytest.raises(
        NotMeasured, match="QEMU is not installed; on Debian and Ubuntu: sudo apt install qemu"
    ):
        linux.qemu_command(find("linux"))


def test_a_boot_is_timed_up_to_its_marker() -> None:
    boot = linux.boot([sys.executable, "-c", "print('not yet'); print('up and running')"], "up and", 60)
    assert boot.wall > 0
    assert boot.processor >= 0


def test_a_boot_that_ends_without_its_marker_shows_its_last_words() -> None:
    with pytest.raises(NotMeasured, match=r"did not come to 'up'; at last it wrote 'panic\\n'"):
        linux.boot([sys.executable, "-c", "print('panic')"], "up", 60)


@pytest.mark.skipif(not footprint.SUPPORTED, reason="only Linux tells")
def test_a_measured_process_that_fails_is_no_measurement() -> None:
    with pytest.raises(NotMeasured, match=r"(?s)the measured process failed: .*ValueError"):
        memory.probe("idle", "many")


def test_where_the_system_does_not_tell_memory_it_is_not_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(footprint, "SUPPORTED", False)
    with pytest.raises(NotMeasured, match="only Linux tells"):
        memory.probe("idle", "1")


# --- the command ------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("tiny")
def test_only_measures_one_and_writes_its_fields(tmp_path: Path) -> None:
    file = tmp_path / "bench.json"
    result = CliRunner().invoke(
        command, ["--only", "trace-memory", "--json", str(file)], standalone_mode=False
    )
    assert result.exception is None, result.output
    (written,) = json.loads(file.read_text())
    assert set(written) == FIELDS
    assert (written["name"], written["value"], written["holds"]) == ("trace-memory", 1.0, True)
    assert written["bar"] == BARS["trace-memory"]


def test_a_measurement_and_its_note_become_a_result() -> None:
    entry = benches()["exit-trace"]
    changed = type(entry)(
        entry.name, entry.unit, entry.bar, entry.about, lambda _say: Measurement(1.6, "why")
    )
    result = measure(changed, silent)
    assert (result.value, result.holds, result.note) == (1.6, False, "why")
