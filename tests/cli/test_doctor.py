"""`vlab doctor`: each line says what was found; only what is needed and missing makes it fail."""

from __future__ import annotations

import importlib.metadata
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.conftest import FakeVM, Lab, Step
from vlab.cli import doctor
from vlab.cli.doctor import Finding
from vlab.grading.jail.layers import confinement
from vlab.machine import helper
from vlab.vmm.stop import Stop, StopKind


@pytest.fixture
def healthy(lab: Lab) -> Lab:
    lab.guests["hello"] = lambda vm: iter(["Hello\r\n"])
    return lab


def test_a_healthy_computer_is_status_0(healthy: Lab) -> None:
    result = healthy.command("doctor")
    assert result.status == 0, result.out
    lines = {line.split()[1]: line for line in result.out.splitlines() if "->" not in line}
    for name in ("vlab", "python", "platform", "unicorn", "capstone", "numpy", "pandas"):
        assert lines[name].startswith("ok "), lines[name]
    assert "the guest 'hello' ran in" in lines["machine"]
    assert {"helper", "compiler", "qemu", "apt", "linux", "cache", "terminal"} <= set(lines)


def test_an_optional_program_that_is_missing_says_what_for_and_how_to_get_it(
    healthy: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    result = healthy.command("doctor")
    assert result.status == 0
    assert "without  qemu        not found; needed for comparing in `vlab bench`\n" in result.out
    assert "-> sudo apt install qemu-system-x86\n" in result.out


def test_without_the_helper_it_says_what_is_missed(healthy: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(helper, "load", lambda: None)
    monkeypatch.setattr(helper, "status", lambda: "not there: so it is")
    result = healthy.command("doctor")
    assert result.status == 0
    assert "without  helper      not there: so it is\n" in result.out
    assert (
        "-> without it results come later, and a guest that executes LOCK BT of a register ends" in result.out
    )


def test_a_needed_package_that_is_missing_is_status_1(healthy: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    def version(name: str) -> str:
        if name == "unicorn":
            raise importlib.metadata.PackageNotFoundError(name)
        return "1.0"

    monkeypatch.setattr(doctor, "version", version)
    result = healthy.command("doctor")
    assert result.status == 1
    assert "missing  unicorn     not installed\n" in result.out
    assert "-> install vlab again" in result.out


def test_a_machine_that_does_not_run_its_guest_is_status_1(healthy: Lab) -> None:
    healthy.guests["hello"] = lambda vm: iter([Stop(StopKind.TRIPLE_FAULT, "story")])
    result = healthy.command("doctor")
    assert result.status == 1
    assert "missing  machine" in result.out
    assert "ended by triple-fault" in result.out


def test_a_check_that_fails_itself_is_a_line_and_no_traceback(healthy: Lab) -> None:
    def cannot_load(vm: FakeVM) -> Iterator[Step]:
        yield "x"
        raise ImportError("libunicorn.so.2: cannot open\nshared object file")

    healthy.guests["hello"] = cannot_load
    result = healthy.command("doctor")
    assert result.status == 1
    assert "missing  machine     libunicorn.so.2: cannot open shared object file\n" in result.out


def test_a_cache_that_cannot_be_is_not_called_writable(
    healthy: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_bytes(b"")
    monkeypatch.setenv("VLAB_CACHE", str(tmp_path / "file" / "cache"))
    result = healthy.command("doctor")
    assert result.status == 0
    assert f"without  cache       {tmp_path / 'file' / 'cache'}: 0 MiB used" in result.out
    assert "-> set VLAB_CACHE to a directory that you can write to" in result.out


@pytest.mark.parametrize(
    ("finding", "lines"),
    [
        (Finding("x", True, "here", "fetch it"), ["ok       x           here"]),
        (Finding("x", False, "gone"), ["missing  x           gone"]),
        (Finding("x", False, "gone", "y", needed=False), ["without  x           gone", " " * 20 + " -> y"]),
    ],
)
def test_a_finding_is_a_line_and_its_remedy(finding: Finding, lines: list[str]) -> None:
    assert list(finding.lines()) == lines


def test_it_says_what_holds_student_code_here(healthy: Lab) -> None:
    walls = [finding.detail for finding in doctor.findings() if finding.name == "jail"]
    assert walls == confinement()
