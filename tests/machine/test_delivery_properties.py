"""Whatever the tables hold: an outcome, never an exception, and registers that change only on success."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.machine.fake_core import (
    GDT_BASE,
    IDT_BASE,
    LDT_BASE,
    TSS2_BASE,
    TSS_BASE,
    FakeCore,
    enter_ring,
    long_core,
    protected_core,
    real_core,
    virtual_8086_core,
)
from vlab.isa.state import Segment, TableRegister
from vlab.machine import port_permission, system_calls
from vlab.machine.delivery import Delivered, Intercepted, Shutdown, TaskSwitch, deliver
from vlab.machine.faults import CpuFault, Event, EventKind

CORES: dict[str, Callable[[], FakeCore]] = {
    "real": real_core,
    "protected": protected_core,
    "virtual-8086": virtual_8086_core,
    "long": long_core,
}

events = st.builds(
    Event,
    st.sampled_from(EventKind),
    st.integers(0, 255),
    st.none() | st.integers(0, 0xFFFF_FFFF),
    st.none() | st.integers(0, (1 << 64) - 1),
    st.integers(0, 15),
)


def scrambled(mode: str, seed: int) -> FakeCore:
    """A core whose tables, registers and page faults come from `seed`, between slightly and wholly broken."""
    dice = random.Random(seed)
    core = CORES[mode]()
    if mode in ("protected", "long"):
        enter_ring(core, dice.choice((0, 1, 3)))
    # Mostly plausible gates, so that delivery gets far before it fails.
    for vector in range(256):
        selector = dice.choice((0x08, 0x18, 0x40, 0x48, 0x28, 0x30, dice.randrange(0x10000)))
        access = dice.choice((0x8E, 0xEE, 0x8F, 0xE5, 0x86, 0x87, dice.randrange(256)))
        gate = dice.randrange(0x8000) | selector << 16 | dice.randrange(8) << 32 | access << 40
        size = 16 if mode == "long" else 8
        core.poke(IDT_BASE + size * vector, gate.to_bytes(size, "little"))
    for base, size in ((GDT_BASE, 0x100), (LDT_BASE, 0x100), (TSS_BASE, 0x68), (TSS2_BASE, 0x68)):
        for _ in range(dice.choice((0, 0, 3, 40))):
            core.poke(base + dice.randrange(size), bytes([dice.randrange(256)]))
    if dice.random() < 0.3:
        name = dice.choice(("tr", "ss", "ldtr", "cs"))
        old = core.segments[name]
        core.segments[name] = Segment(
            old.selector,
            dice.choice((old.base, dice.getrandbits(32))),
            dice.getrandbits(20),
            dice.getrandbits(12),
        )
    if dice.random() < 0.2:
        core.idtr = TableRegister(dice.getrandbits(32), dice.getrandbits(12))
    core.rsp = dice.choice((core.rsp, dice.getrandbits(64), dice.randrange(16)))
    core.rflags = core.rflags & 0x20000 | dice.getrandbits(17) | 2
    core.unmapped = {dice.randrange(16) for _ in range(dice.choice((0, 0, 1, 3)))}
    core.read_only = {dice.randrange(16) for _ in range(dice.choice((0, 0, 1, 3)))}
    return core


@pytest.mark.parametrize("mode", CORES)
@given(event=events, seed=st.integers(0, 1 << 32), intercepted=st.frozensets(st.integers(0, 20)))
def test_delivery_always_ends_in_an_outcome(
    mode: str, event: Event, seed: int, intercepted: frozenset[int]
) -> None:
    core = scrambled(mode, seed)
    before, task = core.registers(), core.segments["tr"]
    outcome = deliver(core, event, intercepts=lambda vector: vector in intercepted)
    match outcome:
        case Delivered():
            assert core.registers() != before
            assert 0 <= core.rip < 1 << 64
            assert 0 <= core.rsp < 1 << 64
            assert core.rflags & 2
        case Intercepted(fault, _, chain):
            assert fault.vector in intercepted
            assert chain
        case Shutdown(chain):
            assert chain
        case TaskSwitch():
            pytest.fail("task switches are not intercepted")
    if not isinstance(outcome, Delivered) and core.segments["tr"] is task:
        assert core.registers() == before
    if not isinstance(outcome, Delivered):
        assert all(record.why for record in outcome.chain)


@pytest.mark.parametrize("mode", CORES)
@given(data=st.binary(min_size=64, max_size=512), event=events, base=st.integers(0, (1 << 64) - 1))
def test_tables_of_noise_are_harmless(mode: str, data: bytes, event: Event, base: int) -> None:
    core = CORES[mode]()
    base &= (1 << 64) - 1 if mode == "long" else 0xFFFF_FFFF
    for number in range(0x10):
        core.poke(number << 12, (data * (0x1000 // len(data) + 1))[:0x1000])
    core.segments["tr"] = Segment(0x28, base, 0xFFFF, 0x8B)
    before = core.registers()
    outcome = deliver(core, event)
    assert isinstance(outcome, Delivered | Shutdown)
    if isinstance(outcome, Shutdown) and core.segments["tr"].base == base:
        assert core.registers() == before


def refusal(call: Callable[[FakeCore], None], core: FakeCore) -> CpuFault | None:
    try:
        call(core)
    except CpuFault as fault:
        return fault
    return None


@pytest.mark.parametrize("mode", CORES)
@given(seed=st.integers(0, 1 << 32), efer=st.integers(0, 1), selector=st.integers(0, (1 << 64) - 1))
def test_a_system_call_enters_ring_0_or_changes_nothing(
    mode: str, seed: int, efer: int, selector: int
) -> None:
    core = scrambled(mode, seed)
    core.efer |= efer
    core.star = core.sysenter_cs = core.sfmask = selector
    for call in (system_calls.syscall, system_calls.sysenter):
        before = core.registers()
        fault = refusal(call, core)
        if fault is None:
            assert core.cpl == 0
        else:
            assert fault.vector in (6, 13)
            assert core.registers() == before


@pytest.mark.parametrize("mode", CORES)
@given(seed=st.integers(0, 1 << 32), port=st.integers(0, 0xFFFF), size=st.sampled_from((1, 2, 4)))
def test_a_port_check_gives_a_fault_or_none(mode: str, seed: int, port: int, size: int) -> None:
    core = scrambled(mode, seed)
    before = core.registers()
    fault = port_permission.check(core, port, size)
    assert fault is None or fault.vector in (13, 14)
    assert core.registers() == before
