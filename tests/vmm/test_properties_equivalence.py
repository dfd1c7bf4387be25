"""Equivalence and efficiency: the same outcome as on the bare machine, and most of it without the monitor."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import pytest

import vlab
from tests.vmm.boundary_lab import symbols
from vlab.guests.programs import count_down, guest, leave, timer
from vlab.guests.recipes import IMAGES
from vlab.vmm import monitors
from vlab.vmm.stop import StopKind

GUESTS = ["hello", "rings", "longmode", "tripfault"]
WORDS = 0x9000, 256
"""A table that the compute guest works on, and its 32-bit words."""

# for each word: eax = eax * 1664525 + the word; the word ^= eax; through a call, for each turn
MIX = bytes.fromhex(
    "BE 00 90 00 00 BA 00 01 00 00"  # mov esi, 9000h; mov edx, 256
    "69 C0 0D 66 19 00 03 06 31 06"  # again: imul eax, eax, 1664525; add eax, [esi]; xor [esi], eax
    "E8 00 00 00 00 5B"  # call next; next: pop ebx
    "83 C6 04 4A 75 EA"  # add esi, 4; dec edx; jnz again
)
TURNS = 2000
COMPUTE = timer(then=b"\xb8\x01\0\0\0" + count_down(TURNS, MIX) + b"\xfa" + leave(0), hertz=1000)


@cache
def outcome(name: str, monitor: str, paging: str) -> tuple[StopKind, int | None, str, bool]:
    """How a bundled guest ends, what it writes, and whether something went by in silence."""
    with vlab.VM(name, monitor=monitor, paging=paging) as vm:
        stop = vm.run(timeout=30)
        return stop.kind, stop.exit_code, vm.console.text + vm.screen.text(), bool(vm.silent)


@pytest.mark.parametrize("name", GUESTS)
@pytest.mark.parametrize(("monitor", "paging"), monitors.ways_for("rings")[1:])
def test_a_bundled_guest_ends_and_says_what_it_does_on_the_bare_machine(
    monitor: str, paging: str, name: str
) -> None:
    assert outcome(name, monitor, paging)[:3] == outcome(name, *monitors.ways_for(name)[0])[:3]


@cache
def computed(directory: Path, monitor: str, paging: str) -> tuple[bytes, int, int, int]:
    """Run the compute guest: its table, its registers' sum, blocks and exits."""
    with vlab.VM(guest(directory, COMPUTE), memory="4M", monitor=monitor, paging=paging) as vm:
        for n in range(WORDS[1]):
            vm.memory[WORDS[0] + 4 * n : WORDS[0] + 4 * n + 4] = (n * 2654435761 & 0xFFFFFFFF).to_bytes(
                4, "little"
            )
        stop = vm.run(timeout=60)
        assert (stop.kind, stop.exit_code) == (StopKind.EXIT, 0), stop.story
        table = bytes(vm.memory[WORDS[0] : WORDS[0] + 4 * WORDS[1]])
        state = vm.registers()
        assert vm.blocks is not None
        return table, state.rcx << 64 | state.rdx << 32 | state.rsi, vm.blocks, len(vm.exits)


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("compute")


@pytest.mark.parametrize(("monitor", "paging"), monitors.ways_for("rings")[1:])
def test_a_guest_that_computes_needs_its_monitor_for_less_than_one_block_in_a_thousand(
    directory: Path, monitor: str, paging: str
) -> None:
    table, registers, _, _ = computed(directory, *monitors.ways_for("rings")[0])
    seen = computed(directory, monitor, paging)
    assert seen[:2] == (table, registers)
    assert table != bytes(len(table))
    blocks = 2 * TURNS * WORDS[1]
    assert seen[2] >= blocks, "each turn through the table is a call and a jump for each word"
    assert seen[3] < blocks / 1000


def test_the_paravirtual_guest_computes_without_its_monitor() -> None:
    """The teaching kernel's own figures: in its self-test most blocks are programs', and few are exits."""
    assert "trap_entries" in symbols(IMAGES / "wren-paravirt.elf")
    for monitor, paging in monitors.ways_for("wren-paravirt"):
        with vlab.VM("wren-paravirt", monitor=monitor, paging=paging, append="forkwait=20") as vm:
            assert vm.run(timeout=60).exit_code == 0
            assert vm.blocks is not None
            assert len(vm.exits) < vm.blocks / 20
