"""The walk of a shadow fill, which keeps what it has seen, agrees with the one that begins at the top."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.vmm.shadow_lab import ACCESSES, ALL, NX, PAGED, RAM, ROOT, RW, US, A, D, P, ShadowLab, lab
from vlab.isa.paging import (
    Access,
    Fault,
    PagingControls,
    PagingMode,
    Step,
    Translation,
    accessed_dirty_updates,
    walk,
)
from vlab.machine.machine import Machine
from vlab.vmm.guest_memory import ROM_ALIAS, Backing
from vlab.vmm.paging.shadow.entries import LARGE, LEAF, NO_EXECUTE, WRITABLE
from vlab.vmm.paging.shadow.guest_walk import GuestWalker, Unbacked, Walked
from vlab.vmm.paging.shadow.physical import NOTHING, PhysicalMap

BASES = (0x40000000, 0x40400000)
"""Where the random entries map: two directory entries' worth in every mode."""
_ENTRIES = 4
_TABLES = slice(ROOT, ROOT + 0x20000)

_FRAMES = st.sampled_from([0x500000, 0x501000, 0x9F000, 0xA0000, 0xF0000, RAM, 1 << 32, 1 << 40])
_BITS = st.lists(st.sampled_from([RW, US, A, D, 1 << 3, 1 << 7, 1 << 8, 1 << 9, 1 << 51, 1 << 58, NX]))
_ABSENT = st.sampled_from([0, RW | US])
_ENTRY = st.one_of(
    st.builds(lambda frame, bits: frame | P | sum(set(bits)), _FRAMES, _BITS),
    st.builds(lambda bits: 0x500000 | ALL | sum(set(bits) - {RW, US}), _BITS),
    _ABSENT,
)
_PLACE = st.tuples(st.sampled_from(BASES), st.integers(0, _ENTRIES - 1))
_UPPER = st.lists(st.sampled_from([P | RW | US, P | RW, P | US, P | RW | US | NX]), min_size=2, max_size=2)
_STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("access"), _PLACE, st.sampled_from(ACCESSES)),
        st.tuples(st.just("access"), _PLACE, st.sampled_from(ACCESSES)),
        st.tuples(st.just("edit"), _PLACE, _ENTRY),
        st.tuples(st.just("flush")),
    ),
    min_size=10,
    max_size=60,
)
_CONTROLS = st.fixed_dictionaries({name: st.booleans() for name in ("wp", "smep", "nxe")})


def read_through(
    guest: ShadowLab, controls: PagingControls, linear: int, access: Access
) -> tuple[list[Step], Translation | Fault]:
    """What the one walker says, with its steps."""
    steps, walker = list[Step](), walk(linear, controls, access, guest.read_guest)
    while True:
        try:
            steps.append(next(walker))
        except StopIteration as end:
            return steps, end.value


class Pair:
    """A walker that keeps what it has seen, beside ones that know nothing, over the same tables."""

    def __init__(self, guest: ShadowLab, controls: PagingControls) -> None:
        self.guest = guest
        self.controls = controls
        self.physical = PhysicalMap(guest.memory)
        self.kept = GuestWalker(guest.machine.memory, self.physical)

    def check(self, linear: int, access: Access) -> None:
        guest, ram = self.guest, self.guest.memory.ram
        steps, expected = read_through(guest, self.controls, linear, access)
        before = bytes(ram[_TABLES])
        answer, after = self.kept.walk(linear, self.controls, access), bytes(ram[_TABLES])
        ram[_TABLES] = before
        fresh = GuestWalker(guest.machine.memory, self.physical)
        assert fresh.walk(linear, self.controls, access) == answer
        assert bytes(ram[_TABLES]) == after
        if isinstance(expected, Fault):
            assert answer == expected
            return
        assert isinstance(answer, Walked | Unbacked)
        assert answer.gpa == expected.physical
        assert isinstance(answer, Unbacked) == (guest.memory.find(expected.physical) is None)
        for address, size, entry in accessed_dirty_updates(steps, access):
            ram[address : address + size] = entry.to_bytes(size, "little")
        assert bytes(ram[_TABLES]) == after


@pytest.mark.parametrize("mode", PAGED)
def test_a_walk_says_and_does_the_same_from_the_last_table_as_from_the_top(
    shadow_machine: Machine, mode: PagingMode
) -> None:
    wide = mode is not PagingMode.LEGACY

    @given(_STEPS, _CONTROLS, _UPPER)
    @settings(max_examples=80)
    def run(steps: list[tuple], changes: dict[str, bool], upper: list[int]) -> None:  # type: ignore[type-arg]
        with lab(shadow_machine, mode) as guest:
            nxe = wide and changes["nxe"]
            pair = Pair(guest, replace(guest.controls, **changes | {"nxe": nxe}))
            cut = (1 << 8 * guest.entry_size) - 1
            for base, flags in zip(BASES, upper, strict=True):
                kept = flags if nxe else flags & ~NX
                guest.poke(guest.place(base, 2), guest.take() | kept)
            for step in steps:
                match step:
                    case ("access", (base, index), access):
                        pair.check(base + index * 0x1000 + 0x18, access)
                    case ("edit", (base, index), entry):
                        guest.poke(guest.place(base + index * 0x1000, 1), entry & cut)
                    case _:
                        pair.kept.forget()
            for base in BASES:
                for index in range(_ENTRIES):
                    for access in ACCESSES:
                        pair.check(base + index * 0x1000, access)

    run()


def test_what_a_walk_keeps_has_a_bound_whatever_bits_the_guest_tries(shadow_machine: Machine) -> None:
    with lab(shadow_machine, PagingMode.LONG) as guest:
        pair = Pair(guest, guest.controls)
        place = guest.map(BASES[0], 0x500000, ALL)
        for number in range(1 << 13):
            guest.poke(place, 0x500000 | ALL | A | (number & 7) << 9 | number >> 3 << 52)
            assert isinstance(pair.kept.walk(BASES[0], guest.controls, ACCESSES[0]), Walked)
        assert len(pair.kept._rights) <= 1 << 12


@pytest.mark.parametrize("change", ["none", "A20 low", "plain"])
def test_the_map_has_for_each_page_what_the_guests_memory_has(shadow_machine: Machine, change: str) -> None:
    with lab(shadow_machine, PagingMode.NONE) as guest:
        window = shadow_machine.window(lambda _offset, _size: 0, lambda _offset, _size, _value: None)
        guest.memory.add_window(0xFEE00000, window)
        if change == "plain":
            guest.memory.make_plain()
        guest.memory.a20 = change != "A20 low"
        physical = PhysicalMap(guest.memory)
        physical.displacement = 1 << 39
        for gfn in (*range(0x600), RAM >> 12, (RAM >> 12) - 1, 0xFEDFF, 0xFEE00, 0xFEE01, ROM_ALIAS >> 12):
            region = guest.memory.find(gfn << 12)
            entry = physical.page(gfn)
            if region is None:
                assert entry == NOTHING
                continue
            flags = LEAF | (WRITABLE if region.writable else 0)
            flags |= NO_EXECUTE if region.backing is Backing.WINDOW else 0
            assert entry == (1 << 39) + region.hpa + (gfn << 12) - region.gpa | flags
            assert not entry & LARGE
        shadow_machine.give_back_window(window)
