"""The buses: which window answers, and how wide accesses are split."""

from __future__ import annotations

import pytest

from vlab.machine.bus import Bus, Window


class Chip:
    """A device that gives its offsets and remembers what it is asked."""

    def __init__(self) -> None:
        self.log: list[tuple[str, int, int, int]] = []

    def read(self, offset: int, size: int) -> int:
        self.log.append(("read", offset, size, 0))
        return sum((0x10 + offset + place) << 8 * place for place in range(size))

    def write(self, offset: int, value: int, size: int) -> None:
        self.log.append(("write", offset, size, value))

    def on(self, bus: Bus, first: int, count: int, name: str = "chip", width: int = 1) -> Window:
        return bus.add(first, count, name, self.read, self.write, width=width)


def test_a_window_gets_its_own_offsets() -> None:
    bus, chip = Bus("ports"), Chip()
    chip.on(bus, 0x3F8, 8)
    assert bus.read(0x3FD, 1) == 0x15
    bus.write(0x3F8, 1, 0x141)
    assert chip.log == [("read", 5, 1, 0), ("write", 0, 1, 0x41)]


def test_an_unclaimed_address_reads_as_ones_and_swallows_writes() -> None:
    bus = Bus("ports")
    assert [bus.read(0x1000, size) for size in (1, 2, 4, 8)] == [0xFF, 0xFFFF, 0xFFFFFFFF, (1 << 64) - 1]
    bus.write(0x1000, 4, 1)
    assert bus.find(0x1000) is None


def test_a_wide_access_is_split_at_the_devices_width_low_address_first() -> None:
    bus, chip = Bus("ports"), Chip()
    chip.on(bus, 0x60, 8, width=2)
    assert bus.read(0x60, 4) == 0x13121110
    bus.write(0x60, 4, 0xDDCCBBAA)
    assert chip.log == [
        ("read", 0, 2, 0), ("read", 2, 2, 0), ("write", 0, 2, 0xBBAA), ("write", 2, 2, 0xDDCC),
    ]  # fmt: skip


def test_an_access_across_the_end_of_a_window_reads_ones_beyond_it() -> None:
    bus, chip = Bus("ports"), Chip()
    chip.on(bus, 0x60, 2)
    assert bus.read(0x61, 2) == 0xFF11
    bus.write(0x61, 2, 0xBBAA)
    assert chip.log[-1] == ("write", 1, 1, 0xAA)


def test_an_access_that_begins_before_a_window_reaches_into_it() -> None:
    bus, chip = Bus("ports"), Chip()
    chip.on(bus, 0x61, 1)
    assert bus.read(0x60, 2) == 0x10FF


def test_an_access_across_two_devices_asks_both() -> None:
    bus, one, two = Bus("ports"), Chip(), Chip()
    one.on(bus, 0x60, 1, "one")
    two.on(bus, 0x61, 1, "two")
    assert bus.read(0x60, 2) == 0x1010
    assert one.log == two.log == [("read", 0, 1, 0)]


@pytest.mark.parametrize(("first", "count"), [(0x60, 4), (0x63, 1), (0x5F, 2), (0x50, 0x40), (0x61, 1)])
def test_an_overlap_is_refused_and_both_are_named(first: int, count: int) -> None:
    bus, chip = Bus("ports"), Chip()
    chip.on(bus, 0x60, 4, "keyboard")
    with pytest.raises(ValueError) as refusal:
        chip.on(bus, first, count, "intruder")
    last = first + count - 1
    assert str(refusal.value) == (
        f"ports: intruder at {first:#x} to {last:#x} overlaps keyboard at 0x60 to 0x63"
    )
    assert [window.name for window in bus.windows] == ["keyboard"]


def test_windows_may_touch_and_are_listed_by_address() -> None:
    bus, chip = Bus("ports"), Chip()
    for first in (0x64, 0x60, 0x62):
        chip.on(bus, first, 2, f"{first:x}")
    assert [window.name for window in bus.windows] == ["60", "62", "64"]
    assert [bus.find(address).name for address in (0x61, 0x63, 0x65)] == ["60", "62", "64"]  # type: ignore[union-attr]


def test_a_device_that_answers_too_much_is_cut_to_the_access() -> None:
    bus = Bus("ports")
    bus.add(0x10, 1, "chatty", lambda _offset, _size: 0x1FF, lambda _offset, _value, _size: None)
    assert bus.read(0x10, 1) == 0xFF
