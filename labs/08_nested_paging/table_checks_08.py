"""What is tried of a student's nested tables: guests that run on them must not tell them from vlab's."""

from __future__ import annotations

from guests_08 import everywhere
from machine_08 import StudentNested
from neighbour_08 import neighbour

from vlab.grading.exercise import Broken
from vlab.grading.trial import Trial
from vlab.session import VM
from vlab.vmm.paging.nested import NestedPaging


def _runs_alike(trial: Trial, guest: str | bytes, memory: str, *, frames: bool = False) -> None:
    """Run a guest on the student's tables and on vlab's."""
    with neighbour(trial):
        paging = StudentNested(trial.student)
        yours = trial.vm(guest, memory=memory, paging=paging)
        paging.vm = yours
        ours = trial.vm(guest, memory=memory)
        trial.run_ours(ours)
        stop = trial.run(yours, exits=20_000)
        if stop.exit_code != 0:
            raise Broken(f"the guest stopped with '{stop.headline}'", vm=yours)
        mine, right = (vm.exits.by_reason().to_dict() for vm in (yours, ours))
        if mine != right:
            raise Broken(
                f"the guest's exits were {mine}, and {right} are right",
                hint="NPF is an exit of nested paging: here, a write to a page without R/W, such as firmware",
                vm=yours,
            )
        if yours.console.data != ours.console.data:
            raise Broken(f"the guest wrote {yours.console.text[-60:]!r} to its console", vm=yours)
        if yours.state_hash() != ours.state_hash():
            raise Broken(
                "registers or memory of the guest are not what they are on vlab's tables",
                hint="two addresses may have got one frame, or an address the wrong one",
                vm=yours,
            )
        if frames:
            _frugal(paging, ours)


def _frugal(paging: StudentNested, ours: VM) -> None:
    reference = getattr(ours.vmm, "paging", None)
    assert isinstance(reference, NestedPaging)
    needed = reference.table_count
    if paging.frames > needed:
        raise Broken(
            f"your nested tables take {paging.frames} frames, and {needed} are enough",
            hint=(
                "where gpa, hpa and what is left of the region allow 2 MiB at once, level 2 can map "
                "them with PS"
            ),
            vm=paging.vm,
        )


def boots(trial: Trial) -> None:
    """Run the guest hello."""
    _runs_alike(trial, "hello", "2M")


def everything(trial: Trial) -> None:
    """Store and load in all of the guest's RAM."""
    _runs_alike(trial, everywhere(trial.rng, 4 << 20), "4M")


def read_only(trial: Trial) -> None:
    """Store to firmware as well."""
    _runs_alike(trial, everywhere(trial.rng, 2 << 20, rom=True), "2M")


def in_large_pages(trial: Trial) -> None:
    """Count the frames of the tables."""
    megabytes = trial.rng.choice((6, 8))
    _runs_alike(trial, everywhere(trial.rng, megabytes << 20), f"{megabytes}M", frames=True)


def hidden(trial: Trial) -> None:
    """Try another size of memory, and firmware."""
    megabytes = trial.rng.choice((3, 4, 5, 7))
    _runs_alike(trial, everywhere(trial.rng, megabytes << 20, rom=True), f"{megabytes}M")
