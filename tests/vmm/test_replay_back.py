"""Going back: to the exit before, to the latest that fits, and the checkpoints that make it quick."""

from __future__ import annotations

import itertools
import time
from dataclasses import replace
from pathlib import Path

import pytest

import vlab
from tests.vmm.replay_lab import echo, finish, outcome, run_for
from vlab.errors import UnusableInput, VlabError
from vlab.guests.programs import CPUID, SCRATCH, SPIN, count_down, guest, image, increment, leave, out, say
from vlab.vmm import monitors
from vlab.vmm.checkpoints import Checkpoints, Position
from vlab.vmm.snapshot import Snapshot

FIVE_EXITS = b"".join(increment(SCRATCH) + CPUID for _ in range(5)) + leave(0)
"""Counts its exits, which are no ports', in memory."""


def counted(vm: vlab.VM) -> int:
    return vm.memory[SCRATCH]


# --- back -------------------------------------------------------------------------------------------------


def test_step_back_undoes_a_step(tmp_path: Path) -> None:
    with vlab.VM(guest(tmp_path, FIVE_EXITS), memory="4M") as vm:
        states = []
        for number in range(1, 6):
            vm.step()
            assert counted(vm) == number
            states.append(outcome(vm))
        for number in range(4, 0, -1):
            stop = vm.step_back()
            assert str(stop) == f"back at the state after exit {number}"
            assert outcome(vm) == states[number - 1]
        for number in range(2, 6):
            vm.step()
            assert outcome(vm) == states[number - 1]


def test_step_back_from_between_two_exits_goes_to_the_one_before(tmp_path: Path) -> None:
    code = CPUID + say("some text") + count_down(100) + increment(SCRATCH) + SPIN
    with vlab.VM(guest(tmp_path, code), memory="4M") as vm:
        vm.run(until="text", timeout=20)
        behind_the_text = outcome(vm)
        run_for(vm, 50_000)
        assert counted(vm) == 1
        vm.step_back()
        assert (counted(vm), vm.console.text) == (0, "some text")
        assert vm.exits.total == sum(behind_the_text.exits)
        vm.step_back()
        assert vm.console.text == "some tex"


def test_one_block_with_several_port_accesses_is_one_step(tmp_path: Path) -> None:
    code = CPUID + b"".join(out(0x80, n) for n in range(20)) + CPUID + SPIN
    with vlab.VM(guest(tmp_path, code), memory="4M", trace="full") as vm:
        vm.run(exits=1)
        one = outcome(vm)
        vm.step()
        many = vm.exits.total
        assert many > 10
        after = outcome(vm)
        run_for(vm, 10_000)
        assert vm.exits.total == many
        vm.step_back()
        assert outcome(vm) == after
        vm.step_back()
        assert outcome(vm) == one
        vm.step()
        assert outcome(vm) == after


def test_the_start_is_as_far_back_as_one_can_go(tmp_path: Path) -> None:
    with vlab.VM(guest(tmp_path, FIVE_EXITS), memory="4M") as vm:
        start = outcome(vm)
        text = r"^step_back: the history begins here; there is no exit before this place$"
        with pytest.raises(UnusableInput, match=text):
            vm.step_back()
        vm.run(exits=1)
        vm.step_back()
        assert outcome(vm) == start
        with pytest.raises(UnusableInput, match=text):
            vm.step_back()
        vm.step()
        assert counted(vm) == 1


def test_going_back_from_the_end_revives_the_guest(tmp_path: Path) -> None:
    with vlab.VM(guest(tmp_path, FIVE_EXITS), memory="4M") as vm:
        finish(vm)
        end = outcome(vm)
        vm.step_back()
        assert vm.exits.total == 5
        assert finish(vm).exit_code == 0
        assert outcome(vm) == end


def test_memory_that_was_written_before_the_start_is_part_of_it(tmp_path: Path) -> None:
    with vlab.VM(guest(tmp_path, FIVE_EXITS), memory="4M") as vm:
        vm.memory[SCRATCH] = 40
        vm.run(exits=3)
        vm.step_back()
        assert counted(vm) == 42


def test_a_guest_whose_image_has_changed_cannot_go_back_to_its_start(tmp_path: Path) -> None:
    path = guest(tmp_path, FIVE_EXITS)
    with vlab.VM(path, memory="4M") as vm:
        vm.run(exits=3)
        before = vm.registers()
        path.write_bytes(image(SPIN))
        with pytest.raises(UnusableInput) as caught:
            vm.step_back()
        assert str(caught.value) == (
            f"guest: {path} was changed after this VM had read it, so there is no way back to its start; "
            "make a new VM"
        )
        assert vm.registers() == before


def test_run_back_finds_the_latest_exit_that_fits(tmp_path: Path) -> None:
    code = CPUID + say("ab") + CPUID + say("cd") + CPUID + SPIN
    with vlab.VM(guest(tmp_path, code), memory="4M", trace="full") as vm:
        run_for(vm, 100_000)
        last = vm.run_back(lambda event: event.reason == "CPUID")
        assert last is not None
        assert vm.console.text == "abcd"
        second = vm.run_back(lambda event: event.reason == "CPUID")
        assert second is not None
        assert second.rip < last.rip
        assert vm.console.text == "ab"
        assert vm.exits[-1].rip == second.rip
        sent = vm.run_back(lambda event: event.reason == "IOIO" and event.qualification[1] == ord("a"))
        assert sent is not None
        assert vm.console.text == "a"
        before = outcome(vm)
        assert vm.run_back(lambda event: event.reason == "HLT") is None
        assert outcome(vm) == before


def test_listeners_do_not_hear_a_replay(tmp_path: Path) -> None:
    heard = bytearray()
    with vlab.VM(guest(tmp_path, say("one two") + SPIN), memory="4M", trace="full") as vm:
        vm.console.subscribe(heard.extend)
        vm.run(until="two", timeout=20)
        vm.step_back()
        vm.step_back()
        assert vm.console.text == "one t"
        assert heard == b"one two"
        vm.run(until="wo", timeout=20)
        assert heard == b"one twowo"


def test_a_change_by_hand_that_leads_elsewhere_is_reported(tmp_path: Path) -> None:
    """The loop's end depends on memory that is poked after the only checkpoint."""
    wait = (
        b"\xa1" + SCRATCH.to_bytes(4, "little") + b"\x85\xc0\x74\xf7"
    )  # again: mov eax, [..]; test; jz again
    with vlab.VM(guest(tmp_path, CPUID + wait + CPUID + CPUID + SPIN), memory="4M") as vm:
        vm.run(exits=1)
        run_for(vm, 10_000)
        vm.memory[SCRATCH] = 1
        vm.run(exits=2)
        with pytest.raises(VlabError) as caught:
            vm.step_back()
    assert str(caught.value) == (
        "replay: the guest went another way than before; were its memory or the monitor's handlers changed "
        "by hand since the last snapshot?"
    )


# --- what is kept -----------------------------------------------------------------------------------------


def test_a_history_takes_checkpoints_by_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vlab.vmm.history.INTERVAL_NS", 1_000_000)
    with echo(tmp_path) as plain, echo(tmp_path, history=True) as vm:
        for each in (plain, vm):
            each.send("abc")
            each.run(until="c", timeout=20)
            each.run(exits=20_000)
            each.send("q")
            finish(each)
        assert outcome(vm) == outcome(plain)
        assert vm.exits.digest() == plain.exits.digest()
        times = [each.snapshot.time_ns for each in vm._history.checkpoints]
        assert len(times) > 10
        assert times[0] == 0
        assert times == sorted(times)
        end = outcome(vm)
        vm.step_back()
        vm.run_back(lambda event: event.time < 5_000_000)
        assert 4_000_000 < vm.virtual_time_ns < 5_100_000
        finish(vm)
        assert outcome(vm) == end
        assert [each.snapshot.time_ns for each in vm._history.checkpoints] == times


def test_a_checkpoint_that_was_thinned_out_leaves_no_mark(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vlab.vmm.history.INTERVAL_NS", 500_000)
    ways = [(name, paging) for name, paging in monitors.ways_for("hello") if name != "none"]
    for monitor, paging in ways:
        with echo(tmp_path, history=True, monitor=monitor, paging=paging) as vm:
            vm.send("ab")
            run_for(vm, 12_000_000)
            vm.send("q")
            finish(vm)
            end, trace = outcome(vm), vm.exits.digest()
            kept = vm._history.checkpoints
            start = kept.first
            while len(kept) > 1:
                kept._remove(1)
            vm.restore(start.snapshot)
            finish(vm)
            assert outcome(vm) == end
            assert vm.exits.digest() == trace


def test_running_forward_again_drops_the_checkpoints_ahead(tmp_path: Path) -> None:
    with vlab.VM(guest(tmp_path, FIVE_EXITS), memory="4M") as vm:
        vm.run(exits=1)
        moments = []
        for _ in range(3):
            moments.append(vm.snapshot())
            vm.step()
        kept = vm._history.checkpoints
        assert [each.snapshot for each in kept][1:] == moments
        vm.restore(moments[0])
        assert len(kept) == 4
        vm.step()
        assert [each.snapshot for each in kept][1:] == moments[:1]
        vm.restore(moments[2])  # no checkpoint any more: a new history begins there
        assert [each.snapshot for each in kept] == moments[2:]
        assert counted(vm) == 3


class _Life:
    """Snapshots with given times and pages."""

    def __init__(self, template: Snapshot) -> None:
        self._template = template

    def at(self, exits: int, time: int, pages: dict[int, bytes] | None = None) -> Snapshot:

        mark = replace(self._template.mark, counts=(exits,))
        return replace(self._template, mark=mark, time_ns=time, pages=pages or {})


@pytest.fixture(scope="module")
def life(tmp_path_factory: pytest.TempPathFactory) -> _Life:
    with vlab.VM(guest(tmp_path_factory.mktemp("life"), SPIN), memory="4M") as vm:
        return _Life(vm.snapshot())


def test_checkpoints_are_thinned_to_a_number_with_the_recent_past_denser(life: _Life) -> None:
    kept = Checkpoints(count=10)
    for number in range(500):
        kept.add(life.at(number, number * 1000), pinned=number in (0, 123))
        assert len(kept) <= 10
    numbers = [each.position.exits for each in kept]
    assert numbers[0] == 0
    assert 123 in numbers
    assert numbers[-1] == 499
    gaps = [after - before for before, after in itertools.pairwise(numbers)]
    assert gaps[-1] <= 10 < max(gaps[:4])


def test_checkpoints_keep_within_their_bytes_and_share_pages(life: _Life) -> None:
    kept = Checkpoints(count=100, limit=10 * 4096)
    shared = {1: b"a" * 4096, 2: b"b" * 4096}
    for number in range(50):
        kept.add(life.at(number, number, shared | {3: bytes((number,)) * 4096}), pinned=False)
        assert kept.nbytes <= 10 * 4096
    assert len(kept) == 8
    assert kept.first.position.exits == 0


def test_when_all_are_the_users_the_oldest_goes(life: _Life) -> None:
    kept = Checkpoints(count=3)
    for number in range(6):
        kept.add(life.at(number, number), pinned=True)
    assert [each.position.exits for each in kept] == [3, 4, 5]


def test_the_nearest_checkpoint_is_found(life: _Life) -> None:
    kept = Checkpoints()
    for exits, when in ((0, 0), (5, 10), (5, 20), (9, 30)):
        kept.add(life.at(exits, when), pinned=False)
    assert kept.before(0) is None
    nearest = kept.before(6)
    assert nearest is not None
    assert nearest.position == Position(5, 20)
    kept.drop_after(Position(5, 10))
    assert [each.position for each in kept] == [(0, 0), (5, 10)]


# --- refusals ---------------------------------------------------------------------------------------------


def test_only_the_deterministic_clock_goes_back(tmp_path: Path) -> None:
    path = guest(tmp_path, FIVE_EXITS)
    tail = (
        "under the realtime clock a guest does not do the same twice; make the VM with clock='deterministic'"
    )
    with pytest.raises(UnusableInput) as caught:
        vlab.VM(path, memory="4M", clock="realtime", history=True)
    assert str(caught.value) == f"history: {tail}"
    with vlab.VM(path, memory="4M", clock="realtime") as vm:
        vm.run(exits=2)
        with pytest.raises(UnusableInput) as caught:
            vm.step_back()
        assert str(caught.value) == f"step_back: {tail}"
        with pytest.raises(UnusableInput) as caught:
            vm.run_back(lambda _event: True)
        assert str(caught.value) == f"run_back: {tail}"


def test_going_back_needs_exits_and_their_trace(tmp_path: Path) -> None:
    path = guest(tmp_path, FIVE_EXITS)
    with vlab.VM(path, memory="4M", monitor="none") as vm:
        finish(vm)
        with pytest.raises(UnusableInput, match=r"^step_back: the bare machine has no exits; use monitor="):
            vm.step_back()
    with vlab.VM(path, memory="4M", trace="off") as vm:
        finish(vm)
        with pytest.raises(UnusableInput, match=r"^step_back: nothing counts exits; make the VM with trace="):
            vm.step_back()
    with vlab.VM(path, memory="4M") as vm:
        finish(vm)
        with pytest.raises(
            UnusableInput, match=r"^run_back: the trace has no single exits; make the VM with"
        ):
            vm.run_back(lambda _event: True)


def test_a_running_guest_does_not_go_back(tmp_path: Path) -> None:
    with vlab.VM(guest(tmp_path, CPUID + SPIN), memory="4M") as vm:
        vm.start()
        while not vm.exits.total:
            time.sleep(0.001)
        with pytest.raises(
            UnusableInput, match=r"^step_back: this VM runs; pause\(\) or wait\(\) for it first$"
        ):
            vm.step_back()
        vm.pause()
        vm.step_back()


def test_a_predicate_that_raises_changes_nothing(tmp_path: Path) -> None:
    with vlab.VM(guest(tmp_path, FIVE_EXITS), memory="4M", trace="full") as vm:
        vm.run(exits=4)
        before = outcome(vm)
        with pytest.raises(ZeroDivisionError):
            vm.run_back(lambda event: event.time < 1 / 0)
        assert outcome(vm) == before
