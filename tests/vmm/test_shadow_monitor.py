"""Whole guests over shadow tables behave as over nested ones and on the bare machine."""

from __future__ import annotations

import struct
from collections.abc import Iterator

import pytest

import vlab
from tests.vmm.shadow_program import DIRECTORY, PS, RW, STRATEGIES, TABLE, P, Program, strategy
from vlab.errors import UnusableInput
from vlab.vmm.paging.shadow import VARIANTS, ShadowPaging
from vlab.vmm.paging.strategy import PagingStrategy
from vlab.vmm.stop import Stop, StopKind


@pytest.fixture(params=STRATEGIES)
def paging(request: pytest.FixtureRequest) -> PagingStrategy:
    return strategy(request.param)


@pytest.fixture
def programs() -> Iterator[list[Program]]:
    made: list[Program] = []
    yield made
    for program in made:
        program.close()


# --- bundled guests -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["hello", "longmode", "rings", "tripfault"])
def test_bundled_guests_end_in_the_same_state_under_every_paging(name: str) -> None:
    seen = {}
    for monitor, paging in (("none", None), ("hardware", "nested"), *(("hardware", v) for v in VARIANTS)):
        choice = ShadowPaging(paging) if paging in VARIANTS else paging
        with vlab.VM(name, monitor=monitor, paging=choice) as vm:
            stop = vm.run(timeout=60)
            seen[paging] = (stop.kind, stop.exit_code, vm.console.text, vm.state_hash())
    assert len(set(seen.values())) == 1, seen


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_self_test_passes(variant: str) -> None:
    """It switches tasks through gates and back, among much else."""
    with vlab.VM("selftest", paging=ShadowPaging(variant)) as vm:
        stop = vm.run(timeout=120)
        assert (stop.kind, stop.exit_code) == (StopKind.EXIT, 0), vm.console.text[-2000:]


# --- instructions -------------------------------------------------------------------------------------------


def test_control_registers_hold_what_the_guest_wrote(paging: PagingStrategy, programs: list[Program]) -> None:
    """MOV from and to CR0, CR3, CR4; SMSW, LMSW and CLTS with both kinds of operand; EFER."""
    program = Program(
        paging,
        "0f20c0a300200000 0f20e0a304200000 0f20d8a308200000 660f01e066a30c200000 0f012510200000"
        "66b80e000f01f0 0f20c0a314200000 0f060f20c0a318200000 66c705402000000900 0f013540200000"
        "0f20c0a31c200000 b9800000c00f320d010800000f300f32a320200000 b8185034120f22d8"
        "0f20d8a324200000 b8100600000f22e00f20e0a328200000 31c0e6f4",
    )
    programs.append(program)
    stop = program.run()
    assert (stop.kind, stop.exit_code) == (StopKind.EXIT, 0), stop
    assert program.results(11) == (
        0x11, 0, 0, 0x11, 0x11, 0x1F, 0x17, 0x19, 0x801, 0x12345018, 0x610
    )  # fmt: skip
    seen = program.monitor.guest_state()
    assert (seen.cr0, seen.cr3, seen.cr4, seen.efer) == (0x19, 0x12345018, 0x610, 0x801)


def test_an_illegal_write_is_the_guests_general_protection_fault(
    paging: PagingStrategy, programs: list[Program]
) -> None:
    program = Program(paging, "b8000000800f22c0f4")  # CR0.PG without CR0.PE, and no IDT
    programs.append(program)
    stop = program.run()
    assert stop.kind is StopKind.TRIPLE_FAULT
    assert "delivering #GP with error code 0x0" in stop.story
    assert program.monitor.guest_state().cr0 == 0x11


def test_firmware_devices_and_holes_answer(paging: PagingStrategy, programs: list[Program]) -> None:
    """A write to firmware is lost; a local APIC register is read by MOV and by MOVS into an untouched page;
    MOVS from a hole to two pages gives ones.
    """
    program = Program(
        paging,
        "a110000f00 c70510000f003412aa55 330510000f00a300200000 a13000e0fea304200000"
        "be3000e0febf00003000a5a100003000a308200000 be00000a00bffe1f3000a5a1fe1f3000a30c200000 31c0e6f4",
    )
    programs.append(program)
    stop = program.run()
    assert (stop.kind, stop.exit_code) == (StopKind.EXIT, 0), stop
    unchanged, by_move, by_string, hole = program.results(4)
    assert unchanged == 0
    assert by_move == by_string != 0xFFFFFFFF
    assert by_move & 0xFF in range(0x10, 0x20), "the version of an integrated local APIC"
    assert hole == 0xFFFFFFFF


# --- events whose delivery meets the shadow -----------------------------------------------------------------

PAGING_ON = "b8100000000f22e0 b8004000000f22d8 0f20c00d000001800f22c0 0f011d00210000"
INT_HANDLER = "892500200000cf"
FAULT_HANDLER = "8f0504200000 0f20d0a308200000 89250c200000 83042405 cf"


def with_tables(program: Program) -> Program:
    """One 4 MiB page from 0 on, and a table of untouched 4 KiB pages at 0x400000 for stacks."""
    program.write(DIRECTORY, struct.pack("<II", P | RW | PS, TABLE | P | RW))
    program.write(TABLE, struct.pack("<8I", *(0x400000 + 0x1000 * n | P | RW for n in range(8))))
    return program


def test_events_are_delivered_over_stacks_that_the_shadow_does_not_map_yet(
    paging: PagingStrategy, programs: list[Program]
) -> None:
    program = with_tables(
        Program(
            paging,
            PAGING_ON + "bc00204000cd30 bc00304000a123017000 31c0e6f4",
            {0x30: INT_HANDLER, 14: FAULT_HANDLER},
        )
    )
    programs.append(program)
    stop = program.run()
    assert (stop.kind, stop.exit_code) == (StopKind.EXIT, 0), stop
    assert program.results(4) == (0x402000 - 12, 0, 0x700123, 0x403000 - 12)


def test_a_fault_of_the_guests_own_during_delivery_ends_as_over_nested_tables(
    programs: list[Program],
) -> None:
    stories = []
    for name in STRATEGIES:
        code = PAGING_ON + "bc00006000a123017000f4"  # a stack that the guest does not map
        program = with_tables(Program(strategy(name), code, {14: FAULT_HANDLER, 8: INT_HANDLER}))
        programs.append(program)
        stop = program.run()
        assert stop.kind is StopKind.TRIPLE_FAULT, name
        steps = [line.split(" because ")[0] for line in stop.story.splitlines() if " raised " in line]
        stories.append((steps, program.monitor.guest_state().cr2))
    assert len(stories[0][0]) == 2, stories[0]
    assert stories[1:] == stories[:1] * 2


INTERRUPT, UNDEFINED = "bc00104000 cd30", "bc00104000 0f0b"


@pytest.mark.parametrize("code", [INTERRUPT, UNDEFINED], ids=["INT n", "exception"])
@pytest.mark.parametrize(
    ("name", "stack"), [*((name, 0xF0000) for name in STRATEGIES), *((name, 0xA0000) for name in VARIANTS)]
)
def test_a_stack_where_no_memory_is_ends_the_guest_with_a_sentence(
    name: str, stack: int, code: str, programs: list[Program]
) -> None:
    """The access is not the one of the instruction at RIP, which must not be emulated for it."""
    program = Program(strategy(name), PAGING_ON + code, {0x30: INT_HANDLER, 6: INT_HANDLER})
    programs.append(with_tables(program))
    program.write(TABLE, struct.pack("<I", stack | P | RW))
    stop = program.run()
    assert stop.kind is StopKind.FAILED
    assert f"the delivery of an event reaches {stack >> 12:#x}ff" in stop.story


@pytest.mark.parametrize("name", STRATEGIES)
def test_a_story_shows_the_guests_control_registers(name: str, programs: list[Program]) -> None:
    ends = {
        "failed": (PAGING_ON + "bc00104000 cd30", StopKind.FAILED),
        "triple fault": (PAGING_ON + "bc00006000 0f0b", StopKind.TRIPLE_FAULT),
        "no tables": ("b8000000800f22c0", StopKind.TRIPLE_FAULT),
        "halted": (PAGING_ON + "fa f4", StopKind.HALTED),
    }
    for code, kind in ends.values():
        program = with_tables(Program(strategy(name), code, {0x30: INT_HANDLER}))
        programs.append(program)
        program.write(TABLE, struct.pack("<I", 0xF0000 | P | RW))
        stop = program.run()
        assert stop.kind is kind, stop
        seen = program.monitor.guest_state()
        assert f"cr0={seen.cr0:x} cr2={seen.cr2:x} cr3={seen.cr3:x} cr4={seen.cr4:x} efer=" in stop.story
        assert "cr3=4000" in stop.story or "cr0=11" in stop.story


# --- the strategy's place among others --------------------------------------------------------------------


def test_two_guests_take_turns_on_one_processor() -> None:
    """One pages with 4 levels, the other not at all; each runs a few exits at a time."""
    with vlab.VM("longmode", paging="nested") as alone:
        alone.run(timeout=60)
        expected = (alone.console.text, alone.state_hash())
    machine = vlab.Machine("64M")
    with (
        vlab.VM("longmode", paging=ShadowPaging(frames=64), machine=machine) as first,
        vlab.VM("rings", paging=ShadowPaging("lazy", frames=64), machine=machine) as second,
    ):
        turns, stops = 0, [Stop(StopKind.PAUSED, ""), Stop(StopKind.PAUSED, "")]
        while not all(stop.final for stop in stops):
            turns += 1
            assert turns < 1000, stops
            for number, vm in enumerate((first, second)):
                if not stops[number].final:
                    stops[number] = vm.run(exits=400)
        assert turns > 5
        assert [stop.kind for stop in stops] == [StopKind.EXIT, StopKind.EXIT]
        assert (first.console.text, first.state_hash()) == expected
    machine.close()


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_guest_goes_on_from_a_snapshot(variant: str) -> None:
    with vlab.VM("longmode", paging=ShadowPaging(variant)) as vm:
        vm.run(exits=2000)
        snapshot = vm.snapshot()
        vm.run(timeout=60)
        expected = (vm.console.text, vm.state_hash(), vm.virtual_time_ns)
        vm.restore(snapshot)
        vm.run(timeout=60)
        assert (vm.console.text, vm.state_hash(), vm.virtual_time_ns) == expected


def test_an_unknown_variant_is_refused_with_the_known_ones() -> None:
    with pytest.raises(UnusableInput, match="variant: there is no 'eager'; choose write-protect or lazy"):
        ShadowPaging("eager")
