"""Kernels from before boot protocol 2.08, run: the firmware, their 16-bit code, then their 32-bit part."""

from __future__ import annotations

from pathlib import Path

import pytest

import vlab
from tests.guests import old_kernel
from vlab.session import StopKind

WAYS = [("none", None), ("hardware", "nested"), ("hardware", "shadow")]
KINDS = [(0x200, False), (0x201, False), (0x202, False)] + [
    (version, True) for version in range(0x200, 0x208)
]


def run(tmp_path: Path, version: int, high: bool, **options: object) -> tuple[str, vlab.Stop]:
    path = tmp_path / ("bzImage" if high else "zImage")
    path.write_bytes(old_kernel.kernel(version, high=high))
    with vlab.VM(path, **options) as vm:  # type: ignore[arg-type]
        stop = vm.run(timeout=30)
        return vm.console.text, stop


@pytest.mark.parametrize(("version", "high"), KINDS)
def test_its_setup_code_finds_a_bios_and_its_32_bit_part_what_was_loaded(
    tmp_path: Path, version: int, high: bool
) -> None:
    initrd = tmp_path / "initrd"
    initrd.write_bytes(b"a ram disk")
    text, stop = run(tmp_path, version, high, memory="16M", append="root=/dev/ram", initrd=initrd)
    assert (stop.kind, stop.exit_code) == (StopKind.EXIT, 0), stop.story
    lines = text.replace("\r", "").splitlines()
    assert lines[-3:] == [
        "setup",
        "real mode",
        f"protected mode [console=ttyS0 nokaslr root=/dev/ram] [a ram disk] {15 << 10:08X}",
    ]


@pytest.mark.parametrize(("monitor", "paging"), WAYS)
@pytest.mark.parametrize("high", [False, True])
def test_it_runs_under_every_monitor(tmp_path: Path, monitor: str, paging: str | None, high: bool) -> None:
    text, stop = run(tmp_path, 0x203 if high else 0x201, high, monitor=monitor, paging=paging, memory="8M")
    assert (stop.kind, stop.exit_code) == (StopKind.EXIT, 0), stop.story
    assert text.endswith(f"protected mode [console=ttyS0 nokaslr] [] {7 << 10:08X}\r\n")
