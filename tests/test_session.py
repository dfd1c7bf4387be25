"""The public face: running to a text, a predicate, a time or an exit; looking; closing."""

from __future__ import annotations

import gc
import subprocess
import sys
import textwrap
import time
import weakref
from collections.abc import Iterator
from pathlib import Path

import pytest

import vlab
from vlab.errors import UnusableInput
from vlab.guests import catalogue
from vlab.guests.programs import (
    CODE,
    CPUID,
    HALT,
    SCRATCH,
    SPIN,
    TICKS,
    count_down,
    guest,
    increment,
    leave,
    out,
    say,
    store,
    timer,
)
from vlab.session import StopKind
from vlab.vmm import monitors

WAYS = monitors.ways_for("hello")
BUNDLED = [entry.name for entry in catalogue.guests() if entry.kind != "linux" and entry.kernel is not None]
ENDLESS = {"spin", "wren"}


def open_vm(directory: Path, code: bytes, **options: object) -> vlab.VM:
    return vlab.VM(guest(directory, code), memory="4M", **options)  # type: ignore[arg-type]


@pytest.fixture(params=["none", "hardware"])
def either(request: pytest.FixtureRequest) -> str:
    """The bare machine and the plainest monitor."""
    name: str = request.param
    return name


# --- how a run ends ---------------------------------------------------------------------------------------


def test_a_run_ends_when_the_text_appears_and_goes_on_behind_it(tmp_path: Path, either: str) -> None:
    with open_vm(tmp_path, say("one two one two") + leave(0), monitor=either) as vm:
        first = vm.run(until="one")
        seen = vm.console.text
        assert (first.kind, seen) == (StopKind.EXPECTED, "one")
        assert vm.run(until="one").kind == StopKind.EXPECTED
        assert vm.console.text == "one two one"
        last = vm.run(until="one")
        assert (last.kind, last.exit_code) == (StopKind.EXIT, 0)
        assert last.story == "the guest ended with status 0 (success)"


def test_text_that_an_earlier_run_passed_by_without_waiting_for_it_still_counts(tmp_path: Path) -> None:
    with open_vm(tmp_path, say("alpha beta") + SPIN) as vm:
        vm.run(until="beta")
        assert vm.run(until="alpha", timeout=0.2).kind == StopKind.TIMEOUT
    with open_vm(tmp_path, say("alpha beta") + SPIN) as vm:
        vm.run(timeout=0.1)
        assert vm.run(until="alpha").kind == StopKind.EXPECTED
        assert vm.run(until="beta").kind == StopKind.EXPECTED


def test_a_predicate_is_asked_between_blocks_of_guest_code(tmp_path: Path, either: str) -> None:
    asked: list[int] = []

    def long_enough(vm: vlab.VM) -> bool:
        asked.append(vm.registers().rip)
        return len(asked) == 5

    with open_vm(tmp_path, SPIN, monitor=either) as vm:
        stop = vm.run(until=long_enough, timeout=20)
    assert (stop.kind, asked[1:]) == (StopKind.EXPECTED, [CODE] * 4)


def test_what_a_predicate_raises_comes_out_of_run_and_the_guest_goes_on_afterwards(tmp_path: Path) -> None:
    with open_vm(tmp_path, say("hi") + leave(7)) as vm:
        with pytest.raises(ZeroDivisionError):
            vm.run(until=lambda _vm: 1 // 0 == 0)
        assert vm.run().exit_code == 7
        assert vm.console.text == "hi"


def test_a_timeout_is_kept_even_by_a_guest_that_does_nothing_but_exit(tmp_path: Path, either: str) -> None:
    loop = CPUID + b"\xeb\xfc"  # again: cpuid; jmp again
    with open_vm(tmp_path, loop, monitor=either) as vm:
        started = time.monotonic()
        stop = vm.run(timeout=0.2)
        assert time.monotonic() - started < 1.5
    assert (stop.kind, stop.story) == (StopKind.TIMEOUT, "the time ran out: 0.2 seconds of wall time")


def test_a_run_can_be_as_long_as_so_many_exits(tmp_path: Path) -> None:
    with open_vm(tmp_path, b"\x53" + CPUID * 10 + b"\x5b" + leave(0), trace="full") as vm:
        assert vm.run(exits=3).kind == StopKind.EXPECTED
        assert vm.exits.total == 3
        for total in (4, 5):
            vm.step()
            assert vm.exits.total == total
        assert vm.registers().rip == CODE + 1 + 2 * 5
        vm.run()
        assert dict(vm.exits.by_reason())["CPUID"] == 10


def test_stepping_stops_behind_each_port_access(tmp_path: Path) -> None:
    with open_vm(tmp_path, say("abc") + leave(0), trace="full") as vm:
        vm.step()
        vm.step()
        assert [access.qualification[1] for access in vm.exits] == [ord("a"), ord("b")]
        assert vm.console.text == "ab"
        assert vm.run().exit_code == 0


def test_the_bare_machine_has_no_exits_to_step_over(tmp_path: Path) -> None:
    with (
        open_vm(tmp_path, SPIN, monitor="none") as vm,
        pytest.raises(UnusableInput, match="the bare machine has no exits to step over"),
    ):
        vm.step()


def test_exits_cannot_be_waited_for_where_nothing_counts_them(tmp_path: Path) -> None:
    with (
        open_vm(tmp_path, SPIN, trace="off") as vm,
        pytest.raises(UnusableInput, match="nothing counts exits at trace level 'off'"),
    ):
        vm.run(exits=1)


def test_an_empty_text_cannot_be_waited_for(tmp_path: Path) -> None:
    with open_vm(tmp_path, SPIN) as vm, pytest.raises(UnusableInput, match="give at least one character"):
        vm.run(until="")


def test_a_guest_that_ended_says_the_same_again(tmp_path: Path, either: str) -> None:
    with open_vm(tmp_path, HALT, monitor=either) as vm:
        first = vm.run()
        assert first.kind == StopKind.HALTED
        assert first.story.startswith(f"the guest halted at {CODE + 2:#x} with interrupts disabled")
        assert vm.run(timeout=5) == first


def test_a_halt_with_interrupts_disabled_ends_the_guest_though_a_timer_ticks(
    tmp_path: Path, either: str
) -> None:
    with open_vm(tmp_path, timer(then=HALT), monitor=either) as vm:
        assert vm.run(timeout=20).kind == StopKind.HALTED


def test_a_halted_guest_wakes_for_its_timer(tmp_path: Path, either: str) -> None:
    with open_vm(tmp_path, timer(), monitor=either) as vm:
        stop = vm.run(
            until=lambda vm: int.from_bytes(vm.memory[TICKS : TICKS + 4], "little") >= 10, timeout=20
        )
        assert stop.kind == StopKind.EXPECTED
        assert 99_000_000 <= vm.virtual_time_ns < 101_000_000


# --- talking ----------------------------------------------------------------------------------------------

ECHO = bytes.fromhex(
    "66 BA FD 03 EC A8 01 74 F7"  # again: mov dx, 3FDh; in al, dx; test al, 1; jz again
    "66 BA F8 03 EC EE EB ED"  # mov dx, 3F8h; in al, dx; out dx, al; jmp again
)


def test_what_is_sent_reaches_the_guest_in_order(tmp_path: Path, either: str) -> None:
    text = "the quick brown fox jumps over the lazy dog, twice\n"
    with open_vm(tmp_path, ECHO, monitor=either) as vm:
        vm.send(text)
        vm.send(text.encode())
        assert vm.run(until="twice", timeout=20).kind == StopKind.EXPECTED
        assert vm.run(until="twice\n", timeout=20).kind == StopKind.EXPECTED
        assert vm.console.text == text * 2


def test_listeners_hear_each_byte_until_they_leave(tmp_path: Path) -> None:
    heard: list[bytes] = []
    with open_vm(tmp_path, say("abcdef") + leave(0)) as vm:
        leave_it = vm.console.subscribe(heard.append)
        vm.run(until="c")
        leave_it()
        vm.run()
    assert heard == [b"a", b"b", b"c"]


def test_a_listener_that_raises_stops_the_run_but_loses_and_repeats_nothing(
    tmp_path: Path, either: str
) -> None:
    heard: list[bytes] = []

    def listen(data: bytes) -> None:
        if data == b"c":
            raise LookupError("no c please")
        heard.append(data)

    with open_vm(tmp_path, say("abcde") + leave(0), monitor=either) as vm:
        vm.console.subscribe(listen)
        with pytest.raises(LookupError, match="no c please"):
            vm.run()
        assert vm.run().kind == StopKind.EXIT
        assert (vm.console.text, heard) == ("abcde", [b"a", b"b", b"d", b"e"])


def test_a_listener_that_gives_true_has_the_predicate_asked_at_once(tmp_path: Path, either: str) -> None:
    ends = []
    for _ in range(3):
        with open_vm(tmp_path, say("abcdef") + leave(0), monitor=either) as vm:
            vm.console.subscribe(lambda data: data == b"d")
            assert vm.run(until=lambda vm: vm.console.text.endswith("d")).kind == StopKind.EXPECTED
            ends.append((vm.console.text, vm.virtual_time_ns, vm.state_hash()))
    assert ends[0] == ends[1] == ends[2]
    assert ends[0][0] == "abcd"


def test_the_debug_console_is_kept_apart(tmp_path: Path) -> None:
    with open_vm(tmp_path, say("serial") + out(0xE9, ord("d")) + leave(0)) as vm:
        vm.run()
        assert (vm.console.text, vm.debug_console.text) == ("serial", "d")


# --- looking ----------------------------------------------------------------------------------------------


def test_registers_are_those_of_the_next_instruction(tmp_path: Path, either: str) -> None:
    with open_vm(tmp_path, say("x") + SPIN, monitor=either) as vm:
        start = vm.registers()
        assert (start.rip, start.cpl, start.mode.value) == (CODE - 5, 0, "protected 32-bit")
        vm.run(until="x")
        vm.run(timeout=0.05)
        assert vm.registers().rip == CODE + len(say("x"))
        assert vm.registers().rdx == 0x3F8


def test_the_next_instructions_are_disassembled(tmp_path: Path) -> None:
    with open_vm(tmp_path, store(SCRATCH, 7) + SPIN) as vm:
        assert vm.disassemble(3) == [
            f"{CODE - 5:#x}: mov esp, 0x9000",
            f"{CODE:#x}: mov dword ptr [0x8000], 7",
            f"{CODE + 10:#x}: jmp {CODE + 10:#x}",
        ]


def test_memory_is_the_guests_own(tmp_path: Path) -> None:
    with open_vm(tmp_path, store(SCRATCH, 0xC0FFEE) + leave(0)) as vm:
        vm.run()
        assert int.from_bytes(vm.memory[SCRATCH : SCRATCH + 4], "little") == 0xC0FFEE
        assert vm.memory_bytes == len(vm.memory) == 4 << 20


def test_what_the_host_writes_to_memory_the_guest_reads(tmp_path: Path) -> None:
    check = bytes.fromhex("81 3D 00 80 00 00 78 56 34 12 75 F4")  # again: cmp [8000h], 12345678h; jne again
    with open_vm(tmp_path, check + leave(0)) as vm:
        assert vm.run(timeout=0.1).kind == StopKind.TIMEOUT
        vm.memory[SCRATCH : SCRATCH + 4] = 0x12345678.to_bytes(4, "little")
        assert vm.run(timeout=20).kind == StopKind.EXIT


def test_the_screen_shows_what_a_boot_sector_prints(either: str) -> None:
    with vlab.VM("hello", monitor=either) as vm:
        vm.run(timeout=20)
        lines = vm.screen.text().splitlines()
    assert any("hello" in line.lower() for line in lines)


@pytest.mark.parametrize("monitor", ["none", "hardware"])
def test_a_walk_without_paging_is_only_the_monitors(tmp_path: Path, monitor: str) -> None:
    with open_vm(tmp_path, SPIN, monitor=monitor) as vm:
        walk = vm.walk(0x20_0000)
        assert (walk.physical, walk.references) == (0x20_0000, ())
        assert walk.memory_references == (3 if monitor == "hardware" else 0)  # 2 MiB pages: three levels
        vm.memory[0x20_0000] = 0x5A
        assert walk.host is not None
        assert vm.machine.memory.bytes[walk.host] == 0x5A


def test_a_long_mode_guest_is_walked_through_both_sets_of_tables() -> None:
    with vlab.VM("longmode", memory="8M") as vm:
        vm.run(until=lambda vm: vm.registers().mode.value == "long 64-bit", timeout=20)
        state = vm.registers()
        walk = vm.walk(state.rip)
        assert walk.references[0].step.level == 4
        assert all(reference.nested for reference in walk.references)
        assert walk.memory_references <= 24
        assert "host-physical" in str(walk)
        assert f"{walk.memory_references} memory references" in str(walk)


def test_its_name_says_what_it_is(tmp_path: Path) -> None:
    vm = open_vm(tmp_path, SPIN)
    assert repr(vm) == "<VM 'guest.bin' under hardware/nested, 4 MiB, paused>"
    vm.start()
    assert repr(vm).endswith("running>")
    vm.close()
    assert repr(vm).endswith("closed>")
    with vlab.VM("spin", monitor="none") as bare:
        assert repr(bare) == "<VM 'spin' under none/direct, 16 MiB, paused>"


# --- equal runs, equal states -----------------------------------------------------------------------------


def run_through(name: str, monitor: str, paging: str | None, **options: object) -> tuple[object, ...]:
    with vlab.VM(name, monitor=monitor, paging=paging, memory="16M", **options) as vm:  # type: ignore[arg-type]
        stop = vm.run(timeout=120)
        assert stop.final
        return stop.kind, stop.exit_code, vm.console.text, vm.virtual_time_ns, vm.state_hash()


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[pytest.mark.slow] if name == "selftest" else [])
        for name in sorted(set(BUNDLED) - ENDLESS)
    ],
)
def test_a_bundled_guest_ends_in_the_same_state_under_every_monitor(name: str) -> None:
    expected = run_through(name, "none", None)
    for monitor, paging in WAYS:
        if monitor == "hardware":
            assert run_through(name, monitor, paging) == expected, f"{monitor}/{paging}"


def test_the_trace_level_is_invisible_to_the_guest(tmp_path: Path) -> None:
    seen = {run_through("longmode", "hardware", None, trace=level) for level in ("off", "counters", "full")}
    assert len(seen) == 1


def test_two_runs_leave_the_same_trace_and_another_guest_another(tmp_path: Path) -> None:
    def trace(name: str) -> bytes:
        with vlab.VM(name, trace="full", memory="8M") as vm:
            vm.run(timeout=60)
            path = tmp_path / "run.vlabtrace"
            vm.save_trace(path)
            return path.read_bytes()

    assert trace("rings") == trace("rings")
    assert trace("rings") != trace("longmode")


def test_the_state_hash_notices_one_byte_of_memory_and_one_register(tmp_path: Path) -> None:
    with open_vm(tmp_path, store(SCRATCH, 1) + SPIN) as vm:
        fresh = vm.state_hash()
        assert vm.state_hash() == fresh
        vm.memory[0x20_0000] ^= 1
        assert vm.state_hash() != fresh
        vm.memory[0x20_0000] ^= 1
        assert vm.state_hash() == fresh
        vm.run(timeout=0.05)
        assert vm.state_hash() != fresh


def test_slices_of_any_length_make_the_same_run(tmp_path: Path) -> None:
    code = timer(then=count_down(40_000, increment(SCRATCH + 8)) + say("done") + leave(0), hertz=1000)

    def run(seconds: float | None) -> tuple[str, int, int]:
        with open_vm(tmp_path, code) as vm:
            while vm.run(timeout=seconds).kind == StopKind.TIMEOUT:
                pass
            return vm.state_hash(), vm.virtual_time_ns, vm.exits.total

    assert run(None) == run(0.0005) == run(0.003)


@pytest.mark.parametrize("exits", [1, 7])
def test_stepping_through_makes_the_same_run(tmp_path: Path, exits: int) -> None:
    code = timer(then=count_down(300, say("ab")) + leave(0), hertz=1000)

    def run(exits: int | None) -> tuple[str, str, int]:
        with open_vm(tmp_path, code, trace="full") as vm:
            while not vm.run(exits=exits).final:
                pass
            return vm.exits.digest(), vm.state_hash(), vm.virtual_time_ns

    assert run(exits) == run(None)


# --- the end ----------------------------------------------------------------------------------------------


def test_a_closed_vm_says_so(tmp_path: Path) -> None:
    with open_vm(tmp_path, say("kept") + leave(0)) as vm:
        vm.run()
    vm.close()
    for use in (vm.run, vm.start, vm.step, vm.registers, vm.disassemble, vm.state_hash):
        with pytest.raises(UnusableInput, match="this VM is closed; make a new one"):
            use()
    for use in (lambda: vm.send("x"), lambda: vm.walk(0), lambda: vm.save_trace(tmp_path / "t")):
        with pytest.raises(UnusableInput, match="this VM is closed; make a new one"):
            use()
    assert (vm.console.text, vm.exits.total > 0, vm.wait(0), vm.pause()) == ("kept", True, None, None)


def test_a_vm_gives_its_memory_back_when_it_is_let_go(tmp_path: Path) -> None:
    machine = vlab.Machine("32M")
    before = machine.frames.allocated
    vm = open_vm(tmp_path, SPIN, machine=machine)
    vm.run(timeout=0.05)
    gone = weakref.ref(vm)
    del vm
    gc.collect()
    assert gone() is None
    wait_until(lambda: machine.frames.allocated == before)


def test_closing_from_a_predicate_takes_effect_when_it_returns(tmp_path: Path) -> None:
    vm = open_vm(tmp_path, SPIN)

    def close(vm: vlab.VM) -> bool:
        vm.close()
        return False

    assert vm.run(until=close, timeout=20).kind == StopKind.PAUSED
    with pytest.raises(UnusableInput, match="closed"):
        vm.run()


def test_python_may_end_while_a_guest_runs(tmp_path: Path) -> None:
    script = """
        import sys, vlab
        machine = vlab.Machine("64M")
        vms = [vlab.VM(sys.argv[1], memory="4M", machine=machine) for _ in range(4)]
        vms += [vlab.VM(sys.argv[1], memory="4M", clock=clock) for clock in ("deterministic", "realtime")]
        for vm in vms:
            vm.start()
        vms[0].pause()
        vms[1].close()
        del vm, vms[2]
        print("left", len(vms), "behind")
    """
    command = [sys.executable, "-c", textwrap.dedent(script), str(guest(tmp_path, SPIN))]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (0, "left 5 behind\n", "")


def wait_until(holds: object, seconds: float = 10) -> None:
    deadline = time.monotonic() + seconds
    while not holds():  # type: ignore[operator]
        assert time.monotonic() < deadline, "it did not come about"
        time.sleep(0.005)


@pytest.fixture(autouse=True)
def _no_vm_is_left_over() -> Iterator[None]:
    yield
    gc.collect()
