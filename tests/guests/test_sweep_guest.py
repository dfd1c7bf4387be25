"""The bundled guest `sweep`: the same digests however its addresses are translated, and what it refuses."""

from __future__ import annotations

import re

import pytest

import vlab
from vlab.vmm.paging.shadow import ShadowPaging
from vlab.vmm.paging.strategy import PagingStrategy

WORK = "rounds=6 touches=40 updates=7"


def digests(append: str, **options: object) -> tuple[str, str]:
    with vlab.VM("sweep", append=append, **options) as vm:  # type: ignore[arg-type]
        stop = vm.run(timeout=30)
        assert stop.exit_code == 0, stop
        found = re.search(r"picked ([0-9a-f]{16}), contents ([0-9a-f]{16})", vm.console.text)
        assert found is not None
        return found[1], found[2]


@pytest.mark.parametrize("large", [0, 1])
def test_pages_that_move_are_the_same_under_every_way_to_translate(large: int) -> None:
    append = f"pages=100 {WORK} large={large}"
    bare = digests(append, monitor="none")
    strategies: tuple[str | PagingStrategy, ...] = ("nested", "shadow", ShadowPaging("lazy"))
    for paging in strategies:
        assert digests(append, paging=paging) == bare


def test_what_is_in_the_pages_depends_on_every_option() -> None:
    options = [
        f"pages=100 {WORK}", f"pages=101 {WORK}", f"pages=100 {WORK} large=1",
        "pages=100 rounds=6 touches=40 updates=6", "pages=100 rounds=5 touches=40 updates=7",
    ]  # fmt: skip
    assert len({digests(append)[1] for append in options}) == len(options)


def test_the_path_that_some_loaders_put_first_is_passed_over() -> None:
    assert digests("/boot/sweep.elf pages=8") == digests("pages=8")


def test_an_update_moves_the_page_and_not_what_the_guest_expects_in_it() -> None:
    """Pages are never copied, so what moves is seen: without updates the contents are others."""
    assert digests("pages=8 touches=64 updates=1")[1] != digests("pages=8 touches=64")[1]


@pytest.mark.parametrize(
    ("append", "memory"),
    [
        ("pages=0", "64M"),
        ("pages=8193", "64M"),
        ("large=2", "64M"),
        ("pages=", "64M"),
        ("pages=12k", "64M"),
        ("rounds=16777217", "64M"),
        ("page=12", "64M"),
        ("pages=4096", "16M"),
        ("pages=1 large=1", "6M"),
    ],
)
def test_what_it_cannot_do_is_refused_with_a_line_and_status_2(append: str, memory: str) -> None:
    with vlab.VM("sweep", append=append, memory=memory) as vm:
        assert vm.run(timeout=30).exit_code == 2
        assert vm.console.text == (
            "sweep: give pages=1..8192 rounds=N touches=N updates=N large=0|1, and memory for the pages\r\n"
        )
