"""Bad input and broken guests: one clear sentence, the right kind or status, and nothing of Python's."""

from __future__ import annotations

import os
import random
import struct
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

import vlab
from vlab.errors import UnusableImage, UnusableInput, VlabError
from vlab.guests.programs import (
    CODE,
    CPUID,
    HALT,
    SPIN,
    UD2,
    guest,
    image,
    image64,
    leave,
    out,
    say,
    store,
    timer,
)
from vlab.session import StopKind
from vlab.vmm.paging.nested import NestedPaging

SPIN_IMAGE = image(SPIN)


def one_line(error: VlabError) -> str:
    text = str(error)
    assert "\n" not in text
    assert text
    assert not text.endswith(".")
    return text


# --- arguments --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"guest": "spinn"},
            "guest: there is no guest named 'spinn'; did you mean spin? `vlab guests list` shows",
        ),
        ({"guest": "./no/such/file"}, "guest: there is no file no/such/file; check the path"),
        ({"guest": "."}, "guest: . is a directory; give the path of a file"),
        ({"monitor": "vmware"}, "monitor: there is no 'vmware'; choose one of none, "),
        ({"paging": "sideways"}, "paging: 'sideways' does not go with the monitor hardware; choose nested"),
        (
            {"monitor": "none", "paging": "nested"},
            "paging: 'nested' does not go with the monitor none; choose direct",
        ),
        (
            {"monitor": "none", "paging": NestedPaging()},
            "paging: the bare machine has no monitor to use a paging",
        ),
        (
            {"paging": NestedPaging},
            "paging: NestedPaging is a class; give an object of it, paging=NestedPaging()",
        ),
        ({"clock": "sundial"}, "clock: there is no 'sundial'; choose deterministic or realtime"),
        ({"trace": "loud"}, "'loud'"),
        ({"trace_capacity": 0}, "0"),
        (
            {"memory": "lots"},
            "memory: 'lots' is not a size; write a number of bytes with an optional K, M or G",
        ),
        ({"memory": "-5M"}, "memory: '-5M' is not a size"),
        ({"memory": ""}, "memory: '' is not a size"),
        ({"memory": "9" * 40}, "is not a size"),
        ({"memory": 4.5}, "memory: 4.5 is not a size"),
        ({"memory": "1M"}, "memory: '1M' is not between 2M and 3G; ask for more"),
        ({"memory": 0}, "memory: 0 is not between 2M and 3G; ask for more"),
        ({"memory": "100G"}, "memory: '100G' is not between 2M and 3G; ask for less"),
        ({"initrd": "no/initrd"}, "initrd: there is no file no/initrd; check the path"),
        ({"disk": "no/disk"}, "disk: there is no file no/disk; check the path"),
        ({"guest": "hello", "append": "quiet"}, "append: hello is a boot sector or disk image"),
    ],
)
def test_an_argument_that_cannot_be_used_is_named_with_its_value(
    options: dict[str, object], message: str
) -> None:
    arguments = {"guest": "spin", **options}
    with pytest.raises(UnusableInput) as refusal:
        vlab.VM(**arguments)  # type: ignore[arg-type]
    assert message in one_line(refusal.value)
    assert refusal.value.exit_status == 2


def test_memory_that_this_computer_does_not_have_is_refused_in_one_line() -> None:
    with pytest.raises(UnusableInput, match=r"memory: \d+ is not between 2M and 3G"):
        vlab.Machine(1 << 60)


def test_what_a_run_waits_for_must_make_sense(tmp_path: Path) -> None:
    with vlab.VM(guest(tmp_path, SPIN), memory="4M") as vm:
        with pytest.raises(UnusableInput, match="until: 7 is neither text nor a function of the VM"):
            vm.run(until=7)  # type: ignore[arg-type]
        with pytest.raises(
            UnusableInput, match="exits: 0 is no number of exits to wait for; give at least 1"
        ):
            vm.run(exits=0)
        assert vm.run(timeout=-1).kind == StopKind.TIMEOUT


def test_one_strategy_serves_one_guest(tmp_path: Path) -> None:
    paging = NestedPaging()
    first = vlab.VM(guest(tmp_path, SPIN), memory="4M", paging=paging)
    with pytest.raises(
        UnusableInput, match="this strategy serves another VM already; make a new one for each VM"
    ):
        vlab.VM(guest(tmp_path, SPIN), memory="4M", paging=paging)
    assert first.run(timeout=0.02).kind == StopKind.TIMEOUT
    first.close()
    with vlab.VM(guest(tmp_path, SPIN), memory="4M", paging=paging) as again:
        assert again.run(timeout=0.02).kind == StopKind.TIMEOUT


# --- images -----------------------------------------------------------------------------------------------


def multiboot_without_addresses() -> bytes:
    return struct.pack("<III", 0x1BADB002, 0, -0x1BADB002 & 0xFFFFFFFF) + bytes(100)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "starts with nothing: it is empty"),
        (b"\0" * 4096, "starts with zeros"),
        (b"hello, world\n" * 40, "starts with text"),
        (b"\x89PNG\r\n\x1a\n" + bytes(600), "starts with a PNG picture"),
        (b"\x7fELF" + bytes(600), "ELF"),
        (multiboot_without_addresses(), "without load addresses"),
        (SPIN_IMAGE[:14], ""),
        (SPIN_IMAGE[:28] + struct.pack("<I", 0x5000) + SPIN_IMAGE[32:], "entry point 0x5000"),
        (SPIN_IMAGE[:20] + struct.pack("<I", 0x200000) + SPIN_IMAGE[24:], "is truncated"),
        (
            bytes(0x1F1) + b"\x04" + bytes(510 - 0x1F2) + b"\x55\xaa" + bytes(2) + b"HdrS" + bytes(100),
            "truncated",
        ),
    ],
)
def test_a_file_that_is_no_guest_is_refused_in_one_line(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "broken.img"
    path.write_bytes(content)
    with pytest.raises(UnusableImage) as refusal:
        vlab.VM(path)
    assert message in one_line(refusal.value)


def test_a_guest_that_does_not_fit_into_its_memory_says_how_much_it_needs(tmp_path: Path) -> None:
    path = tmp_path / "big.bin"
    path.write_bytes(SPIN_IMAGE[:20] + struct.pack("<II", 0, 0x100000 + (64 << 20)) + SPIN_IMAGE[28:])
    with pytest.raises(UnusableInput, match="memory"):
        vlab.VM(path, memory="4M")


def test_truncated_and_random_images_are_refused_or_run_but_never_surprise(tmp_path: Path) -> None:
    from vlab.guests import catalogue

    rng = random.Random(1998)
    path = tmp_path / "mutant"
    originals = [
        entry.read_kernel() for entry in catalogue.guests() if entry.available and entry.kind != "linux"
    ]
    for _ in range(60):
        content = bytearray(rng.choice(originals))
        if rng.random() < 0.4:
            del content[rng.randrange(len(content)) :]
        for _ in range(rng.choice((0, 1, 30))):
            if content:
                content[rng.randrange(min(len(content), 4096))] = rng.randrange(256)
        path.write_bytes(content)
        try:
            vm = vlab.VM(path, memory="4M", monitor=rng.choice(("none", "hardware")))
        except UnusableInput as refusal:
            one_line(refusal)
        else:
            with vm:
                stop = vm.run(timeout=0.05)
                assert stop.story


# --- guests that go wrong ---------------------------------------------------------------------------------

JUMP_INTO_NOWHERE = bytes.fromhex("B8 00 00 00 E0 FF E0")  # mov eax, E0000000h; jmp eax
NO_STACK = bytes.fromhex("BC 00 00 00 F0 50") + SPIN  # mov esp, F0000000h; push eax
EMPTY_IDT = bytes.fromhex("0F 01 1D 00 80 00 00")  # lidt [8000h]: limit 0


@pytest.mark.parametrize("monitor", ["none", "hardware"])
@pytest.mark.parametrize(
    ("code", "kind", "words"),
    [
        (
            EMPTY_IDT + UD2,
            StopKind.TRIPLE_FAULT,
            ["triple fault", "#UD", "#GP", "#DF", "ud2", f"rip={CODE + 7:x}"],
        ),
        (EMPTY_IDT + b"\xcc", StopKind.TRIPLE_FAULT, ["triple fault", "int3"]),
        (
            EMPTY_IDT + b"\x0f\x20\xe0\xb8\xff\xff\xff\xff\x0f\x22\xe0",
            StopKind.TRIPLE_FAULT,
            ["#GP", "mov cr4, eax"],
        ),
        (HALT, StopKind.HALTED, ["halted at", "interrupts disabled", "nothing can wake it", "rip="]),
        (SPIN, StopKind.TIMEOUT, ["the time ran out: 0.3 seconds of wall time"]),
        (b"\xea\x00\x00\x10\x00\x33\x00", StopKind.TRIPLE_FAULT, ["#GP", "triple fault"]),  # jmp 33h:100000h
        (
            b"\xb0\xfe\xe6\x64" + SPIN,
            StopKind.RESET,
            ["the guest reset the machine through the keyboard controller"],
        ),
        (b"\x66\xba\xf9\x0c\xb0\x06\xee" + SPIN, StopKind.RESET, ["reset control register (CF9h)"]),
        (leave(0), StopKind.EXIT, ["the guest ended with status 0 (success)"]),
        (leave(9), StopKind.EXIT, ["the guest ended with status 9 (failure)"]),
    ],
    ids=["ud2", "int3", "cr4", "halt", "spin", "far jump", "reset 64h", "reset CF9h", "exit 0", "exit 9"],
)
def test_a_guests_end_is_told_in_words(
    tmp_path: Path, monitor: str, code: bytes, kind: StopKind, words: list[str]
) -> None:
    with vlab.VM(guest(tmp_path, code), memory="4M", monitor=monitor) as vm:
        stop = vm.run(timeout=0.3 if kind == StopKind.TIMEOUT else 20)
        assert stop.kind == kind, stop.story
        for word in words:
            assert word in stop.story
        assert str(stop) == stop.story
        assert vm.registers().rip


@pytest.mark.parametrize("monitor", ["none", "hardware"])
@pytest.mark.parametrize("code", [JUMP_INTO_NOWHERE, NO_STACK, JUMP_INTO_NOWHERE[:5] + b"\xff\x10"])
def test_a_guest_that_leaves_its_memory_ends_in_a_story_or_goes_on(
    tmp_path: Path, monitor: str, code: bytes
) -> None:
    with vlab.VM(guest(tmp_path, code), memory="4M", monitor=monitor) as vm:
        stop = vm.run(timeout=1)
        assert stop.kind in (StopKind.FAILED, StopKind.TRIPLE_FAULT, StopKind.TIMEOUT), stop.story
        if stop.final:
            assert "rip=" in stop.story
        assert len(vm.state_hash()) == 64


def endless_page_fault() -> tuple[bytes, dict[int, bytes]]:
    """A long-mode program that jumps to where nothing is mapped, as the #PF handler does; its stack is
    a new one each time. Gives the code and the tables (address -> content) that it needs.
    """
    nowhere, gdt, tss, idt, registers = 0x2_0000_0000, 0x9000, 0x9100, 0x9200, 0x9400
    code = b"\x0f\x01\x14\x25" + struct.pack("<I", registers)  # lgdt [registers]
    code += b"\x0f\x01\x1c\x25" + struct.pack("<I", registers + 16)  # lidt [registers + 16]
    code += bytes.fromhex("66 B8 18 00 0F 00 D8")  # mov ax, 18h; ltr ax
    code += b"\x48\xb8" + struct.pack("<Q", nowhere) + b"\xff\xe0"  # mov rax, nowhere; jmp rax
    return code, {
        gdt: struct.pack("<5Q", 0, 0, 0x00AF9B000000FFFF, 0x0000890000000067 | tss << 16, 0),
        tss + 36: struct.pack("<Q", 0x8800),  # IST1
        idt + 14 * 16: struct.pack("<HHBBHII", 0, 0x10, 1, 0x8E, 0, nowhere >> 32, 0),
        registers: struct.pack("<HQ6xHQ", 39, gdt, 255, idt),
    }


@pytest.mark.parametrize("monitor", ["none", "hardware"])
def test_a_fault_that_its_own_handler_repeats_for_ever_can_be_stopped(tmp_path: Path, monitor: str) -> None:
    code, tables = endless_page_fault()
    path = tmp_path / "storm.elf"
    path.write_bytes(image64(code))
    with vlab.VM(path, memory="4M", monitor=monitor) as vm:
        for address, content in tables.items():
            vm.memory[address : address + len(content)] = content
        assert vm.run(timeout=0.2).kind == StopKind.TIMEOUT
        assert vm.registers().cr2 == vm.registers().rip == 0x2_0000_0000
        vm.start()
        stop = vm.pause()
        assert stop is not None
        assert stop.kind == StopKind.PAUSED


@pytest.mark.parametrize("clock", ["deterministic", "realtime"])
def test_a_guest_that_sets_its_timer_over_and_over_is_stopped_in_time(tmp_path: Path, clock: str) -> None:
    again = out(0x43, 0x34) + out(0x40, 0xFF) + out(0x40, 0x01)
    again += bytes((0xEB, -len(again) - 2 & 0xFF))  # jmp again
    with vlab.VM(guest(tmp_path, again), memory="4M", clock=clock) as vm:
        started = time.monotonic()
        assert vm.run(timeout=0.2).kind == StopKind.TIMEOUT
        assert time.monotonic() - started < 1


@pytest.mark.parametrize("monitor", ["none", "hardware"])
def test_random_instructions_never_escape(tmp_path: Path, monitor: str) -> None:
    rng = random.Random(f"escape {monitor}")
    for _ in range(40):
        code = timer(then=rng.randbytes(60) + SPIN) if rng.random() < 0.5 else rng.randbytes(80)
        with vlab.VM(guest(tmp_path, code), memory="4M", monitor=monitor) as vm:
            stop = vm.run(timeout=0.02)
            assert stop.story
            assert vm.registers().rip >= 0
            assert vm.disassemble(2)


# --- the command line -------------------------------------------------------------------------------------


def command_line(*arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "vlab.cli", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, **environment},
    )


@pytest.mark.parametrize(
    ("code", "options", "status", "message"),
    [
        (SPIN, ["--timeout", "0.2"], 3, "vlab: the time ran out after 0.2 s\n"),
        (HALT, [], 0, "with interrupts disabled; nothing can wake it\n"),
        (say("hi") + leave(0), ["--expect", "hi"], 0, ""),
        (EMPTY_IDT + UD2, [], 1, "triple fault: the guest's exception handling failed three times over\n"),
        (SPIN, ["--monitor", "x"], 2, "vlab: monitor: there is no 'x'; choose one of"),
    ],
    ids=["timeout", "halt", "expect", "triple fault", "monitor"],
)
@pytest.mark.slow
def test_the_command_line_says_it_in_one_line_with_its_status(
    tmp_path: Path, code: bytes, options: list[str], status: int, message: str
) -> None:
    done = command_line("run", guest(tmp_path, code), *options)
    assert (done.returncode, "Traceback" in done.stderr) == (status, False), done.stderr
    assert message in done.stderr
    assert bool(done.stderr) is bool(message)


def test_an_unwritable_cache_is_told_in_one_line(tmp_path: Path) -> None:
    locked = tmp_path / "file"
    locked.write_text("not a directory")
    done = command_line("guests", "fetch", "linux", VLAB_CACHE=str(locked / "cache"))
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "cache" in done.stderr


def test_without_a_cache_to_build_the_helper_in_everything_still_runs(tmp_path: Path) -> None:
    locked = tmp_path / "file"
    locked.write_text("not a directory")
    done = command_line("run", guest(tmp_path, say("here") + leave(0)), VLAB_CACHE=str(locked / "cache"))
    assert (done.returncode, done.stdout) == (0, "here")


# --- what breaks inside -----------------------------------------------------------------------------------


class Broken(NestedPaging):
    """A strategy that raises in one of its methods."""

    def __init__(self, method: str) -> None:
        def fail(*_: object) -> None:
            raise ArithmeticError(f"{method} of a student's")

        setattr(self, method, fail)


@pytest.mark.parametrize("method", ["attach", "configure", "initial_state", "guest_state"])
def test_a_strategy_that_raises_when_it_is_set_up_leaves_nothing_behind(tmp_path: Path, method: str) -> None:
    before = vlab.VM(guest(tmp_path, SPIN), memory="4M")
    before.close()
    with pytest.raises(ArithmeticError, match=f"{method} of a student's"):  # noqa: SIM117
        with vlab.VM(guest(tmp_path, SPIN), memory="4M", paging=Broken(method)) as vm:
            vm.run(timeout=0.01)
            vm.registers()


def test_a_strategy_that_leaves_an_exit_to_nobody_ends_the_guest_with_a_story(tmp_path: Path) -> None:
    paging = NestedPaging()
    paging.handle = lambda _exit: None  # type: ignore[method-assign,assignment]
    code = bytes.fromhex("A1 00 00 00 F0") + SPIN  # mov eax, [F0000000h]
    with vlab.VM(guest(tmp_path, code), memory="4M", paging=paging) as vm:
        stop = vm.run(timeout=10)
    assert stop.kind == StopKind.FAILED
    assert "the paging strategy nested left NestedPageFault(gpa=4026531840" in stop.story
    assert "mov eax, dword ptr [0xf0000000]" in stop.story


def test_a_listener_and_a_predicate_that_raise_together_are_told_one_after_the_other(tmp_path: Path) -> None:
    def listen(_data: bytes) -> None:
        raise KeyError("listener")

    problems: list[type[BaseException]] = []
    with vlab.VM(guest(tmp_path, store(0x8000, 1) + say("x") + CPUID + leave(0)), memory="4M") as vm:
        vm.console.subscribe(listen)
        ends: list[Callable[[vlab.VM], bool] | None] = [lambda vm: bool(vm.console.text) and 1 // 0 > 0, None]
        while True:
            try:
                stop = vm.run(until=ends[0])
            except (KeyError, ZeroDivisionError) as problem:
                problems.append(type(problem))
                if isinstance(problem, ZeroDivisionError):
                    ends.pop(0)
            else:
                break
    assert (problems, stop.exit_code) == ([KeyError, ZeroDivisionError], 0)
