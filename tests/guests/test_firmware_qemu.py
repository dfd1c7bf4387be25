"""The firmware on QEMU's PC: another processor, other chips, and the real way through the reset vector."""

from __future__ import annotations

import re
import time
from pathlib import Path

import pytest

from tests.guests.qemu import Result, Script, boot, needs_qemu
from vlab.errors import UnusableInput
from vlab.guests.firmware import DATA_BASE
from vlab.guests.rebuild import build, find_toolchain
from vlab.guests.recipes import FIRMWARE, IMAGES, Recipe

PROGRAMS = Path(__file__).parent / "programs"

pytestmark = needs_qemu


def option_rom(name: str, scratch: Path) -> Path:
    """Assemble programs/NAME.S as an option ROM, its bytes adding up to zero."""
    try:
        tools = find_toolchain()
    except UnusableInput as absent:
        pytest.skip(str(absent))
    target = scratch / f"{name}.rom"
    recipe = Recipe(name, PROGRAMS, (f"{name}.S",), 16, "option_rom.ld", "binary", target)
    image = bytearray(build(recipe, tools, scratch))
    image[-1] = -sum(image) & 0xFF
    target.write_bytes(image)
    return target


def loader(path: Path, address: int) -> list[str]:
    return ["-device", f"loader,file={path},addr={address:#x},force-raw=on"]


def run(*arguments: str, script: Script | None = None, until: str | None = None) -> Result:
    bios = ["-bios", str(FIRMWARE / "firmware.rom"), "-vga", "std"]
    return boot(*bios, *arguments, script=script, until=until)


def test_it_starts_at_the_reset_vector_and_finds_nothing_to_boot() -> None:
    assert run(until="no disk").console.splitlines() == [
        "vlab firmware: 64 MiB of memory",
        "Nothing to boot: there is no disk.",
    ]


def test_it_runs_the_hello_boot_sector(tmp_path: Path) -> None:
    result = run(*loader(IMAGES / "hello.img", 0x7C00), *loader(option_rom("boot", tmp_path), 0xD0000))
    assert result.console.splitlines()[-1] == "hello from a boot sector in real mode"
    assert result.status == 0


def test_keys_arrive_from_the_keyboard_and_from_com1(tmp_path: Path) -> None:
    script = Script(
        [
            ("keys:", ["a", "shift-b", "ctrl-c", "f1", "up", "ret"], b""),
            (" 1c0d", [], b"xQ\r\x1b[B"),
            (" 5000", ["q"], b""),
        ]
    )
    result = run(*loader(option_rom("keys", tmp_path), 0xD0000), script=script)
    assert result.console.splitlines()[-1] == ("keys: 1e61 3042 2e03 3b00 4800 1c0d 2d78 1051 1c0d 5000 1071")
    assert result.status == 0


def test_memory_is_reported_as_it_is_and_moved_above_1_mib(tmp_path: Path) -> None:
    result = run(*loader(option_rom("memory", tmp_path), 0xD0000))
    lines = dict(line.split(" ", 1) for line in result.console.splitlines()[1:] if " " in line)
    assert result.status == 0, result.console
    assert int(lines["int12"], 16) == DATA_BASE >> 10
    assert int(lines["int15-88"], 16) == 63 * 1024
    assert lines["int15-e801"] == "3c00 0300"
    assert lines["moved"] == "9abc5678"
    entries = [line.split()[1:] for line in result.console.splitlines() if line.startswith("e820")]
    ranges = [(int("".join(e[5:9]), 16), int("".join(e[1:5]), 16), int(e[0], 16)) for e in entries]
    assert (0x100000, 63 << 20, 1) in ranges
    assert (0, DATA_BASE, 1) in ranges


def test_time_passes_as_it_should(tmp_path: Path) -> None:
    result = run(*loader(option_rom("clock", tmp_path), 0xD0000))
    assert result.status == 0, result.console
    ticks = re.search(r"ticks ([0-9a-f]{4})", result.console)
    date = re.search(r"date (\d{4})(\d\d)(\d\d)", result.console)
    assert ticks is not None
    assert 8 <= int(ticks[1], 16) <= 14, "half a second is 9.1 ticks; a busy host may add some"
    assert date is not None
    now = time.gmtime()
    assert abs(int(date[1]) * 12 + int(date[2]) - now.tm_year * 12 - now.tm_mon) <= 1


def test_a_division_by_zero_is_told(tmp_path: Path) -> None:
    result = run(*loader(option_rom("fault", tmp_path), 0xD0000), until="halted.")
    assert "Exception 00 (divide error) at d000:" in result.console
    assert "bytes f7 f1" in result.console
