"""Resource control: no guest reaches a frame, a port or a register that it was not given, nor its monitor.

And what it sees when it tries is what it sees on the bare machine. Where an instruction that does not trap
has shown it something else, its monitor says so (``VM.silent``); such attacks must be harmless all the same.
"""

from __future__ import annotations

import struct
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.vmm.hostile_cases import BACK, FOREVER, wild
from tests.vmm.hostile_tables import FOUND, PROBES, scan
from tests.vmm.properties_lab import FIRST, Attack, Ending, Fortress, user
from vlab.vmm import monitors
from vlab.vmm.stop import StopKind

WAYS = monitors.ways_for("rings")
BARE, MONITORS = WAYS[0], WAYS[1:]


class Arena:
    """The fortress, and how each attack ended on the bare machine."""

    def __init__(self, directory: Path) -> None:
        self.fortress = Fortress(directory)
        self.attacks = {attack.name: attack for attack in wild(self.fortress.victim_hpa)}
        self._bare: dict[str, Ending] = {}

    def compare(self, attack: Attack, monitor: str, paging: str) -> list[str]:
        """Attack; give what the guest saw that it does not see on the bare machine, and may not."""
        ending = self.fortress.attack(attack, monitor, paging)
        if attack.name not in self._bare:
            self._bare[attack.name] = self.fortress.attack(attack, *BARE)
        excused = not attack.same or ending.silent
        return [] if excused else self._bare[attack.name].differences(ending)


@pytest.fixture(scope="module")
def arena(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Arena]:
    arena = Arena(tmp_path_factory.mktemp("attackers"))
    yield arena
    arena.fortress.close()


@pytest.mark.parametrize(("monitor", "paging"), MONITORS)
def test_hostile_guests_reach_nothing_and_see_the_bare_machine(
    arena: Arena, monitor: str, paging: str
) -> None:
    failed = {}
    for name, attack in arena.attacks.items():
        found = arena.compare(attack, monitor, paging)
        if found:
            failed[name] = found
    assert not failed, "\n".join(f"{name}: {lines}" for name, lines in failed.items())


def test_a_frame_of_others_that_changes_is_noticed(arena: Arena) -> None:
    """What all this rests on."""
    fortress = arena.fortress
    place = fortress.victim_hpa + 0x50000
    memory = fortress.machine.memory
    with fortress.attacker(Attack("none", ()), *MONITORS[-1]) as vm:
        vm.vmm.post(lambda: memory.write(place, 1, 1))
        with pytest.raises(AssertionError, match=f"changed: .*{place:#x}"):
            fortress.run(vm)
    memory.write(place, 1, 0)


@pytest.mark.parametrize(("monitor", "paging"), MONITORS)
def test_every_linear_address_faults_or_is_what_the_guests_own_tables_say(
    arena: Arena, monitor: str, paging: str
) -> None:
    """The monitor's own pages among them: they are found where the processor's tables show them."""
    arena.fortress.foreign.clear()
    arena.fortress.attack(scan("read", 0, []), monitor, paging)
    foreign = sorted(arena.fortress.foreign)
    some = sorted({*foreign[:8], *foreign[-8:], *foreign[:: max(1, len(foreign) // 8)]})
    for kind in PROBES:
        for ring in (0, 3):
            attack = scan(kind, ring, some)
            bare = arena.fortress.attack(attack, *BARE)
            seen = bare.differences(arena.fortress.attack(attack, monitor, paging))
            found = [line for line in seen if not line.startswith("cr2")]  # of the last fault: see below
            assert not found, f"{attack.name}: {found}"
            words = struct.unpack_from("<512I", bare.memory, FOUND - FIRST)
            assert sum(word >> 16 == 14 for word in words) > 250, "most is not mapped"
            assert any(word and word >> 16 != 14 for word in words), "and something is"


@pytest.mark.parametrize("ring", [0, 3])
@pytest.mark.parametrize(("monitor", "paging"), WAYS)
def test_a_jump_to_an_absent_page_tells_the_very_address_in_cr2(
    arena: Arena, monitor: str, paging: str, ring: int
) -> None:
    jump = b"\xb8\xfc\x07\x00\x90\xff\xe0"  # mov eax, 900007FCh; jmp eax
    attack = Attack("a jump", (user(0, jump) if ring else jump,))
    assert arena.fortress.attack(attack, monitor, paging).state.cr2 == 0x900007FC


@pytest.mark.parametrize("name", FOREVER)
@pytest.mark.parametrize(("monitor", "paging"), WAYS)
def test_the_monitor_gets_the_processor_back_from_a_guest_that_never_ends(
    arena: Arena, monitor: str, paging: str, name: str
) -> None:
    attack = Attack(name, (FOREVER[name],), memory=BACK)
    with arena.fortress.attacker(attack, monitor, paging) as vm:
        assert arena.fortress.run(vm, timeout=0.05).kind is StopKind.TIMEOUT
        vm.start()
        began = time.monotonic()
        stop = vm.pause()
        assert stop is None or stop.kind is StopKind.PAUSED
        assert time.monotonic() - began < 2
        assert vm.virtual_time_ns > 0


def test_the_victim_of_all_these_ends_as_one_that_nobody_attacked(arena: Arena) -> None:
    for way in MONITORS:
        arena.fortress.attack(next(iter(arena.attacks.values())), *way)
    assert arena.fortress.finish() == arena.fortress.undisturbed()


@pytest.mark.parametrize(("monitor", "paging"), MONITORS)
def test_instructions_that_show_the_monitor_show_none_of_its_addresses(
    arena: Arena, monitor: str, paging: str
) -> None:
    """SGDT and SIDT do not trap at CPL 1: what they show is the guest's own, or nothing."""
    name = "SGDT, SIDT, SLDT, STR and SMSW"
    bare = arena.fortress.attack(arena.attacks[name], *BARE)
    seen = arena.fortress.attack(arena.attacks[name], monitor, paging)
    for place in range(0x7000 - 0x500, 0x7020 - 0x500, 8):
        limit_and_base = seen.memory[place : place + 6]
        assert limit_and_base in (bare.memory[place : place + 6], bytes(6))
    assert seen.silent or seen.memory == bare.memory
