"""Where a snapshot cannot be taken or restored: one sentence, and nothing has changed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

import vlab
from tests.vmm.replay_lab import echo, finish, outcome, run_for
from vlab.errors import UnusableInput
from vlab.guests.catalogue import find
from vlab.guests.programs import SPIN, guest, out
from vlab.machine.machine import Machine
from vlab.vmm import monitors
from vlab.vmm.stop import StopKind

WAYS = monitors.available()


# --- refusals ---------------------------------------------------------------------------------------------


def refusal(vm: vlab.VM, moment: object) -> str:
    before = outcome(vm)
    with pytest.raises(UnusableInput) as caught:
        vm.restore(moment)  # type: ignore[arg-type]
    assert outcome(vm) == before
    return str(caught.value)


def test_a_snapshot_of_another_kind_of_machine_is_refused(tmp_path: Path) -> None:
    path = guest(tmp_path, SPIN, "one")
    with vlab.VM(path, memory="4M") as vm:
        moment = vm.snapshot()
    tail = "; make a VM that is alike"
    with vlab.VM(guest(tmp_path, SPIN, "two"), memory="4M") as vm:
        assert refusal(vm, moment) == (
            f"snapshot: it was taken with guest 'one.bin' and this VM has 'two.bin'{tail}"
        )
    with vlab.VM(path, memory="8M") as vm:
        assert (
            refusal(vm, moment) == f"snapshot: it was taken with memory '4096K' and this VM has '8192K'{tail}"
        )
    with vlab.VM(path, memory="4M", monitor="none") as vm:
        assert (
            refusal(vm, moment)
            == f"snapshot: it was taken with monitor 'hardware' and this VM has 'none'{tail}"
        )


@pytest.mark.skipif(("hardware", "shadow") not in WAYS, reason="no shadow paging")
def test_a_snapshot_with_another_paging_is_refused(tmp_path: Path) -> None:
    path = guest(tmp_path, SPIN)
    with vlab.VM(path, memory="4M") as vm, vlab.VM(path, memory="4M", paging="shadow") as other:
        assert refusal(other, vm.snapshot()) == (
            "snapshot: it was taken with paging 'nested' and this VM has 'shadow'; make a VM that is alike"
        )


def test_a_snapshot_with_another_disk_is_refused(tmp_path: Path) -> None:
    paths = [tmp_path / name / "disk.img" for name in ("a", "b")]
    for path in paths:
        path.parent.mkdir()
        path.write_bytes(find("hello").read_kernel() + bytes(512) + path.parent.name.encode() * 512)
    with vlab.VM(paths[0]) as vm, vlab.VM(paths[1]) as other:
        run_for(vm, 100_000)
        assert refusal(other, vm.snapshot()) == (
            "snapshot: it was taken with another disk image; give this VM the same one"
        )


def test_a_handler_cannot_take_or_restore_snapshots(tmp_path: Path) -> None:
    with vlab.VM(guest(tmp_path, out(0x80, 1) + SPIN), memory="4M") as vm:
        moment = vm.snapshot()
        said: list[str] = []

        def listen(_code: int) -> None:
            for attempt in (vm.snapshot, lambda: vm.restore(moment)):
                with pytest.raises(UnusableInput) as caught:
                    attempt()
                said.append(str(caught.value))

        vm.vmm.board.events.post_code = listen
        run_for(vm, 10_000)
    tail = (
        ": the guest is in the middle of an instruction; do it between two, in a predicate of run(), "
        "not in a handler or console listener"
    )
    assert said == [f"snapshot{tail}", f"restore{tail}"]


def test_a_closed_vm_has_no_snapshots(tmp_path: Path) -> None:
    vm = vlab.VM(guest(tmp_path, SPIN), memory="4M")
    moment = vm.snapshot()
    vm.close()
    for attempt in (vm.snapshot, lambda: vm.restore(moment), vm.step_back):
        with pytest.raises(UnusableInput, match=r"^this VM is closed; make a new one$"):
            attempt()


def test_closing_gives_the_checkpoints_back(tmp_path: Path) -> None:
    vm = vlab.VM(guest(tmp_path, SPIN), memory="4M")
    vm.snapshot()
    kept = vm._history.checkpoints
    assert kept.nbytes
    vm.close()
    assert not len(kept)


def test_registers_in_another_layout_are_refused(tmp_path: Path) -> None:

    with vlab.VM(guest(tmp_path, SPIN), memory="4M") as vm:
        moment = vm.snapshot()
        foreign = replace(moment, registers=replace(moment.registers, build="unicorn-9/0123"))
        build = moment.registers.build
        assert refusal(vm, foreign) == (
            "snapshot: it holds registers in the layout unicorn-9/0123, and the emulator here has "
            f"{build}; restore it with the unicorn release that it was taken with"
        )


def test_a_paravirtual_guest_at_another_machine_address_is_refused_before_anything_changes() -> None:
    """Its page tables hold machine addresses, which would be those of other frames here."""
    machine = Machine(64 << 20)
    with (
        vlab.VM("wren-paravirt", monitor="paravirtual", machine=machine) as vm,
        vlab.VM("wren-paravirt", monitor="paravirtual", machine=machine) as other,
    ):
        vm.run("$ ", timeout=60)
        other.run("wren: hello", timeout=60)
        text = refusal(other, vm.snapshot())
        assert text.startswith("snapshot: its guest knows its memory at machine address 0x")
        assert text.endswith("; restore it in a VM at the same place, the first on its machine")
        assert other.run("$ ", timeout=60).kind is StopKind.EXPECTED
    machine.close()


def test_a_machine_shared_by_others_can_be_smaller_or_larger(tmp_path: Path) -> None:
    """Host-physical addresses are no part of a snapshot."""
    big = Machine(64 << 20)
    with echo(tmp_path) as vm, vlab.VM(guest(tmp_path, SPIN), memory="8M", machine=big):
        run_for(vm, 2_000_000)
        moment = vm.snapshot()
        with echo(tmp_path, machine=big) as other:
            other.restore(moment)
            for each in (vm, other):
                each.send("q")
                finish(each)
            assert outcome(other) == outcome(vm)
    big.close()
