"""A shadow that fills as it is told: guests run on it, and what is not dropped stays."""

from __future__ import annotations

import pytest

import vlab
from vlab.guests.kept import keep
from vlab.guests.programs import image, moved_page
from vlab.isa.paging import Access, Fault
from vlab.vmm.paging.shadow import FilledPaging
from vlab.vmm.paging.shadow.filled import Fill, FilledSpace, Unbacked
from vlab.vmm.paging.strategy import PagingHost


class ByRoot(FilledPaging):
    def make_space(self, host: PagingHost) -> FilledSpace:
        space = super().make_space(host)
        space.by_root = True
        return space


def moved(paging: FilledPaging, *, invlpg: bool = True) -> str:
    guest = keep(image(moved_page(invlpg=invlpg)), "moved.bin")
    with vlab.VM(guest, paging=paging, memory="8M") as vm:
        assert vm.run(timeout=20).exit_code == 0
        return vm.console.text


@pytest.mark.parametrize("monitor", ["hardware", "trap-emulate"])
@pytest.mark.parametrize("guest", ["hello", "rings", "longmode"])
def test_a_guest_runs_as_on_other_tables(guest: str, monitor: str) -> None:
    said = []
    for paging in ("shadow", FilledPaging()):
        with vlab.VM(guest, monitor=monitor, paging=paging, memory="4M") as vm:
            assert vm.run(timeout=30).exit_code == 0
            lines = vm.console.text.split("\n")
            said.append([line for line in lines if "A=" not in line and "  level " not in line])
    assert said[0] == said[1]  # but for accessed and dirty bits, which are nobody's task here


def test_a_page_that_was_moved_is_seen_after_invlpg_and_not_before() -> None:
    assert moved(FilledPaging()) == "AB"
    assert moved(FilledPaging(), invlpg=False) == "AA"


def test_whoever_overrides_invalidate_decides_what_goes() -> None:
    class Keeps(FilledPaging):
        def invalidate(self, linear: int) -> None:
            pass

    class Drops(FilledPaging):
        def invalidate(self, linear: int) -> None:
            self.space.drop_all()

    assert moved(Keeps()) == "AA"
    assert moved(Drops()) == "AB"


def test_whoever_overrides_fill_decides_what_is_there() -> None:
    class Elsewhere(FilledPaging):
        def fill(self, linear: int, access: Access) -> Fill | Fault | Unbacked:
            found = super().fill(linear, access)
            if linear == 0x400000 and isinstance(found, Fill):
                return Fill(found.gpa ^ 0x7000)  # the second page is at 14000h, the first at 13000h
            return found

    assert moved(Elsewhere()) == "BA"


def test_a_tree_for_each_cr3_is_found_again() -> None:
    fills = []
    for paging in (FilledPaging(), ByRoot()):
        with vlab.VM("wren", paging=paging, memory="16M") as vm:
            vm.run(until="$ ", timeout=30)
            fills.append(paging.fills)
            assert "wren: hello" in vm.console.text
    assert fills[1] <= fills[0]


@pytest.mark.parametrize("paging", [FilledPaging(frames=32), ByRoot(frames=32)], ids=["one tree", "by root"])
def test_a_shadow_without_frames_begins_anew(paging: FilledPaging) -> None:
    line = "pages=4096 rounds=1 touches=4096 updates=0 large=0"
    with vlab.VM("sweep", paging=paging, memory="64M", append=line) as vm:
        assert vm.run(timeout=60).exit_code == 0
        assert paging.table_frames <= 32


def test_going_back_and_on_again_ends_the_same() -> None:
    guest = keep(image(moved_page(invlpg=True)), "moved.bin")
    with vlab.VM(guest, paging=FilledPaging(), memory="8M") as vm:
        vm.run(exits=12)
        before = vm.registers()
        vm.step()
        vm.step_back()
        assert vm.registers() == before
        assert vm.run(timeout=20).exit_code == 0
        assert vm.console.text == "AB"
