"""The pair of 8259A: initialisation, priorities, ends of interrupt, and the modes of the data sheet."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.devices.twins import VALUES, Bench, check_twin, register_programs
from vlab.devices.pic8259 import WINDOWS, Pic8259Pair
from vlab.devices.state import describe

MASTER, SLAVE, ELCR = 0, 2, 4
EOI = 0x20
READ_IRR, READ_ISR, POLL = 0x0A, 0x0B, 0x0C


class Pics:
    """A pair initialised for vectors 20h and 28h, nothing masked."""

    def __init__(self, *, icw1: int = 0x11, master_icw4: int = 0x01, slave_icw4: int = 0x01) -> None:
        self.level = False
        self.pair = Pic8259Pair(output=self.output)
        self.init(MASTER, icw1, 0x20, 0x04, master_icw4)
        self.init(SLAVE, icw1, 0x28, 0x02, slave_icw4)

    def output(self, level: bool) -> None:
        assert level != self.level, "the pin is driven only when it changes"
        self.level = level

    def init(self, chip: int, *words: int) -> None:
        self.pair.write(chip, words[0])
        for word in words[1:]:
            self.pair.write(chip + 1, word)

    def pulse(self, *lines: int) -> None:
        for line in lines:
            self.pair.set_line(line, False)
            self.pair.set_line(line, True)

    def eoi(self, line: int) -> None:
        if line >= 8:
            self.pair.write(SLAVE, EOI)
        self.pair.write(MASTER, EOI)

    def register(self, chip: int, command: int) -> int:
        self.pair.write(chip, command)
        return self.pair.read(chip)

    def take_all(self) -> list[int]:
        """Acknowledge and end whatever is pending; return the lines in order."""
        lines = []
        while self.pair.pending():
            line = self.pair.acknowledge() - 0x20
            lines.append(line)
            self.eoi(line)
        return lines


@pytest.fixture
def pics() -> Pics:
    return Pics()


def test_an_edge_is_delivered_once(pics: Pics) -> None:
    pics.pulse(4)
    assert pics.level
    assert pics.pair.acknowledge() == 0x24
    assert not pics.level
    pics.eoi(4)
    assert not pics.level  # the line is still high, but that is no edge
    pics.pulse(4)
    assert pics.level


def test_lines_of_the_slave_come_through_the_cascade(pics: Pics) -> None:
    pics.pulse(12)
    assert pics.pair.acknowledge() == 0x2C
    assert pics.register(MASTER, READ_ISR) == 1 << 2
    assert pics.register(SLAVE, READ_ISR) == 1 << 4
    pics.eoi(12)
    assert pics.register(MASTER, READ_ISR) == pics.register(SLAVE, READ_ISR) == 0


def test_requests_are_taken_by_priority(pics: Pics) -> None:
    pics.pulse(7, 3, 15, 8, 0, 5, 1)
    assert pics.take_all() == [0, 1, 8, 15, 3, 5, 7]


def test_a_request_in_service_holds_back_lower_ones_only(pics: Pics) -> None:
    pics.pulse(4)
    pics.pair.acknowledge()
    pics.pulse(5)
    assert not pics.level
    pics.pulse(1)
    assert pics.level
    assert pics.pair.acknowledge() == 0x21
    pics.pair.write(MASTER, EOI)  # ends 1, the highest
    assert pics.register(MASTER, READ_ISR) == 1 << 4
    pics.pair.write(MASTER, EOI)
    assert pics.pair.acknowledge() == 0x25


def test_a_masked_request_waits(pics: Pics) -> None:
    pics.pair.write(MASTER + 1, 0x10)
    pics.pulse(4)
    assert not pics.level
    assert pics.pair.read(MASTER + 1) == 0x10
    assert pics.register(MASTER, READ_IRR) == 0x10
    pics.pair.write(MASTER + 1, 0)
    assert pics.level


def test_a_specific_eoi_ends_the_level_it_names(pics: Pics) -> None:
    pics.pulse(5)
    pics.pair.acknowledge()
    pics.pulse(3)
    pics.pair.acknowledge()
    pics.pair.write(MASTER, 0x60 | 5)
    assert pics.register(MASTER, READ_ISR) == 1 << 3


def test_a_request_that_is_withdrawn_is_spurious(pics: Pics) -> None:
    pics.pulse(3)
    pics.pair.set_line(3, False)
    assert not pics.level
    assert pics.pair.acknowledge() == 0x27
    assert pics.register(MASTER, READ_ISR) == 0


def test_a_request_withdrawn_from_the_slave_between_the_chips_is_spurious_15(pics: Pics) -> None:
    pics.pair.write(SLAVE, POLL)
    pics.pulse(10)
    state = pics.pair.save()
    assert pics.pair.read(SLAVE) == 0x82  # somebody takes it from the slave
    pics.pair.write(SLAVE, EOI)
    pics.pair.restore(type(state)(master=state.master, slave=pics.pair.save().slave))
    assert pics.pair.acknowledge() == 0x2F
    assert pics.register(MASTER, READ_ISR) == 1 << 2
    assert pics.register(SLAVE, READ_ISR) == 0


def test_automatic_eoi_leaves_nothing_in_service() -> None:
    pics = Pics(master_icw4=0x03, slave_icw4=0x03)
    pics.pulse(9, 11)
    assert [pics.pair.acknowledge(), pics.pair.acknowledge()] == [0x29, 0x2B]
    assert pics.register(MASTER, READ_ISR) == pics.register(SLAVE, READ_ISR) == 0
    assert not pics.level


def test_rotation_in_automatic_eoi_mode_puts_the_last_level_last() -> None:
    pics = Pics(master_icw4=0x03)
    pics.pair.write(MASTER, 0x80)
    pics.pulse(3, 5)
    assert pics.pair.acknowledge() == 0x23
    pics.pulse(3)
    assert [pics.pair.acknowledge(), pics.pair.acknowledge()] == [0x25, 0x23]
    pics.pair.write(MASTER, 0x00)
    pics.pulse(5, 6)
    assert [pics.pair.acknowledge(), pics.pair.acknowledge()] == [0x25, 0x26]


def test_rotate_on_non_specific_eoi(pics: Pics) -> None:
    pics.pulse(0, 1)
    pics.pair.acknowledge()
    pics.pair.write(MASTER, 0xA0)
    pics.pulse(0)
    assert pics.take_all() == [1, 0]


def test_rotate_on_specific_eoi_and_set_priority(pics: Pics) -> None:
    pics.pair.write(MASTER, 0xC0 | 5)  # 6 is now the highest, 5 the lowest
    pics.pulse(5, 6, 7, 0)
    assert pics.pair.acknowledge() == 0x26
    pics.pair.write(MASTER, 0xE0 | 6)  # 7 is the highest
    assert pics.take_all() == [7, 0, 5]


def test_special_mask_mode_lets_lower_levels_in(pics: Pics) -> None:
    pics.pulse(1)
    pics.pair.acknowledge()
    pics.pulse(6)
    assert not pics.level
    pics.pair.write(MASTER + 1, 0x02)
    pics.pair.write(MASTER, 0x68)
    assert pics.level
    assert pics.pair.acknowledge() == 0x26
    pics.pair.write(MASTER, EOI)  # passes over the masked level 1
    assert pics.register(MASTER, READ_ISR) == 0x02
    pics.pulse(6)
    pics.pair.write(MASTER, 0x48)
    assert not pics.level


def test_special_fully_nested_mode_lets_the_slave_interrupt_itself() -> None:
    nested, plain = Pics(master_icw4=0x11), Pics()
    for pics, seen in ((nested, True), (plain, False)):
        pics.pulse(14)
        pics.pair.acknowledge()
        pics.pulse(8)
        assert pics.level is seen
    assert nested.pair.acknowledge() == 0x28
    nested.pulse(3)
    assert not nested.level


def test_a_poll_acknowledges_like_the_processor(pics: Pics) -> None:
    pics.pair.write(MASTER, POLL)
    assert pics.pair.read(MASTER) == 0
    pics.pulse(4)
    pics.pair.write(MASTER, POLL)
    assert pics.pair.read(MASTER) == 0x84
    assert not pics.level
    assert pics.register(MASTER, READ_ISR) == 0x10


def test_a_level_triggered_line_asks_again_after_its_eoi(pics: Pics) -> None:
    pics.pair.write(ELCR + 1, 0xFF)
    assert pics.pair.read(ELCR + 1) == 0xDE
    pics.pair.set_line(11, True)
    assert pics.pair.acknowledge() == 0x2B
    assert not pics.level
    pics.eoi(11)
    assert pics.level
    pics.pair.set_line(11, False)
    assert not pics.level


def test_the_lines_of_the_board_stay_edge_triggered(pics: Pics) -> None:
    pics.pair.write(ELCR, 0xFF)
    assert pics.pair.read(ELCR) == 0xF8


def test_ltim_makes_every_line_level_triggered() -> None:
    pics = Pics(icw1=0x19)
    pics.pair.set_line(3, True)
    pics.pair.acknowledge()
    pics.eoi(3)
    assert pics.level


def test_initialisation_forgets_edges_masks_and_services(pics: Pics) -> None:
    pics.pair.write(MASTER + 1, 0x80)
    pics.pulse(1, 4)
    pics.pair.acknowledge()
    pics.init(MASTER, 0x11, 0x40, 0x04, 0x01)
    assert not pics.level
    assert pics.pair.read(MASTER) == 0
    assert pics.pair.read(MASTER + 1) == 0
    pics.pulse(1)
    assert pics.pair.acknowledge() == 0x41


def test_nothing_is_requested_in_the_middle_of_the_initialisation(pics: Pics) -> None:
    pics.pair.write(MASTER, 0x11)
    pics.pulse(1)
    assert not pics.level
    for word in (0x20, 0x04, 0x01):
        pics.pair.write(MASTER + 1, word)
    assert pics.level


def test_a_short_initialisation_takes_only_the_words_it_announces(pics: Pics) -> None:
    pics.init(MASTER, 0x12, 0x30)  # single, no ICW4
    pics.pair.write(MASTER + 1, 0x0F)
    assert pics.pair.read(MASTER + 1) == 0x0F
    pics.pulse(4)
    assert pics.pair.acknowledge() == 0x34


def test_a_slave_with_another_identity_does_not_answer(pics: Pics) -> None:
    pics.init(SLAVE, 0x11, 0x28, 0x05, 0x01)
    pics.pulse(8)
    assert pics.pair.acknowledge() == 0xFF


def test_before_any_initialisation_the_mask_is_kept_and_full() -> None:
    """Linux takes the controllers for absent unless the mask reads back before it writes ICW1."""
    pair = Pic8259Pair(output=lambda level: None)
    assert (pair.read(MASTER + 1), pair.read(SLAVE + 1)) == (0xFF, 0xFF)
    pair.write(SLAVE + 1, 0xFF)
    pair.write(MASTER + 1, 0xFB)
    assert pair.read(MASTER + 1) == 0xFB
    pair.write(MASTER + 1, 0xFE)
    pair.set_line(0, True)
    assert pair.pending()
    assert pair.acknowledge() == 0x08


@pytest.mark.parametrize(
    ("line", "text"),
    [
        (2, "n: 2 is the cascade between the controllers; the bus line IRQ 2 is number 9"),
        (16, "n: 16 is not an interrupt line; give 0..15"),
        (-1, "n: -1 is not an interrupt line; give 0..15"),
    ],
)
def test_a_line_that_does_not_exist_is_refused(pics: Pics, line: int, text: str) -> None:
    with pytest.raises(ValueError) as refusal:
        pics.pair.set_line(line, True)
    assert str(refusal.value) == text


def test_the_windows_cover_the_six_ports() -> None:
    ports = {first + n: offset + n for first, count, offset in WINDOWS for n in range(count)}
    assert ports == {0x20: 0, 0x21: 1, 0xA0: 2, 0xA1: 3, 0x4D0: 4, 0x4D1: 5}


def test_the_display_names_the_inputs(pics: Pics) -> None:
    pics.pulse(4)
    shown = {line.name: line for line in describe(pics.pair.save())}
    assert repr(shown["master.irr"].register) == "Levels(0x10: IR4)"
    assert shown["slave.icw2"].value == 0x28


def build(bench: Bench) -> Pic8259Pair:
    return Pic8259Pair(output=bench.pin("output"))


LINES = st.tuples(st.just("set_line"), st.sampled_from([n for n in range(16) if n != 2]), st.booleans())
ACKNOWLEDGE = st.just(("acknowledge",))
COMMANDS = st.tuples(
    st.just("write"),
    st.sampled_from([0, 1, 2, 3]),
    st.sampled_from([0, 0x11, 0x01, 0x03, EOI, 0xA0, POLL, READ_ISR, 0x68]),
)


@given(register_programs(st.integers(-1, 6), LINES, LINES, ACKNOWLEDGE, COMMANDS), st.integers(0, 60))
def test_a_snapshot_is_invisible_to_any_program(program: list[Any], cut: int) -> None:
    check_twin(build, program, cut)


@given(st.lists(st.one_of(st.tuples(st.integers(0, 5), VALUES), LINES, ACKNOWLEDGE), max_size=80))
def test_the_registers_agree_after_any_program(program: list[Any]) -> None:
    pics = Pics()
    for step in program:
        if step[0] == "set_line":
            pics.pair.set_line(*step[1:])
        elif step[0] == "acknowledge":
            was_pending = pics.pair.pending()
            before = pics.pair.save()
            assert 0 <= pics.pair.acknowledge() <= 0xFF
            assert was_pending or pics.pair.save() == before
        else:
            pics.pair.write(*step)
            assert 0 <= pics.pair.read(step[0]) <= 0xFF
        state = pics.pair.save()
        assert pics.pair.pending() == pics.level
        for chip in (state.master, state.slave):
            assert chip.irr & ~chip.lines == 0, "a request outlived its line"
        if not state.slave.expects:
            assert not pics.level or state.master.irr & ~state.master.imr


@given(st.lists(st.tuples(st.integers(0, 15).filter(lambda n: n != 2), st.booleans()), max_size=40))
def test_every_edge_that_stays_is_delivered_exactly_once(changes: list[tuple[int, bool]]) -> None:
    pics = Pics()
    raised = set()
    levels = dict.fromkeys(range(16), False)
    for line, level in changes:
        if level and not levels[line]:
            raised.add(line)
        if not level:
            raised.discard(line)
        levels[line] = level
        pics.pair.set_line(line, level)
    order = [0, 1, *range(8, 16), 3, 4, 5, 6, 7]
    assert pics.take_all() == [line for line in order if line in raised]
