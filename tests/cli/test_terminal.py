"""The attached terminal: which keys reach the guest, and that the terminal is always given back."""

from __future__ import annotations

import os
import signal
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vlab.cli.terminal import Keys, Terminal


@pytest.mark.parametrize(
    ("typed", "passed", "quits"),
    [
        (b"ls -l\r", b"ls -l\r", False),
        (b"\x03\x04\x1a", b"\x03\x04\x1a", False),
        (b"abc\x1ddef", b"abc", True),
        (b"abc\x01xdef", b"abc", True),
        (b"a\x01\x01b", b"a\x01b", False),
        (b"a\x01cb", b"a\x01cb", False),
    ],
)
def test_all_keys_are_the_guests_but_those_that_leave(typed: bytes, passed: bytes, quits: bool) -> None:
    keys = Keys()
    assert keys.feed(typed) == passed
    assert keys.quit is quits


@given(st.binary(max_size=20), st.integers(0, 20))
def test_it_does_not_matter_how_typed_bytes_arrive(typed: bytes, cut: int) -> None:
    whole, pieces = Keys(), Keys()
    assert whole.feed(typed) == pieces.feed(typed[:cut]) + pieces.feed(typed[cut:])
    assert whole.quit == pieces.quit


@pytest.mark.skipif(sys.platform == "win32", reason="there are no pseudo-terminals on Windows")
class TestOnAPseudoTerminal:
    @pytest.fixture
    def ends(self):
        master, slave = os.openpty()
        yield master, slave
        os.close(master)
        os.close(slave)

    def test_single_keys_arrive_raw_and_unechoed(self, ends: tuple[int, int]) -> None:
        master, slave = ends
        with Terminal(slave) as terminal:
            os.write(master, b"\x03a\r")
            assert terminal.read(1.0) == b"\x03a\r"
            assert terminal.read(0) == b""
        os.set_blocking(master, False)
        with pytest.raises(BlockingIOError):
            os.read(master, 10)

    @pytest.mark.parametrize("way_out", [KeyboardInterrupt, SystemExit, ValueError])
    def test_the_settings_are_restored_on_every_way_out(
        self, ends: tuple[int, int], way_out: type[BaseException]
    ) -> None:
        import termios

        _, slave = ends
        before = termios.tcgetattr(slave)
        with pytest.raises(way_out), Terminal(slave):
            assert termios.tcgetattr(slave) != before
            raise way_out
        assert termios.tcgetattr(slave) == before

    def test_a_termination_signal_restores_them_too(self, ends: tuple[int, int]) -> None:
        import termios

        _, slave = ends
        before, handler = termios.tcgetattr(slave), signal.getsignal(signal.SIGTERM)
        with pytest.raises(SystemExit) as left, Terminal(slave):
            signal.raise_signal(signal.SIGTERM)
        assert left.value.code == 128 + signal.SIGTERM
        assert termios.tcgetattr(slave) == before
        assert signal.getsignal(signal.SIGTERM) == handler
