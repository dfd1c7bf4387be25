"""What a virtual machine under binary translation tells about its translations."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import pytest

from vlab.session import VM
from vlab.vmm.translation.anatomy import COMPARISONS, Anatomy, Fate
from vlab.vmm.translation.statistics import Statistics


@pytest.fixture
def booted() -> Iterator[VM]:
    with VM("wren", monitor="binary-translation") as vm:
        vm.run(until="$ ")
        yield vm


def test_other_monitors_have_no_translations() -> None:
    with VM("spin", monitor="hardware") as vm:
        assert vm.translation is None


def test_blocks_instructions_and_growth_are_counted(booted: VM) -> None:
    told = booted.translation
    assert told is not None
    counts = told.counts
    assert counts.blocks >= len(told.blocks) > 100
    assert counts.instructions > counts.blocks
    assert 1 < counts.expansion < 4
    assert counts.links > 0
    assert counts.targets == counts.misses > 0, "each return that missed taught its lookup one target"


def test_a_kernel_that_does_the_same_again_finds_its_way_without_the_monitor(booted: VM) -> None:
    told = booted.translation
    assert told is not None

    def listing() -> str:
        booted.send("ls\n")
        booted.run(until="$ ")
        return booted.console.text.rpartition("ls")[2]

    with told.profile() as first:
        shown = listing()
    with told.profile() as second:
        assert listing() == shown
    assert first.chain_rate > 0.9
    assert first.lookup_rate > 0.5
    assert second.chain_rate > 0.999
    assert second.lookup_rate > 0.98
    assert second.blocks > 1000
    assert second.unlinked < first.unlinked


def test_watching_changes_nothing_of_what_the_guest_does(booted: VM) -> None:
    with VM("wren", monitor="binary-translation") as other:
        told = other.translation
        assert told is not None
        with told.profile():
            other.run(until="$ ")
        assert other.console.text == booted.console.text
        assert other.state_hash() == booted.state_hash()


def test_a_block_is_listed_beside_its_original(booted: VM) -> None:
    told = booted.translation
    assert told is not None
    with_return = [each for rip in told.blocks for each in told.listing(rip) if "ret" in str(each)]
    assert with_return
    for listing in with_return:
        assert listing.rip == listing.lines[0][0]
        for _, source, code in listing.lines:
            if source.startswith(("mov ", "add ", "cmp ")):
                assert code in (source, "hlt"), "innocuous instructions are copied"
            if source == "cli":
                assert code != source


def test_an_address_without_a_block_has_no_listing(booted: VM) -> None:
    told = booted.translation
    assert told is not None
    assert told.listing(0x1234) == []


def anatomies(told: Statistics) -> list[Anatomy]:
    return [told.anatomy(block) for block in told.translated]


def test_statistics_of_one_vm_are_equal(booted: VM) -> None:
    with VM("wren", monitor="binary-translation") as other:
        assert booted.translation == booted.translation
        assert hash(booted.translation) == hash(booted.translation)
        assert booted.translation != other.translation


def test_each_instruction_of_a_block_is_told_once_and_in_order(booted: VM) -> None:
    told = booted.translation
    assert told is not None
    for anatomy in anatomies(told):
        rips = [line.rip for line in anatomy.lines if line.source]
        assert len(rips) == anatomy.block.instructions
        assert rips == sorted(rips)
        assert rips[0] == anatomy.block.rip


def test_each_line_says_what_became_of_the_instruction(booted: VM) -> None:
    told = booted.translation
    assert told is not None
    seen = set()
    for anatomy in anatomies(told):
        for line in anatomy.lines:
            seen.add(line.fate)
            name = line.source.partition(" ")[0]
            if name in ("add", "cmp", "push"):
                assert (line.fate, line.code) == (Fate.COPIED, line.source)
            if name in ("lgdt", "iretd"):
                assert (line.fate, line.code) == (Fate.CALL_OUT, "hlt")
            if name == "ret":
                assert line.fate is Fate.LOOKUP
            if name == "call" and line.fate is Fate.CHANGED:
                assert line.code.startswith("push 0x"), "the guest's own return address"
            if line.fate is Fate.CHAINED:
                assert line.way is not None
                assert anatomy.ways[line.way].block in told.translated
            if line.fate is Fate.UNLINKED:
                assert line.way is not None
                assert anatomy.ways[line.way].block is None
    assert seen >= set(Fate) - {Fate.FAULT}


def test_ways_out_and_arrivals_are_the_two_ends_of_the_same_links(booted: VM) -> None:
    told = booted.translation
    assert told is not None
    out = Counter(
        (each.block, way.block, way.by) for each in anatomies(told) for way in each.ways if way.block
    )
    back = Counter((way.block, each.block, way.by) for each in anatomies(told) for way in each.arrivals)
    assert out == back
    assert {by for _, _, by in out} == {"jump", "branch", "gate", "lookup"}


def test_the_targets_of_a_lookup_are_told_with_its_comparisons(booted: VM) -> None:
    booted.send("ls\n")
    booted.run(until="$ ")
    told = booted.translation
    assert told is not None
    known = [[line for line in each.lines if line.words.startswith("is it ")] for each in anatomies(told)]
    most = max(known, key=len)
    assert len(most) == COMPARISONS
    assert all("lea ecx" in line.code and "jecxz" in line.code for line in most)
    longest = next(
        each for each in anatomies(told) if sum(way.by == "lookup" for way in each.ways) > COMPARISONS
    )
    assert "more comparison" in longest.lines[-1].words


def test_a_listing_does_not_take_a_way_out_for_the_instruction_it_leads_to(booted: VM) -> None:
    told = booted.translation
    assert told is not None
    for rip in told.blocks:
        for listing in told.listing(rip):
            sources = [rip for rip, source, _ in listing.lines if source and source != "(way out)"]
            assert len(sources) == len(set(sources))


def test_the_room_that_is_taken_is_that_of_all_runs(booted: VM) -> None:
    told = booted.translation
    assert told is not None
    runs, room = told.runs(), told.room
    assert sum(run.size for run in runs) == room.code == told.counts.code_bytes
    assert 0 < room.gates < room.gates_size
    assert 0.5 < sum(run.size for run in runs if run.used) / room.code < 1, "some were dropped"
    assert [run.offset for run in runs] == sorted(run.offset for run in runs)


def test_places_of_call_outs_are_counted_by_family(booted: VM) -> None:
    told = booted.translation
    assert told is not None
    families = told.call_outs()
    assert families["LGDT"] == 2
    assert families["IRET"] == 1
    assert list(families.values()) == sorted(families.values(), reverse=True)


def test_a_block_is_taken_apart_between_two_blocks_of_a_guest_that_runs(booted: VM) -> None:
    told = booted.translation
    assert told is not None
    booted.start()
    try:
        rip = told.blocks[0]
        assert [each.block.rip for each in told.anatomies(rip)] == [rip]
    finally:
        booted.pause()
