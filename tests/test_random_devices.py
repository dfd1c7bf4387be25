"""Ten thousand random device programs: none makes the chips raise, and their states round-trip."""

from __future__ import annotations

import random

import pytest

from vlab.devices.state import DeviceState, decode, encode
from vlab.machine.clock import DeterministicClock
from vlab.vmm.board import IO_APIC_BASE, LOCAL_APIC_BASE, VGA_TEXT_BASE, Board

PROGRAMS = 10_000
BATCHES = 20
LENGTH = 24
MEMORY = 2 << 20

#: Values that mean something to some chip, beside any at all.
LOADED = (
    0,
    1,
    2,
    4,
    0x0A,
    0x0B,
    0x11,
    0x20,
    0x30,
    0x34,
    0x36,
    0x60,
    0x80,
    0xB0,
    0xC2,
    0xD1,
    0xE2,
    0xFE,
    0xFF,
    0x100,
)
DELAYS = (0, 1, 100, 838, 5_000, 54_925, 1_000_000, 1_000_000_000, 90_000_000_000)


class Bench:
    """A board with a clock that goes when it is told to, and what its guest asked of the outside."""

    def __init__(self) -> None:
        self.clock = DeterministicClock(memoryview(bytearray(8)).cast("Q"))
        self.memory = bytearray(MEMORY)
        self.asked: list[object] = []
        self.board = Board(self.clock, memoryview(self.memory), disk=bytearray(64 * 512))
        events = self.board.events
        events.reset = events.debug_exit = events.output = self.asked.append
        events.a20 = events.debug_output = events.post_code = self.asked.append
        events.power_off = lambda: self.asked.append("off")
        events.dma = lambda gpa, size: self.asked.append((gpa, size))
        self.ports = [
            port for window in self.board.ports.windows for port in range(window.first, window.last + 1)
        ]

    def pass_time(self, ns: int) -> None:
        """Let time pass, with each alarm served when it is due, as the monitor's loop does; 200 at most."""
        end, alarms = self.clock.now() + ns, self.board.alarms
        for _ in range(200):
            if alarms.next > end:
                break
            self.clock.skip(max(0, alarms.next - self.clock.now()))
            alarms.run_due()
        self.clock.skip(max(0, end - self.clock.now()))
        alarms.run_due()

    def act(self, rng: random.Random) -> object:
        """Do one thing that a guest or its user can do, and give what came of it."""
        size, board = rng.choice((1, 1, 1, 2, 4)), self.board
        value = rng.choice(LOADED) if rng.random() < 0.6 else rng.getrandbits(8 * size)
        match rng.randrange(12):
            case 0 | 1 | 2 | 3:
                board.ports.write(self.port(rng), size, value)
            case 4 | 5:
                return board.ports.read(self.port(rng), size)
            case 6:
                board.memory_windows.write(self.address(rng), size, rng.getrandbits(32))
            case 7:
                return board.memory_windows.read(self.address(rng), size)
            case 8:
                self.pass_time(rng.choice(DELAYS))
            case 9:
                return board.acknowledge() if board.interrupt else None
            case 10:
                board.serial.receive(rng.randbytes(rng.randrange(40)))
            case _:
                board.keyboard_controller.keyboard.type_text(rng.choice(("ls\n", "A", "#?", "")))
        return None

    def port(self, rng: random.Random) -> int:
        return rng.choice(self.ports) if rng.random() < 0.95 else rng.getrandbits(16)

    @staticmethod
    def address(rng: random.Random) -> int:
        base = rng.choice((LOCAL_APIC_BASE, LOCAL_APIC_BASE, IO_APIC_BASE))
        return base + rng.choice((rng.randrange(0x1000), rng.randrange(0x40) * 0x10))

    def twin(self) -> Bench:
        """Another bench in the same state, through the encoded form of the chips' states."""
        twin, states = Bench(), self.board.save()
        twin.clock.set(self.clock.now())
        twin.memory[:] = self.memory
        twin.board.restore({name: decode(type(state), encode(state)) for name, state in states.items()})
        return twin

    def states(self) -> dict[str, DeviceState]:
        """What the chips are in; a timer may have left a change that is due until somebody looks."""
        return self.twin().board.save()


@pytest.mark.parametrize(
    "batch", [pytest.param(n, marks=[pytest.mark.slow] if n >= 4 else []) for n in range(BATCHES)]
)
def test_random_device_programs_raise_nothing_and_their_states_round_trip(batch: int) -> None:
    rng = random.Random(batch)
    for number in range(PROGRAMS // BATCHES):
        if number % 50 == 0:
            bench = Bench()
        if number % 125 == 124:
            check_round_trip(bench, rng)
        for _ in range(LENGTH):
            result = bench.act(rng)
            assert result is None or 0 <= result < 1 << 32  # type: ignore[operator]
        assert bench.board.vga.text().count("\n") <= 50


def check_round_trip(bench: Bench, rng: random.Random) -> None:
    """A board restored from the states of another gives the same answers to the same program."""
    twin = bench.twin()
    assert twin.states() == bench.states() == twin.board.save()
    assert (twin.board.interrupt, twin.board.alarms.next) == (bench.board.interrupt, bench.board.alarms.next)
    seed = rng.random()
    bench.asked.clear()
    twin.asked.clear()
    one, other = random.Random(seed), random.Random(seed)
    for step in range(200):
        assert twin.act(other) == bench.act(one), step
    assert twin.states() == bench.states()
    assert twin.asked == bench.asked


def test_every_port_can_be_read_and_written_at_every_width() -> None:
    bench = Bench()
    for port in [*range(0x1000), *range(0x1000, 0x10000, 0x101), 0xFFFF]:
        for size in (1, 2, 4):
            assert 0 <= bench.board.ports.read(port, size) < 1 << 8 * size, hex(port)
            bench.board.ports.write(port, size, (1 << 8 * size) - 1)
    bench.pass_time(1_000_000_000)


def test_what_no_chip_answers_reads_as_ones_and_takes_writes() -> None:
    ports = Bench().board.ports
    assert (ports.read(0x1234, 1), ports.read(0x1234, 2), ports.read(0x1234, 4)) == (0xFF, 0xFFFF, 0xFFFFFFFF)
    ports.write(0x1234, 4, 5)


def test_the_screen_is_the_memory_that_the_guest_writes() -> None:
    bench = Bench()
    bench.memory[VGA_TEXT_BASE : VGA_TEXT_BASE + 4] = b"H\7i\7"
    assert bench.board.vga.text().startswith("Hi")
