"""Code that a guest changes under shadow paging, where what is written may not be executable yet."""

from __future__ import annotations

import struct

import pytest

import vlab
from tests.vmm.shadow_program import DIRECTORY, PS, RW, STRATEGIES, P, Program, strategy
from vlab.vmm.paging.shadow import VARIANTS, ShadowPaging
from vlab.vmm.paging.strategy import PagingStrategy
from vlab.vmm.stop import StopKind

PAGING_ON = "b8100000000f22e0 b8004000000f22d8 0f20c00d000000800f22c0"
CALL = "b900780000ffd1"
KEEP = {0: "a300200000", 1: "a304200000"}
FLUSH = "0f20d80f22d8"
THE_END = "31c0e6f4ebfe"
SITE, ALIAS = 0x7000, 0x807000


def store(linear: int, value: int) -> str:
    return "c705" + struct.pack("<II", linear, value).hex()


@pytest.mark.parametrize("name", STRATEGIES)
@pytest.mark.parametrize(
    "change",
    [
        CALL + KEEP[0] + FLUSH + store(SITE, 1) + store(SITE + 0x801, 0x22222222),
        store(ALIAS, 1) + CALL + KEEP[0] + store(ALIAS + 0x801, 0x22222222),
        CALL + KEEP[0] + store(ALIAS, 1) + store(ALIAS + 0x801, 0x22222222),
        CALL + KEEP[0] + FLUSH + store(ALIAS, 1) + FLUSH + store(SITE, 1) + store(SITE + 0x801, 0x22222222),
    ],
    ids=["behind a flush", "known as data before", "through another address", "both"],
)
def test_a_function_that_was_changed_runs_as_changed(change: str, name: str) -> None:
    """The second store to the page must not be missed by what has translated its code."""
    program = Program(strategy(name), PAGING_ON + change + CALL + KEEP[1] + THE_END)
    program.write(DIRECTORY, struct.pack("<III", P | RW | PS, 0, P | RW | PS))
    program.write(SITE + 0x800, bytes.fromhex("b811111111c3"))
    stop = program.run()
    assert (stop.kind, stop.exit_code) == (StopKind.EXIT, 0), stop
    assert program.results(2) == (0x11111111, 0x22222222)
    program.close()


@pytest.mark.slow
@pytest.mark.linux
def test_linux_which_patches_itself_takes_the_same_time_over_shadow_as_over_nested_tables() -> None:
    times = []
    tables: list[str | PagingStrategy] = ["nested", *map(ShadowPaging, VARIANTS)]
    for paging in tables:
        with vlab.VM("linux", paging=paging, memory="128M") as vm:
            assert vm.run(until="# ", timeout=300).kind is StopKind.EXPECTED
            times.append(vm.virtual_time_ns)
    assert len(set(times)) == 1, times
