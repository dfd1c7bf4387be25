"""What a virtual machine under binary translation tells about its translations."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from vlab.session import VM


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
