"""Several virtual machines on one computer take turns on its processor and see nothing of one another."""

from __future__ import annotations

import random
import struct
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

import vlab
from vlab.errors import UnusableInput
from vlab.guests.programs import CODE, SCRATCH, SPIN, TICKS, count_down, guest, increment, leave, say, timer
from vlab.machine.turns import Turns
from vlab.session import Stop, StopKind

WAYS = ["none", "hardware"]


def word_at(vm: vlab.VM, address: int) -> int:
    return int.from_bytes(vm.memory[address : address + 4], "little")


def signature(seed: int, turns: int = 150_000) -> bytes:
    """Keep `seed` in general, x87 and SSE registers and in memory, look at all of them `turns` times, and end
    with status 0 if every look found it, 1 if one did not.
    """
    s = struct.pack("<I", seed)
    first = (
        bytes.fromhex("0F 20 E0 0D 00 02 00 00 0F 22 E0")  # CR4.OSFXSR on
        + b"\xb8" + s + bytes.fromhex("66 0F 6E D8")  # mov eax, seed; movd xmm3, eax
        + bytes.fromhex("A3 10 80 00 00 DB E3 DB 05 10 80 00 00")  # mov [8010h], eax; fninit; fild [8010h]
        + b"\xbe" + s + b"\xbf" + s  # mov esi, seed; mov edi, seed
    )  # fmt: skip

    def otherwise(test: bytes) -> bytes:
        return test + b"\x74\x06" + leave(1)  # jz over; fail

    look = (
        bytes.fromhex("66 0F 7E DB") + otherwise(b"\x81\xfb" + s)  # movd ebx, xmm3; cmp ebx, seed
        + bytes.fromhex("DB 15 14 80 00 00") + otherwise(b"\x81\x3d\x14\x80\x00\x00" + s)  # fist [8014h]; cmp
        + otherwise(b"\x81\xfe" + s)  # cmp esi, seed
        + otherwise(b"\x81\x3d\x10\x80\x00\x00" + s)  # cmp [8010h], seed
        + increment(SCRATCH + 0x18)
    )  # fmt: skip
    return first + count_down(turns, look) + leave(0)


@pytest.fixture
def machine() -> Iterator[vlab.Machine]:
    computer = vlab.Machine("64M")
    yield computer
    computer.close()


@pytest.fixture
def make(tmp_path: Path, machine: vlab.Machine) -> Iterator[Callable[..., vlab.VM]]:
    """Make VMs on the shared machine; they are closed at the end."""
    made: list[vlab.VM] = []

    def one(code: bytes, **options: object) -> vlab.VM:
        path = guest(tmp_path, code, f"guest{len(made)}")
        made.append(vlab.VM(path, memory="4M", machine=machine, **options))  # type: ignore[arg-type]
        return made[-1]

    yield one
    for vm in made:
        vm.close()


def alternate(vms: list[vlab.VM], slice_: Callable[[vlab.VM], Stop]) -> list[Stop]:
    """Run each in turn until all have ended."""
    ends: dict[int, Stop] = {}
    while len(ends) < len(vms):
        for number, vm in enumerate(vms):
            if number not in ends:
                stop = slice_(vm)
                if stop.final:
                    ends[number] = stop
    return [ends[number] for number in range(len(vms))]


@pytest.mark.parametrize("monitors", [("none", "none"), ("hardware", "hardware"), ("none", "hardware")])
def test_registers_of_every_kind_survive_the_others_turns(
    make: Callable[..., vlab.VM], monitors: tuple[str, str]
) -> None:
    vms = [
        make(signature(0x1111 * (n + 1), turns=400_000), monitor=monitor)
        for n, monitor in enumerate(monitors)
    ]
    turns: list[int] = []

    def slice_(vm: vlab.VM) -> Stop:
        turns.append(0)
        return vm.run(timeout=0.002)

    assert [stop.exit_code for stop in alternate(vms, slice_)] == [0, 0]
    assert len(turns) > 4


def test_background_runs_take_turns_by_themselves(make: Callable[..., vlab.VM]) -> None:
    vms = [make(signature(0x101 * (n + 1), turns=2_000_000_000)) for n in range(3)]
    for vm in vms:
        vm.start()
    deadline = time.monotonic() + 30
    while not all(word_at(vm, SCRATCH + 0x18) for vm in vms):
        assert time.monotonic() < deadline, "they do not all begin"
        time.sleep(0.005)
    assert all(vm.running for vm in vms)
    for vm in vms:
        vm.pause()


def test_background_runs_that_take_turns_end_as_they_would_alone(make: Callable[..., vlab.VM]) -> None:
    vms = [make(signature(0x101 * (n + 1), turns=400_000)) for n in range(3)]
    for vm in vms:
        vm.start()
    ends = [vm.wait(60) for vm in vms]
    assert [end and end.exit_code for end in ends] == [0, 0, 0]


def test_a_guest_that_never_ends_does_not_keep_the_others_out(make: Callable[..., vlab.VM]) -> None:
    endless, short = make(SPIN), make(say("done") + leave(0))
    endless.start()
    assert short.run(timeout=10).kind == StopKind.EXIT
    assert endless.running
    started = time.monotonic()
    assert (endless.registers().rip, short.registers().rip != CODE) == (CODE, True)
    assert time.monotonic() - started < 1


WORK = timer(
    then=count_down(30_000, increment(SCRATCH + 8)) + count_down(30, say("ab")) + leave(0), hertz=2000
)


@pytest.mark.parametrize("monitor", WAYS)
@pytest.mark.parametrize("how", ["timeout", "exits", "threads"])
def test_taking_turns_leaves_the_same_state_and_trace_as_running_alone(
    tmp_path: Path, make: Callable[..., vlab.VM], monitor: str, how: str
) -> None:
    def outcome(vm: vlab.VM) -> tuple[object, ...]:
        return (
            vm.state_hash(),
            vm.virtual_time_ns,
            vm.exits.digest(),
            vm.console.text,
            vm.interrupts_delivered,
        )

    with vlab.VM(guest(tmp_path, WORK), memory="4M", monitor=monitor, trace="full") as alone:
        alone.run()
        expected = outcome(alone)
    vms = [make(WORK, monitor=monitor, trace="full") for _ in range(2)] + [make(SPIN)]
    if how == "threads":
        for vm in vms:
            vm.start()
        assert [stop and stop.kind for stop in map(vlab.VM.wait, vms[:2], (60, 60))] == [StopKind.EXIT] * 2
    else:
        rng = random.Random(how)

        def slice_(vm: vlab.VM) -> Stop:
            if how == "exits" and monitor != "none":
                return vm.run(exits=rng.randrange(1, 9))
            return vm.run(timeout=rng.random() * 0.002)

        alternate(vms[:2], slice_)
    assert [outcome(vm) for vm in vms[:2]] == [expected, expected]


def test_one_guest_may_be_looked_at_in_anothers_predicate(make: Callable[..., vlab.VM]) -> None:
    watched, watcher = make(signature(7, turns=3_000_000)), make(count_down(3_000_000) + leave(0))
    seen = []

    def look(_vm: vlab.VM) -> bool:
        seen.append((watched.run(timeout=0.001).kind, watched.registers().rsi))
        return len(seen) >= 5

    assert watcher.run(until=look, timeout=60).kind == StopKind.EXPECTED
    assert seen[-1] == (StopKind.TIMEOUT, 7)
    assert watched.run().exit_code == 0
    assert watcher.run().exit_code == 0


def test_running_another_guest_does_not_let_this_ones_time_pass(make: Callable[..., vlab.VM]) -> None:
    one, other = make(SPIN), make(SPIN)
    one.run(timeout=0.02)
    before = one.virtual_time_ns
    other.run(timeout=0.05)
    assert (one.virtual_time_ns, other.virtual_time_ns > 0) == (before, True)


def test_one_guest_cannot_be_put_on_the_processor_in_the_middle_of_anothers_instruction(
    make: Callable[..., vlab.VM],
) -> None:
    one, other = make(say("abc") + leave(0)), make(SPIN)
    one.console.subscribe(lambda data: other.registers() if data == b"b" else None)
    with pytest.raises(UnusableInput, match="in the middle of an instruction"):
        one.run()
    assert one.run().exit_code == 0
    assert (one.console.text, other.registers().rip) == ("abc", CODE - 5)


# --- isolation --------------------------------------------------------------------------------------------

SECRET = b"a secret of the first guest, sixty-four bytes of it, and no more."


def test_no_guest_finds_anothers_memory(make: Callable[..., vlab.VM]) -> None:
    one, other = make(SPIN), make(WORK)
    one.memory[0x200000 : 0x200000 + len(SECRET)] = SECRET
    one.run(timeout=0.01)
    other.run()
    assert SECRET not in bytes(other.memory)
    assert one.memory[0x200000 : 0x200000 + len(SECRET)] == SECRET
    spans = [(vm.vmm.memory.hpa, vm.vmm.memory.size) for vm in (one, other)]
    assert spans[0][0] + spans[0][1] <= spans[1][0] or spans[1][0] + spans[1][1] <= spans[0][0]


@pytest.mark.parametrize("monitor", WAYS)
def test_no_nested_table_leads_to_a_frame_of_someone_else(make: Callable[..., vlab.VM], monitor: str) -> None:
    one, other = make(SPIN, monitor=monitor), make(SPIN, monitor=monitor)
    memory = other.vmm.memory
    for gpa in [*range(0, 4 << 20, 0x1000), 4 << 20, 1 << 30, 0xFFFF0000]:
        host = one.walk(gpa).host
        assert host is None or not memory.hpa <= host < memory.hpa + memory.size, hex(gpa)


def test_frames_that_come_back_are_empty(machine: vlab.Machine, make: Callable[..., vlab.VM]) -> None:
    one = make(SPIN)
    one.memory[0x200000 : 0x200000 + len(SECRET)] = SECRET
    one.close()
    assert SECRET not in bytes(machine.memory.bytes[: 48 << 20])
    other = make(SPIN)
    assert SECRET not in bytes(other.memory)


@pytest.mark.parametrize("monitor", WAYS)
def test_a_new_guest_does_not_run_the_code_of_the_one_before_in_its_frames(
    make: Callable[..., vlab.VM], monitor: str
) -> None:
    for status, text in enumerate(("x", "y", "x")):
        vm = make(say(text) + leave(status), monitor=monitor)
        assert (vm.run(timeout=20).exit_code, vm.console.text) == (status, text)
        vm.close()


# --- the computer -----------------------------------------------------------------------------------------


def test_eight_idle_guests_share_one_machine_and_all_keep_time(make: Callable[..., vlab.VM]) -> None:
    vms = [make(timer(hertz=50), clock="realtime") for _ in range(8)]
    for vm in vms:
        vm.start()
    time.sleep(0.3)
    before, busy, started = [word_at(vm, TICKS) for vm in vms], time.process_time(), time.monotonic()
    time.sleep(1)
    seconds, busy = time.monotonic() - started, time.process_time() - busy
    ticks = [word_at(vm, TICKS) - count for vm, count in zip(vms, before, strict=True)]
    assert all(0.5 * 50 * seconds <= count <= 1.2 * 50 * seconds for count in ticks), ticks
    assert busy < 0.6 * seconds


@pytest.mark.parametrize("monitor", ["none", "trap-emulate", "binary-translation", "hardware"])
@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 0, 2)])
def test_guests_that_are_gone_leave_the_machine_as_it_was(
    machine: vlab.Machine, monitor: str, order: tuple[int, ...]
) -> None:
    gone = []
    for _ in order:  # each is made while another one has the processor
        vm = vlab.VM("hello", monitor=monitor, memory="2M", machine=machine)
        assert vm.run(timeout=20).exit_code == 0
        gone.append(vm)
    for which in order:
        gone[which].close()
    for other in ("none", "hardware", "trap-emulate", "binary-translation"):
        with vlab.VM("rings", monitor=other, memory="4M", machine=machine) as vm:
            assert vm.run(timeout=20).exit_code == 0


def test_a_machine_with_guests_on_it_is_not_closed(
    machine: vlab.Machine, make: Callable[..., vlab.VM]
) -> None:
    vm = make(SPIN)
    vm.start()
    with pytest.raises(UnusableInput, match="close: 1 virtual machines are still on this machine"):
        machine.close()
    vm.close()
    machine.close()
    machine.close()
    with pytest.raises(UnusableInput, match="machine: it is closed"):
        make(SPIN)


def test_a_machine_that_is_full_says_so_and_takes_a_guest_again_when_one_goes(
    machine: vlab.Machine, make: Callable[..., vlab.VM]
) -> None:
    before = machine.frames.allocated
    vms = []
    with pytest.raises(
        UnusableInput, match=r"no free run of 4096 KiB .*give vlab.Machine\(memory=...\) more"
    ):
        for _ in range(40):
            vms.append(make(SPIN))
    vms.pop().close()
    make(say("x") + leave(0)).run()
    for vm in vms:
        vm.close()
    assert len(machine.frames.allocated) >= len(before)


def test_guests_may_be_made_and_closed_while_another_one_runs(make: Callable[..., vlab.VM]) -> None:
    endless = make(timer(then=count_down(1 << 30, increment(SCRATCH + 8)), hertz=1000))
    endless.start()
    for number in range(8):
        vm = make(say("x") + leave(number), monitor=WAYS[number % 2])
        assert vm.run(timeout=20).exit_code == number
        vm.close()
    assert endless.running
    stop = endless.pause()
    assert stop is not None
    assert stop.kind == StopKind.PAUSED
    assert word_at(endless, TICKS) > 0


@pytest.mark.parametrize("promised", [False, True])
def test_a_waiting_thread_that_is_interrupted_leaves_the_queue(
    monkeypatch: pytest.MonkeyPatch, promised: bool
) -> None:
    turns = Turns()

    class Interrupted(threading.Event):
        def wait(self, timeout: float | None = None) -> bool:
            if promised:
                release.set()
                super().wait(10)
            raise KeyboardInterrupt

    release, thread = threading.Event(), threading.Thread(target=lambda: hold(turns, release))
    thread.start()
    while not turns._depth:
        time.sleep(0.001)
    with monkeypatch.context() as patch:
        patch.setattr(
            "vlab.machine.turns.threading", SimpleNamespace(Event=Interrupted, get_ident=threading.get_ident)
        )
        with pytest.raises(KeyboardInterrupt):
            turns.acquire()
    release.set()
    thread.join(10)
    assert (turns.mine, turns.wanted) == (False, False)
    with turns:
        assert turns.mine


def hold(turns: Turns, release: threading.Event) -> None:
    with turns:
        release.wait(10)
