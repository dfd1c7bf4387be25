"""The view of the translation cache."""

from __future__ import annotations

import time
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from typing import Any

import pytest

from tests.widgets.waiting import wait_for
from vlab.errors import UnusableInput
from vlab.session import VM
from vlab.vmm.translation.statistics import Room, Run
from vlab.widgets.showing import view_of
from vlab.widgets.translation_facts import PAGE, Search
from vlab.widgets.translation_map import draw, size_of
from vlab.widgets.translation_view import TranslationView


@pytest.fixture(scope="module")
def booted() -> Iterator[VM]:
    with VM("wren", monitor="binary-translation") as vm:
        vm.run(until="$ ")
        yield vm


def asked(view: TranslationView, **wish: Any) -> None:
    view._asked(None, wish, [])


def test_another_monitor_is_refused_with_what_to_make_instead() -> None:
    with VM("hello") as vm, pytest.raises(UnusableInput, match="translates nothing") as refused:
        TranslationView(vm)
    assert str(refused.value).endswith("vlab.VM('wren', monitor='binary-translation')")
    with pytest.raises(UnusableInput, match="subject: 5 translates nothing"):
        TranslationView(5)  # type: ignore[arg-type]


def test_the_statistics_of_a_vm_are_shown_as_a_view_that_follows_it(booted: VM) -> None:
    view = view_of(booted.translation)
    assert isinstance(view, TranslationView)
    assert view.vm is booted


def test_the_statistics_of_a_closed_vm_are_refused() -> None:
    vm = VM("wren", monitor="binary-translation")
    told = vm.translation
    assert told is not None
    vm.close()
    with pytest.raises(UnusableInput, match="is of a VM that is closed; make a new one"):
        TranslationView(told)


def test_counts_blocks_and_call_outs_are_shown(booted: VM) -> None:
    view = TranslationView(booted)
    told = booted.translation
    assert told is not None
    assert view.counts["blocks"] == told.counts.blocks
    assert view.counts["room"][:2] == [told.room.code, told.room.gates]
    assert view.counts["callouts"] == booted.exits.by_reason()["CALLOUT"]
    assert view.listed["total"] == view.listed["found"] == len(told.blocks)
    assert len(view.listed["rows"]) == PAGE, "the list goes over a page at a time"
    assert ["IRET", 1] in view.call_outs
    assert view.block["rip"] == f"{told.blocks[0]:#x}"
    assert {fate for fate, _, _ in view.fates} >= {line[2] for line in view.block["lines"]}


def test_the_list_is_filtered_by_address_context_and_instruction(booted: VM) -> None:
    view = TranslationView(booted)
    told = booted.translation
    assert told is not None
    asked(view, do="list", text="IF=1")
    assert view.listed["rows"]
    assert all("IF=1" in row[2] for row in view.listed["rows"])
    asked(view, do="list", text="iret")
    assert view.listed["found"] == 1
    iret = int(view.listed["rows"][0][1], 16)
    asked(view, do="list", text=f"{iret + 1:#x}")
    assert f"{iret:#x}" in [row[1] for row in view.listed["rows"]], "an address inside of the block"
    asked(view, do="list", text="IRET, if=1")
    assert view.listed["rows"] == []
    asked(view, do="list", text="", order="size")
    sizes = [row[4] for row in view.listed["rows"]]
    assert sizes == sorted(sizes, reverse=True)
    with pytest.raises(UnusableInput, match="order: 'colour' is none; write one of made, address"):
        view.list_blocks(order="colour")


def test_the_page_turns_and_stays_within_the_list(booted: VM) -> None:
    view = TranslationView(booted)
    asked(view, do="list", first=PAGE)
    assert view.listed["first"] == PAGE
    asked(view, do="list", first=10**9)
    assert view.listed["first"] + len(view.listed["rows"]) == view.listed["found"]
    asked(view, do="list", first=-5)
    assert view.listed["first"] == 0


def test_a_link_is_followed_to_its_block_and_to_its_page(booted: VM) -> None:
    view = TranslationView(booted)
    key = view.block["ways"][0][3]
    asked(view, do="choose", key=key)
    assert view.block["key"] == key
    assert any(way[3] for way in view.block["arrivals"])
    told = booted.translation
    assert told is not None
    view.choose(told.blocks[-1])
    assert view.block["key"] in [row[0] for row in view.listed["rows"]]


def test_what_is_not_in_the_cache_is_told(booted: VM) -> None:
    view = TranslationView(booted)
    asked(view, do="choose", key=f"{0x1234 * 128:x}")
    assert view.problem == "the block at 0x1234, 16-bit ring 0 IF=0 not plain is not in the cache any more"
    with pytest.raises(UnusableInput, match="rip: 0x1234 is in no block of the cache"):
        view.choose(0x1234)
    asked(view, do="list")
    assert view.problem == ""


def test_a_place_on_the_map_chooses_the_block_there(booted: VM) -> None:
    view = TranslationView(booted)
    told = booted.translation
    assert told is not None
    last = max(told.translated, key=lambda block: block.start)
    asked(view, do="at", offset=last.start + 1)
    assert view.block["key"] == f"{last.key:x}"


def test_the_picture_has_the_map_and_the_block_beside_its_original(booted: VM) -> None:
    view = TranslationView(booted)
    data, _ = view._repr_mimebundle_()
    ElementTree.fromstring(data["image/svg+xml"])
    for wanted in ("KiB of 4.00 MiB hold code", "mov esp, 0xc0113000", "jmp 0xc01000c4", "→ chained"):
        assert wanted in data["image/svg+xml"]
    assert "blocks in the cache" in data["text/plain"]
    assert "leads to 0xc01000c4 (jump)" in data["text/plain"]


def test_the_map_shows_what_is_in_use_of_what_is_taken() -> None:
    room = Room(2000, 0)
    half = draw(room, [Run(0, 1000, True), Run(1000, 1000, False)], None)
    assert any("in use, filled, are 50%" in "".join(part.itertext()) for part in half)
    empty = draw(Room(0, 0), [], None)
    assert any("0 bytes of 4.00 MiB" in "".join(part.itertext()) for part in empty)
    assert size_of(10 << 10) == "10.0 KiB"


def test_a_profile_runs_the_guest_and_tells_hit_rates() -> None:
    with VM("wren", monitor="binary-translation") as vm:
        vm.run(until="$ ")
        view = TranslationView(vm)
        asked(view, do="profile", milliseconds=1000, send="ls\n", until="$ ")
        wait_for(lambda: not view.profiling)
        assert view.problem == ""
        assert view.seen["end"] == "the text appeared"
        assert view.seen["blocks"] > 1000
        assert 0.5 < view.seen["chain_rate"] < 1
        assert vm.console.text.count("$ ") == 2
        wait_for(lambda: view.counts["blocks"] > 198)
        view.profile(5)
        wait_for(lambda: not view.profiling)
        assert view.seen["end"] == "the time was over"
        assert view.seen["time_ns"] >= 5_000_000


def test_a_profile_that_cannot_be_taken_is_refused(booted: VM) -> None:
    view = TranslationView(booted)
    for wrong in (0, -1, 60_001):
        with pytest.raises(UnusableInput, match=f"milliseconds: {wrong} is not between 1 and 60000"):
            view.profile(wrong)
    booted.start()
    try:
        with pytest.raises(UnusableInput, match="profile: the guest runs already; pause it first"):
            view.profile(10)
    finally:
        booted.pause()


def test_a_profile_is_stopped_by_its_reader() -> None:
    with VM("wren", monitor="binary-translation") as vm:
        view = TranslationView(vm)
        view.profile(60_000, until="this will not be said")
        time.sleep(0.3)
        asked(view, do="stop")
        wait_for(lambda: not view.profiling)
        assert view.seen["end"] == "paused"


def test_blocks_can_be_looked_at_while_the_guest_runs() -> None:
    with VM("wren", monitor="binary-translation") as vm:
        vm.run(until="$ ")
        view = TranslationView(vm)
        vm.start()
        vm.send("ls\n")
        for row in view.listed["rows"][:20]:
            asked(view, do="choose", key=row[0])
            assert view.problem == ""
        vm.pause()


def test_a_guest_that_has_not_run_has_no_blocks_and_a_closed_one_says_so() -> None:
    vm = VM("wren", monitor="binary-translation")
    view = TranslationView(vm)
    assert view.words() == "the guest has no translated code yet; run it"
    ElementTree.fromstring(view.picture())
    assert view.block == {}
    vm.run(until="$ ")
    wait_for(lambda: view.block.get("lines"))
    vm.close()
    wait_for(lambda: not view.alive)
    asked(view, do="list")
    assert view.problem.startswith("the VM of this view is gone")
    ElementTree.fromstring(view.picture())


def test_a_restored_snapshot_has_an_empty_cache() -> None:
    with VM("wren", monitor="binary-translation") as vm:
        start = vm.snapshot()
        vm.run(until="$ ")
        view = TranslationView(vm)
        assert view.block["lines"]
        vm.restore(start)
        wait_for(lambda: view.listed["total"] == 0)
        assert view.block["gone"].startswith("0x")


def test_a_search_remembers_texts_until_the_cache_is_emptied(booted: VM) -> None:
    told = booted.translation
    assert told is not None
    search = Search()
    assert search.find(told.translated, "no such instruction") == []
    assert search.unread == 0
    assert len(search._texts) == len(told.blocks)
    search.forget()
    assert not search._texts


def test_a_long_search_shows_what_it_has_found_so_far_and_goes_on(booted: VM) -> None:
    told = booted.translation
    assert told is not None
    search, blocks = Search(), told.translated
    assert search.find(blocks, "iret", patience=-1) == []
    assert search.unread == len(blocks)
    search.find(blocks[:10], "iret")
    search.find(blocks, "iret", patience=-1)
    assert search.unread == len(blocks) - 10
    assert len(search.find(blocks, "iret", patience=60)) == 1
    assert search.unread == 0
    assert Search().find(blocks, "if=1", patience=-1), "contexts are known without looking at instructions"
