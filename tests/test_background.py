"""Running beside other work: any call at any moment from any thread, and the run is the same run."""

from __future__ import annotations

import gc
import os
import random
import signal
import subprocess
import sys
import textwrap
import threading
import time
import weakref
from collections.abc import Callable
from pathlib import Path

import pytest

import vlab
from tests.ticking import Ticking
from vlab.errors import UnusableInput
from vlab.guests.programs import (
    CODE,
    CPUID,
    SCRATCH,
    SPIN,
    TICKS,
    count_down,
    guest,
    increment,
    leave,
    out,
    say,
    timer,
)
from vlab.session import StopKind
from vlab.vmm.exits import Cpuid, Exit
from vlab.vmm.hardware import HardwareMonitor
from vlab.vmm.paging.nested import NestedPaging
from vlab.vmm.verdicts import Verdict

BUSY = timer(
    then=count_down(200_000, increment(SCRATCH + 8)) + count_down(40, say("ab")) + leave(0), hertz=2000
)
"""A guest with all that can happen: plain work, timer interrupts, ports; it ends by itself."""


def open_vm(directory: Path, code: bytes, **options: object) -> vlab.VM:
    return vlab.VM(guest(directory, code), memory="4M", **options)  # type: ignore[arg-type]


def wait_until(holds: Callable[[], object], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, "it did not come about"
        time.sleep(0.002)


def count_at(vm: vlab.VM, address: int) -> int:
    return int.from_bytes(vm.memory[address : address + 4], "little")


# --- start, pause, resume, wait ---------------------------------------------------------------------------


def test_a_background_run_gives_its_end_to_whoever_waits(tmp_path: Path) -> None:
    with open_vm(tmp_path, BUSY) as vm:
        vm.start()
        stop = vm.wait(60)
        assert stop is not None
        assert (stop.kind, stop.exit_code, vm.running) == (StopKind.EXIT, 0, False)
        assert vm.wait() == vm.pause() == stop
        assert vm.console.text == "ab" * 40


def test_waiting_gives_none_while_the_guest_still_runs(tmp_path: Path) -> None:
    with open_vm(tmp_path, SPIN) as vm:
        assert vm.wait() is None  # nothing was ever started
        vm.start()
        assert (vm.wait(0.05), vm.running) == (None, True)


def test_a_paused_guest_stands_still_and_goes_on_where_it_was(tmp_path: Path) -> None:
    again = increment(SCRATCH + 8) + b"\xeb\xf8"  # again: inc; jmp again
    with open_vm(tmp_path, again) as vm:
        vm.start()
        wait_until(lambda: count_at(vm, SCRATCH + 8) > 1000)
        stop = vm.pause()
        assert stop is not None
        assert (stop.kind, stop.story) == (StopKind.PAUSED, "paused")
        still = count_at(vm, SCRATCH + 8)
        time.sleep(0.05)
        assert count_at(vm, SCRATCH + 8) == still
        vm.resume()
        wait_until(lambda: count_at(vm, SCRATCH + 8) > still)


def test_pausing_at_once_pauses_the_run_that_was_just_started(tmp_path: Path) -> None:
    with open_vm(tmp_path, SPIN) as vm:
        for _ in range(50):
            vm.start()
            stop = vm.pause()
            assert stop is not None
            assert stop.kind == StopKind.PAUSED


def test_a_pause_that_comes_too_late_does_not_stop_the_next_run(tmp_path: Path) -> None:
    with open_vm(tmp_path, say("one") + say("two") + leave(0)) as vm:
        vm.start(until="one")
        vm.wait()
        vm.vmm.request_stop(vlab.Stop(StopKind.PAUSED, "too late"))
        assert vm.run(until="two").kind == StopKind.EXPECTED


def test_the_guest_can_be_looked_at_while_it_runs(tmp_path: Path) -> None:
    with open_vm(tmp_path, timer(then=say("hello") + SPIN)) as vm:
        vm.start()
        wait_until(lambda: vm.console.text == "hello" and vm.interrupts_delivered > 3)
        assert CODE <= vm.registers().rip < CODE + 0x200
        assert vm.walk(CODE).physical == CODE
        assert vm.disassemble(1)[0].startswith("0x100")
        assert len(vm.state_hash()) == 64
        assert vm.exits.total > 0
        assert "IOIO" in dict(vm.exits.by_reason())
        assert vm.running


def test_a_second_run_is_refused_while_the_first_goes_on(tmp_path: Path) -> None:
    with open_vm(tmp_path, SPIN) as vm:
        vm.start()
        for another in (vm.run, vm.start, vm.resume, vm.step):
            with pytest.raises(
                UnusableInput, match=r"this VM runs already; pause\(\) or wait\(\) for it first"
            ):
                another()
        assert vm.running


def test_a_run_inside_a_run_is_refused(tmp_path: Path) -> None:
    with open_vm(tmp_path, SPIN) as vm, pytest.raises(UnusableInput, match="runs already"):
        vm.run(until=lambda vm: vm.run() is None)


def test_a_foreground_run_can_be_paused_from_another_thread(tmp_path: Path) -> None:
    with open_vm(tmp_path, SPIN) as vm:
        threading.Timer(0.1, vm.pause).start()
        assert vm.run(timeout=20).kind == StopKind.PAUSED


def test_a_foreground_run_can_be_looked_at_and_closed_from_another_thread(tmp_path: Path) -> None:
    vm = open_vm(tmp_path, SPIN)
    seen: list[int] = []

    def beside() -> None:
        seen.append(vm.registers().rip)
        vm.close()

    threading.Timer(0.1, beside).start()
    assert vm.run(timeout=20).kind == StopKind.PAUSED
    assert seen == [CODE]
    with pytest.raises(UnusableInput, match="closed"):
        vm.run()


def test_pausing_from_what_the_run_itself_calls_takes_effect_when_it_returns(tmp_path: Path) -> None:
    with open_vm(tmp_path, say("abc") + leave(0)) as vm:
        vm.console.subscribe(lambda data: vm.pause() if data == b"b" else None)
        vm.start()
        stop = vm.wait(20)
        assert stop is not None
        assert (stop.kind, vm.console.text) == (StopKind.PAUSED, "ab")
        assert vm.run().exit_code == 0


def test_a_background_run_ends_at_its_timeout_and_at_its_text(tmp_path: Path) -> None:
    with open_vm(tmp_path, say("here") + SPIN) as vm:
        vm.start(until="here")
        stop = vm.wait(20)
        assert stop is not None
        assert stop.kind == StopKind.EXPECTED
        vm.start(timeout=0.05)
        stop = vm.wait(20)
        assert stop is not None
        assert stop.kind == StopKind.TIMEOUT


# --- the same run either way ------------------------------------------------------------------------------


def trace_of(vm: vlab.VM, path: Path) -> bytes:
    vm.save_trace(path)
    return path.read_bytes()


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> tuple[bytes, str]:
    """The trace file and the state hash of BUSY, run in the foreground in one go."""
    directory = tmp_path_factory.mktemp("undisturbed")
    with open_vm(directory, BUSY, trace="full") as vm:
        assert vm.run().exit_code == 0
        return trace_of(vm, directory / "trace"), vm.state_hash()


def test_the_background_leaves_the_same_trace(tmp_path: Path, undisturbed: tuple[bytes, str]) -> None:
    with open_vm(tmp_path, BUSY, trace="full") as vm:
        vm.start()
        vm.wait()
        assert (trace_of(vm, tmp_path / "trace"), vm.state_hash()) == undisturbed


@pytest.mark.parametrize("seed", range(3))
def test_pauses_and_looks_at_random_moments_leave_no_trace(
    tmp_path: Path, undisturbed: tuple[bytes, str], seed: int
) -> None:
    rng = random.Random(seed)
    with open_vm(tmp_path, BUSY, trace="full") as vm:
        looks: list[Callable[[], object]] = [
            vm.registers, vm.state_hash, vm.disassemble, lambda: vm.walk(CODE), lambda: vm.exits.total,
            vm.pause,
        ]  # fmt: skip
        vm.start()
        for _ in range(3000):
            time.sleep(rng.random() * 0.002)
            rng.choice(looks)()
            if not vm.running:
                stop = vm.wait()
                if stop is not None and stop.final:
                    break
                vm.start()
        vm.wait()
        assert (trace_of(vm, tmp_path / "trace"), vm.state_hash()) == undisturbed


# --- handlers that raise ----------------------------------------------------------------------------------


class Sometimes:
    """Raises at every other call: the first attempt of each, not the second."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self) -> None:
        self.calls += 1
        if self.calls % 2:
            raise RuntimeError(f"attempt {self.calls}")


def run_over_problems(vm: vlab.VM, *, background: bool) -> int:
    """Run to the guest's end, starting again after each RuntimeError; give how many there were."""
    problems = 0
    while True:
        try:
            if background:
                vm.start()
                stop = vm.wait(60)
            else:
                stop = vm.run(timeout=60)
        except RuntimeError:
            problems += 1
        else:
            assert stop is not None
            assert stop.kind == StopKind.EXIT, stop
            return problems


def outcome(vm: vlab.VM) -> tuple[object, ...]:
    return vm.state_hash(), vm.virtual_time_ns, vm.exits.total, vm.console.text


@pytest.mark.parametrize("background", [False, True])
@pytest.mark.parametrize("trace", ["counters", "full"])
def test_an_exit_handler_that_raises_is_tried_again_and_leaves_no_mark(
    tmp_path: Path, background: bool, trace: str
) -> None:
    code = b"\x51" + CPUID + b"\x59" + count_down(5, b"\x51" + CPUID + b"\x59") + leave(0)
    with open_vm(tmp_path, code, trace=trace) as vm:
        vm.run()
        expected = outcome(vm)
    sometimes = Sometimes()

    class Mine(HardwareMonitor):
        def handle(self, exit_: Exit) -> Verdict:
            if isinstance(exit_, Cpuid):
                sometimes()
            return super().handle(exit_)

    with open_vm(tmp_path, code, trace=trace, monitor=Mine) as vm:
        assert run_over_problems(vm, background=background) == 6
        assert outcome(vm) == expected


class RaisingPaging(NestedPaging):
    """A student's strategy, whose handler raises at first."""

    def __init__(self) -> None:
        self.sometimes = Sometimes()

    def handle(self, exit_: Exit) -> Verdict | None:
        self.sometimes()
        return super().handle(exit_)


def test_a_paging_strategy_that_raises_is_tried_again_and_leaves_no_mark(tmp_path: Path) -> None:
    code = bytes.fromhex("A1 00 00 00 F0 A1 00 10 00 F0") + leave(0)  # mov eax, [F0000000h]: nobody answers
    with open_vm(tmp_path, code) as vm:
        vm.run()
        expected = outcome(vm)
    with open_vm(tmp_path, code, paging=RaisingPaging()) as vm:
        assert run_over_problems(vm, background=True) == 2
        assert outcome(vm) == expected


class Raising:
    """A device whose every access raises at first; it keeps what it was told and gives numbers in order."""

    def __init__(self) -> None:
        self.sometimes = Sometimes()
        self.told: list[tuple[int, int]] = []
        self.given = 0

    def read(self, _offset: int, _size: int) -> int:
        self.sometimes()
        self.given += 1
        return self.given

    def write(self, _offset: int, value: int, size: int) -> None:
        self.sometimes()
        self.told.append((value, size))


PORT_GUEST = (
    bytes.fromhex("66 BA 00 03 FC 39 C0 F9")  # mov dx, 300h; cld; cmp eax, eax; stc
    + bytes.fromhex("B8 44 33 22 11 EE 66 EF EF")  # mov eax, 11223344h; out dx, al; out dx, ax; out dx, eax
    + bytes.fromhex("0F 92 05 80 80 00 00 0F 94 05 81 80 00 00")  # setc [8080h]; setz [8081h]
    + bytes.fromhex("BF 00 81 00 00 B9 05 00 00 00 F3 6C")  # mov edi, 8100h; mov ecx, 5; rep insb
    + bytes.fromhex("BE 00 81 00 00 B9 05 00 00 00 F3 6E")  # mov esi, 8100h; mov ecx, 5; rep outsb
    + bytes.fromhex("31 C0 EC A3 10 81 00 00")  # xor eax, eax; in al, dx; mov [8110h], eax
    + leave(0)
)


@pytest.mark.parametrize("monitor", ["none", "hardware"])
@pytest.mark.parametrize("background", [False, True])
def test_a_port_access_whose_device_raises_is_undone_exactly_and_done_again(
    tmp_path: Path, monitor: str, background: bool
) -> None:
    results = []
    for raising in (False, True):
        with open_vm(tmp_path, PORT_GUEST, monitor=monitor) as vm:
            device = Raising()
            if not raising:
                device.sometimes = lambda: None  # type: ignore[assignment]
            vm.vmm.board.ports.add(0x300, 4, "raising", device.read, device.write, width=4)
            problems = run_over_problems(vm, background=background)
            assert problems == (3 + 5 + 5 + 1 if raising else 0)
            assert bytes(vm.memory[0x8080:0x8082]) == b"\1\1"  # the flags survived
            assert bytes(vm.memory[0x8100:0x8105]) == bytes((1, 2, 3, 4, 5))
            told = [(0x44, 1), (0x3344, 2), (0x11223344, 4)]
            assert device.told == [*told, (1, 1), (2, 1), (3, 1), (4, 1), (5, 1)]
            assert count_at(vm, 0x8110) == 6
            results.append((*outcome(vm), vm.registers()))
    assert results[0] == results[1]


@pytest.mark.parametrize("monitor", ["none", "hardware"])
def test_a_timer_whose_callback_raises_rings_again(tmp_path: Path, monitor: str) -> None:
    results = []
    for raising in (False, True):
        code = timer(then=count_down(500_000) + leave(0), hertz=1000)
        with open_vm(tmp_path, code, monitor=monitor) as vm:
            sometimes = Sometimes()
            expire = vm.vmm.board.pit.expire
            if raising:

                def expire_sometimes(
                    expire: Callable[[], None] = expire, fail: Sometimes = sometimes
                ) -> None:
                    fail()
                    expire()

                monkey = pytest.MonkeyPatch()
                monkey.setattr(type(vm.vmm.board.pit), "expire", lambda _self, e=expire_sometimes: e())
            try:
                problems = run_over_problems(vm, background=False)
            finally:
                if raising:
                    monkey.undo()
            assert (problems > 3) is raising
            results.append((*outcome(vm), count_at(vm, TICKS)))
    assert results[0] == results[1]


def test_the_state_is_whole_while_a_problem_is_looked_at(tmp_path: Path) -> None:
    with open_vm(tmp_path, PORT_GUEST) as vm:
        device = Raising()
        vm.vmm.board.ports.add(0x300, 4, "raising", device.read, device.write, width=4)
        vm.start()
        with pytest.raises(RuntimeError, match="attempt 1"):
            vm.wait()
        assert vm.disassemble(1) == [f"{CODE + 13:#x}: out dx, al"]
        assert vm.registers().rax == 0x11223344
        assert not vm.running
        assert vm.wait() is None  # told once


# --- at random moments ------------------------------------------------------------------------------------

GUESTS = {
    "spin": SPIN,
    "halt": timer(hertz=1000),
    "ports": timer(then=count_down(1 << 30, say("x")), hertz=1000),
}


@pytest.mark.parametrize("name", GUESTS)
@pytest.mark.parametrize("clock", ["deterministic", "realtime"])
def test_everything_may_be_called_at_any_moment_from_several_threads(
    tmp_path: Path, name: str, clock: str
) -> None:
    vm = open_vm(tmp_path, GUESTS[name], clock=clock)
    calls: list[Callable[[], object]] = [
        vm.start, vm.pause, vm.resume, vm.registers, vm.disassemble, lambda: vm.walk(CODE),
        lambda: vm.send("x"), lambda: vm.wait(0.001), lambda: vm.run(timeout=0.002),
        lambda: vm.run(until=lambda _vm: True), lambda: repr(vm), lambda: vm.exits.total,
    ]  # fmt: skip
    surprises: list[BaseException] = []

    def hammer(seed: int) -> None:
        rng = random.Random(f"{name}{clock}{seed}")
        for _ in range(120):
            try:
                rng.choice(calls)()
            except UnusableInput as refusal:
                if "runs already" not in str(refusal) and "closed" not in str(refusal):
                    surprises.append(refusal)
            except BaseException as problem:
                surprises.append(problem)
            time.sleep(rng.random() * 0.002)

    threads = [threading.Thread(target=hammer, args=(seed,)) for seed in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not any(thread.is_alive() for thread in threads)
    vm.close()
    assert surprises == []


@pytest.mark.parametrize("seed", range(8))
def test_closing_at_a_random_moment_gives_everything_back(tmp_path: Path, seed: int) -> None:
    rng = random.Random(seed)
    machine = vlab.Machine("64M")
    before = machine.frames.allocated
    for _ in range(6):
        vm = vlab.VM(guest(tmp_path, rng.choice(list(GUESTS.values()))), memory="4M", machine=machine)
        closers = [threading.Thread(target=vm.close) for _ in range(rng.randrange(3))]
        vm.start()
        time.sleep(rng.random() * 0.01)
        for closer in closers:
            closer.start()
        vm.close()
        for closer in closers:
            closer.join()
        wait_until(lambda: machine.frames.allocated == before)
    machine.close()


# --- let go while it runs ---------------------------------------------------------------------------------


@pytest.mark.parametrize("until", [None, "never", lambda _vm: False], ids=["nothing", "text", "predicate"])
@pytest.mark.parametrize("name", ["spin", "halt"])
def test_a_vm_that_nobody_refers_to_stops_and_goes(tmp_path: Path, until: object, name: str) -> None:
    threads = threading.active_count()
    vm = open_vm(tmp_path, GUESTS[name])
    gone = weakref.ref(vm)
    memory = weakref.ref(vm.vmm.memory)
    vm.start(until)  # type: ignore[arg-type]
    time.sleep(0.02)
    del vm
    gc.collect()
    assert gone() is None
    wait_until(lambda: threading.active_count() <= threads)
    wait_until(lambda: gc.collect() >= 0 and memory() is None)


def test_garbage_collected_on_the_guests_own_thread_does_not_wait_for_itself(tmp_path: Path) -> None:
    threads = threading.active_count()
    kept: list[vlab.VM] = [open_vm(tmp_path, GUESTS["ports"])]
    vm = kept[0]
    vm.console.subscribe(lambda _data, kept=kept: kept.clear())
    vm.start()
    del vm
    wait_until(lambda: not kept)
    gc.collect()
    wait_until(lambda: threading.active_count() <= threads)


def resident_mib() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / (1 << 20)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_two_hundred_machines_leave_nothing_behind(tmp_path: Path) -> None:
    def once(number: int) -> None:
        vm = open_vm(
            tmp_path, BUSY if number % 4 else GUESTS["halt"], clock=("deterministic", "realtime")[number % 2]
        )
        if number % 3:
            vm.start()
        else:
            vm.run(timeout=0.005)
        if number % 5:
            vm.close()  # the others are let go, some of them while they run

    def settled() -> int:
        gc.collect()
        wait_until(lambda: threading.active_count() <= threads)
        return len(list(Path("/proc/self/fd").iterdir()))

    threads = threading.active_count()
    for number in range(50):
        once(number)
    before, memory = settled(), resident_mib()
    for number in range(200):
        once(number)
    assert settled() == before
    assert resident_mib() - memory < 12


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_machines_that_come_and_go_on_a_shared_one_leave_nothing_behind(tmp_path: Path) -> None:
    machine = vlab.Machine("32M")

    def once() -> None:
        with open_vm(tmp_path, say("x") + leave(0), machine=machine) as vm:
            assert vm.run(timeout=20).kind == StopKind.EXIT

    for _ in range(20):
        once()
    gc.collect()
    before, frames = resident_mib(), machine.frames.allocated
    for _ in range(60):
        once()
    gc.collect()
    assert machine.frames.allocated == frames
    assert resident_mib() - before < 4
    machine.close()


# --- other work goes on -----------------------------------------------------------------------------------


def ticking(seconds: float) -> Ticking:
    """Tick in this thread while a guest runs in the background."""
    found, end = Ticking(), time.monotonic() + seconds
    while time.monotonic() < end:
        time.sleep(0.001)
        found.tick()
    return found


@pytest.mark.parametrize("name", GUESTS)
def test_other_work_is_answered_while_a_guest_runs(tmp_path: Path, name: str) -> None:
    with open_vm(tmp_path, GUESTS[name]) as vm:
        vm.start()
        waits = ticking(0.5)
        assert waits.ours[-1] < 0.1
        assert waits.wall[-1] < 0.5
        started = time.monotonic()
        vm.registers()
        assert time.monotonic() - started < 0.5
        assert vm.running


@pytest.mark.parametrize("clock", ["deterministic", "realtime"])
@pytest.mark.parametrize("monitor", ["none", "hardware"])
def test_an_idle_guest_does_not_keep_a_processor_busy(tmp_path: Path, clock: str, monitor: str) -> None:
    with open_vm(tmp_path, timer(hertz=100), clock=clock, monitor=monitor) as vm:
        if clock == "deterministic":  # first its time jumps ahead
            vm.run(until=lambda vm: vm.virtual_time_ns > 11_000_000_000, timeout=30)
        else:
            vm.run(timeout=0.2)
        ticks, busy = count_at(vm, TICKS), time.process_time()
        vm.run(timeout=1)
        busy = time.process_time() - busy
        assert 50 <= count_at(vm, TICKS) - ticks <= 110
    assert busy < 0.3


# --- Ctrl-C -----------------------------------------------------------------------------------------------


def interrupt_when_ready(
    command: list[str], ready: bytes, environment: dict[str, str]
) -> tuple[int, float, str]:
    """Send SIGINT once `ready` is on standard output; give status, seconds until the end, and all output."""
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env={**os.environ, **environment}
    )
    assert process.stdout is not None
    head = b""
    while ready not in head:
        piece = os.read(process.stdout.fileno(), 4096)
        assert piece, process.communicate()
        head += piece
    time.sleep(0.3)
    started = time.monotonic()
    process.send_signal(signal.SIGINT)
    rest, errors = process.communicate(timeout=30)
    return process.returncode, time.monotonic() - started, (head + rest + errors).decode()


@pytest.mark.skipif(sys.platform == "win32", reason="sends SIGINT")
@pytest.mark.parametrize("helper", ["", "off"], ids=["compiled helper", "pure Python"])
@pytest.mark.parametrize("clock", ["deterministic", "realtime"])
def test_ctrl_c_comes_out_of_an_endless_loop_and_the_guest_goes_on(
    tmp_path: Path, helper: str, clock: str
) -> None:
    script = """
        import sys, time, vlab
        vm = vlab.VM(sys.argv[1], memory="4M", clock=sys.argv[2])
        vm.run(timeout=0.05)
        print("ready", flush=True)
        try:
            vm.run()
        except KeyboardInterrupt:
            print("interrupted", f"at {vm.registers().rip:#x}", vm.run(timeout=0.05).kind, repr(vm))
    """
    command = [sys.executable, "-c", textwrap.dedent(script), str(guest(tmp_path, SPIN)), clock]
    status, seconds, text = interrupt_when_ready(command, b"ready", {"VLAB_HELPER": helper})
    assert text.split("\n")[1].startswith(f"interrupted at {CODE:#x} timeout <VM 'guest.bin'"), text
    assert status == 0
    assert seconds < 1


@pytest.mark.skipif(sys.platform == "win32", reason="sends SIGINT")
def test_ctrl_c_reaches_a_halted_guest(tmp_path: Path) -> None:
    script = """
        import sys, vlab
        vm = vlab.VM(sys.argv[1], memory="4M", clock="realtime")
        print("ready", flush=True)
        try:
            vm.run()
        except KeyboardInterrupt:
            print("interrupted")
    """
    command = [sys.executable, "-c", textwrap.dedent(script), str(guest(tmp_path, timer(hertz=19)))]
    status, seconds, text = interrupt_when_ready(command, b"ready", {})
    assert (status, text) == (0, "ready\ninterrupted\n")
    assert seconds < 1


@pytest.mark.skipif(sys.platform == "win32", reason="sends SIGINT")
def test_ctrl_c_ends_the_command_line_with_its_status() -> None:
    command = [sys.executable, "-m", "vlab.cli", "run", "spin"]
    status, seconds, text = interrupt_when_ready(command, b"for ever", {})
    assert (status, "Traceback" in text) == (130, False)
    assert text.endswith("vlab: interrupted\n")
    assert seconds < 1.5


def test_a_port_write_goes_to_the_device_once(tmp_path: Path) -> None:
    codes: list[int] = []
    with open_vm(tmp_path, out(0x80, 3) + out(0x80, 4) + leave(0)) as vm:
        vm.vmm.board.events.post_code = codes.append
        vm.run()
    assert codes == [3, 4]
