"""Guests with page tables laid out by chance: a seed is always the same guest, and it sees what is there."""

from __future__ import annotations

import struct
from random import Random

import pytest

from vlab.guests.kept import keep
from vlab.guests.probes import (
    ALL,
    FINE,
    HERE,
    LEGACY,
    MEMORY,
    PAE,
    PS,
    RESULTS,
    RETURN,
    RW,
    US,
    P,
    Plan,
    Script,
    Tables,
    Try,
)
from vlab.isa.paging import PagingMode
from vlab.session import VM


def run(plan: Plan) -> tuple[list[tuple[int, int]], bytes]:
    """Run a guest on the bare machine; give what it kept of each access, and its memory at first."""
    with VM(keep(plan.guest(), "probe.bin"), monitor="none", memory=MEMORY) as vm:
        plan.tables.write(vm.memory)
        before = bytes(vm.memory)
        assert vm.run(timeout=20).exit_code == 0
        kept = [struct.unpack_from("<II", vm.memory, RESULTS + 8 * n) for n in range(len(plan.tries))]
        return [(value, address) for value, address in kept], before


@pytest.mark.parametrize("mode", [LEGACY, PAE])
def test_the_same_seed_gives_the_same_tables_and_another_one_others(mode: PagingMode) -> None:
    first, again, other = (Tables(Random(seed), mode) for seed in (1, 1, 2))
    pages = [tables.pages(ALL, P) for tables in (first, again)]
    assert pages[0] == pages[1]
    assert first.words == again.words
    assert first.root != other.root


@pytest.mark.parametrize("mode", [LEGACY, PAE])
def test_an_access_that_is_allowed_finds_the_page(mode: PagingMode) -> None:
    plan = Plan(Tables(Random(3), mode))
    (page,) = plan.tables.pages(ALL)
    large = plan.tables.large()
    plan.tries = [
        Try("read", large + 0x1234 & ~3),
        Try("call", page + RETURN),
        Try("read", page + 8, user=True),
    ]
    kept, before = run(plan)
    assert [address for _, address in kept] == [FINE] * 3
    assert kept[0][0] == struct.unpack_from("<I", before, HERE + (0x1234 & ~3))[0]


def test_a_fault_is_kept_with_its_error_code_and_address() -> None:
    plan = Plan(Tables(Random(4), LEGACY))
    absent, supervisor, read_only = plan.tables.pages(RW | US, P | RW, P | US)
    plan.tries = [
        Try("write", read_only + 4), Try("read", absent + 4), Try("read", supervisor + 4, user=True),
    ]  # fmt: skip
    kept, _ = run(plan)
    assert kept == [(3, read_only + 4), (0, absent + 4), (5, supervisor + 4)]


def test_an_access_is_told_in_words() -> None:
    assert str(Try("call", HERE, user=True)) == "fetch at 0x00400000 in ring 3"
    assert str(Try("write", HERE)) == "write at 0x00400000 in ring 0"


def test_a_script_reads_what_its_tables_lead_to() -> None:
    script = Script(Random(5))
    page, entry = script.page()
    frame = script.tables.frame()
    script.read(page, "at first", miss=True)
    script.edit(entry, frame | ALL)
    script.invlpg(page)
    script.read(page, "after INVLPG", miss=True)
    other = script.space()
    script.cr3(other)
    script.read(page, "in the other space", miss=True)
    assert script.misses == 3
    with VM(keep(script.guest(), "script.bin"), monitor="none", memory=MEMORY) as vm:
        script.tables.write(vm.memory)
        assert vm.run(timeout=20).exit_code == 0
        place = script.reads[1][0] & 0xFFF
        assert script.seen(vm.memory)[1][1] == struct.unpack_from("<I", vm.memory, frame + place)[0]


def test_a_large_page_is_a_directory_entry() -> None:
    tables = Tables(Random(6), LEGACY)
    base = tables.large()
    assert int.from_bytes(tables.words[tables.entry(base)], "little") == HERE | ALL | PS
