"""IOPL and the I/O permission bitmap."""

from __future__ import annotations

import pytest

from tests.machine.fake_core import (
    TSS,
    TSS_BASE,
    FakeCore,
    long_core,
    protected_core,
    real_core,
    use_16_bit_tss,
    virtual_8086_core,
)
from vlab.isa.state import Segment
from vlab.machine.port_permission import check

LIMIT = 0x88 + 0x7F  # the map starts at 0x88; its last byte only closes the word of ports up to 0x3F7


def with_map(core: FakeCore, *closed: int) -> FakeCore:
    core.segments["tr"] = Segment(TSS, TSS_BASE, LIMIT, 0x8B)
    core.poke(TSS_BASE + 0x66, (0x88).to_bytes(2, "little"))
    for port in closed:
        where = TSS_BASE + 0x88 + port // 8
        core.poke(where, bytes([core.peek(where, 1) | 1 << port % 8]))
    return core


def why(core: FakeCore, port: int, size: int = 1) -> str:
    fault = check(core, port, size)
    assert fault is not None
    assert (fault.vector, fault.error_code) == (13, 0)
    return fault.why


def test_real_mode_uses_every_port() -> None:
    assert check(real_core(), 0xCF8, 4) is None


@pytest.mark.parametrize(("ring", "iopl"), [(0, 0), (1, 1), (3, 3), (0, 3)])
def test_a_ring_within_iopl_needs_no_bitmap(ring: int, iopl: int) -> None:
    core = protected_core(ring)
    core.rflags |= iopl << 12
    assert check(core, 0x60, 1) is None
    assert core.accesses == []


@pytest.mark.parametrize("make", [protected_core, long_core])
def test_ring_3_asks_the_bitmap(make: object) -> None:
    core = with_map(long_core(3) if make is long_core else protected_core(3), 0x60)
    assert check(core, 0x61, 1) is None
    assert why(core, 0x60) == "the I/O permission bitmap closes 1 byte at port 0x60"


def test_every_byte_of_a_wide_access_counts() -> None:
    core = with_map(protected_core(ring=3), 0x6A)
    assert check(core, 0x66, 4) is None
    assert why(core, 0x67, 4) == "the I/O permission bitmap closes 4 bytes at port 0x67"


def test_virtual_8086_mode_asks_the_bitmap_even_with_iopl_3() -> None:
    core = with_map(virtual_8086_core(), 0x3F0)
    assert why(core, 0x3F0)
    assert check(core, 0x3EF, 1) is None


def test_ports_beyond_the_map_are_closed() -> None:
    core = with_map(protected_core(ring=3))
    assert check(core, 0x3F7, 1) is None
    assert why(core, 0x3F8) == "the I/O permission bitmap closes 1 byte at port 0x3f8"


def test_a_map_base_beyond_the_limit_closes_all_ports() -> None:
    core = with_map(protected_core(ring=3))
    core.poke(TSS_BASE + 0x66, b"\xff\xff")
    assert why(core, 0)


def test_a_short_tss_has_no_map() -> None:
    core = protected_core(ring=3)
    core.segments["tr"] = Segment(TSS, TSS_BASE, 0x66, 0x8B)
    assert why(core, 0x60) == "port 0x60 needs an I/O bitmap, beyond the TSS limit 0x66"


def test_a_16_bit_tss_has_no_map() -> None:
    core = protected_core(ring=3)
    use_16_bit_tss(core)
    assert why(core, 0x60) == "port 0x60 needs an I/O bitmap, and TR holds no 32- or 64-bit TSS"


def test_a_map_that_is_not_mapped_is_a_page_fault() -> None:
    core = with_map(protected_core(ring=3))
    core.unmapped.add(TSS_BASE >> 12)
    fault = check(core, 0x60, 1)
    assert fault is not None
    assert (fault.vector, fault.address) == (14, TSS_BASE + 0x66)
    assert fault.why == f"the I/O map base in the TSS at {TSS_BASE + 0x66:#x} is not mapped"
