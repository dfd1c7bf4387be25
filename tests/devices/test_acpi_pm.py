"""The ACPI power-management block: the timer, the SCI, and the way to turn the machine off."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vlab.devices.acpi_pm import SLEEP_TYPE_S5, TIMER_HZ, AcpiPm, AcpiPmState
from vlab.devices.state import decode, encode
from vlab.guests.firmware import acpi

STATUS, ENABLE, CONTROL, TIMER = 0, 2, 4, 8
HALF_PERIOD_NS = -(-(1 << 31) * 10**9 // TIMER_HZ)


class Rig:
    """The block, its line, its clock and the power supply."""

    def __init__(self) -> None:
        self.time = 0
        self.due: int | None = None
        self._level = False
        self.off = 0
        self.pm = AcpiPm(
            now=lambda: self.time, schedule=self.schedule, sci=self.drive, power_off=self.power_off
        )

    def schedule(self, when: int | None) -> None:
        self.due = when

    def drive(self, level: bool) -> None:
        self._level = level

    def sci(self) -> bool:
        return self._level

    def power_off(self) -> None:
        self.off += 1


def test_the_timer_runs_at_3_579545_mhz_and_wraps_at_32_bits() -> None:
    rig = Rig()
    rig.time = 10**9
    assert rig.pm.read(TIMER, 4) == TIMER_HZ
    rig.time = 2 * HALF_PERIOD_NS + 10**6
    assert rig.pm.read(TIMER, 4) == pytest.approx(3580, abs=4)


def test_the_timer_can_be_read_byte_by_byte_and_not_written() -> None:
    rig = Rig()
    rig.time = 12_345_678_901
    rig.pm.write(TIMER, 0, 4)
    parts = [rig.pm.read(TIMER + i) for i in range(4)]
    assert int.from_bytes(bytes(parts), "little") == rig.pm.read(TIMER, 4) == rig.pm.timer()


def test_acpi_mode_is_always_on() -> None:
    rig = Rig()
    rig.pm.write(CONTROL, 0, 2)
    assert rig.pm.read(CONTROL, 2) == 1


def test_sleep_type_5_with_sleep_enable_turns_the_machine_off() -> None:
    rig = Rig()
    rig.pm.write(CONTROL, SLEEP_TYPE_S5 << 10, 2)
    assert rig.off == 0
    rig.pm.write(CONTROL, SLEEP_TYPE_S5 << 10 | 1 << 13, 2)
    assert rig.off == 1
    assert rig.pm.read(CONTROL, 2) == SLEEP_TYPE_S5 << 10 | 1, "SLP_EN reads as 0"


@pytest.mark.parametrize("sleep_type", [0, 1, 4, 7])
def test_other_sleep_types_do_nothing(sleep_type: int) -> None:
    rig = Rig()
    rig.pm.write(CONTROL, sleep_type << 10 | 1 << 13, 2)
    assert rig.off == 0


def test_the_timer_event_raises_the_sci_until_it_is_cleared() -> None:
    rig = Rig()
    rig.pm.write(ENABLE, 1, 2)
    assert rig.due == HALF_PERIOD_NS
    rig.time = rig.due
    rig.pm.expire()
    assert rig.sci()
    assert rig.pm.read(STATUS, 2) == 1
    rig.pm.write(STATUS, 0xFFFF, 2)
    assert not rig.sci()
    assert rig.pm.read(STATUS, 2) == 0
    assert rig.due == -(-2 * (1 << 31) * 10**9 // TIMER_HZ)


def test_without_its_enable_bit_the_event_is_only_a_status() -> None:
    rig = Rig()
    assert rig.due is None
    rig.time = HALF_PERIOD_NS
    assert rig.pm.read(STATUS, 2) == 1
    assert not rig.sci()
    rig.pm.write(ENABLE, 1, 1)
    assert rig.sci(), "enabling finds it"


def test_clearing_one_status_bit_leaves_the_enable_register() -> None:
    rig = Rig()
    rig.pm.write(ENABLE, 0x0521, 2)
    rig.pm.write(STATUS, 0x0001, 2)
    assert rig.pm.read(ENABLE, 2) == 0x0521
    rig.pm.write(STATUS, 0x0021_FFFF, 4)
    assert rig.pm.read(STATUS, 4) == 0x0021_0000


def test_the_fadt_announces_these_registers_and_this_sleep_type() -> None:
    assert acpi.PM1A_CONTROL - acpi.PM1A_EVENT == CONTROL
    assert acpi.PM_TIMER - acpi.PM1A_EVENT == TIMER
    assert acpi.SLEEP_TYPE_S5 == SLEEP_TYPE_S5


def test_a_restored_block_raises_its_line_and_asks_for_its_event_again() -> None:
    rig, twin = Rig(), Rig()
    rig.pm.write(ENABLE, 1, 2)
    rig.time = twin.time = HALF_PERIOD_NS + 5
    rig.pm.expire()
    twin.pm.restore(decode(AcpiPmState, encode(rig.pm.save())))
    assert twin.sci()
    assert twin.due == rig.due
    assert twin.pm.save() == rig.pm.save()


@given(st.lists(st.tuples(st.integers(0, 11), st.integers(0, 2**32 - 1), st.sampled_from((1, 2, 4)))))
def test_any_sequence_of_writes_leaves_the_block_consistent(writes: list[tuple[int, int, int]]) -> None:
    rig = Rig()
    for offset, value, size in writes:
        rig.time += 10**8
        rig.pm.write(offset, value, size)
        assert 0 <= rig.pm.read(offset, size) < 1 << 8 * size
        assert rig.sci() == bool(rig.pm.read(STATUS, 2) & rig.pm.read(ENABLE, 2))
    twin = Rig()
    twin.time = rig.time
    twin.pm.restore(rig.pm.save())
    assert [twin.pm.read(i) for i in range(12)] == [rig.pm.read(i) for i in range(12)]
    assert (twin.sci(), twin.due) == (rig.sci(), rig.due)
