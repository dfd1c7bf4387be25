"""The bundled guests on QEMU: an outside opinion that they are right, and a reference for what they print."""

from __future__ import annotations

import re

import pytest

from tests.guests.qemu import Result, boot, needs_qemu
from vlab.guests.recipes import IMAGES

pytestmark = needs_qemu


def run(name: str, *, cpu: str = "max", command_line: str = "", until: str | None = None) -> Result:
    kernel = ["-kernel", str(IMAGES / f"{name}.elf"), "-append", command_line]
    result = boot("-cpu", cpu, *kernel, until=until)
    console = result.console.rpartition("Booting from ROM..")[2].replace("\r", "")
    return Result(console, result.status)


def test_hello_prints_its_line_through_the_bios() -> None:
    disk = f"format=raw,file={IMAGES / 'hello.img'},if=ide,snapshot=on"
    result = boot("-vga", "std", "-drive", disk)
    assert result.status == 0, "the screen is not seen here; test_firmware_qemu reads it from COM1"


def test_rings_shows_every_change_of_ring() -> None:
    result = run("rings")
    lines = result.console.splitlines()
    assert result.status == 0, result.console
    assert lines[0] == "rings: GDT, TSS and IDT are loaded; SYSENTER is there"
    refused = re.findall(r"#GP, error code (\w+), at \w+: (.*) is not for ring 3", result.console)
    assert refused == [
        ("0x0", "HLT"),
        ("0x0", "CLI"),
        ("0x0", "MOV EAX, CR0"),
        ("0x0", "MOV CR3, EAX"),
        ("0x0", "LIDT"),
        ("0x0", "OUT 80h, AL"),
        ("0x6a", "INT 0Dh (its gate has DPL 0)"),
    ]
    assert sum("says hello for ring 3" in line for line in lines) == 2
    assert lines[-1] == "rings: done, 10 times in, 10 times out, 7 refusals"


def test_rings_does_without_sysenter() -> None:
    result = run("rings", cpu="pentium")
    assert result.status == 0, result.console
    assert "SYSENTER is not there" in result.console
    assert result.console.splitlines()[-1] == "rings: done, 9 times in, 9 times out, 7 refusals"


def test_longmode_walks_pages_of_every_size_and_shows_every_fault() -> None:
    result = run("longmode")
    assert result.status == 0, result.console
    sizes = re.findall(r"in a page of (\d \wiB), (.*)", result.console)
    assert sizes == [
        ("4 KiB", "read-only, supervisor, executable"),
        ("2 MiB", "writable, supervisor, no execute"),
        ("4 KiB", "read-only, supervisor, no execute"),
        ("1 GiB", "writable, supervisor, no execute"),
    ]
    codes = [int(code, 16) for code in re.findall(r"#PF, CR2 = \w{16}, error code (0x\w\w)", result.console)]
    assert codes == [0, 2, 3, 0x11, 0, 5, 7, 7, 4]
    assert "after a write:  A=1 D=1" in result.console
    assert result.console.splitlines()[-1] == "longmode: done"


def test_longmode_says_when_there_is_none() -> None:
    result = run("longmode", cpu="qemu32")
    assert result.console == "longmode: this processor has no long mode\n"
    assert result.status == 1


@pytest.mark.parametrize("cpu", ["max", "EPYC", "qemu32"])
def test_the_selftest_passes(cpu: str) -> None:
    result = run("selftest", cpu=cpu)
    lines = result.console.splitlines()
    assert [line for line in lines if line.startswith("FAIL")] == []
    assert result.status == 0, "\n".join(lines[-5:])
    passed = re.fullmatch(r"PASS (\d+)", lines[-1])
    assert passed is not None
    assert (
        int(passed[1]) == sum(line.startswith("ok ") for line in lines) >= (390 if cpu != "qemu32" else 300)
    )
    names = [line.split()[1] for line in lines if line.startswith(("ok ", "skip "))]
    assert len(names) == len(set(names)), "every check has a name of its own"


def test_a_check_can_be_left_out_by_name() -> None:
    result = run("selftest", command_line="skip=long,apic")
    assert result.status == 0
    assert "skip long\n" in result.console
    assert "skip apic\n" in result.console
    assert "ok long." not in result.console


def test_tripfault_ends_the_machine_without_a_word_more() -> None:
    result = run("tripfault")
    assert result.console == "tripfault: the IDT is empty now; this UD2 is my last instruction\n"
    assert result.status is None, "a reset, which -no-reboot makes the end"


def test_spin_never_ends_by_itself() -> None:
    result = run("spin", until="for ever")
    assert result.console == "spin: jumping to myself, for ever\n"
    assert result.status is None


@pytest.mark.parametrize("large", [0, 1])
def test_sweep_has_the_digests_that_it_has_here(large: int) -> None:
    import vlab

    command_line = f"pages=300 rounds=4 touches=100 updates=9 large={large}"
    result = run("sweep", command_line=command_line)
    assert result.status == 0, result.console
    with vlab.VM("sweep", append=command_line, monitor="none") as vm:
        vm.run(timeout=30)
        assert result.console == vm.console.text.replace("\r", "")
