"""Page tables that a device or the host writes over while the guest uses them."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator

import pytest

from tests.vmm.shadow_lab import PAGED, READ, RW, P, lab
from tests.vmm.shadow_program import DIRECTORY, PS, STRATEGIES, Program, strategy
from vlab.isa.paging import Fault, PagingMode
from vlab.machine.machine import Machine
from vlab.vmm.stop import Stop, StopKind

PAGE_A, PAGE_B, LINEAR = 0x600000, 0x601000, 0x40000000


@pytest.fixture(scope="module")
def machine() -> Iterator[Machine]:
    made = Machine(64 << 20)
    yield made
    made.close()


@pytest.mark.parametrize("mode", PAGED)
def test_an_entry_written_by_a_device_is_followed_in_protected_tables(
    machine: Machine, mode: PagingMode
) -> None:
    with lab(machine, mode) as guest:
        entry = guest.map(LINEAR, PAGE_A, P | RW)
        guest.reload_cr3()
        assert guest.use(LINEAR, READ) == guest.hpa(PAGE_A)
        guest.poke(entry, PAGE_B | P | RW)
        guest.space.written(entry, guest.entry_size)
        assert guest.space.stale
        assert guest.use(LINEAR, READ) == guest.hpa(PAGE_B)
        guest.poke(entry, 0)
        guest.space.written(0, guest.memory.size)
        assert isinstance(guest.use(LINEAR, READ), Fault)


def test_a_write_beside_all_tables_changes_nothing(machine: Machine) -> None:
    with lab(machine, PagingMode.LONG) as guest:
        entry = guest.map(LINEAR, PAGE_A, P | RW)
        guest.reload_cr3()
        guest.use(LINEAR, READ)
        guest.flush_tlb()
        guest.space.written(PAGE_A, 0x2000)
        assert not guest.space.stale
        guest.poke(entry, guest.entry(entry))
        guest.space.written(entry, 8)
        assert not guest.space.stale
        assert guest.space.fills


def test_a_table_that_the_guest_writes_to_itself_waits_for_its_flush(machine: Machine) -> None:
    with lab(machine, PagingMode.LONG) as guest:
        entry = guest.map(LINEAR, PAGE_A, P | RW)
        guest.reload_cr3()
        guest.use(LINEAR, READ)
        guest.guest_writes(entry, PAGE_A | P | RW)
        guest.poke(entry, PAGE_B | P | RW)
        guest.space.written(entry, 8)
        assert guest.use(LINEAR, READ) == guest.hpa(PAGE_A), "as a TLB keeps it"
        guest.reload_cr3()
        assert guest.use(LINEAR, READ) == guest.hpa(PAGE_B)


def test_the_lazy_variant_sees_it_at_the_next_flush(machine: Machine) -> None:
    with lab(machine, PagingMode.LONG, protect=False) as guest:
        entry = guest.map(LINEAR, PAGE_A, P | RW)
        guest.reload_cr3()
        guest.use(LINEAR, READ)
        guest.poke(entry, PAGE_B | P | RW)
        guest.space.written(entry, 8)
        guest.reload_cr3()
        assert guest.use(LINEAR, READ) == guest.hpa(PAGE_B)


def by_dma(program: Program) -> None:
    program.monitor.board.events.dma(DIRECTORY + 8, 4)


def by_hand(program: Program) -> None:
    program.memory.handed_out = True


@pytest.mark.parametrize("way", [by_dma, by_hand])
@pytest.mark.parametrize("name", STRATEGIES)
def test_a_guest_that_flushes_sees_what_others_wrote_into_its_tables(
    name: str, way: Callable[[Program], None]
) -> None:
    """It reads, waits for word 0x2008, writes CR3 and reads again."""
    paging_on = "b8100000000f22e0 b8004000000f22d8 0f20c00d000000800f22c0"
    code = "a100008000a300200000 833d0820000000 74f7 0f20d80f22d8 a100008000a304200000 31c0e6f4ebfe"
    program = Program(strategy(name), paging_on + code)
    flags = P | RW | PS
    program.write(DIRECTORY, struct.pack("<III", flags, 0, 0x400000 | flags))
    program.write(0x400000, struct.pack("<I", 0x11111111))
    program.write(0, struct.pack("<I", 0x22222222))
    waiting = Stop(StopKind.PAUSED, "it waits")
    program.monitor.at_block = lambda: waiting if program.results(1)[0] else None
    assert program.run() is waiting
    program.monitor.at_block = None
    program.write(DIRECTORY + 8, struct.pack("<I", flags))
    way(program)
    program.write(0x2008, b"\1")
    assert program.run().kind is StopKind.EXIT
    assert program.results(2) == (0x11111111, 0x22222222)
    program.close()
