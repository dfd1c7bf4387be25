"""Snapshots: all of a machine, put back so that nothing differs; here or in another VM."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest

import vlab
from tests.vmm.replay_lab import echo, finish, outcome, run_for
from vlab.guests.programs import CPUID, SCRATCH, SPIN, count_down, guest, increment, leave, say, store
from vlab.session import VM
from vlab.vmm import monitors
from vlab.vmm.inputs import LATENCY_NS
from vlab.vmm.snapshot import copy_pages, put_pages, used_pages
from vlab.vmm.stop import StopKind

WAYS = monitors.ways_for("hello")
PAGE = 4096


@pytest.fixture(params=WAYS, ids="/".join)
def way(request: pytest.FixtureRequest) -> dict[str, str]:
    """Every way to run a guest."""
    monitor, paging = request.param
    return {"monitor": monitor, "paging": paging}


# --- the same afterwards ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["hello", "rings", "longmode"])
def test_a_restored_guest_does_again_what_it_did(name: str, way: dict[str, str]) -> None:
    with vlab.VM(name, **way, trace="full") as vm:
        run_for(vm, 150_000)
        middle = vm.snapshot()
        finish(vm)
        first, trace = outcome(vm), vm.exits.digest()
        vm.restore(middle)
        assert vm.virtual_time_ns == middle.time_ns
        assert vm.exits.total == middle.exits
        finish(vm)
        assert outcome(vm) == first
        assert vm.exits.digest() == trace


@pytest.mark.parametrize("name", ["hello", "rings", "longmode"])
@pytest.mark.parametrize("monitor", ["none", "hardware"])
def test_a_guest_that_was_never_interrupted_ends_the_same(name: str, monitor: str) -> None:
    """Not under shadow paging: there a snapshot forgets the tables, and filling them again is exits."""
    with vlab.VM(name, monitor=monitor, trace="full") as plain:
        finish(plain)
        expected, trace = outcome(plain), plain.exits.digest()
    with vlab.VM(name, monitor=monitor, trace="full") as vm:
        for _ in range(5):
            run_for(vm, 50_000)
            vm.snapshot()
        finish(vm)
        assert outcome(vm) == expected
        assert vm.exits.digest() == trace


def test_nothing_is_left_of_the_tables_that_were_in_use_before(
    tmp_path: Path, way: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A guest that goes to and fro between two address spaces and writes to the tables of the other one."""
    one, two = 0x10000, 0x11000
    load = [b"\xb8" + place.to_bytes(4, "little") + b"\x0f\x22\xd8" for place in (one, two)]  # mov cr3
    code = (
        store(one, 0x12007) + store(two, 0x12007) + store(0x12000, 0x13007) + store(0x13000, 0x83)
        + bytes.fromhex("0F20E0 83C820 0F22E0") + load[0]  # CR4.PAE, CR3
        + bytes.fromhex("B9800000C0 0F32 0D00010000 0F30")  # EFER.LME
        + bytes.fromhex("0F20C0 0D00000080 0F22C0")  # CR0.PG
        + count_down(40, increment(two + 8) + load[1] + increment(one + 8) + load[0])
        + leave(0)
    )  # fmt: skip
    monkeypatch.setattr("vlab.vmm.monitor.CHUNK_BLOCKS", 1)
    with vlab.VM(guest(tmp_path, code), memory="4M", **way, trace="full") as vm:
        for number in range(10, 13):
            vm.run(lambda vm, n=number: vm.memory[two + 8] >= n, timeout=20)
            moment = vm.snapshot()
            ends = set()
            for further in (0, 16, 32, 48, 64):  # some of them are in the other address space
                run_for(vm, further)
                vm.restore(moment)
                finish(vm)
                ends.add((*outcome(vm), vm.exits.digest()))
                vm.restore(moment)
            assert len(ends) == 1


@pytest.mark.parametrize("seed", range(4))
def test_any_course_of_stops_snapshots_and_restores_leads_to_the_same_end(
    seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dice = random.Random(seed)
    monitor = dice.choice(["none", "hardware"])
    name = dice.choice(["hello", "rings", "longmode"])
    with vlab.VM(name, monitor=monitor) as plain:
        finish(plain)
        expected = outcome(plain)
    monkeypatch.setattr("vlab.vmm.monitor.CHUNK_BLOCKS", dice.choice([7, 50, 500]))
    vm = vlab.VM(name, monitor=monitor)
    kept = None
    for _ in range(25):
        if monitor == "hardware" and dice.random() < 0.5:
            stop = vm.run(exits=dice.choice([1, 2, 5, 50]))
        else:
            stop = run_for(vm, dice.choice([16, 100, 1000, 10_000]))
        if stop.final:
            break
        match dice.randrange(5):
            case 0:
                kept = vm.snapshot()
            case 1 if kept is not None:
                vm.restore(kept)
            case 2:
                other = vlab.VM(name, monitor=monitor)
                other.restore(vm.snapshot())
                vm.close()
                vm = other
            case 3:
                vm.save(tmp_path / "moment")
                vm.close()
                vm = VM.load(tmp_path / "moment")
            case 4 if monitor == "hardware" and vm.exits.total > 3 and len(vm._history.checkpoints):
                before = vm._history.position
                if before > vm._history.checkpoints.first.position:
                    vm.step_back()
                    assert vm._history.position < before
    finish(vm)
    assert outcome(vm) == expected
    vm.close()


def test_chips_and_alarms_are_as_they_were(tmp_path: Path, way: dict[str, str]) -> None:
    with echo(tmp_path, **way) as vm, echo(tmp_path, **way) as other:
        run_for(vm, 3_300_000)
        vm.send("abc")
        run_for(vm, 500_000)
        moment = vm.snapshot()
        other.restore(moment)
        board, copy = vm.vmm.board, other.vmm.board
        assert copy.save() == board.save() == moment.devices
        assert copy.interrupt == board.interrupt
        assert _alarms(copy) == _alarms(board)
        assert copy.alarms.next == board.alarms.next


def _alarms(board: object) -> list[tuple[int, int]]:
    entries = board.alarms._heap  # type: ignore[attr-defined]
    return sorted({(alarm.index, when) for when, _, alarm in entries if alarm.when == when})


def test_an_input_on_its_way_arrives_after_the_restore_too(tmp_path: Path, way: dict[str, str]) -> None:
    with echo(tmp_path, **way) as vm, echo(tmp_path, **way) as other:
        run_for(vm, 1_000_000)
        vm.send("hey")
        moment = vm.snapshot()
        assert [each.data for each in moment.waiting] == [b"hey"]
        assert moment.waiting[0].time == moment.time_ns + LATENCY_NS
        other.restore(moment)
        for each in (vm, other):
            each.run(until="hey", timeout=60)
        assert outcome(other) == outcome(vm)


def test_the_interrupt_shadow_survives(
    tmp_path: Path, way: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vlab.vmm.monitor.CHUNK_BLOCKS", 1)
    with vlab.VM(guest(tmp_path, b"\xfb" + SPIN), memory="4M", **way) as vm:  # sti; jmp $
        vm.run(lambda vm: vm.vmm.on_processor(lambda _p: vm.vmm.core.interrupt_shadow), timeout=20)
        moment = vm.snapshot()
        run_for(vm, 1000)
        assert not vm.vmm.core.interrupt_shadow
        vm.restore(moment)
        assert vm.vmm.core.interrupt_shadow


def test_an_address_without_memory_is_found_empty_again(tmp_path: Path) -> None:
    look = b"\xa1" + (0xD0000000).to_bytes(4, "little")  # mov eax, [D0000000h]
    keep = b"\xa3" + SCRATCH.to_bytes(4, "little")  # mov [SCRATCH], eax
    code = store(SCRATCH, 1) + look + keep + count_down(50) + look + keep + leave(0)
    with vlab.VM(guest(tmp_path, code), memory="4M", monitor="none") as vm:
        vm.run(lambda vm: vm.memory[SCRATCH] == 0xFF, timeout=20)
        moment = vm.snapshot()
        finish(vm)
        first = outcome(vm)
        vm.restore(moment)
        finish(vm)
        assert outcome(vm) == first


# --- what it holds ----------------------------------------------------------------------------------------


def test_console_trace_and_end_go_back_with_the_guest(tmp_path: Path) -> None:
    with vlab.VM(guest(tmp_path, say("one two ") + leave(3)), memory="4M", trace="full") as vm:
        vm.run(until="one")
        moment = vm.snapshot()
        exits = len(vm.exits)
        finish(vm)
        assert vm.run().exit_code == 3
        vm.restore(moment)
        assert vm.console.text == moment.text == "one"
        assert len(vm.exits) == vm.exits.total == exits
        assert vm.run(until="one", timeout=20).kind is StopKind.EXIT  # the first "one" was waited for
        assert vm.console.text == "one two "


def test_the_end_of_a_guest_is_part_of_its_snapshot(tmp_path: Path) -> None:
    with vlab.VM(guest(tmp_path, leave(5)), memory="4M") as vm:
        start = vm.snapshot()
        finish(vm)
        end = vm.snapshot()
        vm.restore(start)
        assert vm.run().exit_code == 5
        vm.restore(start)
        vm.restore(end)
        assert vm.run().exit_code == 5
        assert vm.virtual_time_ns == end.time_ns


def test_unchanged_pages_are_shared_and_zero_pages_left_out(tmp_path: Path) -> None:
    with vlab.VM(guest(tmp_path, store(SCRATCH, 7) + SPIN), memory="4M") as vm:
        before = vm.snapshot()
        run_for(vm, 10_000)
        after = vm.snapshot()
        assert before.pages is not None
        assert after.pages is not None
        changed = {n for n in after.pages if after.pages[n] is not before.pages.get(n)}
        assert SCRATCH // PAGE in changed
        assert len(changed) <= 3
        assert after.own_bytes == PAGE * len(changed)
        assert all(any(content) for content in after.pages.values())
        assert after.nbytes < vm.memory_bytes / 4


def test_pages_can_be_shared_with_a_given_snapshot(tmp_path: Path) -> None:
    path = guest(tmp_path, SPIN)
    with vlab.VM(path, memory="4M", clock="realtime") as vm, vlab.VM(path, memory="4M") as other:
        first, stranger = vm.snapshot(), other.snapshot()
        assert vm.snapshot(stranger).own_bytes == 0
        assert vm.snapshot(first).own_bytes == 0


def test_copying_and_putting_back_pages_is_exact() -> None:
    dice = np.random.default_rng(1)
    ram = bytearray(64 * PAGE)
    for number in dice.choice(64, 20, replace=False):
        ram[number * PAGE + int(dice.integers(PAGE))] = int(dice.integers(1, 256))
    pages = copy_pages(memoryview(ram), {})
    assert sorted(pages) == used_pages(memoryview(ram)).tolist()
    assert len(pages) == 20
    other = bytearray(dice.bytes(64 * PAGE))
    put_pages(memoryview(other), pages)
    assert other == ram
    again = copy_pages(memoryview(other), pages)
    assert all(again[number] is pages[number] for number in pages)


def test_a_snapshot_says_what_it_is(tmp_path: Path) -> None:
    with vlab.VM(guest(tmp_path, CPUID + SPIN, "small"), memory="4M") as vm:
        vm.run(exits=1)
        text = repr(vm.snapshot())
    assert text.startswith("<Snapshot of 'small.bin' under hardware/nested at 0.0000")
    assert ": 1 exits, " in text


# --- where it can be taken --------------------------------------------------------------------------------


def test_a_snapshot_of_a_running_guest_is_one_of_its_states(tmp_path: Path) -> None:
    with echo(tmp_path) as vm, echo(tmp_path) as other:
        vm.start()
        for number in range(3):
            vm.send(f"{number}")
            moment = vm.snapshot()
            vm.restore(moment)
        vm.pause()
        vm.send("q")
        finish(vm)
        other.restore(moment)
        other.send("q")
        finish(other)
        assert other.console.text == vm.console.text == "012"


def test_a_guest_that_is_not_on_the_processor_has_snapshots_too(tmp_path: Path) -> None:
    machine = vlab.Machine("16M")
    with echo(tmp_path, machine=machine) as one, echo(tmp_path, machine=machine) as two:
        run_for(one, 2_000_000)
        moment = one.snapshot()
        run_for(one, 1_000_000)
        expected = outcome(one)
        one.restore(moment)
        run_for(two, 1_500_000)
        assert one.snapshot().registers == moment.registers
        two.restore(moment)  # as if it had been the other all the time
        for each in (two, one):
            run_for(each, 1_000_000)
            assert outcome(each) == expected
    machine.close()


def test_guests_that_alternate_on_a_processor_do_what_they_do_alone(tmp_path: Path) -> None:
    with echo(tmp_path) as alone:
        alone.send("abcq")
        finish(alone)
        expected, trace = outcome(alone), alone.exits.digest()
    machine = vlab.Machine("16M")
    with echo(tmp_path, machine=machine) as one, echo(tmp_path, machine=machine) as two:
        for vm in (one, two):
            vm.send("abcq")
        while not (run_for(one, 7_000).final and run_for(two, 11_000).final):
            pass
        for vm in (one, two):
            assert outcome(vm) == expected
            assert vm.exits.digest() == trace
    machine.close()


def test_a_predicate_may_take_and_restore_snapshots(tmp_path: Path) -> None:
    with echo(tmp_path) as vm:
        run_for(vm, 1_000_000)
        moment = vm.snapshot()
        again: list[int] = []

        def look(vm: vlab.VM) -> bool:
            if len(again) < 3 and vm.virtual_time_ns > moment.time_ns + 100_000:
                vm.restore(moment)
                again.append(vm.virtual_time_ns)
            return len(again) == 3 and vm.virtual_time_ns > moment.time_ns + 200_000

        vm.run(look, timeout=60)
        assert again == [moment.time_ns] * 3


def test_under_the_realtime_clock_a_snapshot_can_be_restored(tmp_path: Path) -> None:
    with echo(tmp_path, clock="realtime") as vm:
        vm.run(timeout=0.05)
        moment = vm.snapshot()
        vm.send("abc")
        vm.run(until="abc", timeout=20)
        vm.restore(moment)
        assert vm.console.text == ""
        assert moment.time_ns <= vm.virtual_time_ns < moment.time_ns + 1_000_000_000
        vm.send("def")
        vm.run(until="def", timeout=20)
        assert vm.console.text == "def"
