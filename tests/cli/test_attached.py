"""`vlab run` in a terminal: keys go to the guest beside the script, until the user or the guest ends it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.cli.conftest import FakeVM, Lab, Step
from vlab.cli import driver, run
from vlab.vmm.stop import Stop, StopKind


class FakeTerminal:
    """A terminal at which `keys` are typed, one item for each look."""

    keys: list[bytes] = []
    entered = left = 0

    def __enter__(self) -> FakeTerminal:
        type(self).entered += 1
        return self

    def __exit__(self, *_: object) -> None:
        type(self).left += 1

    def read(self, timeout: float) -> bytes:
        return self.keys.pop(0) if self.keys else b""


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> type[FakeTerminal]:
    monkeypatch.setattr(driver, "Terminal", FakeTerminal)
    monkeypatch.setattr(run, "interactive", lambda: True)
    FakeTerminal.keys, FakeTerminal.entered, FakeTerminal.left = [], 0, 0
    return FakeTerminal


def echo(vm: FakeVM) -> Iterator[Step]:
    yield "> "
    while True:
        typed = vm.take()
        yield typed or None
        if "\x04" in typed:
            return


def test_keys_go_to_the_guest_and_ctrl_d_is_one_of_them(lab: Lab, terminal: type[FakeTerminal]) -> None:
    lab.guests["echo"] = echo
    terminal.keys = [b"a", b"", "ü".encode()[:1], "ü".encode()[1:], b"\x03", b"\x04"]
    result = lab.command("run", "echo")
    assert result.status == 0
    assert lab.machines[0].sent == ["a", "ü", "\x03", "\x04"]
    assert result.out == "> aü\x03\x04"
    assert (
        result.err == "vlab: your keys go to the guest; Ctrl-] ends the run\n\nvlab: the guest powered off\n"
    )
    assert (terminal.entered, terminal.left) == (1, 1)


def test_ctrl_bracket_pauses_the_machine_and_ends_with_status_0(
    lab: Lab, terminal: type[FakeTerminal]
) -> None:
    lab.guests["echo"] = echo
    terminal.keys = [b"a\x1d"]
    assert lab.command("run", "echo").status == 0
    assert lab.machines[0].sent == ["a"]
    assert lab.machines[0].paused
    assert lab.machines[0].closed


def test_the_script_types_beside_the_user(lab: Lab, terminal: type[FakeTerminal]) -> None:
    lab.guests["echo"] = echo
    terminal.keys = [b"", b"", b"u", b"", b"\x1d"]
    assert lab.command("run", "echo", "--send", "root", "--after", "> ").status == 0
    assert lab.machines[0].sent == ["root\r", "u"]


def test_the_terminal_is_given_back_when_the_guest_fails(lab: Lab, terminal: type[FakeTerminal]) -> None:
    lab.guests["bad"] = lambda vm: iter(["x", Stop(StopKind.TRIPLE_FAULT, "triple fault at 0x1000")])
    result = lab.command("run", "bad")
    assert result.status == 1
    assert result.err.endswith("triple fault at 0x1000\n")
    assert (terminal.entered, terminal.left) == (1, 1)


def test_time_that_runs_out_is_status_3_here_too(lab: Lab, terminal: type[FakeTerminal]) -> None:
    lab.guests["slow"] = lambda vm: iter(["x", Stop(StopKind.TIMEOUT, "the time ran out")])
    assert lab.command("run", "slow", "--timeout", "2").status == 3
    assert lab.machines[0].timeouts == [pytest.approx(2, abs=0.5)]


def test_with_expect_the_terminal_is_left_alone(lab: Lab, terminal: type[FakeTerminal]) -> None:
    lab.guests["echo"] = echo
    terminal.keys = [b"a"]
    assert lab.command("run", "echo", "--expect", "> ").status == 0
    assert terminal.entered == 0
