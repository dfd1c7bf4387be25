"""The teaching kernel: its self-test, its shell, its disk, and that all of it is the same everywhere."""

from __future__ import annotations

import random
import struct
from functools import cache
from pathlib import Path

import pytest

import vlab
from tests.guests.qemu import Result, Script, boot, needs_qemu
from vlab.compare import hybrid
from vlab.guests.recipes import IMAGES
from vlab.session import StopKind

DATA, NOTE = random.Random(7).randbytes(21_003), b"here\n"
WAYS = [("none", "direct"), ("hardware", "nested"), ("hardware", "shadow")]
WREN = IMAGES / "wren.elf"
DISK = IMAGES / "wren.img"
SHELL = (
    ("echo one two | cat | wc", "1 2 8\n"),
    ("echo kept > note", ""),
    ("cat note nothing", "kept\ncat: there is no file nothing\n"),
    ("rm note welcome", "rm: welcome cannot be removed\n"),
    ("ps", "  PID PARENT NAME\n    1      0 sh\n    8      1 ps\n"),
    ("sleep 2", ""),
    ("nothing here", "sh: there is no program nothing\n"),
    ("forkwait 5", "forkwait: 5 children\n"),
)
"""What is typed, and what the programs answer."""
CHECKS = 68
"""What the self-test makes, five of them the kernel's own."""
CONVERSATION = "wren: hello\n" + "".join(f"$ {line}\n{answer}" for line, answer in SHELL) + "$ exit 3\n"


def transcript(vm: vlab.VM) -> str:
    return vm.console.text.replace("\r", "")


def assert_passed(console: str) -> None:
    lines = console.splitlines()
    assert lines[0] == "wren: hello"
    assert lines[-1] == f"PASS {CHECKS}", console
    names = [line.removeprefix("ok ") for line in lines[1:-1]]
    assert all(line.startswith("ok ") for line in lines[1:-1]), console
    assert len(names) == len(set(names)) == CHECKS
    groups = {name.partition(".")[0] for name in names}
    assert groups == {"kernel", "process", "time", "memory", "file", "pipe", "shell", "protection"}


@cache
def self_test(monitor: str, paging: str, clock: str = "deterministic") -> tuple[str, int | None]:
    """Run the self-test; give its transcript and how many blocks it took."""
    with vlab.VM("wren", monitor=monitor, paging=paging, append="selftest", clock=clock) as vm:
        stop = vm.run(timeout=100)
        assert stop.kind is StopKind.EXIT, transcript(vm)
        assert stop.exit_code == 0, transcript(vm)
        return transcript(vm), vm.blocks


def converse(vm: vlab.VM) -> None:
    """Type all lines, each at its prompt, and leave the shell."""
    for line, _ in (*SHELL, ("exit 3", "")):
        assert vm.run(until="$ ", timeout=60).kind is StopKind.EXPECTED, transcript(vm)
        vm.send(line + "\n")
    stop = vm.run(timeout=60)
    assert (stop.kind, stop.exit_code) == (StopKind.EXIT, 3)


# --- the self-test ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("monitor", "paging"), WAYS)
def test_the_selftest_passes_and_is_the_same_to_the_block_under_every_monitor(
    monitor: str, paging: str
) -> None:
    outcome = self_test(monitor, paging)
    assert_passed(outcome[0])
    assert outcome == self_test("none", "direct")


def test_the_selftest_does_not_depend_on_time() -> None:
    console, _ = self_test("none", "direct", clock="realtime")
    assert console == self_test("none", "direct")[0]


@pytest.mark.parametrize(
    ("guest", "monitor", "paging"),
    [
        (WREN, "none", "direct"),
        (WREN, "hardware", "nested"),
        (WREN, "binary-translation", "shadow"),
        (DISK, "none", "direct"),
        ("wren-paravirt", "paravirtual", "direct"),
    ],
    ids=lambda value: value.name if isinstance(value, Path) else value,
)
def test_the_selftest_typed_at_the_shell_makes_every_check_in_the_same_order(
    guest: Path | str, monitor: str, paging: str
) -> None:
    with vlab.VM(guest, monitor=monitor, paging=paging) as vm:
        vm.send("selftest\nexit\n")
        assert vm.run(timeout=100).exit_code == 0
        console = transcript(vm)
    typed = "wren: hello\n$ selftest\n"
    started = self_test("none", "direct")[0].removeprefix("wren: hello\n")
    assert console[console.find("wren: hello") :] == f"{typed}{started}$ exit\n"


def test_the_kernels_own_checks_go_where_the_selftest_writes() -> None:
    with vlab.VM("wren", monitor="none") as vm:
        vm.send("selftest | wc\nexit\n")
        assert vm.run(timeout=60).exit_code == 0
        first, wc, last = transcript(vm).splitlines()[1:]
    assert (first, last) == ("$ selftest | wc", "$ exit")
    assert wc.startswith(f"{CHECKS + 1} {2 * (CHECKS + 1)} ")


def test_without_a_true_interrupt_flag_the_kernel_says_what_it_saw() -> None:
    with vlab.VM("wren", monitor="trap-emulate", append="selftest") as vm:
        stop = vm.run(timeout=60)
        lines = transcript(vm).splitlines()
    assert (stop.kind, stop.exit_code) == (StopKind.EXIT, 1)
    assert lines[1:] == [
        "FAILED kernel.cli_is_seen: after CLI, PUSHF shows IF = 1",
        "ok kernel.sti_is_seen",
        "FAILED kernel.save_disables: inside a critical section, PUSHF shows IF = 1",
        "FAILED kernel.restore_nests: after a critical section inside another one, PUSHF shows IF = 1",
        "FAILED kernel.restore_enables: POPF has IF = 1 from the stack, but no interrupt arrives",
        "FAIL 4 of 5",
    ]


def test_without_a_true_interrupt_flag_the_first_critical_section_panics() -> None:
    with vlab.VM("wren", monitor="trap-emulate") as vm:
        stop = vm.run(timeout=60)
        console = transcript(vm)
    assert (stop.kind, stop.exit_code) == (StopKind.EXIT, 2)
    assert console == (
        "wren: hello\npanic: interrupts enabled inside a critical section: IF is 1 in schedule\n"
    )


# --- the shell ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("monitor", "paging"), WAYS)
def test_the_shell_answers_the_same_under_every_monitor(monitor: str, paging: str) -> None:
    with vlab.VM("wren", monitor=monitor, paging=paging) as vm:
        converse(vm)
        assert transcript(vm) == CONVERSATION


def test_what_is_typed_ahead_appears_where_it_is_read() -> None:
    with vlab.VM("wren", monitor="none") as vm:
        vm.send("".join(line + "\n" for line, _ in SHELL) + "exit 3\n")
        assert vm.run(timeout=60).exit_code == 3
        assert transcript(vm) == CONVERSATION


def test_backspace_takes_back_and_control_d_ends_the_input() -> None:
    with vlab.VM("wren", monitor="none") as vm:
        vm.send("ecko\b\bho hi\ncat | wc\none\ntwo\n\x04\x04")
        assert vm.run(timeout=60).exit_code == 0
        console = transcript(vm)
    assert console == "wren: hello\n$ ecko\b \b\b \bho hi\nhi\n$ cat | wc\none\ntwo\n2 2 8\n$ "


def test_a_program_in_the_background_can_be_ended() -> None:
    with vlab.VM("wren", monitor="none") as vm:
        vm.send("sleep 1000000 &\nkill 2\nexit\n")
        assert vm.run(timeout=60).exit_code == 0
        assert transcript(vm) == "wren: hello\n$ sleep 1000000 &\n$ kill 2\n$ exit\n"


@pytest.mark.parametrize(
    ("line", "output"),
    [
        ("forkwait=7", "forkwait: 7 children\n"),
        *(
            (f"bench={name}=20", f"bench {name}: begin\nbench {name}: end\n")
            for name in ("syscall", "pgfault", "in", "cr", "callret", "divzero", "ptemod")
        ),
        ("quiet echo=yes", "yes\n"),
        ("./some/path/wren.elf forkwait=1", "forkwait: 1 children\n"),
    ],
)
def test_the_command_line_chooses_the_first_program(line: str, output: str) -> None:
    with vlab.VM("wren", monitor="none", append=line) as vm:
        assert vm.run(timeout=60).exit_code == 0
        assert transcript(vm) == "wren: hello\n" + output


# --- the disk -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("monitor", ["none", "hardware"])
def test_the_boot_sector_loads_the_same_kernel_from_the_disk(monitor: str) -> None:
    with vlab.VM(DISK, monitor=monitor, memory="16M") as vm:
        converse(vm)
        assert transcript(vm).partition("MiB of memory\n")[2] == CONVERSATION


def test_the_disk_holds_whole_reads_and_the_kernel_behind_the_first_8_kib() -> None:
    disk = DISK.read_bytes()
    assert disk[510:512] == b"\x55\xaa"
    assert (len(disk) - 8192) % (32 * 512) == 0
    assert disk.find(struct.pack("<I", 0x1BADB002)) == 8192


# --- files on a disk ----------------------------------------------------------------------------------------


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    """A tar file with a file of some pages and a bit, and others."""
    path = tmp_path / "disk.tar"
    path.write_bytes(hybrid.archive({"empty": b"", "data": DATA, "welcome": b"not this one", "note": NOTE}))
    return path


ON_DISK = (
    ("cat note", "here\n"),
    ("cat welcome", "wren: a small kernel, written to be read.\nType ls to see its programs.\n"),
    ("sum data", f"sum: data has {len(DATA)} bytes, {hybrid.checksum(DATA):x}\n"),
    ("sum empty", "sum: empty has 0 bytes, 0\n"),
    ("rm note", "rm: note cannot be removed\n"),
    ("cat data | wc > count", ""),
    ("sum note", f"sum: note has {len(NOTE)} bytes, {hybrid.checksum(NOTE):x}\n"),
)
"""What is typed, and what the programs answer when there is a disk; a file of the RAM disk goes first."""


def assert_read(vm: vlab.VM) -> None:
    for line, answer in ON_DISK:
        assert vm.run(until="$ ", timeout=60).kind is StopKind.EXPECTED, transcript(vm)
        vm.send(line + "\n")
        assert vm.run(until=answer.replace("\n", "\r\n") or "\n", timeout=60).kind is StopKind.EXPECTED, line


@pytest.mark.parametrize("driver", ["ata", "vlab"])
@pytest.mark.parametrize(("monitor", "paging"), WAYS)
def test_files_on_a_disk_are_read_by_either_driver(
    driver: str, monitor: str, paging: str, archive: Path
) -> None:
    with vlab.VM("wren", monitor=monitor, paging=paging, disk=archive, append=f"disk={driver}") as vm:
        assert_read(vm)


@pytest.mark.parametrize("paging", ["direct", "shadow"])
def test_the_paravirtual_kernel_reads_them_by_hypercall(paging: str, archive: Path) -> None:
    with vlab.VM(
        "wren-paravirt", monitor="paravirtual", paging=paging, disk=archive, append="disk=yes"
    ) as vm:
        assert_read(vm)


@pytest.mark.parametrize("driver", ["ata", "vlab", "floppy"])
def test_a_driver_without_its_disk_says_so_and_the_kernel_goes_on(driver: str) -> None:
    with vlab.VM("wren", monitor="none", append=f"disk={driver} echo=on") as vm:
        assert vm.run(timeout=60).exit_code == 0
        assert transcript(vm) == f"wren: hello\nthere is no disk for the driver {driver}\non\n"


def test_a_disk_that_is_no_archive_adds_no_files() -> None:
    with (
        vlab.VM("wren", monitor="none", disk=DISK, append="disk=ata ls") as vm,
        vlab.VM("wren", append="ls") as bare,
    ):
        assert vm.run(timeout=60).exit_code == bare.run(timeout=60).exit_code == 0
        assert transcript(vm) == transcript(bare)


def test_a_snapshot_in_the_middle_of_a_sector_goes_on(archive: Path) -> None:
    def reading() -> vlab.VM:
        return vlab.VM("wren", monitor="hardware", disk=archive, append="disk=ata sum=data")

    with reading() as vm, reading() as other:
        vm.run(until="wren: hello", timeout=60)
        vm.step(3000)
        other.restore(vm.snapshot())
        for each in (vm, other):
            assert each.run(timeout=60).exit_code == 0
            assert transcript(each) == "wren: hello\n" + ON_DISK[2][1]


# --- the paravirtual kernel ---------------------------------------------------------------------------------


def test_the_paravirtual_kernel_says_so_where_it_cannot_run() -> None:
    with vlab.VM("wren-paravirt", monitor="none") as vm:
        stop = vm.run(timeout=60)
        assert "this kernel is paravirtual" in transcript(vm)
    assert (stop.kind, stop.exit_code) == (StopKind.EXIT, 2)


def test_the_paravirtual_kernel_has_the_header_that_its_monitor_looks_for() -> None:
    image = (IMAGES / "wren-paravirt.elf").read_bytes()
    place = image.find(struct.pack("<II", 0x6E657257, 1))
    header = struct.unpack_from("<5I", image, place)
    assert place % 4 == 0
    assert place < 8192
    assert sum(header) & 0xFFFFFFFF == 0
    assert header[2] == 0xC0000000
    assert 0xC0100000 <= header[3] < 0xC0101000


# --- on QEMU ------------------------------------------------------------------------------------------------


def on_qemu(*arguments: str, script: Script | None = None) -> Result:
    result = boot("-cpu", "max", *arguments, timeout=60, script=script)
    return Result(
        "wren: hello" + result.console.rpartition("wren: hello")[2].replace("\r", ""), result.status
    )


def qemu_script() -> Script:
    """Type each line when the answer to the one before, and a prompt, are there."""
    steps, answer = [], "wren: hello\n"
    for line, output in (*SHELL, ("exit 3", "")):
        steps.append((f"{answer}$ ".replace("\n", "\r\n"), list[str](), f"{line}\n".encode()))
        answer = f"$ {line}\n{output}"
    return Script(steps)


@needs_qemu
def test_qemu_agrees_with_every_line_of_the_selftest() -> None:
    result = on_qemu("-kernel", str(WREN), "-append", "selftest")
    assert result.status == 0, result.console
    assert result.console == self_test("none", "direct")[0]


@needs_qemu
def test_qemu_agrees_with_every_line_of_the_selftest_typed_at_the_disks_shell() -> None:
    script = Script([("$ ", [], b"selftest\n"), (f"PASS {CHECKS}\r\n$ ", [], b"exit\n")])
    result = on_qemu("-drive", f"format=raw,file={DISK},if=ide,snapshot=on", script=script)
    assert result.status == 0, result.console
    started = self_test("none", "direct")[0].removeprefix("wren: hello\n")
    assert result.console == f"wren: hello\n$ selftest\n{started}$ exit\n"


@needs_qemu
@pytest.mark.parametrize("way", ["kernel", "drive"])
def test_qemu_has_the_same_conversation(way: str) -> None:
    disk = f"format=raw,file={DISK},if=ide,snapshot=on"
    arguments = ["-kernel", str(WREN)] if way == "kernel" else ["-drive", disk]
    result = on_qemu(*arguments, script=qemu_script())
    assert (result.console, result.status) == (CONVERSATION, 3)


@needs_qemu
def test_qemus_own_ata_disk_is_read_by_the_same_driver(archive: Path) -> None:
    disk = f"format=raw,file={archive},if=ide,snapshot=on"
    result = on_qemu("-kernel", str(WREN), "-append", "disk=ata sum=data", "-drive", disk)
    assert (result.console, result.status) == ("wren: hello\n" + ON_DISK[2][1], 0)


@needs_qemu
def test_qemu_refuses_the_paravirtual_kernel_politely() -> None:
    result = boot("-kernel", str(IMAGES / "wren-paravirt.elf"), timeout=30)
    assert "this kernel is paravirtual" in result.console
    assert result.status == 2
