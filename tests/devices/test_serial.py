"""The 16550A: what drivers do to it, and what its data sheet promises them."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.devices.twins import VALUES, Bench, check_twin, register_programs
from vlab.devices.serial16550a import Serial16550A
from vlab.devices.serial_registers import Offset
from vlab.devices.state import describe

DATA, IER, IIR_FCR, LCR = Offset.DATA, Offset.IER, Offset.IIR_FCR, Offset.LCR
MCR, LSR, MSR, SCR = Offset.MCR, Offset.LSR, Offset.MSR, Offset.SCR
LOOP = 0x10


class Port:
    """A serial port with its interrupt level and what it sent."""

    def __init__(self, **wiring: Any) -> None:
        self.sent = bytearray()
        self.level = False
        self.edges = 0
        self.chip = Serial16550A(irq=self.irq, transmit=self.sent.append, **wiring)

    def irq(self, level: bool) -> None:
        self.edges += level and not self.level
        self.level = level

    def inb(self, offset: int) -> int:
        return self.chip.read(offset)

    def outb(self, offset: int, value: int) -> None:
        self.chip.write(offset, value)

    def read_all(self) -> bytes:
        """Read as an interrupt handler does: while LSR says that there is data."""
        data = bytearray()
        while self.inb(LSR) & 1:
            data.append(self.inb(DATA))
        return bytes(data)


@pytest.fixture
def port() -> Port:
    return Port()


def test_a_written_character_is_transmitted_at_once(port: Port) -> None:
    port.outb(DATA, ord("A"))
    assert port.sent == b"A"
    assert port.inb(LSR) == 0x60


def test_the_divisor_hides_behind_dlab(port: Port) -> None:
    port.outb(LCR, 0x80)
    port.outb(DATA, 0x34)
    port.outb(IER, 0x12)
    assert (port.inb(DATA), port.inb(IER)) == (0x34, 0x12)
    port.outb(LCR, 0x03)
    assert port.sent == b""
    assert port.inb(IER) == 0
    port.outb(LCR, 0x80)
    port.outb(DATA, 0x01)
    port.outb(IER, 0x00)
    assert port.chip.baud == 115_200


def test_the_scratch_register_keeps_a_byte(port: Port) -> None:
    port.outb(SCR, 0x1A5)
    assert port.inb(SCR) == 0xA5


def test_characters_have_the_programmed_length(port: Port) -> None:
    port.outb(LCR, 0x02)
    port.outb(DATA, 0xC1)
    assert port.sent == b"A"


def test_reserved_bits_read_as_zero(port: Port) -> None:
    port.outb(IER, 0xFF)
    port.outb(MCR, 0xFF)
    assert (port.inb(IER), port.inb(MCR)) == (0x0F, 0x1F)


def test_lsr_and_msr_cannot_be_written(port: Port) -> None:
    port.outb(LSR, 0xFF)
    port.outb(MSR, 0xFF)
    assert (port.inb(LSR), port.inb(MSR)) == (0x60, 0xB0)


# ---- detection


def test_the_probe_for_a_16550a_finds_its_fifos(port: Port) -> None:
    """The steps of Linux's `autoconfig` and `autoconfig_16550a`."""
    port.outb(IER, 0)
    assert port.inb(IER) & 0x0F == 0
    port.outb(IER, 0x0F)
    assert port.inb(IER) & 0x0F == 0x0F
    port.outb(IER, 0)
    port.outb(MCR, LOOP | 0x0A)
    assert port.inb(MSR) & 0xF0 == 0x90
    port.outb(MCR, 0)
    port.outb(LCR, 0xBF)
    port.outb(IIR_FCR, 0)
    port.outb(LCR, 0)
    port.outb(IIR_FCR, 1)
    assert port.inb(IIR_FCR) >> 6 == 3
    for lcr in (0x80, 0xBF):  # an enhanced feature register would read 0 here
        port.outb(LCR, lcr)
        assert port.inb(IIR_FCR) != 0
    port.outb(LCR, 0)
    before = port.inb(MCR)
    port.outb(MCR, before ^ LOOP)
    port.outb(LCR, 0xE0)
    assert port.inb(IIR_FCR) & LOOP == 0  # not a National SuperIO, whose EXCR1 mirrors MCR
    port.outb(LCR, 0)
    port.outb(MCR, before)
    port.outb(LCR, 0x80)
    port.outb(IIR_FCR, 0x21)
    assert port.inb(IIR_FCR) >> 5 == 6  # not a 16750
    port.outb(LCR, 0)
    port.outb(IER, 0x40)
    assert port.inb(IER) & 0x40 == 0  # not an XScale


def test_without_the_fifos_it_passes_for_a_16450(port: Port) -> None:
    assert port.inb(IIR_FCR) >> 6 == 0
    for value in (0xA5, 0x5A):
        port.outb(SCR, value)
        assert port.inb(SCR) == value


def test_the_fifo_has_16_places(port: Port) -> None:
    """Linux's `size_fifo`: write 256 characters in loopback and count what comes back."""
    port.outb(IIR_FCR, 0x07)
    port.outb(MCR, LOOP)
    for value in range(256):
        port.outb(DATA, value)
    assert port.inb(LSR) & 0x03 == 0x03  # data ready, overrun
    assert port.read_all() == bytes(range(16))
    assert port.sent == b""


# ---- the transmitter's interrupt


def test_the_transmitter_interrupt_comes_with_its_enable_and_goes_with_iir(port: Port) -> None:
    port.outb(IER, 2)
    assert port.level
    assert port.inb(IIR_FCR) == 0x02
    assert not port.level
    assert port.inb(IIR_FCR) == 0x01


def test_the_transmitter_interrupt_comes_again_when_enabled_again(port: Port) -> None:
    """Linux's tests for UART_BUG_THRE and UART_BUG_TXEN."""
    for _ in range(2):
        port.outb(IER, 2)
        assert port.inb(LSR) & 0x40
        assert port.inb(IIR_FCR) & 1 == 0
        port.outb(IER, 0)
    port.outb(IER, 2)
    port.inb(IIR_FCR)
    port.outb(IER, 2)  # no new enable
    assert not port.level


def test_each_character_gives_a_new_edge(port: Port) -> None:
    port.outb(IER, 2)
    edges = port.edges
    port.outb(DATA, 1)
    port.outb(DATA, 2)
    assert port.level
    assert port.edges == edges + 2


def test_an_interrupt_driver_drains_its_buffer(port: Port) -> None:
    text = bytearray(b"a line of more than sixteen characters\n")
    expected = bytes(text)
    port.outb(IIR_FCR, 0x07)
    port.outb(IER, 2)
    while port.level:
        if port.inb(IIR_FCR) & 0x0F == 2:
            for _ in range(min(16, len(text))):
                port.outb(DATA, text.pop(0))
            if not text:
                port.outb(IER, 0)
    assert port.sent == expected


# ---- the receiver


def test_typed_text_arrives_in_order_however_long(port: Port) -> None:
    text = bytes(range(256)) * 4
    port.outb(IIR_FCR, 0x07)
    port.outb(IER, 1)
    port.chip.receive(text)
    assert port.chip.unread == 1024
    assert port.level
    assert port.inb(LSR) & 2 == 0
    assert port.read_all() == text
    assert not port.level
    assert port.chip.unread == 0


def test_without_fifos_each_character_raises_the_interrupt(port: Port) -> None:
    port.outb(IER, 1)
    port.chip.receive(b"xyz")
    assert port.inb(IIR_FCR) == 0x04
    assert [port.inb(DATA) for _ in range(3)] == list(b"xyz")
    assert port.inb(IIR_FCR) == 0x01


@pytest.mark.parametrize(("bits", "trigger"), [(0x00, 1), (0x40, 4), (0x80, 8), (0xC0, 14)])
def test_data_is_available_from_the_trigger_level_on_and_else_times_out(
    port: Port, bits: int, trigger: int
) -> None:
    port.outb(IIR_FCR, 0x01 | bits)
    port.outb(IER, 1)
    for count in range(1, 17):
        port.chip.receive(b"x")
        assert port.inb(IIR_FCR) == (0xC4 if count >= trigger else 0xCC)


def test_text_typed_before_the_driver_starts_is_kept(port: Port) -> None:
    """A driver's start: it clears the FIFOs and reads every register once, as Linux's does, then enables."""
    port.chip.receive(b"early")
    port.outb(IER, 0x0F)  # as a probe does for a moment
    port.outb(IER, 0)
    for value in (1, 7, 0):
        port.outb(IIR_FCR, value)
    for offset in (LSR, DATA, IIR_FCR, MSR, LSR, DATA):
        port.inb(offset)
    port.outb(IIR_FCR, 0x81)
    port.outb(MCR, 0x0B)
    port.outb(IER, 5)
    assert port.level
    assert port.read_all() == b"early"


def test_a_guest_that_polls_gets_its_characters(port: Port) -> None:
    port.chip.receive(b"ok")
    assert port.inb(LSR) & 1 == 0
    assert port.inb(LSR) & 1 == 1
    assert port.inb(DATA) == ord("o")
    while not port.inb(LSR) & 1:
        pass
    assert port.inb(DATA) == ord("k")


def test_a_driver_that_drops_rts_is_not_sent_more(port: Port) -> None:
    port.outb(IER, 1)
    port.outb(MCR, 0x01)
    port.chip.receive(b"wait")
    assert port.inb(LSR) & 1 == 0
    port.outb(MCR, 0x03)
    assert port.read_all() == b"wait"


def test_a_port_set_up_as_xv6_does_interrupts_for_input(port: Port) -> None:
    """FIFOs off, 8N1, MCR 0, receive interrupt; then IIR and RBR are read once."""
    for offset, value in ((2, 0), (3, 0x80), (0, 12), (1, 0), (3, 3), (4, 0), (1, 1)):
        port.outb(offset, value)
    assert port.inb(LSR) != 0xFF
    port.inb(IIR_FCR)
    port.inb(DATA)
    port.chip.receive(b"ls\n")
    assert port.level
    assert port.read_all() == b"ls\n"


def test_out2_connects_the_interrupt_line_where_the_board_has_it_so() -> None:
    port = Port(out2_gates_irq=True)
    port.outb(IER, 1)
    port.chip.receive(b"x")
    assert not port.level
    port.outb(MCR, 0x08)
    assert port.level
    port.outb(MCR, 0x08 | LOOP)
    assert not port.level


# ---- errors and line status


def test_an_overrun_without_fifos_replaces_the_character(port: Port) -> None:
    port.outb(MCR, LOOP)
    port.outb(DATA, 1)
    port.outb(DATA, 2)
    assert port.inb(LSR) == 0x63
    assert port.inb(LSR) == 0x61
    assert port.inb(DATA) == 2


def test_a_break_is_a_nul_with_its_own_status(port: Port) -> None:
    port.outb(IIR_FCR, 1)
    port.outb(IER, 5)
    port.chip.receive(b"a")
    port.chip.receive_break()
    port.chip.receive(b"b")
    assert port.inb(LSR) == 0xE1  # the break is further back in the FIFO
    assert port.inb(DATA) == ord("a")
    assert port.inb(IIR_FCR) == 0xC6
    assert port.inb(LSR) == 0xF9
    assert port.inb(IIR_FCR) == 0xC4
    assert port.inb(DATA) == 0
    assert port.inb(LSR) == 0x61
    assert port.inb(DATA) == ord("b")


def test_a_break_loops_back(port: Port) -> None:
    port.outb(MCR, LOOP)
    port.outb(LCR, 0x43)
    assert port.inb(LSR) & 0x11 == 0x11
    assert port.inb(DATA) == 0


def test_nothing_is_sent_while_the_line_is_held_at_space(port: Port) -> None:
    port.outb(LCR, 0x43)
    port.outb(DATA, ord("x"))
    assert port.sent == b""


def test_loopback_keeps_the_host_out(port: Port) -> None:
    port.outb(IER, 1)
    port.outb(MCR, LOOP)
    port.chip.receive(b"host")
    port.outb(DATA, ord("g"))
    assert port.inb(DATA) == ord("g")
    assert port.inb(LSR) & 1 == 0
    port.outb(MCR, 0)
    assert port.read_all() == b"host"


# ---- modem status


def test_changes_of_the_modem_lines_are_deltas_until_read(port: Port) -> None:
    port.outb(IER, 8)
    assert port.inb(MSR) == 0xB0
    port.chip.set_modem(cts=False, ri=True)
    assert port.inb(IIR_FCR) == 0x00
    assert port.inb(MSR) == 0xE1
    assert not port.level
    port.chip.set_modem()
    assert port.inb(MSR) == 0xB5  # CTS changed, RI went off
    assert port.inb(MSR) == 0xB0


@pytest.mark.parametrize(("mcr", "msr"), [(1, 0x20), (2, 0x10), (4, 0x40), (8, 0x80)])
def test_loopback_connects_outputs_to_modem_inputs(port: Port, mcr: int, msr: int) -> None:
    port.outb(MCR, LOOP | mcr)
    assert port.inb(MSR) & 0xF0 == msr


def test_interrupts_are_identified_by_priority(port: Port) -> None:
    port.outb(IIR_FCR, 0x41)
    port.outb(IER, 0x0F)
    port.chip.set_modem(dcd=False)
    port.chip.receive_break()
    seen = []
    for offset in (LSR, DATA, IIR_FCR, MSR):
        seen.append(port.inb(IIR_FCR))
        if offset != IIR_FCR:
            port.inb(offset)
    assert seen == [0xC6, 0xCC, 0xC2, 0xC0]
    assert port.inb(IIR_FCR) == 0xC1


# ---- snapshots


def test_restoring_raises_the_pending_interrupt_again(port: Port) -> None:
    port.outb(IER, 1)
    port.chip.receive(b"x")
    other = Port()
    other.chip.restore(port.chip.save())
    assert other.level
    assert other.inb(DATA) == ord("x")


def test_restoring_a_quiet_port_lowers_the_line(port: Port) -> None:
    quiet = port.chip.save()
    port.outb(IER, 2)
    assert port.level
    port.chip.restore(quiet)
    assert not port.level


def test_the_display_shows_what_a_read_would_give(port: Port) -> None:
    port.outb(IIR_FCR, 1)
    port.outb(IER, 1)
    port.chip.receive(b"x")
    shown = {line.name: line for line in describe(port.chip.save())}
    assert repr(shown["lsr"].register) == "LineStatus(0x61: TEMT THRE DR)"
    assert shown["iir"].value == port.inb(IIR_FCR)
    assert shown["msr"].value == port.inb(MSR)
    assert port.inb(DATA) == ord("x")


def build(bench: Bench) -> Serial16550A:
    return Serial16550A(irq=bench.pin("irq"), transmit=bench.pin("transmit"))


HOST = st.one_of(
    st.tuples(st.just("receive"), st.binary(max_size=20)),
    st.just(("receive_break",)),
)
LIKELY = st.tuples(st.just("write"), st.integers(0, 4), st.integers(0, 31))


@given(register_programs(st.integers(-3, 9), HOST, LIKELY), st.integers(0, 60))
def test_a_snapshot_is_invisible_to_any_program(program: list[Any], cut: int) -> None:
    check_twin(build, program, cut)


@given(st.lists(st.one_of(st.tuples(st.integers(0, 7), VALUES), st.binary(max_size=20)), max_size=80))
def test_the_line_is_high_exactly_while_iir_reports_an_interrupt(program: list[Any]) -> None:
    port = Port()
    for step in program:
        if isinstance(step, bytes):
            port.chip.receive(step)
        else:
            port.outb(*step)
            assert 0 <= port.inb(step[0]) <= 0xFF
        state = port.chip.save()
        assert port.level == (state.iir & 1 == 0)
        assert len(state.fifo) <= 16
        assert bool(state.lsr & 1) == bool(state.fifo)


@given(st.lists(st.binary(max_size=40), max_size=8), st.sampled_from([0x00, 0x01, 0x81, 0xC1]))
def test_the_host_never_loses_or_reorders_a_character(chunks: list[bytes], fcr: int) -> None:
    port = Port()
    received = b""
    for chunk in chunks:
        port.chip.receive(chunk)
        port.outb(IIR_FCR, fcr)
        port.outb(IER, 1)
        received += bytes(port.inb(DATA) for _ in range(min(3, port.inb(LSR) & 1)))
        port.outb(IIR_FCR, fcr ^ 1)
    assert received + port.read_all() == b"".join(chunks)
